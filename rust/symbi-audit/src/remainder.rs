//! What is kept of records that were pruned: where the log begins now, and the lines that say whose it is.
//!
//! The file `pruned` holds one line of JSON that names how many records are gone and the link of the last of them, then,
//! as they were signed, record 0, the first opening, and every record of a key. Their hashes stay in the tiles, so that roots
//! over the whole log can still be shown and checkpoints that were kept elsewhere still hold.
//!
//! Invariants
//! - RM1 the remainder claims nothing by itself: its lines are signed, each by the key whose turn it was; its link is the one
//!   that the first record left is chained to; and a record of the pruning, which the log signed, names both.
//! - RM2 it is whole or the one before; records are removed only after it is on disk.
//! - RM3 nothing that others append is kept, whatever it says; and what would not be read again is never written.

use std::io;
use std::path::Path;

use symbi_crypto::{KeyId, PublicKey};
use symbi_types::{LogId, OpenMode, Storage};

use crate::chain::{self, Link, hex};
use crate::head::Point;
use crate::layout;
use crate::record::View;
use crate::recover::{Created, rotated};
use crate::verify::event_type;
use crate::{LogError, json};

/// The file's name.
pub(crate) const PRUNED: &str = "pruned";
/// Lines of a log whose key was changed a thousand times.
const FILE_BYTES_MAX: usize = 1 << 20;

/// What is there instead of the first records.
#[derive(Clone, Debug)]
pub(crate) struct Remainder {
    pub(crate) log_id: LogId,
    /// How many are gone.
    pub(crate) records: u64,
    /// The link of the last of them.
    pub(crate) chain: Link,
    /// Keys in the order of their use, up to the one whose turn it is.
    pub(crate) keys: Vec<PublicKey>,
    /// The record after which each of them signs (record 0's: 0).
    pub(crate) turns: Vec<(u64, KeyId)>,
    /// `runtime` or `application`.
    pub(crate) owner: String,
    /// The lines that are kept, with their numbers.
    pub(crate) lines: Vec<(u64, Vec<u8>)>,
}

/// Whether a line is kept when those around it go: by what it is itself, whatever stands in its details (RM3).
pub(crate) fn is_kept(seq: u64, line: &[u8]) -> bool {
    seq < 2 || matches!(event_type(line), "key.rotated" | "log.key_compromised")
}

impl Remainder {
    pub(crate) fn new(log_id: LogId, records: u64, chain: Link, lines: Vec<(u64, Vec<u8>)>) -> Self {
        Self { log_id, records, chain, keys: Vec::new(), turns: Vec::new(), owner: String::new(), lines }
    }

    /// Reads it; `None` where nothing was pruned.
    ///
    /// # Errors
    /// [`LogError::ChainBroken`] where it is not what a pruning leaves.
    pub(crate) fn read(storage: &dyn Storage, directory: &Path) -> Result<Option<Self>, LogError> {
        let file = match storage.open(&directory.join(PRUNED), OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("cannot open `pruned`")(error)),
        };
        let mut bytes = vec![0; FILE_BYTES_MAX + 1];
        let length =
            layout::read_full(&*file, 0, &mut bytes).map_err(LogError::io("cannot read `pruned`"))?;
        bytes.truncate(length);
        if bytes.len() > FILE_BYTES_MAX {
            return Err(LogError::broken(0, "`pruned`: it is longer than any that a pruning leaves"));
        }
        Self::parse(&bytes).map(Some).map_err(|reason| LogError::broken(0, format!("`pruned`: {reason}")))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let head = lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
        let members = json::members(head, |_| false).map_err(|error| error.to_string())?;
        let [("v", "1"), ("log_id", log_id), ("records", records), ("chain", chain)] = members.as_slice()
        else {
            return Err("its first line has other members".into());
        };
        let text = |raw: &str| json::text(raw).unwrap_or_default().into_owned();
        let log_id = LogId(chain::unhex(text(log_id).as_bytes()).ok_or("its log id is none")?);
        let chain = chain::unhex(text(chain).as_bytes()).ok_or("its link is none")?;
        let records: u64 = records.parse().map_err(|_| "its number of records is none")?;
        let mut found = Self::new(log_id, records, chain, Vec::new());
        for line in lines {
            found.take(line)?;
        }
        if found.lines.len() < 2 {
            return Err("record 0 or 1 is missing".into());
        }
        Ok(found)
    }

    /// One kept line: signed by the key whose turn it was (RM1).
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let view = View::parse(line).map_err(|error| error.to_string())?;
        let at = self.lines.len();
        let in_order = self.lines.last().is_none_or(|(last, _)| *last < view.seq) && view.seq < self.records;
        if !in_order || (at < 2 && view.seq != at as u64) {
            return Err(format!("record {} stands out of order", view.seq));
        }
        let follows = self.lines.last().map_or(view.seq == 0, |(last, _)| last + 1 == view.seq);
        let before =
            self.lines.last().and_then(|(_, line)| chain::split(line)).map_or([0; 32], |(_, link, _)| link);
        if follows && chain::link(self.log_id, view.seq, &before, view.body) != view.chain {
            return Err(format!("record {} is not what was signed", view.seq));
        }
        if at == 0 {
            let created = Created::of(&view).ok_or("record 0 is not a complete `log.created`")?;
            if created.log_id != self.log_id {
                return Err("record 0 is another log's".into());
            }
            self.turns.push((0, created.root.key_id()));
            self.keys.push(created.root);
        }
        let key = *self.keys.last().ok_or("record 0 is missing")?;
        if view.key != key.key_id().to_string() || !view.signed_by(&key) {
            return Err(format!("record {} is not signed by the key whose turn it was", view.seq));
        }
        if at == 1 {
            self.owner = view.detail_text("owner").unwrap_or_default().into_owned();
        }
        if view.event_type == "key.rotated" {
            let new = rotated(&view, self.log_id, &key).ok_or("a rotation does not hold")?;
            self.turns.push((view.seq, new.key_id()));
            self.keys.push(new);
        }
        self.lines.push((view.seq, line.to_vec()));
        Ok(())
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// What keeps them from being read again (RM3).
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        let mut bytes = format!(
            "{{\"v\":1,\"log_id\":\"{}\",\"records\":{},\"chain\":\"{}\"}}\n",
            self.log_id,
            self.records,
            hex(&self.chain)
        )
        .into_bytes();
        self.lines.iter().for_each(|(_, line)| bytes.extend_from_slice(line));
        if bytes.len() > FILE_BYTES_MAX {
            return Err("the log has had more keys than `pruned` can hold".into());
        }
        Self::parse(&bytes)?;
        Ok(bytes)
    }

    /// Puts what [`Remainder::encode`] gave beside the log (RM2).
    pub(crate) fn store(storage: &dyn Storage, directory: &Path, bytes: &[u8]) -> io::Result<()> {
        let waiting = directory.join(format!("{PRUNED}.tmp"));
        let file = storage.open(&waiting, OpenMode::Create)?;
        file.set_size(0)?;
        file.write_at(0, bytes)?;
        file.sync_data()?;
        storage.rename(&waiting, &directory.join(PRUNED))?;
        storage.sync_directory(directory)
    }

    /// Where the log begins.
    pub(crate) fn point(&self) -> Point {
        Point { records: self.records, chain: self.chain, segment: self.records, length: 0 }
    }
}
