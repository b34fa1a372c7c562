//! Knowledge behind the monitor: passages in, documents, search, extractive answers.
//!
//! Why: what is stored keeps the labels of where it came from, and whoever reads it takes them on. Both are the
//! kernel's business, not an agent's.
//! Not here: words and ranks (`symbi-store`).
//!
//! Invariants
//! - K39 what the detectors call secret is stored as location and digest, never as text, whoever stores it.
//! - K40 a document's record is durable before the document can be found; after a crash the record makes it again.
//! - K41 whoever is shown a passage has read it: its labels become the reader's.
//! - K45 a document is shown only to who its access list names and policy lets read it; others see nothing of it.

mod sentences;
mod unapplied;

use std::collections::{BTreeMap, HashSet};

use symbi_policy::vocabulary;
use symbi_store::{DocumentAdded, HITS_MAX, Hit, NewChunk, Projection, SearchRequest, StoreError};
use symbi_types::{AgentId, DocumentId, Label, LabelSet, Part, PartSource};

use self::sentences::{best_sentence, pieces, words};
use self::unapplied::Content;
pub(crate) use self::unapplied::Unapplied;
use crate::agents::{AgentError, check_labels};
use crate::content;
use crate::exit::{Chunks, Source};
use crate::kernel::{Kernel, lock};
use crate::monitor::Asked;
use crate::{Principal, Refusal, RefusalCode};

/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 1_024;
/// Longest question, in characters.
pub const QUESTION_CHARS_MAX: usize = 4_096;

/// A passage that is brought in.
#[derive(Clone, Debug)]
pub struct Passage {
    /// Its text; none where only its place is known.
    pub text: Option<String>,
    /// Digest of a text that is withheld, hex.
    pub digest: Option<String>,
    /// Declared labels; detected ones come on top.
    pub labels: LabelSet,
    /// First byte within its source.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// Where something stands.
#[derive(Clone, Debug)]
pub struct Citation {
    /// The sentence or passage, with labels and source.
    pub part: Part,
    /// The document.
    pub document: DocumentId,
    /// Its title.
    pub title: String,
    /// The chunk.
    pub chunk: i64,
}

/// What was found, best first.
pub type Answer = Vec<Citation>;

/// Why knowledge did nothing.
#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    /// Refused or invalid.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Refusal> for KnowledgeError {
    fn from(refusal: Refusal) -> Self {
        Self::Agent(refusal.into())
    }
}

/// The store as one reader sees it, for checking that a part stands where it says.
pub(crate) struct ReaderChunks<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) reader: &'a str,
}

impl Chunks for ReaderChunks<'_> {
    fn chunk(&self, id: i64) -> Option<Source> {
        let chunk = self.kernel.store().chunk(id).ok()??;
        let document = self.kernel.store().document(chunk.document).ok()??;
        document.is_read_by(self.reader).then_some(())?;
        Some(Source { text: chunk.text?, labels: chunk.labels, of_author: document.labels })
    }
}

impl Kernel {
    /// Brings passages in under a title, seen by nobody until a document names them. Answers their digest.
    ///
    /// # Errors
    /// Refused, or they cannot be stored.
    pub fn ingest(
        &self,
        by: AgentId,
        title: &str,
        passages: Vec<Passage>,
    ) -> Result<(String, u64), KnowledgeError> {
        if title.chars().count() > TITLE_CHARS_MAX {
            return Err(
                AgentError::Invalid(format!("a title has at most {TITLE_CHARS_MAX} characters")).into()
            );
        }
        if !lock(&self.unapplied).has_room(by) {
            let text = "too many contents wait for a document; store some first";
            return Err(AgentError::Invalid(text.to_owned()).into());
        }
        let resource = vocabulary::named("Collection", "inbox").map_err(invalid)?;
        let asked = self.ask(Principal::Agent(by), "data.write", resource)?;
        let carried = asked.labels.clone();
        let mut labels = carried.union(&symbi_detect::labels(title));
        let mut bytes = 0u64;
        let mut chunks = Vec::with_capacity(passages.len());
        for passage in passages {
            bytes = bytes.saturating_add(passage.end.saturating_sub(passage.start));
            let chunk = self.chunk(passage, &carried)?;
            labels = labels.union(&chunk.labels);
            chunks.push(chunk);
        }
        check_labels(&labels)?;
        // K39 holds for titles too.
        let secret: LabelSet =
            labels.iter().filter(|label| label.as_str() == Label::SECRET).cloned().collect();
        let title = symbi_detect::redact(title, &secret);
        let asked = Asked { labels: labels.clone(), bytes, ..asked };
        let show = || {
            let passages: Vec<_> = chunks.iter().map(|chunk| chunk.passage.clone()).collect();
            content::of_document(&title, None, &passages)
        };
        let granted = self.decide_showing(&asked, Some(&show))?;
        let content = match self.store().put_content(&chunks) {
            Ok(content) => content,
            Err(error) => {
                self.undo(&granted.held()); // K21
                return Err(error.into());
            }
        };
        let (_, seq) = self.record_internal(&asked, granted, |details| {
            details.string("content", &content.digest).number("passages", chunks.len() as u64)
        })?;
        let of_author = carried.union(&symbi_detect::labels(&title));
        lock(&self.unapplied).remember(&content.digest, Content { by, title, labels, of_author });
        Ok((content.digest, seq))
    }

