//! ApiVersions, key 18, versions 0–5: what this broker serves, before anything else is known of the client.
//!
//! A version that is not served is answered in version 0 with UNSUPPORTED_VERSION and the range of ApiVersions alone, so
//! that the client can ask again (KIP-511). From version 3 the client names its software, from version 5 optionally the
//! cluster and the node that it believes to be talking to: both or neither, and another cluster or node answers
//! REBOOTSTRAP_REQUIRED (KIP-1242).
//!
//! Features: only those that exist here. None does yet, so none is supported and none finalized.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use super::outcomes::Counted;
use super::{API_VERSIONS, Frame, Reply, RequestContext, Row, TABLE};
use crate::broker::Broker;
use crate::error::{Disconnect, ErrorCode};
use crate::types::NodeId;
use crate::wire::message::{ApiVersionsQuestion, FromWire, api_versions_response};

/// Answers the request in `body`.
pub fn serve(broker: &Arc<Broker>, context: &RequestContext, body: Bytes) -> Reply<Frame> {
    match answer(context.api_version, body, || broker.identity()) {
        Ok(body) => {
            // The code is the first field in every version.
            if let Some(code) = body.first_chunk() {
                Counted::of(broker, context).add(ErrorCode::from_wire(i16::from_be_bytes(*code)), 1);
            }
            Frame::from(body).into()
        }
        Err(reason) => Reply::Close(reason),
    }
}

/// The answer in `version` or, where that is not served, in version 0. `identity` is asked for by few: the cluster's id
/// and this node's.
fn answer(version: i16, body: Bytes, identity: impl FnOnce() -> (Arc<str>, NodeId)) -> Result<Bytes, Disconnect> {
    static EVERYTHING: LazyLock<ApiVersionsResponse> =
        LazyLock::new(|| ApiVersionsResponse::default().with_api_keys(TABLE.iter().map(range).collect()));
    let own = TABLE.iter().find(|row| row.key == API_VERSIONS).expect("ApiVersions is in the table");
    if !own.versions.contains(&version) {
        return Ok(api_versions_response(&refused(ErrorCode::UNSUPPORTED_VERSION).with_api_keys(vec![range(own)]), 0));
    }
    let question = ApiVersionsQuestion::from_wire(body, version)?;
    Ok(match objection(&question, version, identity) {
        Some(code) => api_versions_response(&refused(code), version),
        None => api_versions_response(&EVERYTHING, version),
    })
}

fn objection(
    question: &ApiVersionsQuestion,
    version: i16,
    identity: impl FnOnce() -> (Arc<str>, NodeId),
) -> Option<ErrorCode> {
    let software = [&question.client_software_name, &question.client_software_version];
    if version >= 3 && !software.iter().all(|text| names_software(text)) {
        return Some(ErrorCode::INVALID_REQUEST);
    }
    match (question.cluster_id.as_deref(), NodeId(question.node_id)) {
        (None, NodeId::NONE) => None,
        (None, _) | (_, NodeId::NONE) => Some(ErrorCode::INVALID_REQUEST),
        (Some(cluster), node) => {
            let (own_cluster, own_node) = identity();
            (cluster != &*own_cluster || node != own_node).then_some(ErrorCode::REBOOTSTRAP_REQUIRED)
        }
    }
}

fn refused(code: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_error_code(code.get())
}

fn range(row: &Row) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(row.key)
        .with_min_version(row.advertised_from)
        .with_max_version(*row.versions.end())
}

/// Letters and digits, with dashes and dots between them (KIP-511).
fn names_software(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Decodable;

    use super::*;

    /// A body of version 3 and up: software name and version, and from version 5 cluster and node.
    fn body(name: &str, expects: Option<(Option<&str>, i32)>) -> Bytes {
        let mut bytes = Vec::new();
        for text in [name, "1.0"] {
            bytes.push(u8::try_from(text.len()).expect("short") + 1);
            bytes.extend(text.as_bytes());
        }
        if let Some((cluster, node)) = expects {
            bytes.push(cluster.map_or(0, |id| u8::try_from(id.len()).expect("short") + 1));
            bytes.extend(cluster.unwrap_or_default().as_bytes());
            bytes.extend(node.to_be_bytes());
        }
        bytes.push(0);
        bytes.into()
    }

    fn ask(version: i16, body: Bytes) -> ApiVersionsResponse {
        let answer = answer(version, body, || ("cluster".into(), NodeId(1))).expect("an answer");
        let shown = if (0..=5).contains(&version) { version.min(4) } else { 0 };
        ApiVersionsResponse::decode(&mut answer.clone(), shown).expect("the version's layout")
    }

    #[test]
    fn every_version_lists_the_whole_table() {
        for version in 0..=5 {
            let body = match version {
                0..=2 => Bytes::new(),
                3..=4 => body("ottla-test", None),
                _ => body("ottla-test", Some((None, -1))),
            };
            let response = ask(version, body);
            assert_eq!(response.error_code, 0);
            assert_eq!(response.api_keys.len(), TABLE.len());
        }
    }

    #[test]
    fn an_unserved_version_is_told_the_range_of_api_versions_in_version_0() {
        for version in [-1, 6, 500] {
            let response = ask(version, Bytes::new());
            assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION.get());
            let range = &response.api_keys[..];
            assert!(
                matches!(range, [own] if (own.api_key, own.min_version, own.max_version) == (18, 0, 5)),
                "{range:?}"
            );
        }
    }

    #[test]
    fn software_must_have_a_name_of_letters_digits_dashes_and_dots() {
        for (name, code) in [("", 42), ("-a", 42), ("a.", 42), ("a b", 42), ("ä", 42), ("a", 0), ("a-b.c", 0)] {
            assert_eq!(ask(3, body(name, None)).error_code, code, "{name:?}");
        }
    }

    #[test]
    fn a_client_that_means_another_cluster_or_node_must_bootstrap_again() {
        let another = ErrorCode::REBOOTSTRAP_REQUIRED.get();
        for (cluster, node, code) in [
            (None, -1, 0),
            (Some("cluster"), 1, 0),
            (Some("cluster"), 2, another),
            (Some("elsewhere"), 1, another),
            (None, 1, 42),
            (Some("cluster"), -1, 42),
        ] {
            assert_eq!(ask(5, body("a", Some((cluster, node)))).error_code, code, "{cluster:?} {node}");
        }
    }
}
