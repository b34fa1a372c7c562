//! The exit: what a payload carries, found again where it leaves, whatever anybody said before.
//!
//! Why: labels that a sandbox or an agent declares may only add. At the exit the kernel computes them itself: an
//! extractive part keeps the labels of the chunk it stands in, once that was checked; everything else carries
//! what its agent has read; and the detectors run over all of it.
//! Not here: whether it may leave (policy).
//!
//! Invariants
//! - K12 the effective labels of a part cover what was declared and what the detectors find.
//! - K13 a part keeps only its chunk's labels if, and only if, its text is byte for byte the named range.
//! - K44 JSON hides nothing: its strings are searched as they will be read, not only as they are written.
//! - K14 after redaction the detectors find none of the redacted labels in the text.

use symbi_types::{Label, LabelSet, Part};

use crate::kernel::Kernel;

/// What an operation carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing the kernel looks into.
    Bytes(Vec<u8>),
    /// Text with labels, piece by piece.
    Parts(Vec<Part>),
}

/// Most bytes of one payload: what a pipe to a sandbox carries in one line.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// So few bytes say nothing that a detector could find, such as an input without arguments.
const SILENT_BYTES: usize = 2;
/// Most parts of one payload.
pub const PARTS_MAX: usize = 4_096;

impl Payload {
    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Parts(parts) => parts.iter().map(|part| part.text.len()).sum(),
        }
    }

    /// Whether it carries nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a part claims to come from, looked up.
pub(crate) struct Source {
    /// The chunk's text.
    pub(crate) text: String,
    /// All that the chunk carries.
    pub(crate) labels: LabelSet,
    /// What it carries because of who wrote it, whatever its words are.
    pub(crate) of_author: LabelSet,
}

/// Looks up what a part claims.
pub(crate) trait Chunks {
    fn chunk(&self, id: i64) -> Option<Source>;
}

/// The labels of a payload in parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labelled {
    /// Of all parts together.
    pub(crate) all: LabelSet,
    /// For each part, the labels that its origin gives and no detector explains: no word can be found to redact.
    origins: Vec<LabelSet>,
}

/// Sets the effective labels of each part (K12, K13). `carried` is what the sender has read. A source that does
/// not hold is dropped, so that it cannot be claimed again.
pub(crate) fn label_parts(parts: &mut [Part], carried: &LabelSet, chunks: &dyn Chunks) -> Labelled {
    let mut labelled = Labelled::default();
    for part in parts {
        let extracted = part.source.as_ref().and_then(|source| {
            let chunk = chunks.chunk(source.chunk)?;
            (chunk.text.get(source.start..source.end)? == part.text)
                .then(|| without(&chunk.labels, &symbi_detect::labels(&chunk.text)).union(&chunk.of_author))
        });
        let origin = match extracted {
            Some(unexplained) => part.labels.union(&unexplained),
            None => {
                part.source = None;
                part.labels.union(carried)
            }
        };
        part.labels = origin.union(&symbi_detect::labels(&part.text));
        labelled.all = labelled.all.union(&part.labels);
        labelled.origins.push(origin);
    }
    labelled
}

fn without(labels: &LabelSet, others: &LabelSet) -> LabelSet {
    labels.iter().filter(|label| !others.contains(label.as_str())).cloned().collect()
}

/// The labels of opaque bytes: what their sender has read, and what the detectors see in them as text.
pub(crate) fn label_bytes(bytes: &[u8], carried: &LabelSet) -> LabelSet {
    if bytes.is_empty() {
        return LabelSet::default();
    }
    if bytes.len() <= SILENT_BYTES {
        return carried.clone();
    }
    let found = match std::str::from_utf8(bytes) {
        Ok(text) => symbi_detect::labels(text),
        Err(_) => symbi_detect::labels(&String::from_utf8_lossy(bytes)),
    };
    if found.is_empty() { carried.clone() } else { carried.union(&found) }
}

/// The labels of JSON: of its text, and of each string and name in it as whoever decodes it will read it (K44).
pub(crate) fn label_json(value: &serde_json::Value, carried: &LabelSet) -> LabelSet {
    let mut labels = label_bytes(value.to_string().as_bytes(), carried);
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::String(text) => labels = labels.union(&symbi_detect::labels(text)),
            serde_json::Value::Array(values) => open.extend(values),
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    labels = labels.union(&symbi_detect::labels(name));
                    open.push(value);
                }
            }
            _ => {}
        }
    }
    labels
}

