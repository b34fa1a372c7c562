//! Forgetting a person, and holding one that must not be forgotten.
//!
//! Why: a trail that cannot be changed and a right to be forgotten go together only when what is personal can become
//! unreadable. Erasing destroys a key (`subjects`), empties every place that held something under it (`kernel/erasing`), and
//! is itself an operation: decided, recorded before and after, and finished by the next opening where it was cut short.
//! Not here: how something is sealed (`subjects`), which places there are (`kernel/erasing`).
//!
//! Invariants
//! - ER5 an erasure whose record is on disk is finished, by this opening or a later one; a key file that comes back from a
//!   copy is destroyed again.
//! - ER6 what carries the data of an erased person may do nothing any more: it is refused before policy is asked.
//! - ER7 a person under a legal hold is not erased, whatever policy says.
//! - ER8 no record names a person but by pseudonym.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use symbi_audit::{Event, Record};
use symbi_policy::vocabulary;
use symbi_types::{AgentId, Label, LabelSet};

use crate::Principal;
use crate::agents::AgentError;
use crate::json::Object;
use crate::kernel::{Counted, Found, Kernel, KernelError, lock};
use crate::monitor::Asked;
use crate::operators::OperatorError;
use crate::refusal::RefusalCode;
use crate::subjects::SubjectError;

/// How long an erasure waits for a record; a disk that takes longer is broken.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest reason of a hold, in characters.
const REASON_CHARS_MAX: usize = 1_024;
/// What is said where a hold forbids it.
const HELD: &str = "a legal hold is on this person; end it first, if you may";

/// A place that may hold something of a person, on disk or in memory. The list is complete: a file of a data directory that
/// fits none of them, or a part of the kernel that is not looked at (`kernel/erasing`), fails a test or does not compile.
#[derive(Clone, Copy, Debug)]
pub struct PlaceOf {
    /// Its name in what an erasure tells.
    pub name: &'static str,
    /// Where it is, below the data directory; empty: in memory.
    pub path: &'static str,
    /// What an erasure does there.
    pub erased_by: &'static str,
}

const fn place(name: &'static str, path: &'static str, erased_by: &'static str) -> PlaceOf {
    PlaceOf { name, path, erased_by }
}

/// All of them.
pub const PLACES: [PlaceOf; 17] = [
    place("trail", "trail/**", "sealed under the person's key, which is destroyed; the bytes stay"),
    place("knowledge", "state.db*", "rows and words removed, the file written anew, its WAL folded in"),
    place("subject keys", "keys/subjects/**", "overwritten and removed, in backup directories too"),
    place("runtime keys", "keys/*", "hold nothing of a person"),
    place("policies", "policies/**", "hold nothing of a person: they are texts of rules"),
    place("operators", "operators/**", "hold nothing of a person who is written about"),
    place("control socket", "control.sock", "holds nothing"),
    place("ignore file", ".gitignore", "holds nothing"),
    place("sandbox marker", "sandbox*", "holds names of containers"),
    place("logs of demos", "demo/**", "reports of the user's own files, made without persons"),
    place("agents", "", "those that have read it may do nothing any more, and are named"),
    place("mailboxes", "", "unread messages are let go"),
    place("deliveries", "", "messages to be handed out again, kept in the trail, or dead, are given up"),
    place("approvals", "", "operations that wait with such arguments wait no more"),
    place("tasks", "", "results kept for a retry go; inputs were sealed"),
    place("contents", "", "passages that no document names yet go with the knowledge"),
    place("keys in memory", "", "forgotten first"),
];

/// What stands in the log of persons, as far as openings need it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Persons {
    /// Erased: whether that is finished.
    erased: HashMap<String, bool>,
    held: BTreeMap<String, Hold>,
    /// What an erasure that was not finished has found so far.
    found: HashMap<String, Counted>,
}

/// A legal hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The person, by pseudonym.
    pub pseudonym: String,
    /// Why, sealed for the person.
    pub reason_sealed: String,
    /// Who placed it.
    pub by: String,
    /// When, microseconds since the epoch.
    pub at_us: u64,
    /// The record.
    pub seq: u64,
}

/// What becomes of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldChange {
    /// It is placed, for this reason.
    Add(String),
    /// It is ended.
    Remove,
}

/// What an erasure did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erasure {
    /// The person, by pseudonym.
    pub pseudonym: String,
    /// How much there was, by place.
    pub places: BTreeMap<&'static str, u64>,
    /// Agents that have read it: they may do nothing any more.
    pub agents: Vec<(AgentId, String)>,
    /// Backup directories that could not be reached: the key still lies there.
    pub unreached: Vec<PathBuf>,
    /// A legal hold is on the person: of a trial alone.
    pub held: bool,
    /// The record of its end; none of a trial.
    pub seq: Option<u64>,
}

