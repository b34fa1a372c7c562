//! A record as it is read: the strict form of one line.
//!
//! Not here: whether the chain and the signature hold (`verify`). A line that parses here is well-formed, no more.

use std::borrow::Cow;
use std::str::FromStr;

use symbi_crypto::PublicKey;
use symbi_types::{AgentId, BootId, EventId, LabelSet, OperationId, RunId};

use crate::chain::{self, Link};
use crate::verify::Seen;
use crate::{json, time};

/// The fields before `chain` and `sig`, in the order in which they stand. Others may follow `personal` in a later
/// version; a reader of this one passes over them.
pub(crate) const FIELDS: [&str; 17] = [
    "v",
    "seq",
    "event_id",
    "timestamp",
    "mono",
    "boot",
    "key",
    "event_type",
    "agent_id",
    "run",
    "op",
    "decision",
    "policy",
    "labels",
    "subjects",
    "details",
    "personal",
];

/// A line that is not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

fn fault<T>(reason: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError(reason.into()))
}

/// A line's parts, borrowed.
pub(crate) struct View<'a> {
    pub(crate) line: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) chain: Link,
    /// Where it has one: the last of a group, and every record that is in none.
    pub(crate) signature: Option<[u8; 64]>,
    /// Whether it shares a signature with its group.
    pub(crate) is_grouped: bool,
    pub(crate) seq: u64,
    pub(crate) timestamp_us: u64,
    pub(crate) key: &'a str,
    pub(crate) event_type: Cow<'a, str>,
    pub(crate) details: &'a str,
    raw: [&'a str; 17],
}

impl<'a> View<'a> {
    /// Takes a line, newline included.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, FormatError> {
        let Some((body, chain, signature)) = chain::split(line) else {
            return fault("the line does not end in a chain and a signature");
        };
        let text = std::str::from_utf8(line).map_err(|_| FormatError("not UTF-8".into()))?;
        let members = json::members(text, |name| matches!(name, "details" | "personal"))
            .map_err(|error| FormatError(error.to_string()))?;
        let mut raw = [""; 17];
        if members.len() < FIELDS.len() + 2 {
            return fault("fields are missing");
        }
        for ((to, expected), (name, value)) in raw.iter_mut().zip(FIELDS).zip(&members) {
            if *name != expected {
                return fault(format!("`{expected}` is missing or out of order"));
            }
            *to = value;
        }
        // The suffix has its form, so the line's last two members are `chain` and `sig`; that neither stands in the
        // body too is what "no key twice" has shown.
        let [version, seq, event_id, timestamp, mono, boot, key, event_type, ..] = raw;
        let [.., agent, run, op, decision, policy, labels, subjects, details, personal] = raw;
        let is_grouped = match version {
            "1" if signature.is_none() => return fault("it has no signature"),
            "1" => false,
            "2" => true,
            _ => return fault("an unknown version"),
        };
        let quoted = |raw: &'a str| raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let Some(seq) = number(seq) else { return fault("`seq` is not a number") };
        if number(mono).is_none() {
            return fault("`mono` is not a number");
        }
        if quoted(event_id).is_none_or(|id| EventId::from_str(id).is_err()) {
            return fault("`event_id` is not a UUID");
        }
        if quoted(boot).is_none_or(|id| BootId::from_str(id).is_err()) {
            return fault("`boot` is not a UUID");
        }
        let Some(timestamp_us) = quoted(timestamp).and_then(time::parse) else {
            return fault("`timestamp` is not UTC with microseconds");
        };
        let Some(key) = quoted(key) else { return fault("`key` is not text") };
        let Some(event_type) = json::text(event_type) else { return fault("`event_type` is not text") };
        if is_grouped && (event_type.starts_with("log.") || event_type == "key.rotated") {
            return fault("a record of the log itself without a signature of its own");
        }
        for (name, raw) in
            [("agent_id", agent), ("run", run), ("op", op), ("decision", decision), ("policy", policy)]
        {
            if raw != "null" && quoted(raw).is_none() {
                return fault(format!("`{name}` is not text"));
            }
        }
        for (name, raw) in [("labels", labels), ("subjects", subjects)] {
            if raw != "[]"
                && json::items(raw).is_none_or(|items| items.iter().any(|item| quoted(item).is_none()))
            {
                return fault(format!("`{name}` is not a list of texts"));
            }
        }
        if !details.starts_with('{') {
            return fault("`details` is not an object");
        }
        if personal != "null" && !personal.starts_with('{') {
            return fault("`personal` is not an object");
        }
        Ok(Self {
            line,
            body,
            chain,
            signature,
            is_grouped,
            seq,
            timestamp_us,
            key,
            event_type,
            details,
            raw,
        })
    }

    /// What is shown of it while it is verified.
    pub(crate) fn seen(&self) -> Seen<'_> {
        let [.., decision, policy, labels, _subjects, details, _personal] = self.raw;
        Seen {
            line: self.line,
            seq: self.seq,
            timestamp_us: self.timestamp_us,
            event_type: &self.event_type,
            decision,
            policy,
            labels,
            details,
        }
    }

    /// Event id, agent, run, operation and decision, where they are not null.
    pub(crate) fn names(&self) -> [Option<Cow<'a, str>>; 5] {
        let [_, _, event_id, ..] = self.raw;
        let [.., agent, run, op, decision, _policy, _labels, _subjects, _details, _personal] = self.raw;
        [event_id, agent, run, op, decision].map(json::text)
    }

    /// Labels and subjects.
    pub(crate) fn lists(&self) -> (Vec<Cow<'a, str>>, Vec<Cow<'a, str>>) {
        let [.., labels, subjects, _details, _personal] = self.raw;
        let list = |raw| json::items(raw).unwrap_or_default().into_iter().filter_map(json::text).collect();
        (list(labels), list(subjects))
    }

    /// What its signature is over, where it has one; `first` is the first record that has none before it.
    pub(crate) fn claim(&self, first: u64) -> Option<(chain::Message, [u8; 64])> {
        let message = match self.is_grouped {
            true => chain::group_message(first, &self.chain),
            false => chain::event_message(&self.chain),
        };
        Some((message, self.signature?))
    }

    /// Whether `key` signed it, itself: never of one that shares a signature.
    pub(crate) fn signed_by(&self, key: &PublicKey) -> bool {
        let claim = self.claim(self.seq).filter(|_| !self.is_grouped);
        claim.is_some_and(|(message, signature)| key.verify(message.as_ref(), &signature).is_ok())
    }

    /// The raw text of a member of `details`.
    pub(crate) fn detail(&self, name: &str) -> Option<&'a str> {
        let members = json::members(self.details, |_| true).ok()?;
        members.into_iter().find(|(found, _)| *found == name).map(|(_, raw)| raw)
    }

    /// The text of a member of `details`.
    pub(crate) fn detail_text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.detail(name).and_then(json::text)
    }
}

