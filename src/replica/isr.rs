//! Pure. The leader's side of replication: who is in sync, and how far the high watermark may move.
//!
//! It decides nothing about membership: the ISR changes only by a metadata image, and what it proposes
//! is somebody else's request. It must never lower the high watermark, and never count a node that the image does not
//! list as a replica.

use crate::types::{NodeId, Offset, Tick};

/// What the leader knows of one follower.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Follower {
    node: NodeId,
    /// The end that its last fetch reported; `Offset::UNKNOWN` before the first fetch in this leader epoch.
    log_end_offset: Offset,
    /// When it last had everything that the leader had at its previous fetch.
    caught_up: Option<Tick>,
    /// The leader's end when it last fetched, and when that was.
    last_fetch: Option<(Offset, Tick)>,
}

/// The in-sync replicas of one partition, as its leader sees them during one leader epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Isr {
    node: NodeId,
    followers: Vec<Follower>,
    committed: Vec<NodeId>,
    proposed: Option<Vec<NodeId>>,
    min_in_sync: usize,
    lag_time_max_ms: u64,
    log_end_offset: Offset,
    high_watermark: Offset,
}

/// What an [`Isr`] is made from: the image's view of the partition and the two limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership<'a> {
    /// This node, the leader.
    pub node: NodeId,
    /// All replicas, this node among them.
    pub replicas: &'a [NodeId],
    /// The in-sync replicas.
    pub isr: &'a [NodeId],
    /// `min.insync.replicas`.
    pub min_in_sync: i32,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: i64,
}

impl Isr {
    /// A new leader's view: it has heard of no follower yet.
    pub fn new(membership: &Membership<'_>, log_end_offset: Offset, high_watermark: Offset) -> Self {
        let mut isr = Self {
            node: membership.node,
            followers: Vec::new(),
            committed: Vec::new(),
            proposed: None,
            min_in_sync: 1,
            lag_time_max_ms: 0,
            log_end_offset,
            high_watermark,
        };
        isr.install(membership);
        isr
    }

    /// Takes over what an image of the same leader epoch says. What was learnt of followers that stay is kept.
    pub fn install(&mut self, membership: &Membership<'_>) {
        let followers = membership.replicas.iter().filter(|node| **node != membership.node).map(|node| {
            let known = self.followers.iter().find(|follower| follower.node == *node);
            known.cloned().unwrap_or(Follower {
                node: *node,
                log_end_offset: Offset::UNKNOWN,
                caught_up: None,
                last_fetch: None,
            })
        });
        self.followers = followers.collect();
        self.committed = membership.isr.to_vec();
        self.proposed = None;
        // Kafka caps the demand by the number of replicas: one replica and a minimum of two accepts acks=all.
        let replicas = membership.replicas.len().max(1);
        self.min_in_sync = usize::try_from(membership.min_in_sync).unwrap_or(1).clamp(1, replicas);
        self.lag_time_max_ms = u64::try_from(membership.lag_time_max_ms).unwrap_or(0);
    }

    /// An ISR was asked for and is not decided yet: until then the larger of the two counts.
    pub fn propose(&mut self, isr: Vec<NodeId>) {
        self.proposed = Some(isr);
    }

    /// False when acks=all must be refused before the append (NOT_ENOUGH_REPLICAS).
    pub fn enough_in_sync(&self) -> bool {
        self.committed.len() >= self.min_in_sync
    }

    /// The leader's own log now ends here.
    pub fn on_leader_end(&mut self, end: Offset) {
        self.log_end_offset = end;
    }

    /// A follower fetched: everything below `fetched_to` is in its log. Unknown nodes are ignored.
    pub fn on_follower_fetch(&mut self, now: Tick, node: NodeId, fetched_to: Offset) {
        let leader_end = self.log_end_offset;
        let Some(follower) = self.followers.iter_mut().find(|follower| follower.node == node) else { return };
        // Kafka's rule: caught up now, or at the time of the fetch before, when it now has what there was then.
        if fetched_to >= leader_end {
            follower.caught_up = Some(now);
        } else if let Some((end_then, then)) = follower.last_fetch
            && fetched_to >= end_then
        {
            follower.caught_up = Some(then);
        }
        follower.last_fetch = Some((leader_end, now));
        follower.log_end_offset = fetched_to;
    }

    /// The high watermark as it stands.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Moves the high watermark as far as it may go; true when it moved.
    pub fn advance(&mut self, now: Tick) -> bool {
        let reached = if self.followers.is_empty() { self.log_end_offset } else { self.reached(now) };
        if reached <= self.high_watermark || !self.enough_in_sync() {
            return false;
        }
        self.high_watermark = reached;
        true
    }

    /// The least end over the larger of committed and proposed ISR and over whoever is caught up and may join.
    fn reached(&self, now: Tick) -> Offset {
        let proposed = self.proposed.as_deref().unwrap_or(&[]);
        let waited_for = |follower: &&Follower| {
            let recent = |then: Tick| now.since_ms(then) <= self.lag_time_max_ms;
            self.committed.contains(&follower.node)
                || proposed.contains(&follower.node)
                || follower.caught_up.is_some_and(recent)
        };
        let ends = self.followers.iter().filter(waited_for).map(|follower| follower.log_end_offset);
        ends.fold(self.log_end_offset, Offset::min)
    }