    /// K39.
    fn chunk(&self, passage: Passage, carried: &LabelSet) -> Result<NewChunk, AgentError> {
        let labels = match &passage.text {
            Some(text) => passage.labels.union(&symbi_detect::labels(text)),
            None => passage.labels,
        };
        let labels = labels.union(carried);
        let kept = match (passage.text, passage.digest) {
            (Some(text), _) if !labels.contains(Label::SECRET) => symbi_store::Passage::Text(text),
            (Some(text), _) => {
                symbi_store::Passage::Withheld { digest: self.digest_for(&labels, text.as_bytes()) }
            }
            // What is withheld could stand in the place of its digest.
            (None, Some(digest)) if digest.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                symbi_store::Passage::Withheld { digest }
            }
            (None, Some(_)) => return Err(AgentError::Invalid("a digest is hexadecimal".to_owned())),
            (None, None) => symbi_store::Passage::Withheld { digest: self.digest(b"") },
        };
        Ok(NewChunk { passage: kept, labels, source_start: passage.start, source_end: passage.end })
    }

    /// Makes a document of content that was brought in. It can be found once its record is durable and
    /// [`Kernel::drain`] was called, or at the next search.
    ///
    /// # Errors
    /// Refused, or there is no such content.
    pub fn store_document(
        &self,
        by: AgentId,
        content: &str,
        readers: &[String],
    ) -> Result<(DocumentId, u64), KnowledgeError> {
        let Some(known) = lock(&self.unapplied).contents.get(content).cloned() else {
            return Err(AgentError::Absent("content").into());
        };
        let document = DocumentId::random(self.entropy());
        let owner = self.name_of(by)?;
        let everyone: Vec<String> = readers.iter().chain([&owner]).cloned().collect();
        let resource =
            vocabulary::document(&document.to_string(), "knowledge", &known.labels, &owner, &everyone)
                .map_err(invalid)?;
        let asked = self.ask(Principal::Agent(by), "data.write", resource)?;
        let asked = Asked { labels: known.labels.clone(), ..asked };
        let show = || {
            let passages = self.store().passages(content).unwrap_or_default();
            content::of_document(&known.title, Some(readers), &passages)
        };
        let granted = self.decide_showing(&asked, Some(&show))?;
        let projection = Projection::DocumentAdded(DocumentAdded {
            document,
            title: known.title,
            owner,
            readers: readers.to_vec(),
            title_labels: known.labels.subjects(),
            labels: known.of_author, // beside what each passage has of its own
            content_digest: content.to_owned(),
            added_us: self.log().now(),
        });
        let sealed = self.seal_for(&known.labels, &serde_json::to_vec(&projection).map_err(invalid)?);
        let (_, seq) = self.record_internal(&asked, granted, |details| {
            details.string("content", content).string("projection", &sealed)
        })?;
        let mut unapplied = lock(&self.unapplied);
        unapplied.forget(content);
        unapplied.projections.push_back((seq, projection));
        Ok((document, seq))
    }

    /// Stores a text of the agent's own. It carries all that the agent has read.
    ///
    /// # Errors
    /// Refused, or it cannot be stored.
    pub fn write_document(
        &self,
        by: AgentId,
        title: &str,
        text: &str,
        readers: &[String],
    ) -> Result<(DocumentId, u64), KnowledgeError> {
        self.write_labelled(by, title, text, readers, &LabelSet::default())
    }

    /// As [`Kernel::write_document`]; it carries these labels besides.
    ///
    /// # Errors
    /// As there.
    pub fn write_labelled(
        &self,
        by: AgentId,
        title: &str,
        text: &str,
        readers: &[String],
        labels: &LabelSet,
    ) -> Result<(DocumentId, u64), KnowledgeError> {
        let carried = self.agent_labels(by).union(labels);
        let mut start = 0;
        let mut passages = Vec::new();
        for piece in pieces(text) {
            let end = start + piece.len() as u64;
            let text = Some(piece.to_owned());
            passages.push(Passage { text, digest: None, labels: carried.clone(), start, end });
            start = end;
        }
        let written = self.written(by, title, text, &carried)?;
        let known = lock(&self.unapplied).written.get(&written).cloned();
        let content = match known {
            Some(content) => content,
            None => self.ingest(by, title, passages)?.0,
        };
        let stored = self.store_document(by, &content, readers);
        let mut unapplied = lock(&self.unapplied);
        if stored.is_err() && unapplied.contents.contains_key(&content) {
            unapplied.written.insert(written, content);
        }
        stored
    }

    /// What is the same where the same agent writes the same, carrying no more and no less.
    fn written(
        &self,
        by: AgentId,
        title: &str,
        text: &str,
        carried: &LabelSet,
    ) -> Result<String, AgentError> {
        let name = self.name_of(by)?;
        let labels = carried.iter().map(Label::to_string).collect::<Vec<_>>().join(",");
        let whole = [name.as_str(), &labels, title, text].map(|piece| format!("{}:{piece}", piece.len()));
        Ok(self.digest(whole.concat().as_bytes()))
    }

    /// Applies the documents whose record is on disk (K40).
    pub(crate) fn apply_durable(&self) {
        let durable = self.durable();
        let due: Vec<(u64, Projection)> = {
            let mut unapplied = lock(&self.unapplied);
            let count = unapplied.projections.iter().take_while(|(seq, _)| *seq < durable).count();
            unapplied.projections.drain(..count).collect()
        };
        if due.is_empty() {
            return;
        }
        self.store().advance_durable(durable);
        if self.store().apply_many(&due).is_err() {
            // The file said no, and may say yes the next time; at the latest the next open applies the records.
            let mut unapplied = lock(&self.unapplied);
            due.into_iter().rev().for_each(|one| unapplied.projections.push_front(one));
        }
    }

    /// Passages that fit a text, best first, of what the agent may read.
    ///
    /// # Errors
    /// Refused, or the text is too long.
    pub fn search(&self, by: AgentId, text: &str, limit: usize) -> Result<(Answer, u64), KnowledgeError> {
        let (reader, seq) = self.ask_search(by, text)?;
        let request =
            SearchRequest { text, reader: &reader, labels_allowed: None, limit: limit.min(HITS_MAX) };
        let (hits, seq) = self.readable(by, self.store().search(&request)?, seq)?;
        let answer: Answer = hits
            .into_iter()
            .map(|hit| {
                let source = Some(PartSource { chunk: hit.chunk, start: 0, end: hit.text.len() });
                Citation {
                    part: Part { text: hit.text, labels: hit.labels, source },
                    document: hit.document,
                    title: hit.title,
                    chunk: hit.chunk,
                }
            })
            .collect();
        self.has_read(by, &answer)?;
        Ok((answer, seq))
    }

    /// Sentences that answer a question, each with its place, of what the agent may read: extractive, no model.
    ///
    /// # Errors
    /// Refused, or the question is too long.
    pub fn answer(&self, by: AgentId, question: &str, limit: usize) -> Result<(Answer, u64), KnowledgeError> {
        let (reader, seq) = self.ask_search(by, question)?;
        let many = limit.max(1).saturating_mul(4);
        let request = SearchRequest {
            text: question,
            reader: &reader,
            labels_allowed: None,
            limit: many.min(HITS_MAX),
        };
        let (hits, seq) = self.readable(by, self.store().search(&request)?, seq)?;
        let words = words(question);
        let mut sentences: Vec<(usize, u32, Citation)> = Vec::new();
        for hit in hits {
            let Some((score, start, end)) = best_sentence(&hit.text, &words) else { continue };
            let Some(text) = hit.text.get(start..end) else { continue };
            let source = Some(PartSource { chunk: hit.chunk, start, end });
            let part = Part { text: text.to_owned(), labels: hit.labels, source };
            let citation = Citation { part, document: hit.document, title: hit.title, chunk: hit.chunk };
            sentences.push((score, hit.rank, citation));
        }
        sentences.sort_by_key(|(score, rank, _)| (std::cmp::Reverse(*score), *rank));
        let answer: Answer = sentences.into_iter().take(limit).map(|(_, _, citation)| citation).collect();
        self.has_read(by, &answer)?;
        Ok((answer, seq))
    }

    fn ask_search(&self, by: AgentId, text: &str) -> Result<(String, u64), KnowledgeError> {
        if text.chars().count() > QUESTION_CHARS_MAX {
            let problem = format!("a question has at most {QUESTION_CHARS_MAX} characters");
            return Err(AgentError::Invalid(problem).into());
        }
        self.apply_durable();
        let resource = vocabulary::named("Collection", "knowledge").map_err(invalid)?;
        let asked = self.ask(Principal::Agent(by), "data.search", resource)?;
        let asked = Asked { bytes: text.len() as u64, arguments: Some(text.as_bytes()), ..asked };
        let granted = self.decide(&asked)?;
        let (_, seq) = self.record_internal(&asked, granted, |details| details)?;
        Ok((self.name_of(by)?, seq))
    }

    /// Of what was found, what policy lets `by` read: each document is an operation of its own (K45). Answers the
    /// last record too.
    fn readable(&self, by: AgentId, hits: Vec<Hit>, mut seq: u64) -> Result<(Vec<Hit>, u64), KnowledgeError> {
        let mut labels_of: BTreeMap<DocumentId, LabelSet> = BTreeMap::new();
        for hit in &hits {
            let labels = labels_of.entry(hit.document).or_default();
            *labels = labels.union(&hit.labels);
        }
        let mut refused = HashSet::new();
        for (id, labels) in labels_of {
            let Some(document) = self.store().document(id)? else {
                refused.insert(id);
                continue;
            };
            let carried = labels.union(&document.labels);
            let id_text = id.to_string();
            let resource =
                vocabulary::document(&id_text, "knowledge", &carried, &document.owner, &document.readers)
                    .map_err(invalid)?;
            let asked = Asked { labels, ..self.ask(Principal::Agent(by), "data.read", resource)? };
            match self.decide(&asked) {
                Ok(granted) => {
                    let (_, read) = self.record_internal(&asked, granted, |details| details)?;
                    seq = seq.max(read);
                }
                Err(refusal) if matches!(refusal.code, RefusalCode::Denied | RefusalCode::OverBudget) => {
                    refused.insert(id);
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok((hits.into_iter().filter(|hit| !refused.contains(&hit.document)).collect(), seq))
    }

    fn has_read(&self, by: AgentId, answer: &Answer) -> Result<(), AgentError> {
        let labels = answer.iter().fold(LabelSet::default(), |all, one| all.union(&one.part.labels));
        let mut agents = self.agents();
        let agent = agents.get_mut(by).ok_or(AgentError::Absent("agent"))?;
        if !agent.has_room_for(&labels) {
            return Err(AgentError::Invalid("the agent cannot take on more labels".to_owned()));
        }
        agent.read(&labels); // K41
        Ok(())
    }

    pub(crate) fn name_of(&self, agent: AgentId) -> Result<String, AgentError> {
        self.agents().get(agent).map(|known| known.spec.name.clone()).ok_or(AgentError::Absent("agent"))
    }

    /// Documents, passages, and passages kept without their text.
    ///
    /// # Errors
    /// The file's own.
    pub fn knowledge_counts(&self) -> Result<symbi_store::Counts, StoreError> {
        self.apply_durable();
        self.store().counts()
    }
}

fn invalid(error: impl std::fmt::Display) -> AgentError {
    AgentError::Invalid(error.to_string())
}
