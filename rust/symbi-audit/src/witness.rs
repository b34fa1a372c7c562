//! A witness: remembers the largest state of each log it has seen, and signs only states that grew out of it.
//!
//! Why: whoever runs a log can show different people different histories, or an older one. A witness under another user
//! or on another machine makes that visible: there is one line of states that it has signed.
//! The rules and answers are those of C2SP `tlog-witness`; the transport is the caller's (`symbi/http/witness.py`).
//!
//! Invariants
//! - W1 what is signed is on disk before it is answered.
//! - W2 it never signs a smaller tree, another one of the same size, or one that is not shown to begin with the last.
//! - W3 only logs whose keys it was given; one process at a time holds its state.
//!
//! Source: C2SP `tlog-witness`, `tlog-cosignature`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use symbi_crypto::SigningKey;
use symbi_types::{OpenMode, Storage, StorageLock};

use crate::checkpoint::Checkpoint;
use crate::layout::{self, LOCK};
use crate::merkle::{self, Hash};
use crate::note::{VerifierKey, check_name};
use crate::pipeline::lock;
use crate::{LogError, chain};

/// The longest request: a checkpoint and 63 hashes.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const HASHES_MAX: usize = 63;

/// What a witness answers, as HTTP has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 signed, 400 malformed, 403 not signed by its log, 404 an unknown log, 409 not what was signed last, 422 not
    /// shown to grow out of it, 500 could not be kept.
    pub status: u16,
    /// The lines of the signature; on 409 the size that was signed last; otherwise why not.
    pub body: String,
}

/// A witness with its state.
pub struct Witness {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    name: String,
    key: SigningKey,
    logs: Vec<VerifierKey>,
    last: Mutex<BTreeMap<[u8; 16], Checkpoint>>,
    _held: Box<dyn StorageLock>,
}

impl Witness {
    /// Opens the state in `directory`, or makes it. `logs` are the keys of the logs it knows.
    ///
    /// # Errors
    /// [`LogError::Locked`] (W3); [`LogError::ChainBroken`]: its state is damaged, and it cannot know what it signed;
    /// [`LogError::Event`]: its name cannot stand in a note; [`LogError::Io`].
    pub fn open(
        storage: &Arc<dyn Storage>,
        directory: &Path,
        name: &str,
        key: SigningKey,
        logs: Vec<VerifierKey>,
    ) -> Result<Self, LogError> {
        check_name(name).map_err(|error| LogError::Event { reason: error.to_string() })?;
        storage.create_directory(directory).map_err(LogError::io("cannot make the witness' directory"))?;
        let held = storage.lock(&directory.join(LOCK)).map_err(LogError::io("cannot open `lock`"))?;
        let held = held.ok_or_else(|| LogError::Locked { path: directory.display().to_string() })?;
        let mut last = BTreeMap::new();
        for file in storage.list(directory).map_err(LogError::io("cannot list the witness' directory"))? {
            let Some(id) = file.strip_suffix(".checkpoint") else { continue };
            let damaged = |reason: String| LogError::broken(0, format!("`{file}` is damaged: {reason}"));
            let stored = storage
                .open(&directory.join(&file), OpenMode::Read)
                .and_then(|stored| {
                    let mut bytes = vec![0; REQUEST_BYTES_MAX];
                    let length = layout::read_full(&*stored, 0, &mut bytes)?;
                    bytes.truncate(length);
                    Ok(bytes)
                })
                .map_err(LogError::io(format!("cannot read `{file}`")))?;
            let text = String::from_utf8(stored).map_err(|_| damaged("not UTF-8".into()))?;
            let checkpoint: Checkpoint =
                text.parse().map_err(|error: crate::NoteError| damaged(error.to_string()))?;
            if checkpoint.log_id().to_string() != id {
                return Err(damaged("it is another log's".into()));
            }
            last.insert(checkpoint.log_id().0, checkpoint);
        }
        Ok(Self {
            storage: storage.clone(),
            directory: directory.to_path_buf(),
            name: name.to_owned(),
            key,
            logs,
            last: Mutex::new(last),
            _held: held,
        })
    }

