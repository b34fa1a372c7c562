//! What an envelope says on its outside, and its bytes.
//!
//! ```text
//!   0  version 1 · suite 1 · flags · content type
//!   4  message id 16 · sender 16 · recipient 16 (zero for a topic) · in reply to 16 (zero if none)
//!  68  signer's key id 16 · key epoch 16 · stream 32
//! 132  counter 8 · created µs 8 · expires µs 8 · topic's length 2 · labels' length 2 · sealed length 4
//! 164  topic, then labels, sorted, each after its length in one byte
//! ```
//! All numbers big-endian. Flags: bit 0 a reply, bit 1 to a topic, bit 2 signed in a batch. The whole format:
//! docs/formats/message.md.
//!
//! Invariants
//! - E1 every header has one spelling: what decodes encodes to the same bytes.

use symbi_crypto::KeyId;
use symbi_types::{AgentId, Label, LabelSet, MessageId};

use crate::{Refusal, Topic};

/// Bytes of one payload; as much as one frame of a sandbox.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Labels of one payload.
pub const LABELS_MAX: usize = 64;

pub(crate) const FIXED_BYTES: usize = 164;
const VERSION: u8 = 1;
const SUITE: u8 = 1; // AES-256-GCM, Ed25519, X25519 with HKDF-SHA-256
const FLAG_REPLY: u8 = 1;
const FLAG_TOPIC: u8 = 2;
const FLAG_BATCH: u8 = 4;

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// To one agent.
    Agent(AgentId),
    /// To whoever has joined the topic.
    Topic(Topic),
}

/// What kind of bytes the payload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContentType {
    /// Bytes of which nothing more is said.
    #[default]
    Bytes,
    /// A list of parts, each with its labels, as JSON.
    Parts,
    /// UTF-8 text.
    Text,
    /// JSON.
    Json,
}

impl ContentType {
    const ALL: [Self; 4] = [Self::Bytes, Self::Parts, Self::Text, Self::Json];

    /// Its name among media types (RFC 6838).
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Bytes => "application/octet-stream",
            Self::Parts => "application/vnd.symbi.parts+json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

/// What an envelope says on its outside: read by whoever carries it, believed once it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message.
    pub id: MessageId,
    /// Who sealed it.
    pub sender: AgentId,
    /// Who it is sealed for.
    pub target: Target,
    /// The message that it answers.
    pub in_reply_to: Option<MessageId>,
    /// The key that signs it.
    pub signer: KeyId,
    /// The key that it is sealed under: of the two agents, or of the topic until a member leaves.
    pub epoch: [u8; 16],
    /// The salt of the sender's own key under that key, random for each start.
    pub stream: [u8; 32],
    /// The nonce under the sender's own key.
    pub counter: u64,
    /// When it was made, in microseconds since the Unix epoch.
    pub created_us: u64,
    /// When it ends, likewise.
    pub expires_us: u64,
    /// What kind of bytes the payload is.
    pub content_type: ContentType,
    /// What the payload carries.
    pub labels: LabelSet,
    /// Whether it was signed in a batch; then its inclusion path follows the signature.
    pub in_batch: bool,
}

impl Header {
    /// The agent that it is for, unless it is for a topic.
    #[must_use]
    pub const fn recipient(&self) -> Option<AgentId> {
        match &self.target {
            Target::Agent(agent) => Some(*agent),
            Target::Topic(_) => None,
        }
    }

    /// The topic that it is for, unless it is for an agent.
    #[must_use]
    pub const fn topic(&self) -> Option<&Topic> {
        match &self.target {
            Target::Agent(_) => None,
            Target::Topic(topic) => Some(topic),
        }
    }

    /// Bytes of the header.
    pub(crate) fn size(target: &Target, labels: &LabelSet) -> usize {
        let topic = match target {
            Target::Agent(_) => 0,
            Target::Topic(topic) => topic.as_str().len(),
        };
        FIXED_BYTES + topic + labels_bytes(labels)
    }

