//! Shell. What the groups of this node take up together, how much they may, and what `/metrics` says of them.
//!
//! A shard counts for itself; its task adds the differences up here after every event. So a shard can be told what is left
//! for all of them, and a scrape asks no shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::census::{Census, Room, Tally};
use super::classic::State;
use crate::metrics::{Count, Metrics, Samples};

/// The sums over all shards of this node, and how much they may be.
#[derive(Debug)]
pub(super) struct Usage {
    states: [AtomicUsize; State::ALL.len()],
    groups: AtomicUsize,
    offsets: AtomicUsize,
    bytes: AtomicUsize,
    rebalances: Count,
    commits: Count,
    expirations: Count,
    most: Room,
}

impl Usage {
    pub(super) fn new(most: Room) -> Self {
        Self {
            states: [const { AtomicUsize::new(0) }; State::ALL.len()],
            groups: AtomicUsize::new(0),
            offsets: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            rebalances: Count::default(),
            commits: Count::default(),
            expirations: Count::default(),
            most,
        }
    }

    /// What is left.
    pub(super) fn room(&self) -> Room {
        Room {
            groups: self.most.groups.saturating_sub(self.groups.load(Relaxed)),
            bytes: self.most.bytes.saturating_sub(self.bytes.load(Relaxed)),
        }
    }

    /// A shard that had `before` has `after`.
    pub(super) fn report(&self, before: &Census, after: &Census) {
        let change = |sum: &AtomicUsize, before: usize, after: usize| {
            if before != after {
                sum.fetch_add(after.wrapping_sub(before), Relaxed);
            }
        };
        for (sum, (before, after)) in self.states.iter().zip(before.states.into_iter().zip(after.states)) {
            change(sum, before, after);
        }
        change(&self.groups, before.groups(), after.groups());
        change(&self.offsets, before.offsets, after.offsets);
        change(&self.bytes, before.bytes, after.bytes);
    }

    /// A shard that had done `before` has done `after`.
    pub(super) fn count(&self, before: &Tally, after: &Tally) {
        for (count, before, after) in [
            (&self.rebalances, before.rebalances, after.rebalances),
            (&self.commits, before.commits, after.commits),
            (&self.expirations, before.expirations, after.expirations),
        ] {
            if before != after {
                count.add(after - before);
            }
        }
    }

    /// Shows the sums. The names are those of `GroupMetadataManager` and `group-coordinator-metrics`.
    pub(super) fn show_in(self: &Arc<Self>, metrics: &Metrics) {
        let usage = Arc::clone(self);
        metrics.add_source(move |samples| usage.show(samples));
    }

    fn show(&self, samples: &mut Samples) {
        #[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
        let value = |sum: &AtomicUsize| sum.load(Relaxed) as f64;
        let all = self.states.iter().map(value).sum::<f64>();
        let state = |state: State| value(&self.states[state as usize]);
        for (name, value) in [
            ("kafka_coordinator_group_groupmetadatamanager_numgroups", all),
            ("kafka_coordinator_group_groupmetadatamanager_numgroupsempty", state(State::Empty)),
            (
                "kafka_coordinator_group_groupmetadatamanager_numgroupspreparingrebalance",
                state(State::PreparingRebalance),
            ),
            (
                "kafka_coordinator_group_groupmetadatamanager_numgroupscompletingrebalance",
                state(State::CompletingRebalance),
            ),
            ("kafka_coordinator_group_groupmetadatamanager_numgroupsstable", state(State::Stable)),
            ("kafka_coordinator_group_groupmetadatamanager_numoffsets", value(&self.offsets)),
            ("ottla_group_coordinator_bytes", value(&self.bytes)),
        ] {
            samples.gauge(name, &[], value);
        }
        samples.gauge("kafka_server_group_coordinator_metrics_group_count", &[("protocol", "classic")], all);
        for (name, count) in [
            ("kafka_server_group_coordinator_metrics_group_completed_rebalance_count", &self.rebalances),
            ("kafka_server_group_coordinator_metrics_offset_commit_count", &self.commits),
            ("kafka_server_group_coordinator_metrics_offset_expiration_count", &self.expirations),
        ] {
            samples.counter(name, &[], count.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_stand_at_their_own_place() {
        for (place, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, place);
        }
    }

    #[test]
    fn what_shards_report_is_shown_and_taken_from_the_room() {
        let usage = Arc::new(Usage::new(Room { groups: 10, bytes: 1_000 }));
        let metrics = Metrics::new(std::iter::empty());
        usage.show_in(&metrics);
        let census = Census { states: [1, 0, 0, 2], committing: 1, offsets: 5, bytes: 300 };
        usage.report(&Census::default(), &census);
        usage.count(&Tally::default(), &Tally { rebalances: 3, commits: 7, expirations: 1 });
        assert_eq!(usage.room(), Room { groups: 6, bytes: 700 });
        let page = metrics.render();
        for line in [
            "kafka_coordinator_group_groupmetadatamanager_numgroups 3",
            "kafka_coordinator_group_groupmetadatamanager_numgroupsempty 1",
            "kafka_coordinator_group_groupmetadatamanager_numgroupsstable 2",
            "kafka_coordinator_group_groupmetadatamanager_numoffsets 5",
            "kafka_server_group_coordinator_metrics_group_count{protocol=\"classic\"} 3",
            "kafka_server_group_coordinator_metrics_group_completed_rebalance_count 3",
            "kafka_server_group_coordinator_metrics_offset_commit_count 7",
            "kafka_server_group_coordinator_metrics_offset_expiration_count 1",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        usage.report(&census, &Census::default());
        assert_eq!(usage.room(), Room { groups: 10, bytes: 1_000 });
    }
}