    /// Its own key, as others name it to `verify`.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey::new(&self.name, crate::note::COSIGNATURE, self.key.public())
    }

    /// Answers one `add-checkpoint` request at the time `time_s`, seconds since the Unix epoch.
    #[must_use]
    pub fn add_checkpoint(&self, request: &str, time_s: u64) -> Answer {
        match self.consider(request, time_s) {
            Ok(lines) => Answer { status: 200, body: lines },
            Err(answer) => answer,
        }
    }

    fn consider(&self, request: &str, time_s: u64) -> Result<String, Answer> {
        let refuse = |status: u16, reason: &str| Answer { status, body: format!("{reason}\n") };
        let (old, hashes, mut checkpoint) = read(request).ok_or_else(|| refuse(400, "not a request"))?;
        let origin = crate::origin(checkpoint.log_id());
        let mut known = self.logs.iter().filter(|log| log.name() == origin).peekable();
        if known.peek().is_none() {
            return Err(refuse(404, "an unknown log"));
        }
        if !known.any(|log| checkpoint.check(&log.key()).is_ok()) {
            return Err(refuse(403, "not signed by a key of its log"));
        }
        if old > checkpoint.size() {
            return Err(refuse(400, "the tree has become smaller"));
        }
        // Under one lock from comparing to keeping: two requests cannot overtake each other.
        let mut last = lock(&self.last);
        let before = last.get(&checkpoint.log_id().0);
        let signed = before.map_or(0, Checkpoint::size);
        if old != signed {
            return Err(Answer { status: 409, body: format!("{signed}\n") });
        }
        let empty = merkle::Frontier::default().root();
        let root = before.map_or(empty, |before| *before.root());
        if signed == checkpoint.size() && before.is_some() && root != *checkpoint.root() {
            return Err(Answer { status: 409, body: format!("{signed}\n") });
        }
        merkle::check_consistency(old, checkpoint.size(), &root, checkpoint.root(), &hashes)
            .map_err(|error| refuse(422, &error.to_string()))?;
        let name = format!("{}.checkpoint", checkpoint.log_id());
        self.keep(&name, &checkpoint).map_err(|error| refuse(500, &format!("cannot be kept: {error}")))?; // W1
        last.insert(checkpoint.log_id().0, checkpoint.clone());
        drop(last);
        checkpoint.cosign(&self.name, &self.key, time_s);
        Ok(checkpoint.signature_lines(&self.verifier_key()))
    }

    fn keep(&self, name: &str, checkpoint: &Checkpoint) -> std::io::Result<()> {
        let waiting = self.directory.join(format!("{name}.tmp"));
        let file = self.storage.open(&waiting, OpenMode::Create)?;
        file.set_size(0)?;
        file.write_at(0, checkpoint.to_string().as_bytes())?;
        file.sync_data()?;
        self.storage.rename(&waiting, &self.directory.join(name))?;
        self.storage.sync_directory(&self.directory)
    }
}

/// `old N`, the hashes of the proof, an empty line, the checkpoint.
fn read(request: &str) -> Option<(u64, Vec<Hash>, Checkpoint)> {
    let (head, note) = request.get(..request.len().min(REQUEST_BYTES_MAX))?.split_once("\n\n")?;
    let mut lines = head.split('\n');
    let digits = lines.next()?.strip_prefix("old ")?;
    let plain = digits == "0" || !digits.starts_with(['0', '+']);
    let old = digits.parse().ok().filter(|_| plain)?;
    let hashes: Vec<Hash> =
        lines.map(|line| chain::unbase64::<32>(line.as_bytes())).collect::<Option<Vec<_>>>()?;
    (hashes.len() <= HASHES_MAX).then_some((old, hashes, note.parse().ok()?))
}

