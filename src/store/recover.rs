//! What a start finds: identity, replicas, generations, and after a crash the open generation, replayed.
//!
//! What a start may believe: RocksDB's sequence number must reach the one that was noted after the last commit, or
//! recovery stopped early. The kernel's boot id tells the death of a process (loses nothing that the kernel had) from
//! the death of the machine (an unsynced suffix may be gone).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rocksdb::{ReadOptions, WriteOptions};

use super::commit::{Commit, Generations};
use super::families::{Database, LOCAL, LOG, META};
use super::keys::{self, Generation, ReplicaId};
use super::replica::Replica;
use super::rows::{self, GenerationRow, ReplicaRow, SpanRow};
use super::{Identity, Recovered, directory};
use crate::env;
use crate::error::StoreError;
use crate::types::{NodeId, Offset};

/// The format that this version writes and the newest that it reads.
const FORMAT: u32 = 1;

const FORMAT_VERSION: &str = "format.version";
const DIRECTORY_ID: &str = "directory.id";
/// `local`: the node that owns the directory.
pub const NODE_ID: &str = "node.id";
/// `local`: the cluster that the directory belongs to.
pub const CLUSTER_ID: &str = "cluster.id";
/// `local`: the boot of the last run that the controller confirmed.
pub const BOOT_ID: &str = "boot.id";
/// `local`: the number that the next replica gets.
pub const NEXT_REPLICA: &str = "next.replica";
/// `local`: the open generation.
pub const GENERATION: &str = "generation";
/// `local`: how the last run ended.
pub const STOPPED: &str = "stopped";
/// The last run closed the store.
pub const CLEAN: &str = "clean";
const RUNNING: &str = "running";

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

/// Reads what the last run left, replays the open generation, and opens a new one.
pub fn recover(database: &Database, noted: u64) -> Result<Found, StoreError> {
    check_format(database)?;
    let reached = database.db().latest_sequence_number();
    let is_new = local(database, FORMAT_VERSION)?.is_none();
    let clean = is_new || local(database, STOPPED)?.as_deref() == Some(CLEAN);
    let mut recovered = judge_stop(database, clean, noted, reached)?;
    let generation: Generation = number(database, GENERATION)?.unwrap_or(0);
    let mut generations = Generations::new(generation, read_generations(database)?);
    let mut replicas = read_replicas(database)?;
    let mut commit = Commit::new(database, 4096);
    if !clean {
        let replayed = replay(database, generation, &mut replicas)?;
        let batches: u64 = replayed.iter().map(|found| found.batches).sum();
        let spans = replayed.len();
        for found in &replayed {
            commit.put_span(found.row.replica, &found.span);
            commit.put_replica(&found.row);
            generations.add(&found.span);
        }
        recovered.sentences.push(format!(
            "the last run did not stop cleanly: the headers of {batches} batches of {spans} partitions were replayed"
        ));
    }
    generations.roll(0);
    generations.write(&mut commit);
    commit.put_open_generation(generations.open);
    if is_new {
        commit.put_local(FORMAT_VERSION, &FORMAT.to_string());
        commit.put_local(DIRECTORY_ID, &env::random_uuid().to_string());
        commit.put_local(BOOT_ID, &directory::boot_id());
    }
    commit.put_local(STOPPED, RUNNING);
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    database.db().write_opt(commit.into_batch(), &synced).map_err(|error| database.failed("a write", &error))?;
    let next_replica = number(database, NEXT_REPLICA)?.unwrap_or(1);
    let replicas = replicas.into_iter().map(|(id, row)| (id, Arc::new(Replica::new(row)))).collect();
    Ok(Found { recovered, replicas, generations, next_replica })
}

/// Who a directory belongs to.
pub fn read_identity(database: &Database) -> Result<Identity, StoreError> {
    let directory_id = local(database, DIRECTORY_ID)?.and_then(|id| id.parse().ok());
    Ok(Identity {
        node_id: number(database, NODE_ID)?.map(NodeId),
        cluster_id: local(database, CLUSTER_ID)?,
        directory_id: directory_id.ok_or_else(|| unreadable(database, DIRECTORY_ID))?,
    })
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

fn judge_stop(database: &Database, clean: bool, noted: u64, reached: u64) -> Result<Recovered, StoreError> {
    let mut recovered = Recovered::default();
    if reached < noted {
        recovered.unclean = true;
        recovered.sentences.push(format!(
            "recovery of the log directory {} stopped early, at commit {reached} of {noted}: acknowledged records after it are lost here",
            database.name()
        ));
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

fn scan(
    database: &Database,
    (from, to): (&[u8], &[u8]),
    row: RowReader<'_>,
) -> Result<(), StoreError> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(to);
    options.set_readahead_size(1 << 20);
    let mut rows = database.db().raw_iterator_cf_opt(database.family(META), options);
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

/// One replica's part of the generation that was open.
struct Replayed {
    row: ReplicaRow,
    span: SpanRow,
    batches: u64,
}

/// Finds where each span of the open generation ends, from the headers of its batches.
fn replay(
    database: &Database,
    generation: Generation,
    replicas: &mut HashMap<ReplicaId, ReplicaRow>,
) -> Result<Vec<Replayed>, StoreError> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(keys::generation_start(generation + 1));
    options.set_readahead_size(1 << 20);
    let mut batches = database.db().raw_iterator_cf_opt(database.family(LOG), options);
    batches.seek(keys::generation_start(generation));
    let mut replayed = Vec::new();
    while let Some((_, id, _)) = batches.key().and_then(keys::parse_batch) {
        let open = database.last_span(id)?.filter(|span| span.is_open() && span.generation == generation);
        // Without an open span all of it belongs to closed ones, or to a replica that was deleted.
        if let (Some(open), Some(row)) = (open, replicas.get_mut(&id)) {
            batches.seek(keys::batch(generation, id, open.first));
            let mut found =
                Replayed { row: row.clone(), span: SpanRow { bytes: 0, end: open.first, ..open }, batches: 0 };
            while let Some((key, batch)) = batches.item()
                && keys::parse_batch(key).is_some_and(|(_, owner, _)| owner == id)
            {
                let (end, largest) = rows::batch_extent(batch)
                    .ok_or_else(|| database.corrupt(id, found.span.end, "has a header that cannot be read"))?;
                found.span.end = end;
                found.span.max_timestamp = found.span.max_timestamp.max(largest);
                found.span.bytes += batch.len() as u64;
                found.batches += 1;
                batches.next();
            }
            found.row.absorb(&found.span);
            *row = found.row.clone();
            replayed.push(found);
        }
        batches.seek(keys::batch(generation, ReplicaId(id.0 + 1), Offset::ZERO));
    }
    database.finish(&batches)?;
    Ok(replayed)
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
