//! Pure. Which brokers hold a new topic's partitions.
//!
//! Leaders go round the serving brokers, racks taking turns; a partition's other replicas follow in the same order,
//! shifted a little more with each round so that not always the same pairs share their load. Chance comes in as a
//! number: the same brokers and the same number give the same answer.

use std::collections::BTreeMap;

use super::image::{BrokerRegistration, NodeIds};
use crate::types::NodeId;

/// Replicas for `partitions` partitions, or why there are none.
pub fn place<'a>(
    brokers: impl Iterator<Item = &'a BrokerRegistration>,
    partitions: i32,
    replication_factor: i16,
    chance: u64,
) -> Result<Vec<NodeIds>, String> {
    let order = order(brokers);
    let wanted = usize::try_from(replication_factor).unwrap_or(0);
    if order.serving.is_empty() {
        return Err("All brokers are currently fenced.".into());
    }
    if wanted > order.all() {
        return Err(format!(
            "The target replication factor of {replication_factor} cannot be reached because only {} broker(s) are \
             registered or some brokers have all their log directories cordoned.",
            order.all()
        ));
    }
    let count = usize::try_from(partitions).unwrap_or(0);
    Ok((0..count).map(|partition| order.replicas(partition, wanted, chance)).collect())
}

/// The brokers in the order in which they are used.
struct Order {
    serving: Vec<NodeId>,
    fenced: Vec<NodeId>,
}

fn order<'a>(brokers: impl Iterator<Item = &'a BrokerRegistration>) -> Order {
    let mut racks: BTreeMap<Option<&str>, Vec<NodeId>> = BTreeMap::new();
    let mut fenced = Vec::new();
    for broker in brokers {
        if broker.fenced {
            fenced.push(broker.id);
        } else {
            racks.entry(broker.rack.as_deref()).or_default().push(broker.id);
        }
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    let serving =
        (0..longest).flat_map(|turn| racks.values().filter_map(move |rack| rack.get(turn).copied())).collect();
    Order { serving, fenced }
}

impl Order {
    fn all(&self) -> usize {
        self.serving.len() + self.fenced.len()
    }

    fn replicas(&self, partition: usize, wanted: usize, chance: u64) -> NodeIds {
        let count = self.serving.len();
        let start = usize::try_from(chance % count as u64).unwrap_or(0);
        let leader = (start + partition) % count;
        let others = count - 1;
        let shift =
            if others == 0 { 0 } else { (partition / count + usize::try_from(chance >> 32).unwrap_or(0)) % others };
        let followers = (0..others).map(|step| (leader + 1 + (shift + step) % others) % count);
        std::iter::once(leader)
            .chain(followers)
            .map(|at| self.serving[at])
            .chain(self.fenced.iter().copied())
            .take(wanted)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn broker(id: i32, rack: Option<&str>, fenced: bool) -> BrokerRegistration {
        BrokerRegistration {
            id: NodeId(id),
            epoch: 0,
            incarnation: uuid::Uuid::nil(),
            endpoints: Vec::new(),
            rack: rack.map(Into::into),
            fenced,
            log_dirs: Vec::new(),
        }
    }

    fn is_even(placed: &[NodeIds], brokers: usize, at: impl Fn(&NodeIds) -> Vec<NodeId>) -> bool {
        let mut load: BTreeMap<NodeId, usize> = BTreeMap::new();
        for replicas in placed {
            for id in at(replicas) {
                *load.entry(id).or_default() += 1;
            }
        }
        let least = if load.len() < brokers { 0 } else { load.values().copied().min().unwrap_or(0) };
        load.values().all(|count| count - least <= 1)
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_leaders_even(
            count in 1usize..9, partitions in 1i32..60, factor in 1i16..9, chance in any::<u64>(),
        ) {
            let brokers: Vec<_> = (0..count as i32).map(|id| broker(id, None, false)).collect();
            match place(brokers.iter(), partitions, factor, chance) {
                Ok(placed) => {
                    prop_assert_eq!(placed.len(), partitions as usize);
                    for replicas in &placed {
                        let distinct: std::collections::BTreeSet<_> = replicas.iter().collect();
                        prop_assert_eq!(distinct.len(), factor as usize);
                    }
                    prop_assert!(is_even(&placed, count, |replicas| vec![replicas[0]]));
                }
                Err(sentence) => {
                    prop_assert!(factor as usize > count);
                    let number = format!("only {} broker(s)", count);
                    prop_assert!(sentence.contains(&number), "{}", sentence);
                }
            }
        }
    }

    #[test]
    fn replicas_of_one_partition_span_the_racks() {
        let brokers: Vec<_> = (0..6).map(|id| broker(id, Some(["a", "b", "c"][id as usize / 2]), false)).collect();
        for replicas in place(brokers.iter(), 6, 3, 0).unwrap() {
            let racks: std::collections::BTreeSet<_> = replicas.iter().map(|id| id.0 / 2).collect();
            assert!(racks.len() >= 2, "{replicas:?}");
        }
        assert_eq!(place(brokers.iter(), 1, 3, 0).unwrap()[0].to_vec(), [NodeId(0), NodeId(2), NodeId(4)]);
    }

    #[test]
    fn a_fenced_broker_holds_a_replica_only_when_the_others_are_too_few() {
        let brokers = [broker(1, None, true), broker(2, None, false)];
        assert_eq!(place(brokers.iter(), 1, 1, 5).unwrap()[0].to_vec(), [NodeId(2)]);
        assert_eq!(place(brokers.iter(), 1, 2, 5).unwrap()[0].to_vec(), [NodeId(2), NodeId(1)]);
        assert!(place(brokers[..1].iter(), 1, 1, 5).unwrap_err().contains("fenced"));
    }
}
