//! What was brought in and is not a document yet.
//!
//! Why: content comes before the document that names it, and a document's record before its rows: both wait here, bounded,
//! so that an agent which never finishes cannot fill the memory.
//! Not here: when a record is on disk (`knowledge::apply_durable`).

use std::collections::{HashMap, VecDeque};

use symbi_store::Projection;
use symbi_types::{AgentId, Label, LabelSet};

/// Contents that were brought in and that no document names yet, remembered at once.
const CONTENTS_MAX: usize = 65_536;
/// Those of one agent: it must not take the places of all others.
const CONTENTS_OF_AGENT_MAX: usize = CONTENTS_MAX / 4;

/// Content without a document, and documents whose record is not on disk yet.
#[derive(Default)]
pub(crate) struct Unapplied {
    pub(super) projections: VecDeque<(u64, Projection)>,
    pub(super) contents: HashMap<String, Content>,
    /// What an agent wrote and could not make a document of, by what it is: it is not brought in again.
    pub(super) written: HashMap<String, String>,
    /// How many of them each agent brought in.
    brought: HashMap<AgentId, usize>,
}

#[derive(Clone)]
pub(super) struct Content {
    pub(super) by: AgentId,
    pub(super) title: String,
    pub(super) labels: LabelSet,
    /// What whoever brought it in had read: it stays on every piece, whatever its words are (K13).
    pub(super) of_author: LabelSet,
}

impl Unapplied {
    pub(super) fn has_room(&self, by: AgentId) -> bool {
        self.contents.len() < CONTENTS_MAX
            && self.brought.get(&by).is_none_or(|count| *count < CONTENTS_OF_AGENT_MAX)
    }

    /// Of the same passages brought in twice, the first title stays.
    pub(super) fn remember(&mut self, digest: &str, content: Content) {
        let by = content.by;
        if !self.contents.contains_key(digest) {
            self.contents.insert(digest.to_owned(), content);
            *self.brought.entry(by).or_default() += 1;
        }
    }

    /// Contents that carry this label and that no document names yet.
    pub(crate) fn of_label(&self, label: &Label) -> Vec<String> {
        let of = self.contents.iter().filter(|(_, content)| content.labels.contains(label.as_str()));
        of.map(|(digest, _)| digest.clone()).collect()
    }

    /// They go; how many they were. Documents whose record is not applied yet keep their title out of the clear by their own
    /// labels.
    pub(crate) fn forget_label(&mut self, label: &Label) -> usize {
        let digests = self.of_label(label);
        digests.iter().for_each(|digest| self.forget(digest));
        digests.len()
    }

    pub(super) fn forget(&mut self, digest: &str) {
        self.written.retain(|_, content| content != digest);
        let Some(gone) = self.contents.remove(digest) else { return };
        if let Some(count) = self.brought.get_mut(&gone.by) {
            *count -= 1; // counted when it was remembered
            if *count == 0 {
                self.brought.remove(&gone.by);
            }
        }
    }
}
