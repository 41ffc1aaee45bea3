//! Pure. What the handlers of the group APIs share: limits of what is kept, and texts between the wire and the groups.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;

use crate::error::ErrorCode;

/// The longest text that the records of `__consumer_offsets` can hold.
pub const MAX_TEXT: usize = i16::MAX as usize;

/// May a group of members have this id?
pub fn check_group_id(group: &str) -> Result<(), ErrorCode> {
    if group.is_empty() || group.len() > MAX_TEXT { Err(ErrorCode::INVALID_GROUP_ID) } else { Ok(()) }
}

/// The groups that a request has named so far. What a group has is thousands of times larger than its name, so a request
/// that names it again and again would have an answer that no limit of requests bounds. Kafka repeats it; its clients
/// never ask twice.
#[derive(Default)]
pub struct Mentions(BTreeSet<GroupId>);

impl Mentions {
    /// Refuses a group that was named before.
    pub fn check(&mut self, group: &GroupId) -> Result<(), ErrorCode> {
        if self.0.insert(group.clone()) { Ok(()) } else { Err(ErrorCode::INVALID_REQUEST) }
    }
}

/// A copy: what is kept must not pin the frame that it came in.
pub fn text(text: &StrBytes) -> Arc<str> {
    Arc::from(&**text)
}

/// For an answer.
pub fn wire_text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An address as Java prints an InetAddress without host name: tools show it so.
pub fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => {
            let parts: Vec<String> = address.segments().iter().map(|part| format!("{part:x}")).collect();
            format!("/{}", parts.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_printed_as_java_prints_them() {
        assert_eq!(host("127.0.0.1".parse().expect("an address")), "/127.0.0.1");
        assert_eq!(host("::1".parse().expect("an address")), "/0:0:0:0:0:0:0:1");
    }
}