    pub(crate) fn write(&self, bytes: &mut Vec<u8>, sealed_bytes: usize) {
        let (recipient, topic) = match &self.target {
            Target::Agent(agent) => (agent.as_bytes(), ""),
            Target::Topic(topic) => (&[0; 16], topic.as_str()),
        };
        let mut flags = 0;
        for (flag, is_set) in [
            (FLAG_REPLY, self.in_reply_to.is_some()),
            (FLAG_TOPIC, !topic.is_empty()),
            (FLAG_BATCH, self.in_batch),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        bytes.extend_from_slice(&[VERSION, SUITE, flags, self.content_type as u8]);
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(self.sender.as_bytes());
        bytes.extend_from_slice(recipient);
        bytes.extend_from_slice(self.in_reply_to.as_ref().map_or(&[0; 16], |id| id.as_bytes()));
        bytes.extend_from_slice(&self.signer.0);
        bytes.extend_from_slice(&self.epoch);
        bytes.extend_from_slice(&self.stream);
        for number in [self.counter, self.created_us, self.expires_us] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for length in [topic.len(), labels_bytes(&self.labels)] {
            let short = u16::try_from(length).unwrap_or(u16::MAX);
            assert!(short < u16::MAX, "E1: bounded by `TOPIC_BYTES_MAX` and `LABELS_MAX`");
            bytes.extend_from_slice(&short.to_be_bytes());
        }
        let sealed = u32::try_from(sealed_bytes).unwrap_or(u32::MAX);
        assert!(sealed < u32::MAX, "E1: bounded by `PAYLOAD_BYTES_MAX`");
        bytes.extend_from_slice(&sealed.to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
        for label in self.labels.iter() {
            bytes.push(u8::try_from(label.as_str().len()).unwrap_or(u8::MAX)); // at most 64
            bytes.extend_from_slice(label.as_str().as_bytes());
        }
    }

    /// Reads a header, and how many sealed bytes follow it.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<(Self, usize), Refusal> {
        let [version, suite, flags, content_type] = reader.array()?;
        if version != VERSION {
            return Err(Refusal::UnknownVersion);
        }
        if suite != SUITE {
            return Err(Refusal::UnknownSuite);
        }
        if flags & !(FLAG_REPLY | FLAG_TOPIC | FLAG_BATCH) != 0 {
            return Err(Refusal::Malformed);
        }
        let content_type = ContentType::ALL.get(usize::from(content_type)).ok_or(Refusal::Malformed)?;
        let id = MessageId::from_bytes(reader.array()?).ok_or(Refusal::Malformed)?;
        let sender = AgentId::from_bytes(reader.array()?).ok_or(Refusal::Malformed)?;
        let recipient = reader.array()?;
        let in_reply_to = reader.array()?;
        let in_reply_to = match (flags & FLAG_REPLY, in_reply_to == [0; 16]) {
            (0, true) => None,
            (FLAG_REPLY, false) => Some(MessageId::from_bytes(in_reply_to).ok_or(Refusal::Malformed)?),
            _ => return Err(Refusal::Malformed),
        };
        let signer = KeyId(reader.array()?);
        let epoch = reader.array()?;
        let stream = reader.array()?;
        let [counter, created_us, expires_us] = [reader.number()?, reader.number()?, reader.number()?];
        let [topic_bytes, labels_bytes] = [reader.array()?, reader.array()?].map(u16::from_be_bytes);
        let sealed_bytes = u32::from_be_bytes(reader.array()?) as usize;
        let topic = std::str::from_utf8(reader.take(usize::from(topic_bytes))?);
        let topic = topic.map_err(|_| Refusal::Malformed)?;
        let target = match (flags & FLAG_TOPIC, topic.is_empty(), recipient == [0; 16]) {
            (0, true, false) => Target::Agent(AgentId::from_bytes(recipient).ok_or(Refusal::Malformed)?),
            (FLAG_TOPIC, false, true) => Target::Topic(topic.parse().map_err(|_| Refusal::Malformed)?),
            _ => return Err(Refusal::Malformed),
        };
        let labels = read_labels(reader.take(usize::from(labels_bytes))?)?;
        let header = Self {
            id,
            sender,
            target,
            in_reply_to,
            signer,
            epoch,
            stream,
            counter,
            created_us,
            expires_us,
            content_type: *content_type,
            labels,
            in_batch: flags & FLAG_BATCH != 0,
        };
        Ok((header, sealed_bytes))
    }
}

fn labels_bytes(labels: &LabelSet) -> usize {
    labels.iter().map(|label| 1 + label.as_str().len()).sum()
}

/// Sorted, each once (E1).
fn read_labels(bytes: &[u8]) -> Result<LabelSet, Refusal> {
    let mut labels: Vec<Label> = Vec::new();
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        let [length] = reader.array()?;
        let text = std::str::from_utf8(reader.take(usize::from(length))?).map_err(|_| Refusal::Malformed)?;
        let label: Label = text.parse().map_err(|_| Refusal::Malformed)?;
        if labels.last().is_some_and(|last| label <= *last) || labels.len() == LABELS_MAX {
            return Err(Refusal::Malformed);
        }
        labels.push(label);
    }
    Ok(labels.into_iter().collect())
}

/// What is left of bytes that are read from the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Refusal::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Refusal::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u64, Refusal> {
        self.array().map(u64::from_be_bytes)
    }
}
