//! Reading beside a writer, without a lock (A6).
//!
//! A line is handed out only when its newline is there; the writer appends whole lines and never changes one, so what
//! a reader sees is a prefix of the log. Reading checks the form of a line, not chain and signature: that is `verify`.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbi_crypto::PublicKey;
use symbi_types::{Storage, SystemStorage};

use crate::chain;
use crate::checkpoint::Checkpoint;
use crate::keeper::{self, each_line};
use crate::layout::{self, Lines};
use crate::note::VerifierKey;
use crate::proof::Prover;
use crate::query::Query;
use crate::record::View;
use crate::recover::{Created, rotated};
use crate::remainder::Remainder;
use crate::{LogError, Record};

/// The keys of a log, in the order of their use, as its records name them.
pub(crate) struct Keys {
    pub(crate) log_id: symbi_types::LogId,
    pub(crate) keys: Vec<PublicKey>,
}

impl Keys {
    /// The keys of the first `to` records: record 0's, and those of rotations that the one before and the new one
    /// signed. The links of other records are not checked: that is `verify`.
    pub(crate) fn read(storage: &dyn Storage, directory: &Path, to: u64) -> Result<Self, LogError> {
        let mut keys = Self::first(storage, directory)?;
        let remainder = Remainder::read(storage, directory)?;
        let from = remainder.as_ref().map_or(0, |remainder| remainder.records);
        let needle = memchr::memmem::Finder::new("\"event_type\":\"key.rotated\"");
        let (mut wrong, mut before) = (None, remainder.map_or([0; 32], |remainder| remainder.chain));
        each_line(storage, directory, from, to, |seq, line| {
            let Some((body, link, _)) = chain::split(line) else { return true };
            let previous = std::mem::replace(&mut before, link);
            if needle.find(line).is_none() {
                return true;
            }
            let Ok(view) = View::parse(line) else { return true };
            let Some(old) = keys.keys.last().filter(|_| view.event_type == "key.rotated") else {
                return true;
            };
            let linked = chain::link(keys.log_id, seq, &previous, body) == link;
            let signed = linked && view.signed_by(old);
            match rotated(&view, keys.log_id, old).filter(|_| signed) {
                Some(new) => keys.keys.push(new),
                None => wrong = Some(seq),
            }
            wrong.is_none()
        })?;
        match wrong {
            Some(seq) => Err(LogError::broken(seq, "the rotation does not hold")),
            None => Ok(keys),
        }
    }

    /// As far as they are needed to know who signed `checkpoint`: mostly record 0 alone.
    pub(crate) fn signing(
        storage: &dyn Storage,
        directory: &Path,
        checkpoint: &Checkpoint,
    ) -> Result<Self, LogError> {
        let root = Self::first(storage, directory)?;
        if root.signer_of(checkpoint).is_some() {
            Ok(root)
        } else {
            Self::read(storage, directory, checkpoint.size())
        }
    }

    /// Record 0's key; where records were pruned, those that signed these too.
    fn first(storage: &dyn Storage, directory: &Path) -> Result<Self, LogError> {
        if let Some(remainder) = Remainder::read(storage, directory)? {
            return Ok(Self { log_id: remainder.log_id, keys: remainder.keys });
        }
        let mut found = None;
        each_line(storage, directory, 0, 1, |_, line| {
            found = View::parse(line).ok().and_then(|view| Created::of(&view));
            false
        })?;
        let created = found.ok_or_else(|| LogError::broken(0, "record 0 is not a complete `log.created`"))?;
        Ok(Self { log_id: created.log_id, keys: vec![created.root] })
    }

    /// Which of them signed a checkpoint, the latest first.
    pub(crate) fn signer_of(&self, checkpoint: &Checkpoint) -> Option<PublicKey> {
        self.keys.iter().rev().copied().find(|key| checkpoint.check(key).is_ok())
    }
}