    /// How many replicas there are, how many of them are in sync, and how many must be for acks=all.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.followers.len() + 1, self.committed.len(), self.min_in_sync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: i64 = 30_000;

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn isr(replicas: &[i32], isr: &[i32], min_in_sync: i32) -> Isr {
        let (replicas, isr) = (nodes(replicas), nodes(isr));
        let membership =
            Membership { node: NodeId(1), replicas: &replicas, isr: &isr, min_in_sync, lag_time_max_ms: LAG };
        Isr::new(&membership, Offset(0), Offset(0))
    }

    fn fetch(isr: &mut Isr, at: u64, node: i32, to: i64) {
        isr.on_follower_fetch(Tick(at), NodeId(node), Offset(to));
        isr.advance(Tick(at));
    }

    #[test]
    fn a_single_replica_follows_its_own_log_end() {
        let mut alone = isr(&[1], &[1], 1);
        alone.on_leader_end(Offset(7));
        assert!(alone.advance(Tick(0)));
        assert_eq!(alone.high_watermark(), Offset(7));
        assert!(!alone.advance(Tick(1)));
    }

    #[test]
    fn a_single_replica_satisfies_a_minimum_of_two() {
        assert!(isr(&[1], &[1], 2).enough_in_sync());
        assert!(!isr(&[1, 2, 3], &[1], 2).enough_in_sync());
    }

    #[test]
    fn the_slowest_in_sync_replica_holds_the_high_watermark() {
        let mut three = isr(&[1, 2, 3], &[1, 2, 3], 2);
        three.on_leader_end(Offset(10));
        fetch(&mut three, 1, 2, 8);
        assert_eq!(three.high_watermark(), Offset(0), "nothing is known of node 3");
        fetch(&mut three, 2, 3, 5);
        assert_eq!(three.high_watermark(), Offset(5));
    }

    #[test]
    fn a_lagging_follower_outside_the_isr_does_not_hold_back_the_high_watermark() {
        let mut three = isr(&[1, 2, 3], &[1, 2], 2);
        three.on_leader_end(Offset(10));
        fetch(&mut three, 1, 2, 8);
        fetch(&mut three, 2, 3, 5);
        assert_eq!(three.high_watermark(), Offset(8));
    }

    #[test]
    fn a_caught_up_follower_that_may_join_is_waited_for() {
        let mut three = isr(&[1, 2, 3], &[1, 2], 2);
        three.on_leader_end(Offset(10));
        fetch(&mut three, 1, 3, 10);
        three.on_leader_end(Offset(12));
        fetch(&mut three, 2, 2, 12);
        assert_eq!(three.high_watermark(), Offset(10), "node 3 may be in the next ISR");
        three.advance(Tick(2 + LAG as u64));
        assert_eq!(three.high_watermark(), Offset(12), "it fell out of the lag time");
    }

    #[test]
    fn the_high_watermark_rests_while_too_few_are_in_sync() {
        let mut two = isr(&[1, 2], &[1], 2);
        two.on_leader_end(Offset(10));
        assert!(!two.advance(Tick(1)));
        assert_eq!(two.high_watermark(), Offset(0));
    }

    #[test]
    fn a_proposed_member_counts_before_it_is_committed() {
        let mut three = isr(&[1, 2, 3], &[1, 2], 2);
        three.on_leader_end(Offset(4));
        fetch(&mut three, 1, 3, 2);
        three.propose(nodes(&[1, 2, 3]));
        fetch(&mut three, 2, 2, 4);
        assert_eq!(three.high_watermark(), Offset(2));
    }

    #[test]
    fn the_high_watermark_never_moves_back() {
        let mut two = isr(&[1, 2], &[1, 2], 1);
        two.on_leader_end(Offset(10));
        fetch(&mut two, 1, 2, 9);
        fetch(&mut two, 2, 2, 3);
        assert_eq!(two.high_watermark(), Offset(9));
    }

    /// A small model: whatever order fetches come in, the high watermark is at most what every member of the ISR has
    /// reported, and it never moves back.
    #[test]
    fn no_order_of_fetches_exposes_what_an_in_sync_replica_lacks() {
        let steps = [(2, 1), (3, 1), (2, 3), (3, 2), (2, 2), (3, 4)];
        for order in permutations(&steps) {
            let mut three = isr(&[1, 2, 3], &[1, 2, 3], 2);
            three.on_leader_end(Offset(4));
            let (mut last, mut best) = (Offset(0), [0i64; 4]);
            for (at, (node, to)) in order.into_iter().enumerate() {
                fetch(&mut three, at as u64, node, to);
                best[node as usize] = best[node as usize].max(to);
                let high_watermark = three.high_watermark();
                assert!(high_watermark >= last);
                assert!(high_watermark.get() <= best[2].min(best[3]));
                last = high_watermark;
            }
        }
    }

    fn permutations<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
        if items.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (i, first) in items.iter().enumerate() {
            let rest: Vec<T> = items.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, item)| *item).collect();
            all.extend(permutations(&rest).into_iter().map(|mut tail| {
                tail.insert(0, *first);
                tail
            }));
        }
        all
    }
}