impl Persons {
    /// A record of the log.
    pub(crate) fn take(&mut self, record: &Record, details: &Json) {
        let text = |key: &str| details.get(key).and_then(Json::as_str).map(str::to_owned);
        let Some(person) = text("person") else { return };
        if record.event_type == "subject.erased" {
            self.erased.insert(person, true);
            return;
        }
        match text("change").as_deref() {
            Some("erase") => drop(self.erased.entry(person).or_insert(false)),
            Some("hold") => {
                let hold = Hold {
                    pseudonym: person.clone(),
                    reason_sealed: text("reason_sealed").unwrap_or_default(),
                    by: text("principal").unwrap_or_default(),
                    at_us: record.timestamp_us,
                    seq: record.seq,
                };
                self.held.insert(person, hold);
            }
            Some("release") => drop(self.held.remove(&person)),
            _ => {}
        }
    }

    /// All that were erased, finished or not.
    pub(crate) fn erased(&self) -> Vec<String> {
        self.erased.keys().cloned().collect()
    }

    /// For a snapshot.
    pub(crate) fn rows(&self) -> Vec<Json> {
        let erased = self.erased.iter().map(|(person, finished)| json!([person, finished]));
        let held = self.held.values();
        let held =
            held.map(|hold| json!([hold.pseudonym, hold.reason_sealed, hold.by, hold.at_us, hold.seq]));
        erased.chain(held).collect()
    }

    /// One of [`Persons::rows`].
    pub(crate) fn load(&mut self, row: &Json) -> Option<()> {
        let text = |at: usize| row.get(at).and_then(Json::as_str).map(str::to_owned);
        let pseudonym = text(0)?;
        if let Some(finished) = row.get(1)?.as_bool() {
            self.erased.insert(pseudonym, finished);
            return Some(());
        }
        let (at_us, seq) = (row.get(3)?.as_u64()?, row.get(4)?.as_u64()?);
        let hold = Hold { pseudonym: pseudonym.clone(), reason_sealed: text(1)?, by: text(2)?, at_us, seq };
        self.held.insert(pseudonym, hold);
        Some(())
    }
}

fn invalid(error: &SubjectError) -> AgentError {
    AgentError::Invalid(error.to_string())
}

impl Kernel {
    /// Labels as people say them. `subject:NAME` and `personal:NAME` become `personal` and the label of that person, who has
    /// a key from then on; a label that names a person by pseudonym must name one that is known.
    ///
    /// # Errors
    /// One is no label, no name, or names a person who was erased.
    pub fn labels<T: AsRef<str>>(&self, texts: &[T]) -> Result<LabelSet, AgentError> {
        let mut all = Vec::with_capacity(texts.len());
        for text in texts.iter().map(AsRef::as_ref) {
            if let Some((_, name)) =
                text.split_once(':').filter(|(of, _)| ["subject", "personal"].contains(of))
            {
                all.extend(self.subjects().labels_of(name).map_err(|error| invalid(&error))?.iter().cloned());
                continue;
            }
            let label: Label = text
                .parse()
                .map_err(|error: symbi_types::LabelError| AgentError::Invalid(error.to_string()))?;
            if label.as_str().starts_with(Label::SUBJECT)
                && !label.subject().is_some_and(|pseudonym| self.subjects().has(pseudonym))
            {
                return Err(invalid(&SubjectError::Gone(label.to_string())));
            }
            all.push(label);
        }
        Ok(all.into_iter().collect())
    }

    /// The pseudonyms of a person, named or by pseudonym.
    fn meant(&self, subject: &str) -> Result<Vec<String>, AgentError> {
        let unfinished = lock(&self.persons).erased.get(subject) == Some(&false);
        let subjects = self.subjects();
        if Label::of_subject(subject).is_some() && (unfinished || subjects.has(subject)) {
            return Ok(vec![subject.to_owned()]);
        }
        let found = subjects.all_of(subject).map_err(|error| invalid(&error))?;
        if found.is_empty() {
            let text = "nothing is known of this subject: no value was stored for it, or it was erased";
            return Err(AgentError::Invalid(text.to_owned()));
        }
        Ok(found)
    }