/// Where a line begins in a segment that may still grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinePlace {
    /// The segment, by its first record.
    pub(crate) segment: u64,
    /// In its plain bytes.
    pub(crate) offset: u64,
    /// The line's number.
    pub(crate) seq: u64,
}

/// A trail, open for reading.
#[derive(Clone)]
pub struct Reader {
    directory: PathBuf,
    storage: Arc<dyn Storage>,
}

/// What record 0 and 1 say of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The log's identity.
    pub log_id: symbi_types::LogId,
    /// Fingerprint of record 0's key.
    pub fingerprint: String,
    /// `runtime` or `application`.
    pub owner: String,
}

impl Reader {
    /// A reader of the trail in `directory`.
    ///
    /// # Errors
    /// [`LogError::Io`] where there is none.
    pub fn open(directory: &Path) -> Result<Self, LogError> {
        Self::with_storage(directory, Arc::new(SystemStorage))
    }

    /// A reader through another file layer.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn with_storage(directory: &Path, storage: Arc<dyn Storage>) -> Result<Self, LogError> {
        if layout::segments(&*storage, directory)?.is_empty() {
            let source = io::Error::new(io::ErrorKind::NotFound, "there is no trail");
            return Err(LogError::Io { context: directory.display().to_string(), source });
        }
        Ok(Self { directory: directory.to_path_buf(), storage })
    }

    /// What the first records say.
    ///
    /// # Errors
    /// [`LogError::ChainBroken`] where record 0 is not one.
    pub fn summary(&self) -> Result<Summary, LogError> {
        let broken = || LogError::broken(0, "record 0 is not a complete `log.created`");
        if let Some(remainder) = Remainder::read(&*self.storage, &self.directory)? {
            let fingerprint =
                remainder.keys.first().map(|root| root.key_id().to_string()).unwrap_or_default();
            return Ok(Summary { log_id: remainder.log_id, fingerprint, owner: remainder.owner });
        }
        let mut records = self.records(0);
        let first = records.next().ok_or_else(broken)??;
        let line = format!("{}\n", first.line);
        let view = View::parse(line.as_bytes()).map_err(|_| broken())?;
        let created = Created::of(&view).ok_or_else(broken)?;
        let owner = match records.next() {
            Some(second) => {
                let line = format!("{}\n", second?.line);
                let view = View::parse(line.as_bytes()).map_err(|_| broken())?;
                view.detail_text("owner").unwrap_or_default().into_owned()
            }
            None => String::new(),
        };
        Ok(Summary { log_id: created.log_id, fingerprint: created.root.key_id().to_string(), owner })
    }

    /// The checkpoint that lies beside the log, as its writer left it; `None` where there is none.
    ///
    /// # Errors
    /// [`LogError::ChainBroken`] where it is not one.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, LogError> {
        let damaged = |reason: String| LogError::broken(0, format!("`checkpoint` is damaged: {reason}"));
        keeper::stored(&*self.storage, &self.directory).map_err(damaged)
    }

    /// Keeps the signatures of witnesses under the checkpoint that lies beside the log.
    ///
    /// # Errors
    /// [`LogError::Event`] where another checkpoint lies there by now, [`LogError::Io`].
    pub fn keep_cosignatures(&self, signed: &Checkpoint) -> Result<(), LogError> {
        let stored = self.checkpoint()?.filter(|stored| stored.size() == signed.size());
        let Some(mut stored) = stored.filter(|stored| stored.root() == signed.root()) else {
            return Err(LogError::Event { reason: "another checkpoint lies beside the log by now".into() });
        };
        if stored.merge(signed) {
            keeper::store(&*self.storage, &self.directory, &stored)
                .map_err(LogError::io("cannot write the checkpoint"))?;
        }
        Ok(())
    }

    /// The keys of the log as they stand under its checkpoints, in the order of their use.
    ///
    /// # Errors
    /// [`LogError::ChainBroken`] where record 0 or a rotation does not hold.
    pub fn verifier_keys(&self) -> Result<Vec<VerifierKey>, LogError> {
        let keys = Keys::read(&*self.storage, &self.directory, u64::MAX)?;
        Ok(keys.keys.iter().map(|key| Checkpoint::verifier_key(keys.log_id, *key)).collect())
    }

    /// Makes proofs against `checkpoint`, or against the one beside the log.
    ///
    /// # Errors
    /// As [`Prover::open`].
    pub fn prover(&self, checkpoint: Option<Checkpoint>) -> Result<Prover, LogError> {
        Prover::open(&self.storage, &self.directory, checkpoint)
    }

    /// The first record that is there: 0 unless older ones were pruned.
    ///
    /// # Errors
    /// [`LogError::ChainBroken`] where what is kept of them is damaged.
    pub fn begins_at(&self) -> Result<u64, LogError> {
        Ok(Remainder::read(&*self.storage, &self.directory)?.map_or(0, |remainder| remainder.records))
    }

    /// The records from number `from_seq` on, or from the first that was not pruned. At the end the iterator answers `None`; asked again later it goes on
    /// with what was written since.
    #[must_use]
    pub fn records(&self, from_seq: u64) -> Records {
        Records {
            reader: self.clone(),
            next_seq: None,
            from_seq,
            lines: None,
            needles: Vec::new(),
            wanted: None,
        }
    }

    /// As [`Reader::records`], of those alone whose line is wanted: the others are passed over without being parsed.
    #[must_use]
    pub fn records_that(&self, from_seq: u64, wanted: fn(&[u8]) -> bool) -> Records {
        Records { wanted: Some(wanted), ..self.records(from_seq) }
    }

    /// The last record of this type. Segments are looked through from the last one on, so that a record that is young is
    /// found at once, whatever the age of the trail.
    ///
    /// # Errors
    /// As [`Reader::query`].
    pub fn newest(&self, event_type: &str) -> Result<Option<Record>, LogError> {
        let segments = layout::segments(&*self.storage, &self.directory)?;
        let needles = Query { event_type: Some(event_type.to_owned()), ..Query::default() }.needles();
        let mut end = u64::MAX;
        for segment in segments.iter().rev() {
            let mut records = self.records(segment.first);
            records.needles.clone_from(&needles);
            let mut newest = None;
            for record in records {
                let record = record?;
                if record.seq >= end {
                    break;
                }
                newest = if record.event_type == event_type { Some(record) } else { newest };
            }
            if newest.is_some() {
                return Ok(newest);
            }
            end = segment.first;
        }
        Ok(None)
    }

    /// The records that `query` asks for, in its order, by reading all that may be among them.
    ///
    /// # Errors
    /// [`LogError::ChainBroken`] at a line that is not a record, [`LogError::Io`].
    pub fn query(&self, query: &Query) -> Result<Vec<Record>, LogError> {
        let limit = query.limit.unwrap_or(usize::MAX);
        self.scan(query, query.first_seq(), query.end_seq(), limit, None)
    }

    /// The answers among records `from..to`, at most `limit` of them. `known` is a line's place at or before `from`: then
    /// what stands before it in its segment is not read.
    pub(crate) fn scan(
        &self,
        query: &Query,
        from: u64,
        to: u64,
        limit: usize,
        known: Option<LinePlace>,
    ) -> Result<Vec<Record>, LogError> {
        let mut records = self.records(from);
        if let Some(LinePlace { segment, offset, seq }) = known {
            let segment = layout::Segment { first: segment, sealed: false };
            // Sealed meanwhile it is not there, and is read from its beginning.
            if let Ok(lines) = Lines::open_at(&*self.storage, &self.directory, &segment, offset) {
                (records.lines, records.next_seq) = (Some(lines), Some(seq));
            }
        }
        records.needles = query.needles();
        let mut found = VecDeque::new();
        while query.newest_first || found.len() < limit {
            let Some(record) = records.next().transpose()? else { break };
            if record.seq >= to || query.until_us.is_some_and(|until_us| record.timestamp_us >= until_us) {
                break; // time never goes back (A7)
            }
            if query.takes(&record) {
                found.push_back(record);
                if found.len() > limit {
                    found.pop_front();
                }
            }
        }
        if query.newest_first {
            found.make_contiguous().reverse();
        }
        Ok(found.into())
    }

    pub(crate) fn parts(&self) -> (&Arc<dyn Storage>, &Path) {
        (&self.storage, &self.directory)
    }

    /// The last `count` records, oldest first.
    ///
    /// # Errors
    /// As [`Reader::query`].
    pub fn last(&self, count: usize) -> Result<Vec<Record>, LogError> {
        let segments = layout::segments(&*self.storage, &self.directory)?;
        let mut found = VecDeque::new();
        // The last segment may hold fewer than are asked for: begin one earlier until there are enough.
        for back in 1..=segments.len() {
            found.clear();
            let from = segments.get(segments.len() - back).map_or(0, |segment| segment.first);
            for record in self.records(from) {
                found.push_back(record?);
                if found.len() > count {
                    found.pop_front();
                }
            }
            if found.len() >= count {
                break;
            }
        }
        Ok(found.into())
    }
}