fn number(raw: &str) -> Option<u64> {
    if raw.bytes().all(|byte| byte.is_ascii_digit()) { raw.parse().ok() } else { None }
}

/// A record, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 0.
    pub seq: u64,
    /// Its id.
    pub event_id: EventId,
    /// The log's time, as text.
    pub timestamp: String,
    /// The log's time, microseconds since the Unix epoch.
    pub timestamp_us: u64,
    /// Microseconds since the opening that wrote it.
    pub mono: u64,
    /// That opening.
    pub boot: BootId,
    /// The fingerprint of the key that signed.
    pub key: String,
    /// What kind of event.
    pub event_type: String,
    /// Whose doing, as it was given.
    pub agent_id: Option<String>,
    /// The run.
    pub run: Option<String>,
    /// The operation.
    pub op: Option<String>,
    /// What was decided.
    pub decision: Option<String>,
    /// Under which policies.
    pub policy: Option<String>,
    /// Labels of the data concerned.
    pub labels: Vec<String>,
    /// Pseudonyms of the persons concerned.
    pub subjects: Vec<String>,
    /// A JSON object, as it stands in the line.
    pub details: String,
    /// A JSON object, as it stands in the line.
    pub personal: Option<String>,
    /// Its link of the chain.
    pub chain: [u8; 32],
    /// Whether it shares a signature with the records around it.
    pub is_grouped: bool,
    /// Its signature; `None` where it shares that of the last of its group.
    pub signature: Option<[u8; 64]>,
    /// The line, without its newline.
    pub line: String,
}

impl Record {
    /// Reads one line, newline included.
    ///
    /// # Errors
    /// [`FormatError`] for anything but the strict form.
    pub fn parse(line: &[u8]) -> Result<Self, FormatError> {
        let view = View::parse(line)?;
        let [_, _, event_id, timestamp, mono, boot, ..] = view.raw;
        let [.., agent, run, op, decision, policy, labels, subjects, details, personal] = view.raw;
        let text = |raw: &str| json::text(raw).map(Cow::into_owned);
        let list = |raw: &str| -> Vec<String> {
            json::items(raw).unwrap_or_default().into_iter().filter_map(text).collect()
        };
        let wrong = |_| FormatError("an id is not a UUID".into());
        Ok(Self {
            seq: view.seq,
            event_id: text(event_id).unwrap_or_default().parse().map_err(wrong)?,
            timestamp: text(timestamp).unwrap_or_default(),
            timestamp_us: view.timestamp_us,
            mono: number(mono).unwrap_or(0),
            boot: text(boot).unwrap_or_default().parse().map_err(wrong)?,
            key: view.key.to_owned(),
            event_type: view.event_type.into_owned(),
            agent_id: text(agent),
            run: text(run),
            op: text(op),
            decision: text(decision),
            policy: text(policy),
            labels: list(labels),
            subjects: list(subjects),
            details: details.to_owned(),
            personal: (personal != "null").then(|| personal.to_owned()),
            chain: view.chain,
            is_grouped: view.is_grouped,
            signature: view.signature,
            line: String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned(),
        })
    }

    /// The agent, where its id is one of the runtime's.
    #[must_use]
    pub fn agent(&self) -> Option<AgentId> {
        self.agent_id.as_deref()?.parse().ok()
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> Option<RunId> {
        self.run.as_deref()?.parse().ok()
    }

    /// The operation.
    #[must_use]
    pub fn operation(&self) -> Option<OperationId> {
        self.op.as_deref()?.parse().ok()
    }

    /// The labels as a set; those that are none (an application's own spelling) are left out.
    #[must_use]
    pub fn label_set(&self) -> LabelSet {
        self.labels.iter().filter_map(|label| label.parse().ok()).collect()
    }
}