    /// The pseudonym of a person, for queries; none where nothing is known.
    ///
    /// # Errors
    /// It cannot be a name.
    pub fn pseudonym_of(&self, subject: &str) -> Result<Option<String>, AgentError> {
        self.subjects().known(subject).map_err(|error| invalid(&error))
    }

    /// The name of a person that is known, for its operator.
    #[must_use]
    pub fn subject_name(&self, pseudonym: &str) -> Option<String> {
        self.subjects().name(pseudonym)
    }

    /// What an erasure would do: nothing is decided, recorded or changed.
    ///
    /// # Errors
    /// Nothing is known of the person.
    pub fn try_erasure(&self, subject: &str) -> Result<Vec<Erasure>, OperatorError> {
        let mut all = Vec::new();
        for pseudonym in self.meant(subject)? {
            let Some(label) = Label::of_subject(&pseudonym) else { continue };
            let mut places = Counted::new();
            self.find_everywhere(&label, Found::Counted, &mut places)?;
            let held = lock(&self.persons).held.contains_key(&pseudonym);
            let agents = self.carriers(&label);
            all.push(Erasure { pseudonym, places, agents, held, ..Erasure::default() });
        }
        Ok(all)
    }

    /// Forgets a person (ER5). The key is gone and the records are on disk when it answers. What was not finished goes on where
    /// it is asked for by the pseudonym, which the error names: the person's name went with the key.
    ///
    /// # Errors
    /// Refused; nothing is known of the person; a legal hold (ER7); [`OperatorError::Unfinished`] for a disk that fails or
    /// somebody who reads `state.db`: erasing that pseudonym again goes on, and so does the next opening.
    pub fn erase_subject(&self, by: Principal, subject: &str) -> Result<Vec<Erasure>, OperatorError> {
        let _first = lock(&self.deciding_on_persons); // ER7
        let (mut all, mut unfinished) = (Vec::new(), None);
        for pseudonym in self.meant(subject)? {
            match self.erase_one(by, &pseudonym) {
                Err(error @ OperatorError::Unfinished { .. }) => unfinished = Some(error),
                erased => all.push(erased?),
            }
        }
        unfinished.map_or(Ok(all), Err)
    }

