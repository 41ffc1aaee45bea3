//! Pure but for reading the members' files: what the group has read, against what was sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};

use super::key_of;

/// One line of what a member wrote down: what it did within an assignment to an offset of a partition.
struct Note<'a> {
    assignment: usize,
    at: (i32, i64),
    /// Key and value of a record; `None` for a commit.
    record: Option<(&'a str, &'a str)>,
}

impl<'a> Note<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(5, ' ');
        let is_record = match parts.next()? {
            "R" => true,
            "C" => false,
            _ => return None,
        };
        let assignment = parts.next()?.parse().ok()?;
        let at = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let record = if is_record { Some(parts.next()?.split_once('\t')?) } else { None };
        Some(Self { assignment, at, record })
    }
}

/// What one member read of a partition within one assignment.
struct Stretch {
    partition: i32,
    first: i64,
    last: i64,
    /// The offset that was committed last; -1 before the first.
    committed: i64,
}

type ReadRecords<'a> = BTreeMap<(i32, i64), (&'a str, &'a str)>;

/// How many lines of the log are still missing; an error when what was read is wrong.
pub fn check(files: &[PathBuf], log: impl Iterator<Item = Result<String, String>>) -> Result<usize, String> {
    let texts = files.iter().map(|file| whole_lines(file)).collect::<Result<Vec<_>, _>>()?;
    let mut read = ReadRecords::new();
    let mut stretches = Vec::new();
    for text in &texts {
        stretches.extend(follow(text, &mut read)?);
    }
    check_commits(&stretches)?;
    compare(&read, log)
}

/// Reads what one member wrote down.
fn follow<'a>(text: &'a str, read: &mut ReadRecords<'a>) -> Result<Vec<Stretch>, String> {
    let mut stretches: BTreeMap<(usize, i32), Stretch> = BTreeMap::new();
    for line in text.lines() {
        let note = Note::parse(line).ok_or_else(|| format!("a broken line: {line}"))?;
        let (partition, offset) = note.at;
        let stretch = stretches.entry((note.assignment, partition));
        let Some(record) = note.record else {
            stretch.and_modify(|stretch| stretch.committed = offset);
            continue;
        };
        let stretch = stretch.or_insert(Stretch { partition, first: offset, last: offset - 1, committed: -1 });
        if stretch.last + 1 != offset {
            return Err(format!("partition {partition}: {offset} came after {}", stretch.last));
        }
        stretch.last = offset;
        if read.insert(note.at, record).is_some_and(|before| before != record) {
            return Err(format!("{partition}@{offset} was read twice with different content"));
        }
    }
    Ok(stretches.into_values().collect())
}

/// Whoever gets a partition goes on at what was committed for it, or later: of any two stretches of a partition, one
/// begins where the other had committed to.
fn check_commits(stretches: &[Stretch]) -> Result<(), String> {
    for (index, one) in stretches.iter().enumerate() {
        for other in stretches[..index].iter().filter(|other| other.partition == one.partition) {
            if one.first < other.committed && other.first < one.committed {
                let (commits, starts) = ([one.committed, other.committed], [one.first, other.first]);
                return Err(format!("partition {}: {commits:?} committed, read from {starts:?}", one.partition));
            }
        }
    }
    Ok(())
}

/// An error unless others went on with what the killed member had begun to read.
pub fn check_taken_over(files: &[PathBuf], victim: usize) -> Result<(), String> {
    let mut owned: Vec<BTreeSet<i32>> = Vec::new();
    for file in files {
        let stretches = follow(&whole_lines(file)?, &mut ReadRecords::new())?;
        owned.push(stretches.iter().map(|stretch| stretch.partition).collect());
    }
    let victims = owned.swap_remove(victim);
    let taken_over = owned.iter().flatten().any(|partition| victims.contains(partition));
    if taken_over { Ok(()) } else { Err("the member that was killed had left nothing to read".to_owned()) }
}

/// What a member wrote, without the last line of a killed one, which may be cut.
fn whole_lines(file: &Path) -> Result<String, String> {
    let mut bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1));
    String::from_utf8(bytes).map_err(|e| format!("{}: {e}", file.display()))
}

fn compare(read: &ReadRecords<'_>, log: impl Iterator<Item = Result<String, String>>) -> Result<usize, String> {
    let mut by_key: HashMap<&str, VecDeque<&str>> = HashMap::new();
    for (key, value) in read.values() {
        by_key.entry(key).or_default().push_back(value);
    }
    let mut lines = 0;
    let mut differs = false;
    for line in log {
        let line = line?;
        lines += 1;
        // The next of its key must be this line.
        let next = by_key.get_mut(key_of(&line)).and_then(VecDeque::pop_front);
        differs |= next != Some(&*line);
    }
    if read.len() > lines {
        return Err(format!("{} records for {lines} lines", read.len()));
    }
    match (lines - read.len(), differs) {
        (0, true) => Err("lines differ, or stand in another order, for some key".to_owned()),
        (missing, _) => Ok(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> impl Iterator<Item = Result<String, String>> {
        ["a 1", "b 2", "a 3"].into_iter().map(|line| Ok(line.to_owned()))
    }

    /// What check() says of members that wrote this.
    fn checked(members: &[&str]) -> Result<usize, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |(number, text): (usize, &&str)| {
            let file = folder.path().join(number.to_string());
            std::fs::write(&file, text).expect("written");
            file
        };
        let files: Vec<_> = members.iter().enumerate().map(write).collect();
        check(&files, log())
    }

    #[test]
    fn what_two_members_read_together_is_complete() {
        assert_eq!(checked(&["R 1 0 0 a\ta 1\nR 1 1 0 b\tb 2\n", "R 1 0 0 a\ta 1\nR 1 0 1 a\ta 3\n"]), Ok(0));
    }

    #[test]
    fn a_line_that_was_cut_by_the_kill_is_missing() {
        assert_eq!(checked(&["R 1 0 0 a\ta 1\nR 1 1 0 b\tb 2\nR 1 0 1 a\ta 3"]), Ok(1));
    }

    #[test]
    fn an_order_other_than_the_keys_is_refused() {
        assert!(checked(&["R 1 0 0 a\ta 3\nR 1 0 1 a\ta 1\nR 1 1 0 b\tb 2\n"]).is_err());
    }

    #[test]
    fn a_gap_within_an_assignment_is_refused_and_after_another_is_not() {
        assert!(checked(&["R 1 0 0 a\ta 1\nR 1 0 2 a\ta 3\nR 1 1 0 b\tb 2\n"]).is_err());
        assert_eq!(checked(&["R 1 0 0 a\ta 1\nR 2 0 2 a\ta 3\nR 2 1 0 b\tb 2\n"]), Ok(0));
    }

    #[test]
    fn a_changed_byte_is_refused() {
        assert!(checked(&["R 1 0 0 a\ta 1\nR 1 1 0 b\tb 9\nR 1 0 1 a\ta 3\n"]).is_err());
        assert!(checked(&["R 1 0 0 a\ta 1\nR 1 1 0 b\tb 2\nR 1 0 1 a\ta 3\nR 2 1 0 b\tb x\n"]).is_err());
    }

    #[test]
    fn a_commit_that_the_next_owner_does_not_know_is_a_loss() {
        let first = "R 1 0 0 a\ta 1\nC 1 0 1\nR 1 1 0 b\tb 2\n";
        assert_eq!(checked(&[first, "R 1 0 1 a\ta 3\nC 1 0 2\n"]), Ok(0));
        assert!(checked(&[first, "R 1 0 0 a\ta 1\nR 1 0 1 a\ta 3\nC 1 0 2\n"]).is_err());
    }
}
