//! What is asked of a trail, and whether a record is an answer.
//!
//! One place for both: the index (`index.rs`) finds candidates by the same fields that are compared here, and what it
//! finds counts only when the record itself, read from the log, is an answer.
//! Not here: reading (`reader.rs`), finding quickly (`index.rs`).

use std::borrow::Cow;

use crate::{Record, json};

/// What a query asks for. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Whose doing, exactly.
    pub agent_id: Option<String>,
    /// The type, exactly, or with a trailing `*` its beginning.
    pub event_type: Option<String>,
    /// At this time or later, microseconds since the Unix epoch.
    pub since_us: Option<u64>,
    /// Before this time.
    pub until_us: Option<u64>,
    /// The operation.
    pub op: Option<String>,
    /// The run.
    pub run: Option<String>,
    /// The decision.
    pub decision: Option<String>,
    /// What was to be done: `details.action`.
    pub action: Option<String>,
    /// A rule that decided: among `details.rules`.
    pub rule: Option<String>,
    /// On what: `details.resource`.
    pub resource: Option<String>,
    /// The id under which a refusal was told: `details.decision_id`.
    pub decision_id: Option<String>,
    /// This label among the labels.
    pub label: Option<String>,
    /// This pseudonym among the subjects.
    pub subject: Option<String>,
    /// The event's id.
    pub event_id: Option<String>,
    /// At most so many, the first ones of the order.
    pub limit: Option<usize>,
    /// The newest first.
    pub newest_first: bool,
    /// Go on behind this record: with later ones, or with `newest_first` with earlier ones.
    pub after_seq: Option<u64>,
}

/// The members of `details` that a query may name.
#[derive(Debug, Default)]
pub(crate) struct Named<'a> {
    pub(crate) action: Option<Cow<'a, str>>,
    pub(crate) resource: Option<Cow<'a, str>>,
    pub(crate) decision_id: Option<Cow<'a, str>>,
    pub(crate) rules: Vec<Cow<'a, str>>,
}

impl<'a> Named<'a> {
    pub(crate) fn of(details: &'a str) -> Self {
        let mut named = Self::default();
        for (name, raw) in json::members(details, |_| true).unwrap_or_default() {
            match name {
                "action" => named.action = json::text(raw),
                "resource" => named.resource = json::text(raw),
                "decision_id" => named.decision_id = json::text(raw),
                "rules" => {
                    named.rules =
                        json::items(raw).unwrap_or_default().into_iter().filter_map(json::text).collect();
                }
                _ => {}
            }
        }
        named
    }
}

impl Query {
    /// Whether a record is asked for. `limit` and order are not looked at.
    #[must_use]
    pub fn takes(&self, record: &Record) -> bool {
        self.takes_fields(record) && (!self.asks_details() || self.takes_details(&Named::of(&record.details)))
    }

    /// As [`Query::takes`], for a caller that asks several of one record.
    pub(crate) fn takes_named(&self, record: &Record, named: &Named<'_>) -> bool {
        self.takes_fields(record) && self.takes_details(named)
    }

    fn takes_fields(&self, record: &Record) -> bool {
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let kind = self.event_type.as_deref().is_none_or(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => record.event_type.starts_with(beginning),
            None => record.event_type == wanted,
        });
        kind && same(&self.agent_id, &record.agent_id)
            && same(&self.op, &record.op)
            && same(&self.run, &record.run)
            && same(&self.decision, &record.decision)
            && self.event_id.as_ref().is_none_or(|id| record.event_id.to_string() == *id)
            && self.subject.as_ref().is_none_or(|subject| record.subjects.contains(subject))
            && self.label.as_ref().is_none_or(|label| record.labels.contains(label))
            && self.since_us.is_none_or(|since_us| record.timestamp_us >= since_us)
            && self.until_us.is_none_or(|until_us| record.timestamp_us < until_us)
            && self.is_before_or_behind(record.seq)
    }

    fn asks_details(&self) -> bool {
        [&self.action, &self.resource, &self.rule, &self.decision_id].into_iter().any(Option::is_some)
    }

    fn takes_details(&self, named: &Named<'_>) -> bool {
        let same = |wanted: &Option<String>, found: &Option<Cow<'_, str>>| {
            wanted.as_deref().is_none_or(|wanted| found.as_deref() == Some(wanted))
        };
        same(&self.action, &named.action)
            && same(&self.resource, &named.resource)
            && same(&self.decision_id, &named.decision_id)
            && self.rule.as_ref().is_none_or(|rule| named.rules.iter().any(|found| found == rule))
    }

    fn is_before_or_behind(&self, seq: u64) -> bool {
        self.after_seq.is_none_or(|after| if self.newest_first { seq < after } else { seq > after })
    }

    /// The first record that can be an answer, by its number.
    pub(crate) fn first_seq(&self) -> u64 {
        if self.newest_first { 0 } else { self.after_seq.map_or(0, |after| after.saturating_add(1)) }
    }

    /// The record behind the last that can be an answer.
    pub(crate) fn end_seq(&self) -> u64 {
        if self.newest_first { self.after_seq.unwrap_or(u64::MAX) } else { u64::MAX }
    }

    /// Texts of which each must stand in a line that is asked for: a line without one need not be parsed. Only what
    /// JSON writes without escapes is used.
    pub(crate) fn needles(&self) -> Vec<String> {
        let named = [
            ("agent_id", &self.agent_id),
            ("event_type", &self.event_type),
            ("op", &self.op),
            ("run", &self.run),
            ("decision", &self.decision),
            ("event_id", &self.event_id),
        ];
        // Of a list the value alone is sought. `details` is as its writer wrote it, escapes and all: it is parsed.
        let lists = [&self.label, &self.subject];
        let plain =
            |text: &str| text.bytes().all(|byte| matches!(byte, 0x20..0x7f) && !b"\"\\*".contains(&byte));
        let lists = lists.into_iter().filter_map(|value| value.as_deref().filter(|value| plain(value)));
        named
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref().filter(|value| plain(value))?)))
            .map(|(name, value)| format!("\"{name}\":\"{value}\""))
            .chain(lists.map(|value| format!("\"{value}\"")))
            .collect()
    }
}