    fn ask_about(
        &self,
        by: Principal,
        action: &str,
        kind: &str,
        id: &str,
    ) -> Result<Asked<'static>, AgentError> {
        let resource = vocabulary::named(kind, id).map_err(|error| AgentError::Invalid(error.to_string()))?;
        self.ask(by, action, resource)
    }

    fn erase_one(&self, by: Principal, pseudonym: &str) -> Result<Erasure, OperatorError> {
        let label = Label::of_subject(pseudonym).ok_or_else(|| invalid(&SubjectError::Name))?;
        let asked = self.ask_about(by, "data.erase", "Subject", pseudonym)?;
        let arguments = json!({"arguments": {"subject": pseudonym}, "parts": []}).to_string();
        let asked = Asked { arguments: Some(arguments.as_bytes()), ..asked };
        let granted = self.decide(&asked).map_err(AgentError::from)?;
        if lock(&self.persons).held.contains_key(pseudonym) {
            self.undo(&granted.held()); // K21
            let details = Object::new().string("person", pseudonym).flag("held", true);
            let refusal = self.refuse(&asked, RefusalCode::Denied, Some(details), HELD);
            return Err(AgentError::from(refusal).into()); // ER7
        }
        let (_, seq) = self
            .record_internal(&asked, granted, |details| {
                details.string("change", "erase").string("person", pseudonym)
            })
            .map_err(AgentError::from)?;
        self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
        lock(&self.persons).erased.insert(pseudonym.to_owned(), false);
        let erasure = self
            .carry_out(&label, pseudonym, "asked")
            .map_err(|source| OperatorError::Unfinished { pseudonym: pseudonym.to_owned(), source })?;
        if let Some(seq) = erasure.seq {
            self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
        }
        Ok(erasure)
    }

    /// The key first: from then on the rest is unreadable, whatever happens.
    fn carry_out(&self, label: &Label, pseudonym: &str, cause: &str) -> Result<Erasure, KernelError> {
        let unreached = self.subjects().destroy(pseudonym)?;
        let mut places = lock(&self.persons).found.remove(pseudonym).unwrap_or_default();
        if let Err(error) = self.find_everywhere(label, Found::Erased, &mut places) {
            lock(&self.persons).found.insert(pseudonym.to_owned(), places);
            return Err(error);
        }
        let agents = self.carriers(label);
        let counts = places.iter().fold(Object::new(), |object, (name, count)| object.number(name, *count));
        let details = Object::new()
            .string("person", pseudonym)
            .string("cause", cause)
            .raw("places", &counts.finish())
            .number("agents", agents.len() as u64)
            .number("backups_unreached", unreached.len() as u64)
            .finish();
        let subjects = [pseudonym.to_owned()];
        let event = Event { subjects: &subjects, ..Event::new("subject.erased", &details) };
        let seq = self.log().append(&event).ok().map(|receipt| receipt.seq);
        if seq.is_some() && unreached.is_empty() {
            lock(&self.persons).erased.insert(pseudonym.to_owned(), true);
        }
        Ok(Erasure { pseudonym: pseudonym.to_owned(), places, agents, unreached, held: false, seq })
    }

    /// Agents that have read something of this person.
    fn carriers(&self, label: &Label) -> Vec<(AgentId, String)> {
        self.agents().carriers(label.as_str())
    }

    /// ER5: what a crash cut short, and keys that came back. Their records are on disk when it answers: who reads the trail of
    /// an opened runtime finds them.
    pub(crate) fn finish_erasures(&self) -> Result<(), KernelError> {
        let mut last = None;
        let all: Vec<(String, bool)> =
            lock(&self.persons).erased.iter().map(|(person, finished)| (person.clone(), *finished)).collect();
        for (pseudonym, finished) in all {
            let lies_about = self.subjects().lies_about(&pseudonym);
            if finished && !lies_about {
                continue;
            }
            let Some(label) = Label::of_subject(&pseudonym) else { continue };
            let cause = if finished { "key_came_back" } else { "cut_short" };
            last = self.carry_out(&label, &pseudonym, cause)?.seq.or(last);
        }
        if let Some(seq) = last {
            self.wait_durable(seq, RECORD_TIMEOUT)?;
        }
        Ok(())
    }

    /// Persons under a legal hold.
    #[must_use]
    pub fn holds(&self) -> Vec<Hold> {
        lock(&self.persons).held.values().cloned().collect()
    }

    /// Places a legal hold on a person, or ends it: decided as `key.change` on `Key::"subject/<pseudonym>"`. A person of whom
    /// nothing is known yet gets a key by being held. Answers the record, which is on disk.
    ///
    /// # Errors
    /// Refused; there is no hold to end; the reason is too long.
    pub fn change_hold(
        &self,
        by: Principal,
        subject: &str,
        change: &HoldChange,
    ) -> Result<u64, OperatorError> {
        let invalid_text = |text: &str| OperatorError::from(AgentError::Invalid(text.to_owned()));
        let _first = lock(&self.deciding_on_persons); // ER7
        let pseudonyms = match change {
            HoldChange::Add(reason) if reason.chars().count() > REASON_CHARS_MAX => {
                return Err(invalid_text("a reason has at most 1024 characters"));
            }
            HoldChange::Add(_) => match self.meant(subject) {
                Ok(known) => known,
                Err(_) => vec![self.subjects().pseudonym(subject).map_err(|error| invalid(&error))?],
            },
            HoldChange::Remove => self.meant(subject)?,
        };
        let mut last = None;
        for pseudonym in pseudonyms {
            let held = lock(&self.persons).held.contains_key(&pseudonym);
            if *change == HoldChange::Remove && !held {
                continue;
            }
            let labels: LabelSet = Label::of_subject(&pseudonym).into_iter().collect();
            let asked = self.ask_about(by, "key.change", "Key", &format!("subject/{pseudonym}"))?;
            let granted = self.decide(&asked).map_err(AgentError::from)?;
            let reason_sealed = match change {
                HoldChange::Add(reason) => self.seal_for(&labels, reason.as_bytes()),
                HoldChange::Remove => String::new(),
            };
            let word = if *change == HoldChange::Remove { "release" } else { "hold" };
            let (_, seq) = self
                .record_internal(&asked, granted, |details| {
                    let details = details.string("change", word).string("person", &pseudonym);
                    if reason_sealed.is_empty() {
                        details
                    } else {
                        details.string("reason_sealed", &reason_sealed)
                    }
                })
                .map_err(AgentError::from)?;
            self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
            let hold = Hold {
                pseudonym: pseudonym.clone(),
                reason_sealed,
                by: by.to_string(),
                at_us: self.log().now(),
                seq,
            };
            match change {
                HoldChange::Add(_) => drop(lock(&self.persons).held.insert(pseudonym, hold)),
                HoldChange::Remove => drop(lock(&self.persons).held.remove(&pseudonym)),
            }
            last = Some(seq);
        }
        last.ok_or_else(|| invalid_text("there is no legal hold on this person"))
    }
}
