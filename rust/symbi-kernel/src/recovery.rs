//! Reading the trail again at the opening: what is unknown, what was counted, who waits, what the projections miss.
//!
//! Why: the log is the truth. After kill -9 the rest is derived from it again.
//! Cost: what stands behind the last snapshot (`snapshot`), about 5 µs for each record of an operation; others are passed
//! over.
//!
//! Invariants
//! - K37 an external operation with an intent and neither outcome nor resolution is unknown, and stays reserved.
//! - K38 counts after a restart are what they would have been without it, as far as the windows reach.
//! - K112 what is read from a snapshot on is what is read from the first record on.

use std::collections::HashMap;

use memchr::memmem;
use serde_json::{Value as Json, json};
use symbi_audit::{Reader, Record};
use symbi_crypto::{KeyId, Provider};
use symbi_store::{Projection, Store, StoreError};
use symbi_types::{AgentId, OperationId, RunId};

use crate::approvals::Approvals;
use crate::counters::{Counters, Reservation};
use crate::durable::Letters;
use crate::erasure::Persons;
use crate::kernel::KernelError;
use crate::monitor::counting::{is_of_runs, reserve_again, reserved_at, write_reservations};
use crate::subjects::Subjects;

/// An operation of which nobody knows whether it happened.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// The operation.
    pub operation: OperationId,
    /// Its intent's record.
    pub seq: u64,
    /// What was to be done.
    pub action: String,
    /// The agent it is filed under.
    pub agent: Option<AgentId>,
    /// On whose behalf.
    pub principal: String,
    /// To what.
    pub resource: String,
    /// When, microseconds since the epoch.
    pub at_us: u64,
    pub(crate) reservations: Vec<Reservation>,
    /// A message that the trail keeps (K165): it is taken, and nobody is asked what became of it.
    pub(crate) kept: bool,
}

/// What the records say, up to one of them.
#[derive(Default)]
pub(crate) struct Recovery {
    pub(crate) unknown: HashMap<OperationId, Unknown>,
    pub(crate) counters: Counters,
    pub(crate) approvals: Approvals,
    /// How far the wall clock was set forwards, in all.
    pub(crate) jumped_us: u64,
    /// Number of the first record that was not read.
    pub(crate) next: u64,
    /// How many were read, or passed over, by this opening.
    pub(crate) read: u64,
    /// Messages that are kept until they are acknowledged (K165).
    pub(crate) letters: Letters,
    /// Persons who were erased, or are held (ER5).
    pub(crate) persons: Persons,
    /// The time that runs have reserved which are not over.
    runs: HashMap<RunId, Vec<Reservation>>,
    /// The key that vouches for agents, where it was ever exchanged (K200).
    pub(crate) message_key: Option<KeyId>,
    documents: Vec<(u64, Projection)>,
    /// Number of the last record that makes a document, and one more.
    documents_end: u64,
    /// Of this opening: what any sealed, each opens.
    provider: Provider,
}

/// Whether a line says anything to a recovery: nine of ten do not, and are not parsed.
pub(crate) fn concerns(line: &[u8]) -> bool {
    const TYPE: &[u8] = b"\"event_type\":\"";
    // It stands behind fields of fixed length, at the same place in every line of an opening; the first is the true one,
    // for what comes before it holds no text from outside.
    let Some(at) = memmem::find(line, TYPE) else { return true };
    let rest = line.get(at + TYPE.len()..).unwrap_or_default();
    rest.starts_with(b"operation.") && !rest.starts_with(b"operation.denied")
        || rest.starts_with(b"approval.")
        || rest.starts_with(b"message.finished")
        || rest.starts_with(b"message.dead")
        || rest.starts_with(b"key.exchanged")
        || rest.starts_with(b"clock.")
        || rest.starts_with(b"limit.")
        || rest.starts_with(b"subject.")
        || (rest.starts_with(b"run.finished") && memmem::find(rest, b"\"used\":{").is_some())
        || (rest.starts_with(b"operation\"") && says_more(rest))
}

/// Whether an internal operation was counted, made a document, used an approval, settled a dead letter, or was about a person.
fn says_more(line: &[u8]) -> bool {
    let needles: [&[u8]; 6] = [
        b"\"reserved\":[",
        b"\"projection\":\"",
        b"\"approval\":\"",
        b"\"person\":\"",
        b"\"revived\":\"",
        b"\"discarded\":\"",
    ];
    needles.into_iter().any(|needle| memmem::find(line, needle).is_some())
}

