//! Checkpoints in a verification: the one beside the log, and those that were kept elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use symbi_crypto::PublicKey;
use symbi_types::{LogId, Storage};

use super::VerifyOptions;
use crate::chain::{self, Link};
use crate::checkpoint::Checkpoint;
use crate::keeper;
use crate::merkle::{Frontier, Hash};
use crate::note::VerifierKey;
use crate::remainder::Remainder;
use crate::tiles::Tiles;

/// Hashes of pruned records read at once.
const LEAVES_AT_ONCE: usize = 1 << 13;

/// What was met where a checkpoint stands: the root, and whose turn it was.
struct Met {
    root: Hash,
    signers: Vec<PublicKey>,
}

pub(super) struct Fault {
    pub(super) seq: u64,
    pub(super) reason: String,
    pub(super) truncated: bool,
}

#[derive(Default)]
pub(super) struct Seals {
    given: Vec<Checkpoint>,
    beside: Option<Checkpoint>,
    damaged: Option<String>,
    frontier: Frontier,
    /// Sizes that checkpoints name.
    sizes: BTreeMap<u64, Option<Met>>,
    tree_to: u64,
}

impl Seals {
    pub(super) fn read(&mut self, storage: &dyn Storage, directory: &Path, options: &VerifyOptions) {
        if options.range.is_some() {
            return;
        }
        match keeper::stored(storage, directory) {
            Ok(beside) => self.beside = beside,
            Err(reason) => self.damaged = Some(reason),
        }
        self.given.clone_from(&options.checkpoints);
        self.given.sort_by_key(Checkpoint::size);
        self.sizes = self.all().map(|one| (one.size(), None)).collect();
        self.tree_to = self.all().map(Checkpoint::size).max().unwrap_or(0);
    }

    /// The hashes of records that were pruned, from the tiles; those of lines that are kept must be among them.
    pub(super) fn begin(
        &mut self,
        storage: &dyn Storage,
        directory: &Path,
        remainder: &Remainder,
        keys: &[PublicKey],
    ) -> Result<(), String> {
        let lost = |error: std::io::Error| format!("the hashes of records that were pruned: {error}");
        let tiles = Tiles::open(storage, directory).map_err(lost)?;
        let mut kept = remainder.lines.iter().peekable();
        let mut next = 0;
        while next < remainder.records {
            let count = LEAVES_AT_ONCE.min(usize::try_from(remainder.records - next).unwrap_or(usize::MAX));
            for leaf in tiles.leaves(next, count).map_err(lost)? {
                if let Some((seq, line)) = kept.next_if(|(seq, _)| *seq == next) {
                    let own = chain::split(line).map(|(body, link, _)| chain::leaf(body, &link));
                    if own != Some(leaf) {
                        return Err(format!("record {seq} is kept otherwise than it was"));
                    }
                }
                self.frontier.push(leaf);
                next += 1;
                if let Some(place) = self.sizes.get_mut(&next) {
                    // Whose turn it was among those of the remainder is not known to the record: any of them.
                    *place = Some(Met { root: self.frontier.root(), signers: keys.to_vec() });
                }
            }
        }
        Ok(())
    }

    /// How many records the largest checkpoint names.
    pub(super) fn largest(&self) -> u64 {
        self.all().map(Checkpoint::size).max().unwrap_or(0)
    }

    fn all(&self) -> impl Iterator<Item = &Checkpoint> {
        self.given.iter().chain(&self.beside)
    }

    pub(super) fn given_to(&self) -> u64 {
        self.given.iter().map(Checkpoint::size).max().unwrap_or(0)
    }

    pub(super) fn stored(&self) -> Option<u64> {
        self.beside.as_ref().map(Checkpoint::size)
    }

    pub(super) fn add(&mut self, body: &[u8], link: &Link) {
        if self.frontier.size() < self.tree_to {
            self.frontier.push(chain::leaf(body, link));
        }
    }

    pub(super) fn meet(&mut self, records: u64, signer: &Option<PublicKey>, keys: &[PublicKey]) {
        if records > self.tree_to || self.frontier.size() != records {
            return;
        }
        if let Some(place) = self.sizes.get_mut(&records) {
            let signers = signer.iter().chain(keys.last()).copied().collect();
            *place = Some(Met { root: self.frontier.root(), signers });
        }
    }

    /// Judges all; answers when the witnesses that were asked for signed.
    pub(super) fn judge(
        &self,
        log_id: Option<LogId>,
        records: u64,
        witnesses: &[VerifierKey],
    ) -> Result<Option<(u64, u64)>, Fault> {
        let fault = |seq: u64, reason: String| Fault { seq, reason, truncated: false };
        if let Some(reason) = &self.damaged {
            return Err(fault(0, format!("`checkpoint` is damaged: {reason}")));
        }
        let mut vouched = 0; // up to here another checkpoint held
        let mut in_order: Vec<&Checkpoint> = self.all().collect();
        in_order.sort_by_key(|one| one.size());
        for one in in_order {
            let size = one.size();
            if Some(one.log_id()) != log_id {
                return Err(fault(0, "the checkpoint is another log's".into()));
            }
            if size > records {
                let reason = format!("the log ends here, a checkpoint names {size} records");
                return Err(Fault { seq: records, reason, truncated: true });
            }
            let Some(Some(met)) = self.sizes.get(&size) else {
                return Err(fault(0, format!("the checkpoint of {size} records covers none")));
            };
            if !met.signers.iter().any(|key| one.check(key).is_ok()) {
                let reason = "the checkpoint is not signed by the key whose turn it was".into();
                return Err(fault(size.saturating_sub(1), reason));
            }
            if met.root != *one.root() {
                let reason = format!(
                    "from here to record {} some are not those that the checkpoint was made over",
                    size.saturating_sub(1)
                );
                return Err(fault(vouched, reason));
            }
            vouched = size;
        }
        let Some(largest) = self.given.last().or(self.beside.as_ref()).filter(|_| !witnesses.is_empty())
        else {
            return match witnesses {
                [] => Ok(None),
                _ => Err(fault(0, "there is no checkpoint that a witness could have signed".into())),
            };
        };
        let mut times: Option<(u64, u64)> = None;
        for witness in witnesses {
            let time_s = largest
                .check_witness(witness)
                .map_err(|error| fault(largest.size().saturating_sub(1), error.to_string()))?;
            times = Some(times.map_or((time_s, time_s), |(low, high)| (low.min(time_s), high.max(time_s))));
        }
        Ok(times)
    }
}
