//! The keeper of the tree: brings the tiles up to the log, signs checkpoints, keeps the last beside the log.
//!
//! Whoever signs a root vouches for every record under it. So what is signed is hashed from the bytes on disk, read
//! again, and their chain must come out at the link that the log holds in memory: a bit that rotted in between is
//! found before the signature and not after it.
//!
//! Invariants
//! - KE1 a checkpoint is made over durable records only, and only under the log's lock.
//! - KE2 the file `checkpoint` is whole or the one before; a checkpoint never becomes smaller.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbi_crypto::{PublicKey, SigningKey};
use symbi_types::{LogId, OpenMode, Storage};

use crate::chain::{self, Link};
use crate::checkpoint::Checkpoint;
use crate::layout::{self, LOCK, Lines};
use crate::tiles::TileWriter;
use crate::{LogError, LogOptions};

/// The last checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// More than the longest note.
const FILE_BYTES_MAX: usize = 64 * 1024 + 1;

/// Up to where, and by whom.
pub(crate) struct Goal {
    pub(crate) records: u64,
    /// The link of the last.
    pub(crate) chain: Link,
    pub(crate) key: SigningKey,
}

pub(crate) struct Keeper {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    log_id: LogId,
    writer: Option<TileWriter>,
    last: Option<Checkpoint>,
}

/// The checkpoint that lies beside the log; `None` where there is none.
pub(crate) fn stored(storage: &dyn Storage, directory: &Path) -> Result<Option<Checkpoint>, String> {
    let file = match storage.open(&directory.join(CHECKPOINT), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = vec![0; FILE_BYTES_MAX];
    let length = layout::read_full(&*file, 0, &mut bytes).map_err(|error| error.to_string())?;
    bytes.truncate(length);
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    text.parse().map(Some).map_err(|error: crate::NoteError| error.to_string())
}

/// Puts a checkpoint beside the log (KE2).
pub(crate) fn store(storage: &dyn Storage, directory: &Path, checkpoint: &Checkpoint) -> std::io::Result<()> {
    let waiting = directory.join(format!("{CHECKPOINT}.tmp"));
    let file = storage.open(&waiting, OpenMode::Create)?;
    file.set_size(0)?;
    file.write_at(0, checkpoint.to_string().as_bytes())?;
    file.sync_data()?;
    storage.rename(&waiting, &directory.join(CHECKPOINT))?;
    storage.sync_directory(directory)
}

impl Keeper {
    pub(crate) fn new(storage: Arc<dyn Storage>, directory: &Path, log_id: LogId) -> Self {
        Self { storage, directory: directory.to_path_buf(), log_id, writer: None, last: None }
    }

    /// A checkpoint of at least `goal.records` records, which are durable (KE1).
    pub(crate) fn checkpoint(&mut self, goal: &Goal) -> Result<Checkpoint, LogError> {
        let io = LogError::io("cannot write the tree");
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.open(&goal.key.public()).map_err(io)?,
        };
        let public = goal.key.public();
        if let Some(last) = &self.last {
            let enough =
                goal.records < last.size() || last.size() == goal.records && last.check(&public).is_ok();
            if enough {
                self.writer = Some(writer);
                return Ok(last.clone());
            }
        }
        // The writer is put back only when all went well: what failed half-way is begun again from what is signed.
        if writer.frontier.size() > goal.records {
            writer = TileWriter::open(&self.storage, &self.directory, 0, &[0; 32])
                .map_err(LogError::io("cannot write the tree"))?;
        }
        self.catch_up(&mut writer, goal)?;
        writer.sync().map_err(LogError::io("cannot write the tree"))?; // TI2
        let mut made = Checkpoint::sign(self.log_id, goal.records, writer.frontier.root(), &goal.key);
        if let Ok(Some(there)) = stored(&*self.storage, &self.directory) {
            made.merge(&there);
        }
        store(&*self.storage, &self.directory, &made).map_err(LogError::io("cannot write the checkpoint"))?;
        self.last = Some(made.clone());
        self.writer = Some(writer);
        Ok(made)
    }

    /// Goes on from the last checkpoint where this key signed it; otherwise from nothing (TI1).
    fn open(&mut self, key: &PublicKey) -> std::io::Result<TileWriter> {
        let there = stored(&*self.storage, &self.directory).ok().flatten();
        let ours = there.filter(|there| there.log_id() == self.log_id && there.check(key).is_ok());
        let (size, root) = ours.as_ref().map_or((0, [0; 32]), |ours| (ours.size(), *ours.root()));
        self.last = ours;
        TileWriter::open(&self.storage, &self.directory, size, &root)
    }

    fn catch_up(&self, writer: &mut TileWriter, goal: &Goal) -> Result<(), LogError> {
        let from = writer.frontier.size();
        let mut chain: Link = [0; 32];
        let mut result = Ok(());
        each_line(&*self.storage, &self.directory, from.saturating_sub(1), goal.records, |seq, line| {
            let Some((body, claimed, _)) = chain::split(line) else {
                result = Err(LogError::broken(seq, "the line does not end in a chain and a signature"));
                return false;
            };
            if seq < from {
                chain = claimed; // the last one under the checkpoint; that it is right shows at the goal
                return true;
            }
            chain = chain::link(self.log_id, seq, &chain, body);
            if chain != claimed {
                result =
                    Err(LogError::broken(seq, "the chain does not match the body and the records before it"));
                return false;
            }
            if let Err(error) = writer.push(chain::leaf(body, &chain)) {
                result = Err(LogError::io("cannot write the tree")(error));
                return false;
            }
            true
        })?;
        result?;
        if writer.frontier.size() != goal.records {
            return Err(LogError::Truncated { seq: writer.frontier.size(), head: goal.records });
        }
        if from < goal.records && chain != goal.chain {
            return Err(LogError::broken(goal.records - 1, "what lies on disk is not what was written"));
        }
        Ok(())
    }
}

