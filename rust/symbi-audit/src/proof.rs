//! The proof of one record: that it is in the log, for somebody who has nothing but a fingerprint.
//!
//! The form is C2SP `tlog-proof`; `extra` holds the public keys that signed the checkpoint and the record, and the
//! record's line, packed (module `extra`), so the file stands alone. Twenty hashes for one of a million records.
//!
//! Invariants
//! - PR1 a proof is checked before it is given out: what this module makes, [`Proof::check`] accepts.
//! - PR2 checking needs no file, no log, no key but the fingerprint that was kept elsewhere.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use symbi_crypto::{KeyId, PublicKey};
use symbi_types::Storage;

use crate::chain;
use crate::checkpoint::Checkpoint;
use crate::extra::{self, Extra};
use crate::keeper::{self, each_line};
use crate::merkle::{self, Hash, MemoryNodes, Nodes, ProofError};
use crate::reader::Keys;
use crate::tiles::Tiles;
use crate::{LogError, RECORD_BYTES_MAX, Record};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A path in the largest tree.
const PATH_MAX: usize = 63;

/// A proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The record's number.
    pub index: u64,
    /// The siblings, the lowest first.
    pub path: Vec<Hash>,
    /// The state of the log that it leads to.
    pub checkpoint: Checkpoint,
    /// The key that signed the checkpoint.
    pub key: PublicKey,
    /// The key that signed the record: the same, unless keys were rotated between.
    pub signer: PublicKey,
    /// The record's line, with its newline.
    pub line: Vec<u8>,
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The record.
    pub record: Record,
    /// The fingerprint of the key that signed the checkpoint.
    pub key: KeyId,
    /// Whether it is the one that was given.
    pub authentic: bool,
}

impl Proof {
    /// Checks everything: the record's form and signature, its place under the root, the checkpoint's signature, and,
    /// where it is given, the fingerprint of the key that made the checkpoint. About 100 µs.
    ///
    /// # Errors
    /// [`ProofError`]; nothing of it is believed.
    pub fn check(&self, key: Option<KeyId>) -> Result<Proven, ProofError> {
        let record = Record::parse(&self.line).map_err(|_| ProofError("it holds no record"))?;
        if record.seq != self.index {
            return Err(ProofError("its record has another number"));
        }
        let Some((body, link, _)) = chain::split(&self.line) else {
            return Err(ProofError("it holds no record"));
        };
        if record.key != self.signer.key_id().to_string() {
            return Err(ProofError("its record names another key"));
        }
        match record.signature {
            Some(signature) if !record.is_grouped => self
                .signer
                .verify(chain::event_message(&link).as_ref(), &signature)
                .map_err(|_| ProofError("its record's signature does not verify"))?,
            // It is not of one record, and nothing here could check it: what vouches for the record is the root.
            Some(_) => return Err(ProofError("its record carries the signature of a group")),
            None => {}
        }
        let leaf = chain::leaf(body, &link);
        let (size, root) = (self.checkpoint.size(), self.checkpoint.root());
        merkle::check_inclusion(&leaf, self.index, size, &self.path, root)?;
        self.checkpoint.check(&self.key).map_err(|_| ProofError("its key did not sign the checkpoint"))?;
        let found = self.key.key_id();
        if key.is_some_and(|key| key != found) {
            return Err(ProofError("the checkpoint is signed by another key than the one that was given"));
        }
        Ok(Proven { record, key: found, authentic: key.is_some() })
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra = extra::pack(&self.key, &self.signer, &self.line);
        writeln!(f, "{FIRST_LINE}\nextra {}\nindex {}", chain::base64(&extra), self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", chain::base64(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for Proof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        let form = ProofError("it is not a `tlog-proof`, version 1, of a trail");
        let Some((head, note)) = text.split_once("\n\n") else { return Err(form) };
        let mut lines = head.split('\n');
        let (first, extra, index) = (lines.next(), lines.next(), lines.next());
        let (Some(FIRST_LINE), Some(extra), Some(index)) = (first, extra, index) else { return Err(form) };
        let extra = extra.strip_prefix("extra ").and_then(|text| chain::unbase64_any(text.as_bytes()));
        let Some(Extra { key, signer, line }) = extra.as_deref().and_then(extra::unpack) else {
            return Err(form);
        };
        if line.len() > RECORD_BYTES_MAX {
            return Err(ProofError("its record is too long"));
        }
        let index =
            index.strip_prefix("index ").filter(|digits| *digits == "0" || !digits.starts_with(['0', '+']));
        let Some(index) = index.and_then(|digits| digits.parse().ok()) else { return Err(form) };
        let mut path = Vec::new();
        for hash in lines {
            let Some(hash) = chain::unbase64::<32>(hash.as_bytes()).filter(|_| path.len() < PATH_MAX) else {
                return Err(form);
            };
            path.push(hash);
        }
        let checkpoint = note.parse().map_err(|_| ProofError("its checkpoint is not one"))?;
        Ok(Self { index, path, checkpoint, key, signer, line })
    }
}

enum Source {
    Tiles(Tiles),
    Memory(MemoryNodes),
}

impl Nodes for Source {
    type Error = LogError;

