//! Pure. What the broker has promised, and what is wrong with what it kept.

use std::collections::{BTreeMap, HashMap};

/// Bytes of every record's value.
pub const RECORD: usize = 1024;
/// The most that a record can take in a log: a batch of its own, and all lengths at their longest.
const RECORD_MAX: u64 = RECORD as u64 + 61 + 32;

/// No record was acknowledged at this offset; and what a value that is no record of ours counts as.
pub const NONE: u64 = u64::MAX;

/// The value of the record of that number. Every eight bytes of it can be told from those of other records.
pub fn value_of(number: u64) -> [u8; RECORD] {
    let mut value = [0; RECORD];
    for (index, part) in (0u64..).zip(value.chunks_exact_mut(8)) {
        part.copy_from_slice(&number.wrapping_add(index).to_be_bytes());
    }
    value
}

/// The number of a record by its value, NONE when one byte of it is not as it was sent.
pub fn number_of(value: &[u8]) -> u64 {
    let Some(number) = value.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)) else { return NONE };
    if value == value_of(number) { number } else { NONE }
}

/// What a topic promises beside its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeps {
    /// Everything, for ever.
    All,
    /// The newest records, at least so many bytes of each partition (`retention.bytes`).
    Bytes(u64),
}

/// What a crash may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Nothing that was acknowledged.
    Nothing,
    /// The newest records of a partition.
    Suffix,
}

/// A partition as it was read: the offset of its first record, and the numbers of all its records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The log start offset.
    pub start: i64,
    /// The records from there on, without a gap.
    pub numbers: Vec<u64>,
}

impl Found {
    /// The offset after its last record.
    fn end(&self) -> usize {
        usize::try_from(self.start).unwrap_or(0) + self.numbers.len()
    }
}

/// Everything that was acknowledged so far.
#[derive(Default)]
pub struct Promises {
    records: HashMap<(&'static str, i32), Vec<u64>>,
    /// How many records were acknowledged, by topic.
    pub counts: BTreeMap<&'static str, usize>,
    /// The offset that was committed last, for every partition of the group's topic; 0 before the first.
    pub commit: i64,
    /// Promises that contradict each other.
    pub contradictions: Vec<String>,
}

impl Promises {
    /// A record was acknowledged.
    pub fn acknowledge(&mut self, topic: &'static str, partition: i32, offset: i64, number: u64) {
        let Ok(index) = usize::try_from(offset) else {
            return self.contradictions.push(format!("{topic}-{partition}: acknowledged at offset {offset}"));
        };
        let numbers = self.records.entry((topic, partition)).or_default();
        if numbers.len() <= index {
            numbers.resize(index + 1, NONE);
        }
        let before = std::mem::replace(&mut numbers[index], number);
        *self.counts.entry(topic).or_default() += 1;
        if before != NONE {
            let both = format!("for {before} and for {number}");
            self.contradictions.push(format!("{topic}-{partition}: offset {offset} was acknowledged twice, {both}"));
        }
    }

    /// How many records were acknowledged.
    pub fn count(&self) -> usize {
        self.counts.values().sum()
    }

