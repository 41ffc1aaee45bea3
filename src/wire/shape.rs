//! Pure. How requests look in the versions before tagged fields, as far as their arrays go: enough to hold every count
//! against the bytes that follow it, before a decoder reserves room for what it claims.

use bytes::Buf;
use kafka_protocol::messages::ApiKey;

use crate::error::Disconnect;

const BEYOND: Disconnect = Disconnect::because("a request ends before what it counts");

/// The shape of a request; `None` when nobody has written it down here.
///
/// `1` `2` `4` `8` are so many bytes, `s` a string and `b` bytes (behind a length of two or four bytes, negative for null),
/// `[…]` an array behind a count of four bytes. What follows the last array is left out.
fn shape(api_key: i16, version: i16) -> Option<&'static str> {
    use ApiKey as Api;
    let shape = match (ApiKey::try_from(api_key).ok()?, version) {
        (Api::AddPartitionsToTxn, 0..=2) => "s82[s[4]]",
        (Api::AlterClientQuotas, 0) => "[[ss][s81]]",
        (Api::AlterConfigs, 0..=1) => "[1s[ss]]",
        (Api::AlterReplicaLogDirs, 1) => "[s[s[4]]]",
        (Api::CreateAcls | Api::DeleteAcls, 1) => "[1s1ss11]",
        (Api::CreateDelegationToken | Api::DescribeDelegationToken, 1) => "[ss]",
        (Api::CreatePartitions, 0..=1) => "[s4[[4]]]",
        (Api::CreateTopics, 2..=4) => "[s42[4[4]][ss]]",
        (Api::DeleteGroups, 0..=1) | (Api::DeleteTopics, 1..=3) => "[s]",
        (Api::DeleteRecords, 0..=1) => "[s[48]]",
        (Api::DescribeClientQuotas, 0) => "[s1s]",
        (Api::DescribeConfigs, 1..=3) => "[1s[s]]",
        (Api::DescribeGroups, 0..=4) | (Api::Metadata, 0..=8) => "[s]",
        (Api::DescribeLogDirs, 1) | (Api::ElectLeaders, 0) => "[s[4]]",
        (Api::ElectLeaders, 1) => "1[s[4]]",
        (Api::IncrementalAlterConfigs, 0) => "[1s[s1s]]",
        (Api::JoinGroup, 0) => "s4ss[sb]",
        (Api::JoinGroup, 1..=4) => "s44ss[sb]",
        (Api::JoinGroup, 5) => "s44sss[sb]",
        (Api::LeaveGroup, 3) => "s[ss]",
        (Api::ListOffsets, 1) => "4[s[48]]",
        (Api::ListOffsets, 2..=3) => "41[s[48]]",
        (Api::ListOffsets, 4..=5) => "41[s[448]]",
        (Api::OffsetCommit, 2..=4) => "s4s8[s[48s]]",
        (Api::OffsetCommit, 5) => "s4s[s[48s]]",
        (Api::OffsetCommit, 6) => "s4s[s[484s]]",
        (Api::OffsetCommit, 7) => "s4ss[s[484s]]",
        (Api::OffsetDelete, 0) | (Api::OffsetFetch, 1..=5) => "s[s[4]]",
        (Api::OffsetForLeaderEpoch, 2) => "[s[444]]",
        (Api::OffsetForLeaderEpoch, 3) => "4[s[444]]",
        (Api::SyncGroup, 0..=2) => "s4s[sb]",
        (Api::SyncGroup, 3) => "s4ss[sb]",
        (Api::TxnOffsetCommit, 0..=1) => "ss82[s[48s]]",
        (Api::TxnOffsetCommit, 2) => "ss82[s[484s]]",
        (Api::AddOffsetsToTxn | Api::ApiVersions | Api::EndTxn | Api::FindCoordinator, 0..=2)
        | (Api::Heartbeat, 0..=3)
        | (Api::LeaveGroup | Api::ListGroups, 0..=2)
        | (Api::InitProducerId | Api::SaslAuthenticate | Api::SaslHandshake, 0..=1)
        | (Api::DescribeAcls | Api::ExpireDelegationToken | Api::RenewDelegationToken, 1) => "",
        _ => return None,
    };
    Some(shape)
}