impl Recovery {
    pub(crate) fn by(provider: Provider) -> Self {
        Self { provider, ..Self::default() }
    }

    /// Reads the records before `end`, from the last snapshot on; documents from `applied` on, the first that the store
    /// has not.
    pub(crate) fn read(
        &mut self,
        reader: &Reader,
        end: u64,
        applied: u64,
        subjects: &Subjects,
    ) -> Result<(), KernelError> {
        if let Some(found) = crate::snapshot::last(reader, self.provider)? {
            *self = found;
        }
        if applied < self.documents_end {
            self.read_documents(reader, applied, subjects)?; // the store's file is older than the snapshot
        }
        self.read_on(reader, end, subjects)
    }

    /// Reads on from where it stands.
    pub(crate) fn read_on(
        &mut self,
        reader: &Reader,
        end: u64,
        subjects: &Subjects,
    ) -> Result<(), KernelError> {
        for record in reader.records_that(self.next, concerns) {
            let record = record?;
            if record.seq >= end {
                break;
            }
            if record.event_type == "clock.anomaly" {
                // Rare: what stood before it was passed over.
                let before =
                    record.seq.checked_sub(1).and_then(|seq| reader.records(seq).next()).transpose()?;
                self.jump(&details(&record)?, before.map_or(0, |before| before.timestamp_us));
            } else {
                self.take(&record, subjects)?;
            }
        }
        self.read += end.saturating_sub(self.next);
        self.next = end;
        Ok(())
    }

    fn read_documents(&mut self, reader: &Reader, from: u64, subjects: &Subjects) -> Result<(), KernelError> {
        let makes_one = |line: &[u8]| says_more(line);
        for record in reader.records_that(from, makes_one) {
            let record = record?;
            if record.seq >= self.next {
                break;
            }
            if record.event_type == "operation" {
                let details = details(&record)?;
                self.document(&record, &details, subjects);
            }
        }
        Ok(())
    }

    fn take(&mut self, record: &Record, subjects: &Subjects) -> Result<(), KernelError> {
        let details = details(record)?;
        match record.event_type.as_str() {
            "operation.intent" => {
                self.approvals.take(record, &details);
                self.intend(record, &details);
                self.letters.take(record, &details);
            }
            "operation.outcome" | "operation.resolved" => {
                self.end(record, &details);
                self.letters.take(record, &details);
            }
            "message.finished" | "message.dead" => self.letters.take(record, &details),
            "subject.erased" => self.persons.take(record, &details),
            "run.finished" => self.end_run(record, &details),
            "operation" => {
                self.approvals.take(record, &details);
                self.persons.take(record, &details);
                self.letters.take(record, &details);
                let reservations = self.count(record.timestamp_us, &details);
                self.begin_run(record, &details, reservations);
                self.document(record, &details, subjects);
            }
            "key.exchanged" => {
                let after = details.get("after").and_then(Json::as_str);
                self.message_key = after.and_then(|after| after.parse().ok()).or(self.message_key);
            }
            "limit.breach" => drop(self.count(record.timestamp_us, &details)),
            other if other.starts_with("approval.") => self.approvals.take(record, &details),
            _ => {}
        }
        Ok(())
    }

    /// A clock that was set forwards. The log's time was at least that of the record before.
    fn jump(&mut self, details: &Json, before_us: u64) {
        let number = |key: &str| details.get(key).and_then(Json::as_u64).unwrap_or(0);
        let by_us = number("wall_us").saturating_sub(number("expected_us").max(before_us));
        self.jumped_us = self.jumped_us.saturating_add(by_us);
    }

    fn intend(&mut self, record: &Record, details: &Json) {
        let reservations = self.count(record.timestamp_us, details);
        let Some(operation) = record.operation() else { return };
        let text = |key: &str| details.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let unknown = Unknown {
            operation,
            seq: record.seq,
            action: text("action"),
            agent: record.agent(),
            principal: text("principal"),
            resource: text("resource"),
            at_us: record.timestamp_us,
            reservations,
            kept: details.get("letter").is_some(),
        };
        self.unknown.insert(operation, unknown);
    }

