//! From a record back to the request that was decided.
//!
//! Invariants
//! - WI4 what is made of a record is what the engine saw then: entities, labels, counters, declared attributes; nothing is
//!   filled in.
//! - WI5 a decision is taken from memory only where everything is the same that it was made of: who (the very instance), what,
//!   on what, the described entities by their records, labels, size, counters, circumstances; and what had been decided.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::PoisonError;

use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use symbi_audit::Seen;
use symbi_policy::{Engine, Entity, RecordedRequest, Request, Uid, Value};

use super::Entities;
use crate::described::INSTANCE;
use crate::sealed::Opener;

/// Why a recorded decision cannot be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Undecidable {
    /// What it holds is sealed, and the keys that open it are gone.
    Erased,
    /// It was written before what it saw was kept, or its request was too large to keep.
    NotRecorded,
    /// The other policies read a counter that was not kept then.
    Counter,
    /// It is not of the form that is written.
    Malformed,
}

impl Undecidable {
    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Erased => "erased",
            Self::NotRecorded => "not_recorded",
            Self::Counter => "counter_not_kept",
            Self::Malformed => "malformed",
        }
    }
}

fn is_decision(event_type: &str) -> bool {
    matches!(event_type, "operation" | "operation.intent" | "operation.replayed" | "operation.denied")
}

/// Whether anything here reads such a record.
pub(super) fn is_read(event_type: &str) -> bool {
    is_decision(event_type) || event_type == "entity.described"
}

/// A request, as it was decided.
pub(super) struct Asked {
    pub(super) principal: Entity,
    pub(super) action: String,
    pub(super) resource: Entity,
    context: Vec<(Cow<'static, str>, Value)>,
    entities: Vec<Entity>,
}

impl Asked {
    /// Takes the context out: it is decided once.
    pub(super) fn request(&mut self) -> Request<'_> {
        let context = std::mem::take(&mut self.context);
        let Self { principal, action, resource, entities, .. } = self;
        Request { principal, action, resource, context, entities: entities.iter().collect() }
    }
}

impl From<RecordedRequest> for Asked {
    fn from(recorded: RecordedRequest) -> Self {
        let RecordedRequest { principal, action, resource, context, entities } = recorded;
        let context = context.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect();
        Self { principal, action, resource, context, entities }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Allow,
    Deny,
    Redact,
    /// Denied, and let through: policies were not enforced.
    Unenforced,
}

impl Word {
    fn of(json: &str) -> Option<Self> {
        Some(match json {
            "\"allow\"" => Self::Allow,
            "\"deny\"" => Self::Deny,
            "\"redact\"" => Self::Redact,
            "\"unenforced\"" => Self::Unenforced,
            _ => return None,
        })
    }
}

/// One decision, in the text of its group.
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) timestamp_us: u64,
    pub(super) word: Word,
    labels: Range<usize>,
    details: Range<usize>,
}

/// Decisions on their way to a thread, in one allocation.
#[derive(Default)]
pub(super) struct Group {
    text: String,
    rows: Vec<Row>,
}

impl Group {
    /// Takes a record, when policy decided it. Where a refusal came from something else, its details say no reason; where
    /// it repeats another, they say no request.
    pub(super) fn take(&mut self, seen: &Seen<'_>) -> bool {
        if !is_decision(seen.event_type) {
            return false;
        }
        let denied = seen.event_type == "operation.denied";
        let Some(word) = Word::of(seen.decision) else { return false };
        let by_policy = ["\"reason\":\"forbid", "\"reason\":\"no_permit\""]; // `forbidden`, `forbid_failed`
        if denied && !by_policy.iter().any(|reason| seen.details.contains(reason)) {
            return false; // WI3
        }
        let mut put = |text: &str| {
            let from = self.text.len();
            self.text.push_str(text);
            from..self.text.len()
        };
        let (labels, details) = (put(seen.labels), put(seen.details));
        self.rows.push(Row { seq: seen.seq, timestamp_us: seen.timestamp_us, word, labels, details });
        true
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    fn part(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }
}

/// The members of `details` that matter here.
#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    principal: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    bytes: Option<i64>,
    subject_at: Option<u64>,
    resource_at: Option<u64>,
    #[serde(borrow)]
    subject_instance: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource_instance: Option<Cow<'a, str>>,
    #[serde(borrow)]
    subject_is: Option<&'a RawValue>,
    #[serde(borrow)]
    resource_is: Option<&'a RawValue>,
    #[serde(borrow)]
    obligations: Option<&'a RawValue>,
    #[serde(borrow)]
    counters: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    call_sealed: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
    #[serde(borrow)]
    request_sealed: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Described<'a> {
    #[serde(borrow)]
    entity: Option<&'a RawValue>,
    #[serde(borrow)]
    sealed: Option<Cow<'a, str>>,
}