    fn node(&self, height: u32, index: u64) -> Result<Hash, LogError> {
        match self {
            Self::Tiles(tiles) => tiles.node(height, index).map_err(LogError::io("cannot read the tree")),
            Self::Memory(nodes) => nodes
                .node(height, index)
                .map_err(|_| LogError::broken(index << height, "the log has no such record")),
        }
    }
}

/// Makes proofs against one checkpoint of a trail.
pub struct Prover {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    checkpoint: Checkpoint,
    key: PublicKey,
    keys: Keys,
    source: Source,
}

impl Prover {
    /// Against `checkpoint`, or where it is `None` the one that lies beside the log. Takes the tiles where they lead to
    /// its root, and otherwise hashes the log (about a second for a million records).
    ///
    /// # Errors
    /// [`LogError`]: there is none, it is another log's, it is not signed by the log's key, or the records are not
    /// those that it was made over.
    pub fn open(
        storage: &Arc<dyn Storage>,
        directory: &Path,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Self, LogError> {
        let broken = |reason: &str| LogError::broken(0, format!("the checkpoint {reason}"));
        let stored = match checkpoint {
            Some(given) => Some(given),
            None => keeper::stored(&**storage, directory)
                .map_err(|error| broken(&format!("is damaged: {error}")))?,
        };
        let Some(checkpoint) = stored else {
            let reason = "no checkpoint covers it yet: make one with `symbi audit checkpoint`".into();
            return Err(LogError::Event { reason });
        };
        let keys = Keys::signing(&**storage, directory, &checkpoint)?;
        if keys.log_id != checkpoint.log_id() {
            return Err(broken("is another log's"));
        }
        let key = keys.signer_of(&checkpoint).ok_or_else(|| broken("is not signed by a key of this log"))?;
        let tiles = Tiles::open(&**storage, directory).map_err(LogError::io("cannot read the tree"))?;
        let (size, root) = (checkpoint.size(), *checkpoint.root());
        let source = if merkle::root(&tiles, size).is_ok_and(|found| found == root) {
            Source::Tiles(tiles)
        } else {
            let mut nodes = MemoryNodes::default();
            each_line(&**storage, directory, 0, size, |_, line| {
                if let Some((body, link, _)) = chain::split(line) {
                    nodes.push(chain::leaf(body, &link));
                }
                true
            })?;
            if nodes.size() < size {
                return Err(LogError::Truncated { seq: nodes.size(), head: size });
            }
            Source::Memory(nodes)
        };
        if merkle::root(&source, size)? != root {
            return Err(broken("was made over other records"));
        }
        Ok(Self {
            storage: storage.clone(),
            directory: directory.to_path_buf(),
            checkpoint,
            key,
            keys,
            source,
        })
    }

    /// The checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Proves record `seq`. Whoever has its line gives it; otherwise it is looked for, segment by segment.
    ///
    /// # Errors
    /// [`LogError`]: the checkpoint does not cover it, or it is not what the checkpoint was made over.
    pub fn prove(&self, seq: u64, line: Option<&[u8]>) -> Result<Proof, LogError> {
        let size = self.checkpoint.size();
        if seq >= size {
            let reason = format!("record {seq} is not under the checkpoint of {size} records: make one");
            return Err(LogError::Event { reason });
        }
        let line = match line {
            Some(line) => line.to_vec(),
            None => {
                let mut found = Vec::new();
                each_line(&*self.storage, &self.directory, seq, seq + 1, |_, line| {
                    found = line.to_vec();
                    false
                })?;
                found
            }
        };
        let line = chain::alone(line);
        let path = merkle::prove_inclusion(&self.source, seq, size)?;
        let signer = self.signer_of(&line)?;
        let proof =
            Proof { index: seq, path, checkpoint: self.checkpoint.clone(), key: self.key, signer, line };
        let held = proof.check(None).map_err(|error| LogError::broken(seq, error.to_string())); // PR1
        held.map(|_| proof)
    }

    /// The key that a record names. Keys of rotations are looked for only where it is not one that is known already.
    fn signer_of(&self, line: &[u8]) -> Result<PublicKey, LogError> {
        let record = Record::parse(line).map_err(|error| LogError::broken(0, error.to_string()))?;
        let of = |keys: &Keys| keys.keys.iter().copied().find(|key| key.key_id().to_string() == record.key);
        let found = match of(&self.keys) {
            Some(key) => Some(key),
            None => of(&Keys::read(&*self.storage, &self.directory, record.seq)?),
        };
        found.ok_or_else(|| LogError::broken(record.seq, "it names a key that is none of this log's"))
    }

    /// The hashes that lead from the first `old` records to this checkpoint, for somebody who knows their root.
    ///
    /// # Errors
    /// [`LogError::Truncated`]: there are fewer.
    pub fn consistency_from(&self, old: u64) -> Result<Vec<Hash>, LogError> {
        let size = self.checkpoint.size();
        if old > size {
            return Err(LogError::Truncated { seq: size, head: old });
        }
        merkle::prove_consistency(&self.source, old, size)
    }

    /// The hashes that show that `old` is a state of the same log, and that this one only added to it.
    ///
    /// # Errors
    /// [`LogError::ChainBroken`]: it is not.
    pub fn consistency(&self, old: &Checkpoint) -> Result<Vec<Hash>, LogError> {
        let (before, after) = (old.size(), self.checkpoint.size());
        if old.log_id() != self.checkpoint.log_id() {
            return Err(LogError::broken(0, "the other checkpoint is another log's"));
        }
        if before > after {
            return Err(LogError::Truncated { seq: after, head: before });
        }
        let path = self.consistency_from(before)?;
        merkle::check_consistency(before, after, old.root(), self.checkpoint.root(), &path)
            .map_err(|error| LogError::broken(before.saturating_sub(1), error.to_string()))?;
        Ok(path)
    }
}