/// Refuses a request of a version before tagged fields that counts more than it holds.
pub(super) fn check(api_key: i16, version: i16, body: &[u8]) -> Result<(), Disconnect> {
    let Some(shape) = shape(api_key, version) else {
        return Err(Disconnect(format!("the shape of API key {api_key} in version {version} is not known").into()));
    };
    let mut rest = body;
    walk(&mut rest, shape.as_bytes())
}

fn walk(rest: &mut &[u8], mut shape: &[u8]) -> Result<(), Disconnect> {
    while let Some((field, after)) = shape.split_first() {
        shape = after;
        match field {
            b's' => {
                let length = rest.try_get_i16().map_err(|_| BEYOND)?;
                skip(rest, usize::try_from(length).unwrap_or(0))?;
            }
            b'b' => {
                let length = rest.try_get_i32().map_err(|_| BEYOND)?;
                skip(rest, usize::try_from(length).unwrap_or(0))?;
            }
            b'[' => {
                let (element, after) = element_of(shape);
                shape = after;
                let count = usize::try_from(rest.try_get_i32().map_err(|_| BEYOND)?).unwrap_or(0);
                if count > rest.len() / least(element) {
                    return Err(BEYOND);
                }
                for _ in 0..count {
                    walk(rest, element)?;
                }
            }
            width => skip(rest, usize::from(width - b'0'))?,
        }
    }
    Ok(())
}

fn skip(rest: &mut &[u8], bytes: usize) -> Result<(), Disconnect> {
    *rest = rest.get(bytes..).ok_or(BEYOND)?;
    Ok(())
}

/// What stands before the bracket that closes, and what stands behind it.
fn element_of(shape: &[u8]) -> (&[u8], &[u8]) {
    let mut depth = 1;
    let closes = |field: &u8| {
        match field {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        depth == 0
    };
    let end = shape.iter().position(closes).expect("every bracket of a shape is closed");
    (&shape[..end], &shape[end + 1..])
}

/// The fewest bytes that something of this shape has.
fn least(mut shape: &[u8]) -> usize {
    let mut bytes = 0;
    while let Some((field, after)) = shape.split_first() {
        shape = after;
        bytes += match field {
            b's' => 2,
            b'b' => 4,
            b'[' => {
                shape = element_of(shape).1;
                4
            }
            width => usize::from(width - b'0'),
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE_TOPICS: i16 = 19;

    /// CreateTopics 2 with one topic `t`, one assignment to two brokers and one setting; where its four counts stand.
    fn create_topics() -> (Vec<u8>, [usize; 4]) {
        let mut body = vec![0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        body.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        body.extend([0, 0, 0, 1, 0, 1, b'k', 0xff, 0xff]);
        body.extend([0, 0, 0x75, 0x30, 0]);
        (body, [0, 13, 21, 33])
    }

    #[test]
    fn a_request_that_holds_what_it_counts_passes() {
        let (body, _) = create_topics();
        assert_eq!(check(CREATE_TOPICS, 2, &body), Ok(()));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_wherever_it_stands() {
        let (body, counts) = create_topics();
        for at in counts {
            let mut lying = body.clone();
            lying[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
            assert_eq!(check(CREATE_TOPICS, 2, &lying), Err(BEYOND), "the count at {at}");
            lying[at..at + 4].copy_from_slice(&(body.len() as i32).to_be_bytes());
            assert_eq!(check(CREATE_TOPICS, 2, &lying), Err(BEYOND), "the count at {at}");
        }
    }

    #[test]
    fn null_and_whatever_else_is_negative_counts_nothing() {
        assert_eq!(check(3, 1, &[0xff, 0xff, 0xff, 0xff]), Ok(()));
        assert_eq!(check(3, 1, &[0x80, 0, 0, 0]), Ok(()));
    }

    #[test]
    fn an_element_has_at_least_its_numbers_and_lengths() {
        assert_eq!([least(b"484s"), least(b"sb"), least(b"s42[4[4]][ss]"), least(b"")], [18, 6, 16, 0]);
    }

    #[test]
    fn a_request_whose_shape_nobody_wrote_down_is_refused() {
        assert!(check(3, 9, &[]).is_err());
        assert!(check(999, 0, &[]).is_err());
    }
}
