//! Pure. What groups take up, and what became of them: the books of one shard, which add up over a node.

use super::classic::State;

/// What this node's groups may still take up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// More groups.
    pub groups: usize,
    /// More bytes.
    pub bytes: usize,
}

/// What there is of groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Groups by the number of their state.
    pub states: [usize; State::ALL.len()],
    /// Groups that have commits on their way to the log. They may be new: a group is made by its first offset.
    pub committing: usize,
    /// Committed offsets.
    pub offsets: usize,
    /// Bytes that groups keep, and that commits on their way will add.
    pub bytes: usize,
}

/// What shards have done since they started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Generations that became stable.
    pub rebalances: u64,
    /// Offsets committed.
    pub commits: u64,
    /// Offsets that outlived their retention.
    pub expirations: u64,
}

impl Census {
    /// How many groups there are, counting each that may be on its way.
    pub fn groups(&self) -> usize {
        self.states.iter().sum::<usize>() + self.committing
    }

    /// Counts this too.
    pub fn add(&mut self, other: &Self) {
        self.states.iter_mut().zip(other.states).for_each(|(count, more)| *count += more);
        self.committing += other.committing;
        self.offsets += other.offsets;
        self.bytes += other.bytes;
    }

    /// No longer counts this.
    pub fn subtract(&mut self, other: &Self) {
        self.states.iter_mut().zip(other.states).for_each(|(count, less)| *count -= less);
        self.committing -= other.committing;
        self.offsets -= other.offsets;
        self.bytes -= other.bytes;
    }
}