    /// What is wrong with a partition. `seen` goes through all partitions of one reading: no record may stand twice.
    pub fn judge(
        &self,
        (topic, partition): (&'static str, i32),
        (keeps, loss): (Keeps, Loss),
        found: &Found,
        seen: &mut Seen,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let kept = found.numbers.len() as u64 * RECORD_MAX;
        match keeps {
            Keeps::All if found.start != 0 => wrong.push(format!("the log start moved to {}", found.start)),
            Keeps::Bytes(bytes) if found.start != 0 && kept < bytes && loss == Loss::Nothing => {
                wrong.push(format!("retention left {} records, less than {bytes} bytes", found.numbers.len()));
            }
            _ => {}
        }
        wrong.extend(self.missing(topic, partition, loss, found));
        wrong.extend(seen.add(&found.numbers));
        wrong.iter().map(|fault| format!("{topic}-{partition}: {fault}")).collect()
    }

    fn missing(&self, topic: &'static str, partition: i32, loss: Loss, found: &Found) -> Option<String> {
        let promised = self.records.get(&(topic, partition)).map_or(&[][..], Vec::as_slice);
        let promised = match loss {
            Loss::Nothing => promised,
            Loss::Suffix => &promised[..found.end().min(promised.len())],
        };
        let is_kept = |offset: i64, number: u64| {
            usize::try_from(offset - found.start).ok().and_then(|index| found.numbers.get(index)) == Some(&number)
        };
        let missing: Vec<i64> = (0i64..)
            .zip(promised)
            .filter(|(offset, number)| *offset >= found.start && **number != NONE && !is_kept(*offset, **number))
            .map(|(offset, _)| offset)
            .collect();
        let (first, last) = (missing.first()?, missing.last()?);
        Some(format!("{} acknowledged records are not at their offsets, from {first} to {last}", missing.len()))
    }

    /// What a crash may take, and took, is promised no more. How many records that were.
    pub fn forget_after(&mut self, at: (&'static str, i32), found: &Found) -> usize {
        let Some(numbers) = self.records.get_mut(&at).filter(|numbers| numbers.len() > found.end()) else { return 0 };
        numbers.split_off(found.end()).iter().filter(|number| **number != NONE).count()
    }

    /// What is wrong with the offset that a group keeps for one partition. The commit that nobody answered may be kept.
    pub fn judge_commit(&self, partition: i32, loss: Loss, kept: Option<i64>) -> Option<String> {
        let kept_at = kept.unwrap_or(0);
        let lost = loss == Loss::Suffix && kept_at < self.commit;
        let right = kept_at == self.commit || kept_at == self.commit + 1 || lost;
        (!right).then(|| format!("partition {partition}: offset {} was committed, {kept:?} is kept", self.commit))
    }
}

/// Which of the records that were sent a reading has met so far.
pub struct Seen(Vec<bool>);

impl Seen {
    /// None yet, of so many.
    pub fn none_of(sent: usize) -> Self {
        Self(vec![false; sent])
    }

    fn add(&mut self, numbers: &[u64]) -> Option<String> {
        let (mut twice, mut foreign) = (0, 0);
        for number in numbers {
            match usize::try_from(*number).ok().and_then(|index| self.0.get_mut(index)) {
                Some(met) => twice += usize::from(std::mem::replace(met, true)),
                None => foreign += 1,
            }
        }
        (twice + foreign > 0).then(|| format!("{twice} records stand there twice, {foreign} were never sent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: (&str, i32) = ("t", 0);

    const SENT: usize = 10;

    /// These were acknowledged at 0, 1, 2 …
    fn promises(acknowledged: &[u64]) -> Promises {
        let mut promises = Promises::default();
        for (offset, number) in (0..).zip(acknowledged) {
            promises.acknowledge(AT.0, AT.1, offset, *number);
        }
        promises
    }

    fn judge(acknowledged: &[u64], keeps: Keeps, start: i64, numbers: &[u64]) -> usize {
        let found = Found { start, numbers: numbers.to_vec() };
        promises(acknowledged).judge(AT, (keeps, Loss::Nothing), &found, &mut Seen::none_of(SENT)).len()
    }

    #[test]
    fn records_that_nobody_acknowledged_are_no_fault() {
        assert_eq!(judge(&[7], Keeps::All, 0, &[7, 8]), 0);
    }

    #[test]
    fn an_acknowledged_record_that_is_gone_or_replaced_is_a_loss() {
        assert_eq!(judge(&[7, 8], Keeps::All, 0, &[7]), 1);
        assert_eq!(judge(&[7, 8], Keeps::All, 0, &[9, 8]), 1);
    }

    #[test]
    fn a_suffix_may_go_where_that_is_agreed_and_nothing_before_it() {
        let mut promises = promises(&[7, 8, 9]);
        let mut judge = |numbers: &[u64]| {
            let found = Found { start: 0, numbers: numbers.to_vec() };
            let wrong = promises.judge(AT, (Keeps::All, Loss::Suffix), &found, &mut Seen::none_of(SENT));
            (wrong.len(), promises.forget_after(AT, &found))
        };
        assert_eq!(judge(&[6, 8, 9]), (1, 0));
        assert_eq!(judge(&[7]), (0, 2));
        assert_eq!(judge(&[7, 1]), (0, 0), "what was taken is promised no more");
    }

    #[test]
    fn a_record_that_stands_twice_is_a_fault() {
        assert_eq!(judge(&[7], Keeps::All, 0, &[7, 7]), 1);
        let (promises, mut seen) = (promises(&[7]), Seen::none_of(SENT));
        let found = Found { start: 0, numbers: vec![7] };
        assert!(promises.judge(AT, (Keeps::All, Loss::Nothing), &found, &mut seen).is_empty());
        assert_eq!(promises.judge(("t", 1), (Keeps::All, Loss::Nothing), &found, &mut seen).len(), 1);
    }

    #[test]
    fn a_record_that_was_never_sent_is_a_fault() {
        assert_eq!(judge(&[], Keeps::All, 0, &[10]), 1);
        assert_eq!(judge(&[], Keeps::All, 0, &[NONE]), 1);
    }

    #[test]
    fn retention_takes_the_oldest_records_and_leaves_its_bytes() {
        assert_eq!(judge(&[1, 2, 3], Keeps::Bytes(1024), 2, &[3]), 0);
        assert_eq!(judge(&[1, 2, 3], Keeps::Bytes(1024), 1, &[3]), 1, "what is left stands at its offset");
        assert_eq!(judge(&[1, 2, 3], Keeps::Bytes(4096), 2, &[3]), 1, "retention.bytes are left");
        assert_eq!(judge(&[1, 2, 3], Keeps::All, 2, &[3]), 1, "without retention nothing goes");
    }

    #[test]
    fn an_offset_that_is_promised_twice_is_a_contradiction() {
        let mut promises = promises(&[7]);
        promises.acknowledge(AT.0, AT.1, 0, 8);
        promises.acknowledge(AT.0, AT.1, -1, 9);
        assert_eq!(promises.contradictions.len(), 2);
    }

    #[test]
    fn a_commit_is_kept_or_the_one_after_it() {
        let promises = Promises { commit: 5, ..Promises::default() };
        assert_eq!(promises.judge_commit(0, Loss::Nothing, Some(5)), None);
        assert_eq!(promises.judge_commit(0, Loss::Nothing, Some(6)), None);
        for kept in [None, Some(4), Some(7)] {
            assert!(promises.judge_commit(0, Loss::Nothing, kept).is_some());
        }
    }

    #[test]
    fn a_changed_byte_makes_a_value_foreign() {
        let mut value = value_of(3);
        assert_eq!(number_of(&value), 3);
        value[1000] ^= 1;
        assert_eq!(number_of(&value), NONE);
        assert_eq!(number_of(&value_of(3)[..1016]), NONE);
    }
}
