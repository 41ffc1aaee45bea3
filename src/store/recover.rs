//! What a start finds: identity, replicas, generations, and after a crash the open generation, replayed.
//!
//! A damaged batch among those that are replayed ends its partition's log there, as in Kafka; the start counts as
//! unclean then and says what was lost, because the batch had been written whole and may have been acknowledged.
//!
//! What a start may believe: RocksDB's sequence number must reach the one that was noted after the last commit, or
//! recovery stopped early. The kernel's boot id tells the death of a process (loses nothing that the kernel had) from
//! the death of the machine (an unsynced suffix may be gone).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rocksdb::{ReadOptions, WriteOptions};

use super::commit::{Commit, Generations};
use super::families::{Database, LOCAL, META, UNFLUSHED_MAX};
use super::keys::{self, Generation, ReplicaId};
use super::read::Recounted;
use super::replica::Replica;
use super::rows::{GenerationRow, ReplicaRow, Segment, SpanRow};
use super::{MetadataMark, Recovered, dead, directory};
use crate::env;
use crate::error::StoreError;
use crate::types::{NodeId, Offset, Timestamp};

/// The format that this version writes and the newest that it reads: 2 notes when a span was appended to last.
const FORMAT: u32 = 2;

const FORMAT_VERSION: &str = "format.version";
const DIRECTORY_ID: &str = "directory.id";
/// `local`: the node that owns the directory.
pub const NODE_ID: &str = "node.id";
/// `local`: the cluster that the directory belongs to.
pub const CLUSTER_ID: &str = "cluster.id";
/// `local`: the boot of the last run that the controller confirmed.
pub const BOOT_ID: &str = "boot.id";
/// `local`: the metadata that the directory belongs to.
pub const METADATA_ID: &str = "metadata.id";
/// `local`: the version of the newest image that made or deleted replicas.
pub const METADATA_VERSION: &str = "metadata.version";
/// `local`: whether a start found that records may be lost, and could not tell the controller yet.
pub const LOSS: &str = "loss";
const UNTOLD: &str = "untold";
/// Whatever was lost, the controller knows.
pub const TOLD: &str = "told";
/// `local`: the number that the next replica gets.
pub const NEXT_REPLICA: &str = "next.replica";
/// `local`: the open generation.
pub const GENERATION: &str = "generation";
/// `local`: the replicas that were being deleted last, as numbers with blanks between them.
pub const DELETING: &str = "deleting";
/// `local`: how the last run ended.
pub const STOPPED: &str = "stopped";
/// The last run closed the store.
pub const CLEAN: &str = "clean";
const RUNNING: &str = "running";

/// Generations before the open one that may not have been flushed: those that wait or are being flushed, and one whose
/// flush the rows' sync had not followed yet.
#[expect(clippy::cast_possible_truncation, reason = "a few")]
const UNFLUSHED_GENERATIONS: Generation = UNFLUSHED_MAX as Generation + 1;

/// Everything that a start knows.
pub struct Found {
    /// For the operator.
    pub recovered: Recovered,
    /// All replicas.
    pub replicas: HashMap<ReplicaId, Arc<Replica>>,
    /// What is alive in which generation; the open one is new.
    pub generations: Generations,
    /// The number that the next replica gets.
    pub next_replica: u64,
}

/// Reads what the last run left, counts again what a crash leaves in doubt, and opens a new generation.
pub fn recover(database: &Database, noted: [u64; 2]) -> Result<Found, StoreError> {
    check_format(database)?;
    let is_new = local(database, FORMAT_VERSION)?.is_none();
    let clean = is_new || local(database, STOPPED)?.as_deref() == Some(CLEAN);
    let mut recovered = judge_stop(database, clean, noted)?;
    let open: Generation = number(database, GENERATION)?.unwrap_or(0);
    // Rows may have been lost that records outlived: their generations are not used again.
    let newest = database.last_generation()?.unwrap_or(0).max(open);
    let mut generations = Generations::new(newest, read_generations(database)?);
    let mut replicas = read_replicas(database)?;
    let mut commit = Commit::new(database);
    if !clean || recovered.unclean {
        // Only what was not flushed is in doubt: the open generation, and after a stop of the machine those before it.
        let from = if recovered.unclean { open.saturating_sub(UNFLUSHED_GENERATIONS) } else { open };
        generations.recount(from, newest);
        let mut recount = Recount { database, from, commit, generations, batches: 0, spans: 0, damaged: Vec::new() };
        for row in replicas.values_mut() {
            recount.replica(row)?;
        }
        recovered.sentences.push(format!(
            "the last run did not stop cleanly: the headers of {} batches of {} partitions were replayed",
            recount.batches, recount.spans
        ));
        recovered.unclean |= !recount.damaged.is_empty();
        recovered.sentences.append(&mut recount.damaged);
        (commit, generations) = (recount.commit, recount.generations);
    }
    // What a recovery cut away, the next one does not find: without a note of it a start that ends before it could tell
    // the controller would be forgotten.
    if recovered.unclean {
        commit.put_local(LOSS, UNTOLD);
    } else if local(database, LOSS)?.as_deref() == Some(UNTOLD) {
        recovered.unclean = true;
        recovered.sentences.push(format!(
            "a start before this one found that records may be lost in the log directory {}, and ended before clients could be told",
            database.name()
        ));
    }
    generations.roll(0);
    generations.write(&mut commit);
    commit.put_open_generation(generations.open);
    commit.put_local(FORMAT_VERSION, &FORMAT.to_string());
    if is_new {
        commit.put_local(DIRECTORY_ID, &env::random_uuid().to_string());
        commit.put_local(BOOT_ID, &directory::boot_id());
    }
    commit.put_local(STOPPED, RUNNING);
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    commit.write(&synced)?;
    for row in replicas.values_mut() {
        drop_dead(database, row, &mut generations)?;
    }
    let next_replica = number(database, NEXT_REPLICA)?.unwrap_or(1);
    let replicas = replicas.into_iter().map(|(id, row)| (id, Arc::new(Replica::new(row)))).collect();
    Ok(Found { recovered, replicas, generations, next_replica })
}

