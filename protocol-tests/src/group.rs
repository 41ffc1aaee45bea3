//! The classic group protocol as a consumer speaks it, at any version: join, sync, heartbeat, leave.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};

use crate::broker::{self, Broker};
use crate::client::Client;
use crate::steps::until;
use crate::writer::Writer;
use crate::{code, text};

/// The protocol type of consumers.
pub const CONSUMER: &str = "consumer";

/// A member as its client sees it.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Member {
    pub group: String,
    pub id: String,
    pub instance: Option<String>,
    pub generation: i32,
    pub session_ms: i32,
}

impl Member {
    /// Not yet a member.
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned(), generation: -1, session_ms: 30_000, ..Self::default() }
    }

    /// The same member, static (KIP-345).
    #[must_use]
    pub fn instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.to_owned());
        self
    }

    /// The group as the codecs want it.
    pub fn group_id(&self) -> GroupId {
        GroupId(text(&self.group))
    }

    /// What the member wants, as a consumer says it (ConsumerProtocolSubscription, version 1). It must be well formed:
    /// in a group of consumers Kafka reads it, and one that cannot be read leaves the whole group without an answer.
    pub fn subscription(&self) -> Bytes {
        let topic = self.instance.as_deref().unwrap_or("work");
        let (no_user_data, no_owned_partitions) = (-1, 0);
        Writer::new().i16(1).i32(1).string(topic).i32(no_user_data).i32(no_owned_partitions).bytes.into()
    }

    /// A JoinGroup request with the protocol `range`.
    pub fn join_request(&self, version: i16) -> JoinGroupRequest {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(self.subscription());
        let mut request = JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(self.session_ms)
            .with_member_id(text(&self.id))
            .with_protocol_type(text(CONSUMER))
            .with_protocols(vec![protocol]);
        if version >= 1 {
            request.rebalance_timeout_ms = 30_000;
        }
        if version >= 5 {
            request.group_instance_id = self.instance.as_deref().map(text);
        }
        request
    }

    /// Joins once, takes over id and generation from the answer, and returns it.
    pub async fn join_once(&mut self, client: &mut Client, version: i16) -> JoinGroupResponse {
        let request = self.join_request(version);
        let response = client.call(version, &request).await;
        self.take(&response);
        response
    }

    /// Takes over id and generation from an answer.
    pub fn take(&mut self, response: &JoinGroupResponse) {
        if response.error_code == code::NONE || response.error_code == code::MEMBER_ID_REQUIRED {
            self.id = response.member_id.to_string();
            self.generation = response.generation_id;
        }
    }

    /// Joins as a client does: once more with the member id, where one is required (KIP-394).
    pub async fn join(&mut self, client: &mut Client, version: i16) -> JoinGroupResponse {
        let first = self.join_once(client, version).await;
        let answer = match first.error_code {
            code::MEMBER_ID_REQUIRED => self.join_once(client, version).await,
            _ => first,
        };
        assert_eq!(answer.error_code, code::NONE, "join v{version}");
        answer
    }

    /// A SyncGroup request; only the leader gives assignments.
    pub fn sync_request(&self, version: i16, assignments: &[(&str, &str)]) -> SyncGroupRequest {
        let assignment = |(member, share): &(&str, &str)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::copy_from_slice(share.as_bytes()))
        };
        let mut request = SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_assignments(assignments.iter().map(assignment).collect());
        if version >= 3 {
            request.group_instance_id = self.instance.as_deref().map(text);
        }
        if version >= 5 {
            request.protocol_type = Some(text(CONSUMER));
            request.protocol_name = Some(text("range"));
        }
        request
    }

    /// Syncs.
    pub async fn sync(&self, client: &mut Client, version: i16, assignments: &[(&str, &str)]) -> SyncGroupResponse {
        client.call(version, &self.sync_request(version, assignments)).await
    }

    /// Sends a heartbeat and returns its error code.
    pub async fn heartbeat(&self, client: &mut Client, version: i16) -> i16 {
        let mut request = HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id));
        if version >= 3 {
            request.group_instance_id = self.instance.as_deref().map(text);
        }
        let response = client.call(version, &request).await;
        assert_eq!(response.throttle_time_ms, 0);
        response.error_code
    }

    /// Leaves, by member id, or from version 3 on by instance id where the member has one.
    pub async fn leave(&self, client: &mut Client, version: i16) -> LeaveGroupResponse {
        let mut request = LeaveGroupRequest::default().with_group_id(self.group_id());
        if version >= 3 {
            let mut identity = MemberIdentity::default().with_member_id(text(&self.id));
            identity.group_instance_id = self.instance.as_deref().map(text);
            request.members = vec![identity];
        } else {
            request.member_id = text(&self.id);
        }
        client.call(version, &request).await
    }

    /// Joins and syncs an otherwise empty group, with everything assigned to this member.
    pub async fn alone(group: &str, client: &mut Client) -> Self {
        let mut member = Self::new(group);
        member.join(client, 9).await;
        let synced = member.sync(client, 5, &[(&member.id, "all of it")]).await;
        assert_eq!(synced.error_code, code::NONE);
        member
    }
}

/// A connection to the shared broker, once it coordinates groups.
pub async fn connect() -> Client {
    connect_to(broker::shared()).await
}

/// A connection to a broker, once it coordinates groups: the first to ask makes the offsets topic.
pub async fn connect_to(broker: &Broker) -> Client {
    let mut client = broker.connect().await;
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("any")]);
    until("a coordinator", async || {
        let response = client.call(4, &request).await;
        (response.coordinators[0].error_code == code::NONE).then_some(())
    })
    .await;
    until("the coordinator has loaded its groups", async || {
        let probe = Member { id: "nobody".to_owned(), ..Member::new(&crate::unique("probe")) };
        (probe.heartbeat(&mut client, 4).await == code::UNKNOWN_MEMBER_ID).then_some(())
    })
    .await;
    client
}