/// Signs the state of a log that nobody has open for writing. It is verified whole first, with everything beside it; the
/// key is the one whose turn it is.
///
/// # Errors
/// [`LogError::Locked`], [`LogError::WrongKey`], [`LogError::ChainBroken`], [`LogError::Truncated`], [`LogError::Io`].
pub fn checkpoint_at_rest(directory: &Path, options: &LogOptions) -> Result<Checkpoint, LogError> {
    let storage = &options.storage;
    let locked = || LogError::Locked { path: directory.display().to_string() };
    let held = storage.lock(&directory.join(LOCK)).map_err(LogError::io("cannot open `lock`"))?;
    let _held = held.ok_or_else(locked)?;
    let verify = crate::VerifyOptions { storage: Some(storage.clone()), ..crate::VerifyOptions::default() };
    let found = crate::verify(directory, &verify).map_err(|error| match error.truncated {
        true => LogError::Truncated { seq: error.seq, head: error.seq },
        false => LogError::broken(error.seq, error.reason),
    })?;
    let (given, turn) = (options.signing_key.key_id(), found.keys.last());
    if turn != Some(&given) {
        let expected = turn.map(ToString::to_string).unwrap_or_default();
        return Err(LogError::WrongKey { expected, given: given.to_string() });
    }
    let chain = chain::unhex(found.head.as_bytes()).unwrap_or_default();
    let goal = Goal { records: found.records, chain, key: options.signing_key.clone() };
    Keeper::new(storage.clone(), directory, found.log_id).checkpoint(&goal)
}

/// Calls `visit` with the lines of records `from..to`, in order, until it says no. Nothing of them is checked.
pub(crate) fn each_line(
    storage: &dyn Storage,
    directory: &Path,
    from: u64,
    to: u64,
    mut visit: impl FnMut(u64, &[u8]) -> bool,
) -> Result<(), LogError> {
    let mut next = from;
    let mut tries = 0;
    while next < to {
        let segments = layout::segments(storage, directory)?;
        let Some(segment) = segments.iter().rev().find(|segment| segment.first <= next) else {
            return Ok(());
        };
        let (mut lines, mut seq) = match Lines::open_near(storage, directory, segment, next) {
            Ok(found) => found,
            // Sealed since it was listed: then it has another name.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && tries < 3 => {
                tries += 1;
                continue;
            }
            Err(error) => return Err(LogError::io("cannot open a segment")(error)),
        };
        let before = next;
        while let Some(line) =
            lines.next_line().map_err(|error| LogError::broken(next, format!("its segment: {error}")))?
        {
            if seq >= next {
                if seq >= to || !visit(seq, line) {
                    return Ok(());
                }
                next = seq + 1;
            }
            seq += 1;
        }
        if next == before {
            return Ok(()); // there is no more
        }
    }
    Ok(())
}