/// Redacts every part that carries one of `labels`. Where the label comes from the part's origin and not from
/// words that a detector finds, the whole text goes: a decoy must not launder the rest (K14).
pub(crate) fn redact_parts(parts: &mut [Part], labels: &LabelSet, labelled: &Labelled) {
    let nothing = LabelSet::default();
    for (at, part) in parts.iter_mut().enumerate() {
        let hit: LabelSet =
            part.labels.iter().filter(|label| labels.contains(label.as_str())).cloned().collect();
        if hit.is_empty() {
            continue;
        }
        let origin = labelled.origins.get(at).unwrap_or(&nothing);
        let by_words = hit.iter().all(|label| !origin.contains(label.as_str()));
        part.text = if by_words { symbi_detect::redact(&part.text, &hit) } else { withheld(&hit) };
        part.source = None;
        part.labels = without(&part.labels, &hit);
    }
}

/// A part labelled by its origin, where no detector can say which words carry the label: all of it goes.
fn withheld(labels: &LabelSet) -> String {
    let names: Vec<&str> = labels.iter().map(Label::as_str).collect();
    format!("[redacted:{}]", names.join(","))
}

impl Kernel {
    /// Effective labels of what is about to leave, as `reader` may cite.
    pub(crate) fn label_payload(
        &self,
        payload: &mut Payload,
        carried: &LabelSet,
        reader: &str,
    ) -> (LabelSet, Labelled) {
        match payload {
            Payload::Bytes(bytes) => (label_bytes(bytes, carried), Labelled::default()),
            Payload::Parts(parts) => {
                let chunks = crate::knowledge::ReaderChunks { kernel: self, reader };
                let labelled = label_parts(parts, carried, &chunks);
                (labelled.all.clone(), labelled)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;
    impl Chunks for One {
        fn chunk(&self, id: i64) -> Option<Source> {
            let text = "the clinic opens at eight".to_owned();
            let none = LabelSet::default();
            (id == 7).then(|| Source { text, labels: none.clone(), of_author: none })
        }
    }

    fn set(label: &str) -> LabelSet {
        std::iter::once(label.parse().unwrap()).collect()
    }

    fn part(text: &str, start: usize, end: usize) -> Part {
        let source = Some(symbi_types::PartSource { chunk: 7, start, end });
        Part { text: text.to_owned(), labels: LabelSet::default(), source }
    }

    #[test]
    fn k13_only_text_that_stands_there_keeps_its_chunks_labels() {
        let mut parts =
            [part("clinic", 4, 10), part("Clinic", 4, 10), part("clinic", 5, 11), part("clinic", 4, 999)];
        label_parts(&mut parts, &set("secret"), &One);
        assert!(parts[0].labels.is_empty() && parts[0].source.is_some());
        for lie in &parts[1..] {
            assert!(lie.labels.contains("secret") && lie.source.is_none());
        }
    }

    #[test]
    fn k12_declared_labels_stay_and_detected_ones_come_on_top() {
        let mut parts =
            [Part { text: "write to jane@clinic.example".to_owned(), labels: set("phi"), source: None }];
        let labelled = label_parts(&mut parts, &LabelSet::default(), &One);
        assert!(labelled.all.contains("phi") && labelled.all.contains("personal"));
    }

    #[test]
    fn k14_a_redacted_part_has_lost_the_words_and_the_label() {
        let text = "mail jane@clinic.example today".to_owned();
        let mut parts = [Part { text, labels: LabelSet::default(), source: None }];
        let labelled = label_parts(&mut parts, &LabelSet::default(), &One);
        redact_parts(&mut parts, &set("personal"), &labelled);
        assert!(!parts[0].text.contains("jane@") && parts[0].text.contains("today"));
        assert!(parts[0].labels.is_empty());
        assert!(!symbi_detect::labels(&parts[0].text).contains("personal"));
    }

    #[test]
    fn k14_what_is_personal_by_its_origin_goes_whole_and_a_decoy_does_not_save_the_rest() {
        for text in ["she is well", "she is well, write to decoy@clinic.example"] {
            let mut parts = [Part { text: text.to_owned(), labels: LabelSet::default(), source: None }];
            let labelled = label_parts(&mut parts, &set("personal"), &One);
            redact_parts(&mut parts, &set("personal"), &labelled);
            assert_eq!(parts[0].text, "[redacted:personal]");
        }
    }
}