    fn end(&mut self, record: &Record, details: &Json) {
        let now_us = record.timestamp_us.saturating_sub(self.jumped_us);
        let Some(operation) = record.operation() else { return };
        let outcome = details.get("outcome").and_then(Json::as_str).unwrap_or_default();
        if let (Some(used), Some(known)) = (details.get("used"), self.unknown.get_mut(&operation)) {
            spend(&mut self.counters, &mut known.reservations, used, now_us);
        }
        let doubt = details.get("doubt").and_then(Json::as_bool) == Some(true);
        if outcome == "unknown" || doubt {
            return; // K37: known to be unknown is unknown
        }
        let gives_back =
            outcome == "released" || (record.event_type == "operation.resolved" && outcome == "failed");
        let ended = self.unknown.remove(&operation).filter(|_| gives_back);
        for reservation in ended.iter().flat_map(|ended| &ended.reservations) {
            self.counters.release(reservation);
        }
    }

    /// A run that reserved time has begun.
    fn begin_run(&mut self, record: &Record, details: &Json, reservations: Vec<Reservation>) {
        let timed: Vec<Reservation> =
            reservations.into_iter().filter(|one| is_of_runs(&one.measure)).collect();
        let is_run = details.get("action").and_then(Json::as_str) == Some("agent.run");
        let run = record.run.as_deref().filter(|_| is_run && !timed.is_empty());
        if let Some(run) = run.and_then(|run| run.parse().ok()) {
            self.runs.insert(run, timed);
        }
    }

    fn end_run(&mut self, record: &Record, details: &Json) {
        let now_us = record.timestamp_us.saturating_sub(self.jumped_us);
        let Some(run) = record.run.as_deref().and_then(|run| run.parse::<RunId>().ok()) else { return };
        let Some(mut timed) = self.runs.remove(&run) else { return };
        if let Some(used) = details.get("used") {
            spend(&mut self.counters, &mut timed, used, now_us);
        }
    }

    /// At an opening: no run of an earlier one goes on, and what it reserved it may have spent; nor is a message that is
    /// kept about to be taken.
    pub(crate) fn forget_earlier(&mut self) {
        self.runs.clear();
        self.unknown.retain(|_, one| !one.kept);
    }

    /// K38.
    fn count(&mut self, at_us: u64, details: &Json) -> Vec<Reservation> {
        let at_us = at_us.saturating_sub(self.jumped_us);
        details
            .get("reserved")
            .map_or_else(Vec::new, |written| reserve_again(&mut self.counters, written, at_us))
    }

    fn document(&mut self, record: &Record, details: &Json, subjects: &Subjects) {
        let sealed = details.get("projection").and_then(Json::as_str);
        let plain = sealed.and_then(|sealed| subjects.open_any(sealed).plain());
        let projection = plain.and_then(|plain| serde_json::from_slice::<Projection>(&plain).ok());
        if let Some(projection) = projection {
            self.documents.push((record.seq, projection));
            self.documents_end = self.documents_end.max(record.seq + 1);
        }
    }

    /// Applies to the store what it has not seen.
    pub(crate) fn project(&mut self, store: &Store) -> Result<(), StoreError> {
        store.apply_many(&self.take_documents())?;
        Ok(())
    }

    /// The documents that were read; they are the store's from here on.
    pub(crate) fn take_documents(&mut self) -> Vec<(u64, Projection)> {
        std::mem::take(&mut self.documents)
    }

    /// All that a snapshot holds besides rows.
    pub(crate) fn header(&self) -> Json {
        json!({
            "next": self.next, "jumped_us": self.jumped_us, "documents_end": self.documents_end,
            "message_key": self.message_key.map(|key| key.to_string()),
        })
    }

    /// The same, for who reads on beside the kernel.
    pub(crate) fn again(&self) -> Self {
        Self {
            unknown: self.unknown.clone(),
            counters: self.counters.clone(),
            approvals: self.approvals.clone(),
            letters: self.letters.clone(),
            persons: self.persons.clone(),
            runs: self.runs.clone(),
            documents: Vec::new(),
            ..*self
        }
    }