/// Goes on with the dropping of dead spans that a stop cut short.
fn drop_dead(database: &Database, row: &mut ReplicaRow, generations: &mut Generations) -> Result<(), StoreError> {
    while row.first_span < row.log_start {
        let mut commit = Commit::new(database);
        let range = (row.first_span, row.log_start);
        let slice = dead::take_slice(database, row.replica, range, None, (&mut *generations, &mut commit))?;
        if slice.spans == 0 {
            return Ok(());
        }
        slice.move_on(row, row.log_start);
        commit.put_replica(row);
        generations.write(&mut commit);
        commit.write(&WriteOptions::default())?;
    }
    Ok(())
}

/// What the rows say of whom a directory belongs to.
pub struct Owner {
    /// The node.
    pub node_id: Option<NodeId>,
    /// The cluster.
    pub cluster_id: Option<String>,
    /// The directory's own id.
    pub directory_id: uuid::Uuid,
    /// The metadata.
    pub metadata: Option<MetadataMark>,
}

/// Who a directory belongs to.
pub fn read_owner(database: &Database) -> Result<Owner, StoreError> {
    let metadata = match (number(database, METADATA_ID)?, number(database, METADATA_VERSION)?) {
        (Some(metadata), Some(version)) => Some(MetadataMark { metadata, version }),
        (None, None) => None,
        // Both are written in one commit.
        _ => return Err(unreadable(database, METADATA_VERSION)),
    };
    Ok(Owner {
        node_id: number(database, NODE_ID)?.map(NodeId),
        cluster_id: local(database, CLUSTER_ID)?,
        directory_id: number(database, DIRECTORY_ID)?.ok_or_else(|| unreadable(database, DIRECTORY_ID))?,
        metadata,
    })
}

/// The replicas that were being deleted last.
pub fn read_deleting(database: &Database) -> Result<BTreeSet<ReplicaId>, StoreError> {
    let numbers = local(database, DELETING)?.unwrap_or_default();
    let replicas: Result<_, _> = numbers.split_whitespace().map(|number| number.parse().map(ReplicaId)).collect();
    replicas.map_err(|_| unreadable(database, DELETING))
}

fn check_format(database: &Database) -> Result<(), StoreError> {
    match number::<u32>(database, FORMAT_VERSION)? {
        Some(version) if version > FORMAT => Err(StoreError::new(format!(
            "the log directory {} was written by a newer version (format {version}, this one reads up to {FORMAT}): start that version, or set another log.dirs",
            database.name()
        ))),
        _ => Ok(()),
    }
}

fn judge_stop(database: &Database, clean: bool, noted: [u64; 2]) -> Result<Recovered, StoreError> {
    let mut recovered = Recovered::default();
    for (reached, noted) in database.sequences().into_iter().zip(noted) {
        if reached < noted {
            recovered.unclean = true;
            recovered.sentences.push(format!(
                "recovery of the log directory {} stopped early, at write {reached} of {noted}: acknowledged records after it are lost here",
                database.name()
            ));
        }
    }
    let same_boot = local(database, BOOT_ID)?.is_none_or(|boot| boot == directory::boot_id());
    if !clean && !same_boot {
        recovered.unclean = true;
        recovered.sentences.push(format!(
            "the machine stopped while the log directory {} was in use: records that were not synced may be lost here",
            database.name()
        ));
    }
    Ok(recovered)
}

fn read_replicas(database: &Database) -> Result<HashMap<ReplicaId, ReplicaRow>, StoreError> {
    let mut replicas = HashMap::new();
    scan(database, keys::REPLICAS, &mut |key, value| {
        let row = keys::parse_replica(key).and_then(|id| ReplicaRow::decode(id, value))?;
        replicas.insert(row.replica, row);
        Some(())
    })?;
    Ok(replicas)
}