/// What an `entity.described` says.
pub(super) fn described(details: &str, opener: Option<&mut Opener>) -> Result<Json, Undecidable> {
    let found: Described<'_> = serde_json::from_str(details).map_err(|_| Undecidable::Malformed)?;
    match (found.entity, found.sealed) {
        (Some(raw), _) => parsed(raw),
        (None, Some(sealed)) => opened(opener, &sealed),
        (None, None) => Err(Undecidable::Malformed),
    }
}

fn opened(opener: Option<&mut Opener>, sealed: &str) -> Result<Json, Undecidable> {
    let plain = opener.and_then(|opener| opener.open(sealed)).ok_or(Undecidable::Erased)?;
    serde_json::from_slice(&plain).map_err(|_| Undecidable::Malformed)
}

fn entity(mut json: Json, instance: Option<&str>) -> Result<Entity, Undecidable> {
    if let Some(instance) = instance {
        let attributes = json.get_mut("attrs").and_then(Json::as_object_mut).ok_or(Undecidable::Malformed)?;
        attributes.insert(INSTANCE.to_owned(), Json::from(instance));
    }
    Entity::from_json(&json).map_err(|_| Undecidable::Malformed)
}

impl Details<'_> {
    /// Everything that decides, where it stands in the record; none where some of it is sealed, or it is a refusal (WI5).
    fn key(&self, word: Word, labels: &str, key: &mut Vec<u8>) -> Option<()> {
        if word == Word::Deny || self.call_sealed.is_some() {
            return None;
        }
        key.clear();
        let numbers = [self.bytes.map(i64::cast_unsigned), self.subject_at, self.resource_at];
        key.push(word as u8);
        for number in numbers {
            key.push(u8::from(number.is_some()));
            key.extend_from_slice(&number.unwrap_or_default().to_ne_bytes());
        }
        let texts = [
            Some(labels),
            Some(self.action.as_ref()),
            Some(self.principal.as_ref()),
            Some(self.resource.as_ref()),
            self.subject_instance.as_deref(),
            self.resource_instance.as_deref(),
            self.subject_is.map(RawValue::get),
            self.resource_is.map(RawValue::get),
            self.obligations.map(RawValue::get),
            self.counters.map(RawValue::get),
            self.context.map(RawValue::get),
        ];
        for text in texts {
            // No text is as long as what stands for none.
            let length = text.map_or(u32::MAX, |text| u32::try_from(text.len()).unwrap_or(u32::MAX - 1));
            key.extend_from_slice(&length.to_ne_bytes());
            key.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        Some(())
    }
}

/// What one thread reads with.
pub(super) struct Reading<'a> {
    entities: &'a Entities,
    opener: Option<Opener>,
    /// Decisions that were made again and fell as they had, by all that they were made of (WI5).
    same: HashSet<Box<[u8]>>,
    /// Of the record that was read last; empty where it is not to be remembered.
    key: Vec<u8>,
    /// Made already, by record and instance.
    made: HashMap<u64, HashMap<String, Entity>>,
}

/// Decisions remembered by one thread, some 300 bytes each.
const SAME_MAX: usize = 32_768;
/// Entities kept by one thread.
const MADE_MAX: usize = 65_536;

impl<'a> Reading<'a> {
    pub(super) fn new(entities: &'a Entities, opener: Option<Opener>) -> Self {
        Self { entities, opener, same: HashSet::new(), key: Vec::new(), made: HashMap::new() }
    }

    /// The decision on the request that was made last fell as it had.
    pub(super) fn fell_the_same(&mut self) {
        if self.key.is_empty() {
            return;
        }
        if SAME_MAX <= self.same.len() {
            self.same.clear();
        }
        self.same.insert(self.key.as_slice().into());
    }