    /// Everything else, in rows: `{"c": …}` of counters, `{"a": …}` of approvals, `{"u": …}` of unknown operations,
    /// `{"l": …}` of messages that are kept, `{"p": …}` of persons, `{"r": …}` of runs under way.
    pub(crate) fn rows(&self) -> Vec<Json> {
        let counters = self.counters.rows().into_iter().map(|row| json!({ "c": row }));
        let approvals = self.approvals.rows().into_iter().map(|row| json!({ "a": row }));
        let unknown = self.unknown.values().map(|one| json!({ "u": unknown_to_json(one) }));
        let letters = self.letters.rows().into_iter().map(|row| json!({ "l": row }));
        let persons = self.persons.rows().into_iter().map(|row| json!({ "p": row }));
        let runs = self.runs.iter().map(|(run, timed)| {
            let (reserved, buckets) = reservations_to_json(timed);
            json!({ "r": [run.to_string(), reserved, buckets] })
        });
        let rest = letters.chain(persons).chain(runs);
        counters.chain(approvals).chain(unknown).chain(rest).collect()
    }

    /// As [`Recovery::header`] and [`Recovery::rows`] tell it; none where they are not whole.
    pub(crate) fn load(provider: Provider, header: &Json, rows: &[Json]) -> Option<Self> {
        let number = |key: &str| header.get(key).and_then(Json::as_u64);
        let mut loaded = Self {
            next: number("next")?,
            jumped_us: number("jumped_us")?,
            documents_end: number("documents_end")?,
            message_key: match header.get("message_key").and_then(Json::as_str) {
                Some(key) => Some(key.parse().ok()?),
                None => None,
            },
            ..Self::by(provider)
        };
        for row in rows {
            if let Some(row) = row.get("p") {
                loaded.persons.load(row)?;
                continue;
            }
            if let Some(row) = row.get("l") {
                loaded.letters.load(row)?;
                continue;
            }
            if let Some(row) = row.get("r") {
                let run = row.get(0)?.as_str()?.parse().ok()?;
                loaded.runs.insert(run, reserved_at(row.get(1)?, row.get(2)?)?);
                continue;
            }
            match (row.get("c"), row.get("a"), row.get("u")) {
                (Some(row), ..) => loaded.counters.load(row)?,
                (_, Some(row), _) => loaded.approvals.load(row)?,
                (.., Some(row)) => {
                    let one = unknown_from_json(row)?;
                    loaded.unknown.insert(one.operation, one);
                }
                _ => return None,
            }
        }
        Some(loaded)
    }
}

fn details(record: &Record) -> Result<Json, KernelError> {
    serde_json::from_str(&record.details).map_err(|error| KernelError::Recovery(error.to_string()))
}

/// What an operation came to takes the place of what it had reserved.
fn spend(counters: &mut Counters, reservations: &mut [Reservation], used: &Json, now_us: u64) {
    for reservation in reservations {
        let spent = used.get(&reservation.measure).and_then(Json::as_u64);
        let Some(spent) = spent else { continue };
        counters.adjust(reservation, spent, now_us);
        reservation.added = crate::window::Added::Amount(spent);
    }
}

fn reservations_to_json(reservations: &[Reservation]) -> (Json, Vec<u64>) {
    let reserved: Json = serde_json::from_str(&write_reservations(reservations)).unwrap_or_default();
    (reserved, reservations.iter().map(Reservation::bucket).collect())
}

fn unknown_to_json(one: &Unknown) -> Json {
    let (reserved, buckets) = reservations_to_json(&one.reservations);
    json!({
        "op": one.operation.to_string(), "seq": one.seq, "action": one.action, "principal": one.principal,
        "agent": one.agent.map(|agent| agent.to_string()), "resource": one.resource, "at_us": one.at_us,
        "reserved": reserved, "buckets": buckets, "kept": one.kept,
    })
}

fn unknown_from_json(row: &Json) -> Option<Unknown> {
    let text = |key: &str| row.get(key).and_then(Json::as_str).map(str::to_owned);
    Some(Unknown {
        operation: text("op")?.parse().ok()?,
        seq: row.get("seq")?.as_u64()?,
        action: text("action")?,
        agent: text("agent").and_then(|agent| agent.parse().ok()),
        principal: text("principal")?,
        resource: text("resource")?,
        at_us: row.get("at_us")?.as_u64()?,
        reservations: reserved_at(row.get("reserved")?, row.get("buckets")?)?,
        kept: row.get("kept").and_then(Json::as_bool).unwrap_or(false),
    })
}