fn read_generations(database: &Database) -> Result<BTreeMap<Generation, GenerationRow>, StoreError> {
    let mut generations = BTreeMap::new();
    scan(database, keys::GENERATIONS, &mut |key, value| {
        generations.insert(keys::parse_generation(key)?, GenerationRow::decode(value)?);
        Some(())
    })?;
    Ok(generations)
}

/// Takes a row's key and value; `None` when they cannot be read.
type RowReader<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Option<()>;

fn scan(database: &Database, (from, to): (&[u8], &[u8]), row: RowReader<'_>) -> Result<(), StoreError> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(to);
    options.set_readahead_size(1 << 20);
    let mut rows = database.rows().raw_iterator_cf_opt(database.family(META), options);
    rows.seek(from);
    while let Some((key, value)) = rows.item() {
        if row(key, value).is_none() {
            return Err(StoreError::new(format!(
                "the log directory {} has a row that cannot be read",
                database.name()
            )));
        }
        rows.next();
    }
    database.finish(&rows)
}

/// What a crash leaves in doubt, counted again. Rows are written before their records, so they may speak of batches
/// that never came; after a stop of the machine records may be missing that rows know.
struct Recount<'a> {
    database: &'a Database,
    from: Generation,
    commit: Commit<'a>,
    generations: Generations,
    batches: u64,
    spans: u64,
    /// Sentences about logs that end at a damaged batch.
    damaged: Vec<String>,
}

impl Recount<'_> {
    fn replica(&mut self, row: &mut ReplicaRow) -> Result<(), StoreError> {
        let id = row.replica;
        let spans = self.database.spans_since(id, self.from)?;
        let Some(first) = spans.first() else { return Ok(()) };
        // From here on the row is told again by what is there.
        row.end = first.first;
        row.bytes_end = first.bytes_before;
        let mut broken = false;
        for span in &spans {
            let Recounted { span: found, batches, damage } = self.database.recount(id, span)?;
            if let Some(what) = damage.filter(|_| !broken) {
                self.damaged.push(damage_sentence(row, found.end, what));
            }
            if batches == 0 || broken {
                broken |= !span.is_open() || damage.is_some();
                self.commit.delete_meta(&keys::span(id, span.first));
                continue;
            }
            // Whatever follows a batch that is missing or damaged is not part of the log.
            broken = damage.is_some() || !span.is_open() && found.end < span.end;
            // When the last batch of an open span was appended is not known any more: not after now.
            let appended = if span.is_open() { env::now() } else { span.appended };
            let found = SpanRow { end: found.end.min(span.end), appended, ..found };
            self.commit.put_span(id, &found);
            self.generations.add(&found);
            row.absorb(&found);
            self.batches += batches;
            self.spans += 1;
        }
        if row.segment.first > row.end || row.segment.bytes_before > row.bytes_end {
            row.segment = Segment { first: row.end, bytes_before: row.bytes_end, first_timestamp: Timestamp::NONE };
        }
        row.end = row.end.max(row.log_start);
        row.high_watermark = row.high_watermark.min(row.end);
        self.forget_beyond(row)?;
        self.commit.put_replica(row);
        Ok(())
    }

    /// Timestamps and producer snapshots of batches that are not there.
    fn forget_beyond(&mut self, row: &mut ReplicaRow) -> Result<(), StoreError> {
        let (id, beyond) = (row.replica, row.end.plus(1));
        let next = ReplicaId(id.0 + 1);
        let timestamps = (keys::timestamp(id, beyond), keys::timestamp(next, Offset::ZERO));
        let snapshots = (keys::snapshot(id, beyond), keys::snapshot(next, Offset::ZERO));
        for (from, to) in [timestamps, snapshots] {
            for key in self.database.keys_between(&from, &to)? {
                self.commit.delete_meta(&key);
            }
        }
        if row.snapshot > row.end {
            row.snapshot = std::mem::replace(&mut row.older_snapshot, Offset::UNKNOWN);
        }
        if row.snapshot > row.end {
            row.snapshot = Offset::UNKNOWN;
        }
        Ok(())
    }
}

fn damage_sentence(row: &ReplicaRow, at: Offset, what: &str) -> String {
    let (partition, topic) = (row.partition, row.topic);
    let seen = match row.high_watermark > at {
        true => format!(", of which consumers could read those below {}", row.high_watermark),
        false => String::new(),
    };
    format!(
        "partition {partition} of topic {topic}: the batch at offset {at} {what}: the log ends there now, and the records from that offset on are lost here{seen}"
    )
}

fn local(database: &Database, key: &str) -> Result<Option<String>, StoreError> {
    let Some(value) = database.get(LOCAL, key.as_bytes())? else { return Ok(None) };
    String::from_utf8(value).map(Some).map_err(|_| unreadable(database, key))
}

fn number<T: std::str::FromStr>(database: &Database, key: &str) -> Result<Option<T>, StoreError> {
    let Some(value) = local(database, key)? else { return Ok(None) };
    value.parse().map(Some).map_err(|_| unreadable(database, key))
}

fn unreadable(database: &Database, key: &str) -> StoreError {
    StoreError::new(format!("{key} of the log directory {} cannot be read", database.name()))
}
