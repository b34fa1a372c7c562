//! Detectors of secrets and of personal data: what a text holds, where, and the text without it.
//!
//! Why: labels decide where data may go, so somebody must put them on. It runs twice: in the sandbox, where `scout`
//! reads files, and in the kernel at the exit, where nothing said by a sandbox is believed.
//! Not here: proof of absence. A detector knows shapes (keys, cards, labelled fields), not meaning; a name in the
//! middle of prose passes. `docs/threat-model.md` says so, and policies over origin do not depend on it.
//!
//! Invariants
//! - D1 time is linear in the text: only the `regex` crate's automata, and every look-back is bounded.
//! - D2 a finding is a non-empty byte range on character boundaries of the text that was given.
//! - D3 after `redact(text, labels)` nothing of those labels is found, so that redacting twice is redacting once.
//! - D4 a text that is too long to be searched is one finding of each label: never "nothing found".

mod checks;
mod forms;
mod personal;
mod secret;
mod table;
mod trace;

use std::sync::LazyLock;

use symbi_types::{Label, LabelSet};

/// Longest text that is searched, bytes. Twice the largest payload of a message after JSON unescaping, with room; at
/// some 10 MB/s a longer one would hold the kernel for more than a second.
pub const TEXT_BYTES_MAX: usize = 8 << 20;

/// Rounds in which `redact` looks again at what it made. What a replacement uncovers (a new word border) is gone
/// after one; a text that still changes after this many was made to, and is replaced as a whole.
const ROUNDS_MAX: usize = 8;

/// What stands around the kind of a removed range.
const MARK: &str = "[redacted:";

static SECRET: LazyLock<LabelSet> = LazyLock::new(|| one(Label::SECRET));
static PERSONAL: LazyLock<LabelSet> = LazyLock::new(|| one(Label::PERSONAL));

fn one(text: &str) -> LabelSet {
    text.parse::<Label>().into_iter().collect()
}

/// The two classes of data that are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Secret,
    Personal,
}

impl Class {
    fn labels(self) -> &'static LabelSet {
        match self {
            Self::Secret => &SECRET,
            Self::Personal => &PERSONAL,
        }
    }
}

/// One place in a text that holds something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `secret` or `personal`.
    pub label: Label,
    /// What it looks like, such as `private_key` or `email`; stable, lower case.
    pub kind: &'static str,
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A finding before its label is cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hit {
    class: Class,
    kind: &'static str,
    start: usize,
    end: usize,
}

/// Where `text` holds secrets or personal data, by start; of two findings of one label, one inside the other, the
/// outer. Findings of different labels may overlap.
///
/// Cost: one pass for each of about thirty automata; see `docs/formats/scout.md` for the measured rate.
#[must_use]
pub fn detect(text: &str) -> Vec<Finding> {
    let label = |hit: Hit| {
        let label = hit.class.labels().iter().next().cloned()?;
        Some(Finding { label, kind: hit.kind, start: hit.start, end: hit.end })
    };
    hits(text).into_iter().filter_map(label).collect()
}

/// The labels of everything that `text` holds.
#[must_use]
pub fn labels(text: &str) -> LabelSet {
    let found = hits(text);
    let of = |class: Class| found.iter().find(|hit| hit.class == class).map(|hit| hit.class.labels());
    [of(Class::Secret), of(Class::Personal)]
        .into_iter()
        .flatten()
        .fold(LabelSet::default(), |all, set| all.union(set))
}

/// `text` with every finding of `labels` replaced by `[redacted:kind]` (D3). Labels without a detector do nothing.
#[must_use]
pub fn redact(text: &str, labels: &LabelSet) -> String {
    let wanted = |class: Class| labels.covers(class.labels());
    let mut text = text.to_owned();
    for _ in 0..ROUNDS_MAX {
        let found: Vec<Hit> = hits(&text).into_iter().filter(|hit| wanted(hit.class)).collect();
        if found.is_empty() {
            return text;
        }
        text = replace(&text, &found);
    }
    if hits(&text).iter().any(|hit| wanted(hit.class)) {
        return format!("{MARK}text]");
    }
    text
}

fn replace(text: &str, found: &[Hit]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for hit in found {
        if hit.end <= done {
            continue;
        }
        if done <= hit.start {
            out.push_str(text.get(done..hit.start).unwrap_or_default());
            out.push_str(MARK);
            out.push_str(hit.kind);
            out.push(']');
        } // else: overlaps the range before it, whose mark stands for both
        done = hit.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

fn hits(text: &str) -> Vec<Hit> {
    if TEXT_BYTES_MAX < text.len() {
        let whole = |class| Hit { class, kind: "unsearched", start: 0, end: text.len() };
        return vec![whole(Class::Secret), whole(Class::Personal)]; // D4
    }
    let mut found = Vec::new();
    let trace = trace::Trace::of(text);
    secret::search(text, &trace, &mut found);
    personal::search(text, &trace, &mut found);
    table::search(text, &trace, &mut found);
    if found.is_empty() {
        return found; // as almost always
    }
    let marks = marks(text);
    found.retain(|hit| hit.start < hit.end && !within_a_mark(&marks, hit)); // D2, D3
    found.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end), hit.class));
    let mut ends = [0usize; 2];
    found.retain(|hit| {
        let end = match hit.class {
            Class::Secret => &mut ends[0],
            Class::Personal => &mut ends[1],
        };
        let outer = *end < hit.end;
        *end = hit.end.max(*end);
        outer
    });
    debug_assert!(
        found.iter().all(|hit| text.get(hit.start..hit.end).is_some_and(|part| !part.is_empty())),
        "D2"
    );
    found
}

/// The ranges of marks that an earlier redaction left, in order.
fn marks(text: &str) -> Vec<(usize, usize)> {
    let kind = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let after = |start: usize| {
        let rest = text.get(start.saturating_add(MARK.len())..)?;
        let length = rest.bytes().take(KIND_BYTES_MAX).take_while(|byte| kind(*byte)).count();
        (0 < length && rest.as_bytes().get(length) == Some(&b']')).then_some(start + MARK.len() + length + 1)
    };
    text.match_indices(MARK).filter_map(|(start, _)| after(start).map(|end| (start, end))).collect()
}

/// Longest name of a kind, bytes.
const KIND_BYTES_MAX: usize = 32;

fn within_a_mark(marks: &[(usize, usize)], hit: &Hit) -> bool {
    let next = marks.partition_point(|(start, _)| *start <= hit.start);
    let before = next.checked_sub(1).and_then(|at| marks.get(at));
    before.is_some_and(|(start, end)| *start <= hit.start && hit.end <= *end)
}

#[cfg(test)]
mod tests;