/// The request that asks a witness, which signed `old` last, to sign `checkpoint`.
#[must_use]
pub fn request(old: u64, hashes: &[Hash], checkpoint: &Checkpoint) -> String {
    let lines: String = hashes.iter().map(|hash| chain::base64(hash) + "\n").collect();
    format!("old {old}\n{lines}\n{checkpoint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{MemoryNodes, leaf_hash, prove_consistency, root};
    use symbi_crypto::Provider;
    use symbi_testkit::Disk;
    use symbi_types::LogId;

    const LOG: LogId = LogId([7; 16]);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(Provider::AwsLc, &[seed; 32])
    }

    fn tree(size: u64) -> MemoryNodes {
        let mut nodes = MemoryNodes::default();
        (0..size).for_each(|at| nodes.push(leaf_hash(&at.to_be_bytes())));
        nodes
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint::sign(LOG, size, root(&tree(size), size).unwrap(), &key(1))
    }

    fn asked(old: u64, new: u64) -> String {
        request(old, &prove_consistency(&tree(new), old, new).unwrap(), &checkpoint(new))
    }

    fn witness(disk: &Disk) -> Result<Witness, LogError> {
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let logs = vec![Checkpoint::verifier_key(LOG, key(1).public())];
        Witness::open(&storage, Path::new("/witness"), "w.example/1", key(2), logs)
    }

    #[test]
    fn w2_a_growing_log_is_signed_and_anything_else_is_refused_as_the_protocol_says() {
        let witness = witness(&Disk::new()).unwrap();
        let status = |request: &str| witness.add_checkpoint(request, 1_000).status;
        assert_eq!(status(&asked(0, 10)), 200);
        let signed = witness.add_checkpoint(&asked(10, 25), 1_234);
        assert_eq!(signed.status, 200);
        let mut kept = checkpoint(25);
        assert_eq!(kept.add_cosignatures(&signed.body, &witness.verifier_key()), Ok(1_234));
        assert_eq!(witness.add_checkpoint(&asked(10, 30), 0), Answer { status: 409, body: "25\n".into() });
        assert_eq!(witness.add_checkpoint(&asked(0, 10), 0), Answer { status: 409, body: "25\n".into() });
        assert_eq!(status(&asked(25, 25)), 200, "asked again it signs again");
        let other = Checkpoint::sign(LOG, 25, [1; 32], &key(1));
        assert_eq!(status(&request(25, &[], &other)), 409, "another tree of the same size");
        let fork = Checkpoint::sign(LOG, 40, [1; 32], &key(1));
        let hashes = prove_consistency(&tree(40), 25, 40).unwrap();
        assert_eq!(status(&request(25, &hashes, &fork)), 422, "one that did not grow out of it");
        assert_eq!(status(&request(25, &hashes[1..], &checkpoint(40))), 422);
        let smaller = request(25, &[], &checkpoint(10));
        assert_eq!(status(&smaller), 400, "a smaller one");
        let stranger = Checkpoint::sign(LogId([8; 16]), 1, [1; 32], &key(1));
        assert_eq!(status(&request(0, &[], &stranger)), 404);
        let forged = Checkpoint::sign(LOG, 25, *checkpoint(25).root(), &key(3));
        assert_eq!(status(&request(25, &[], &forged)), 403);
        for bad in ["", "old 25\n\n", "old 025\n\nx", "new 25\n\n", "old 25\nx\n\nx"] {
            assert_eq!(status(bad), 400, "{bad}");
        }
    }

    #[test]
    fn w1_what_was_answered_is_remembered_whatever_a_power_cut_leaves() {
        let disk = Disk::new();
        let first = witness(&disk).unwrap();
        for (old, new) in [(0, 5), (5, 9), (9, 20)] {
            assert_eq!(first.add_checkpoint(&asked(old, new), 0).status, 200);
            disk.mark(new);
        }
        drop(first);
        let states = disk.crash_states(31, 3, 7, |state| {
            let again = witness(&state.disk).expect("the state is whole");
            let answer = again.add_checkpoint(&asked(0, 20), 0);
            let size: u64 = if answer.status == 409 { answer.body.trim().parse().unwrap() } else { 0 };
            assert!(size >= state.mark, "{}: {size} of {}", state.story, state.mark);
        });
        assert!(states > 20, "{states}");
    }

    #[test]
    fn w3_its_state_has_one_holder_and_damage_stops_it() {
        let disk = Disk::new();
        let first = witness(&disk).unwrap();
        assert!(matches!(witness(&disk), Err(LogError::Locked { .. })));
        assert_eq!(first.add_checkpoint(&asked(0, 5), 0).status, 200);
        drop(first);
        disk.overwrite(Path::new(&format!("/witness/{LOG}.checkpoint")), b"x".to_vec());
        assert!(matches!(witness(&disk), Err(LogError::ChainBroken { .. })));
    }
}