/// Records one after the other. Not fused: see [`Reader::records`].
pub struct Records {
    reader: Reader,
    /// The number of the next line, once a segment is open.
    next_seq: Option<u64>,
    from_seq: u64,
    lines: Option<Lines>,
    needles: Vec<String>,
    wanted: Option<fn(&[u8]) -> bool>,
}

impl Records {
    /// The segment to go on with: the one that begins at `next_seq`, or at first the one that holds `from_seq`.
    fn open_next(&mut self) -> Result<bool, LogError> {
        let reader = &self.reader;
        // A segment may be sealed between the listing and the opening: then it has another name.
        for _ in 0..3 {
            let segments = layout::segments(&*reader.storage, &reader.directory)?;
            let wanted = match self.next_seq {
                Some(seq) => segments.iter().find(|segment| segment.first == seq),
                None => {
                    let holds = segments.iter().rev().find(|segment| segment.first <= self.from_seq);
                    holds.or_else(|| segments.first()) // what came before was pruned
                }
            };
            let Some(segment) = wanted else { return Ok(false) };
            let from = self.next_seq.unwrap_or(self.from_seq);
            match Lines::open_near(&*reader.storage, &reader.directory, segment, from) {
                Ok((lines, first)) => {
                    self.next_seq = Some(first);
                    self.lines = Some(lines);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(LogError::io("cannot open a segment")(error)),
            }
        }
        Ok(false)
    }

    fn step(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            if self.lines.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let seq = self.next_seq.unwrap_or(0);
            let Some(lines) = &mut self.lines else { return Ok(None) };
            let line =
                lines.next_line().map_err(|error| LogError::broken(seq, format!("its segment: {error}")))?;
            if let Some(line) = line {
                self.next_seq = Some(seq + 1);
                if seq < self.from_seq {
                    continue;
                }
                if self.wanted.is_some_and(|wanted| !wanted(line)) {
                    continue;
                }
                if self.needles.iter().any(|needle| memchr::memmem::find(line, needle.as_bytes()).is_none()) {
                    continue;
                }
                let record = Record::parse(line).map_err(|error| LogError::broken(seq, error.to_string()))?;
                if record.seq != seq {
                    return Err(LogError::broken(seq, format!("its number is {}", record.seq)));
                }
                return Ok(Some(record));
            }
            // The end of this segment; whether the next has begun is seen only after its end was: read once more.
            let first = layout::segments(&*self.reader.storage, &self.reader.directory)?;
            let successor = first.iter().any(|segment| segment.first == seq) && lines.offset > 0;
            if !successor {
                return Ok(None);
            }
            self.lines = None;
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