    /// WI4: the request, and what was owed; none where the same was decided before, and fell as it had (WI5). With an
    /// engine, what its counters need must have been kept.
    pub(super) fn request(
        &mut self,
        group: &Group,
        row: &Row,
        engine: Option<&Engine>,
    ) -> Result<Option<(Asked, Vec<String>)>, Undecidable> {
        let details: Details<'_> =
            serde_json::from_str(group.part(&row.details)).map_err(|_| Undecidable::Malformed)?;
        let mut key = std::mem::take(&mut self.key);
        let known = details.key(row.word, group.part(&row.labels), &mut key);
        if known.is_none() {
            key.clear();
        }
        self.key = key;
        if known.is_some() && self.same.contains(self.key.as_slice()) {
            return Ok(None);
        }
        let request = match row.word {
            Word::Deny => self.refused(&details)?.into(),
            _ => self.granted(&details, group.part(&row.labels))?,
        };
        let owed: Vec<String> = match details.obligations {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| Undecidable::Malformed)?,
            None => Vec::new(),
        };
        let needed = engine.map_or(&[][..], |engine| engine.counters_for(&request.action));
        if needed.is_empty() {
            return Ok(Some((request, owed)));
        }
        let counters = request.context.iter().find(|(name, _)| name == "counters");
        let kept = |name: &str| match counters {
            Some((_, Value::Record(pairs))) => pairs.iter().any(|(known, _)| known == name),
            _ => false,
        };
        if needed.iter().all(|spec| kept(&spec.name)) {
            Ok(Some((request, owed)))
        } else {
            Err(Undecidable::Counter)
        }
    }

    fn open(&mut self, sealed: &str) -> Result<Json, Undecidable> {
        opened(self.opener.as_mut(), sealed)
    }

    /// A refusal holds its whole request.
    fn refused(&mut self, details: &Details<'_>) -> Result<RecordedRequest, Undecidable> {
        let json = match (&details.request, &details.request_sealed) {
            (Some(raw), _) => serde_json::from_str(raw.get()).map_err(|_| Undecidable::Malformed)?,
            (None, Some(sealed)) => self.open(sealed)?,
            (None, None) => return Err(Undecidable::NotRecorded),
        };
        RecordedRequest::from_json(&json).map_err(|_| Undecidable::Malformed)
    }

    fn granted(&mut self, details: &Details<'_>, labels: &str) -> Result<Asked, Undecidable> {
        let principal = self.subject(details)?;
        let instance = details.resource_instance.as_deref();
        let resource = match (details.resource_at, details.resource_is) {
            (Some(seq), _) => self.known(seq, instance)?,
            (None, Some(raw)) => entity(parsed(raw)?, instance)?,
            (None, None) => bare(&details.resource)?,
        };
        let labels: Vec<String> = match labels {
            "[]" => Vec::new(),
            _ => serde_json::from_str(labels).map_err(|_| Undecidable::Malformed)?,
        };
        let counters = match details.counters {
            Some(raw) => value(raw)?,
            None => Value::Record(Vec::new()),
        };
        let mut context: Vec<(Cow<'static, str>, Value)> = vec![
            ("labels".into(), Value::Set(labels.into_iter().map(Value::String).collect())),
            ("bytes".into(), Value::Long(details.bytes.ok_or(Undecidable::Malformed)?)),
            ("counters".into(), counters),
        ];
        if let Some(raw) = details.context
            && let Value::Record(pairs) = value(raw)?
        {
            context.extend(pairs.into_iter().map(|(name, value)| (Cow::Owned(name), value)));
        }
        let mut entities = Vec::new();
        if let Some(sealed) = &details.call_sealed {
            let call = Entity::from_json(&self.open(sealed)?).map_err(|_| Undecidable::Malformed)?;
            context.push(("call".into(), Value::Entity(call.uid().clone())));
            entities.push(call);
        }
        Ok(Asked { principal, action: details.action.clone().into_owned(), resource, context, entities })
    }

    fn subject(&mut self, details: &Details<'_>) -> Result<Entity, Undecidable> {
        let instance =
            details.subject_instance.as_deref().or_else(|| details.principal.strip_prefix("agent:"));
        match (details.subject_at, details.subject_is) {
            (Some(seq), _) => return self.known(seq, instance),
            (None, Some(raw)) => return entity(parsed(raw)?, instance),
            (None, None) => {}
        }
        // Those that are no more than their names.
        if details.principal == "host" {
            return bare("Host::\"host\"");
        }
        match details.principal.strip_prefix("operator:") {
            Some(user) => bare(&format!("Operator::\"{user}\"")),
            None => Err(Undecidable::NotRecorded),
        }
    }

    fn known(&mut self, seq: u64, instance: Option<&str>) -> Result<Entity, Undecidable> {
        let name = instance.unwrap_or_default();
        if let Some(made) = self.made.get(&seq).and_then(|made| made.get(name)) {
            return Ok(made.clone());
        }
        let described = {
            let entities = self.entities.read().unwrap_or_else(PoisonError::into_inner);
            entities.get(&seq).cloned().ok_or(Undecidable::Malformed)??
        };
        let fresh = entity(described.as_ref().clone(), instance)?;
        if self.made.values().map(HashMap::len).sum::<usize>() >= MADE_MAX {
            self.made.clear();
        }
        self.made.entry(seq).or_default().insert(name.to_owned(), fresh.clone());
        Ok(fresh)
    }
}

fn bare(text: &str) -> Result<Entity, Undecidable> {
    let uid = Uid::parse(text).map_err(|_| Undecidable::Malformed)?;
    // Of these types no entity is bare: its attributes were not kept when this was written.
    match uid.type_name().as_str() {
        "Agent" | "Tool" | "Document" | "Sandbox" => Err(Undecidable::NotRecorded),
        _ => Ok(Entity::bare(uid)),
    }
}

fn parsed(raw: &RawValue) -> Result<Json, Undecidable> {
    serde_json::from_str(raw.get()).map_err(|_| Undecidable::Malformed)
}

fn value(raw: &RawValue) -> Result<Value, Undecidable> {
    Value::from_json(&parsed(raw)?).map_err(|_| Undecidable::Malformed)
}
