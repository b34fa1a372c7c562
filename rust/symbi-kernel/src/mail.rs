//! What was taken out of a mailbox in one call: opened, and made into values when somebody looks.
//!
//! Why: whoever takes a thousand messages reads the payload of each and hardly ever the names, labels and ids. Those are
//! handles here, and become texts when they are asked for. A payload stays in the bus's memory, wiped when it is let go.
//! Not here: taking, verifying, recording (`receiving`).

use std::sync::Arc;

use symbi_bus::{Buffer, ContentType, Header, Topic};
use symbi_types::{AgentId, LabelSet, MessageId, Part};

use crate::exit::Payload;

/// A message that was received and opened.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its id.
    pub id: MessageId,
    /// Who sent it.
    pub sender: AgentId,
    /// The sender's name.
    pub sender_name: String,
    /// What it carries.
    pub labels: LabelSet,
    /// When it was sent, microseconds since the epoch.
    pub created_us: u64,
    /// The message it answers.
    pub in_reply_to: Option<MessageId>,
    /// The topic it was published under.
    pub topic: Option<String>,
    /// The how-manyth hand-out this is, where it is to be acknowledged; 0 where it is not.
    pub attempt: u32,
    /// What it says.
    pub payload: Payload,
}

/// What a message says.
#[derive(Debug)]
pub enum Body {
    /// Bytes, in memory that is wiped when they are let go.
    Bytes(Buffer),
    /// Text with labels, piece by piece.
    Parts(Vec<Part>),
}

/// One message of a [`Mail`].
#[derive(Debug)]
pub struct Item {
    /// Its id.
    pub id: MessageId,
    /// Who sent it.
    pub sender: AgentId,
    /// The sender's name.
    pub sender_name: Arc<str>,
    /// What it carries.
    pub labels: LabelSet,
    /// When it was sent, microseconds since the epoch.
    pub created_us: u64,
    /// The message it answers.
    pub in_reply_to: Option<MessageId>,
    /// The topic it was published under.
    pub topic: Option<Topic>,
    /// As [`Received::attempt`].
    pub attempt: u32,
    /// What it says.
    pub body: Body,
}

impl Item {
    pub(crate) fn of(header: &Header, sender_name: &Arc<str>, attempt: u32, body: Body) -> Self {
        Self {
            id: header.id,
            sender: header.sender,
            sender_name: Arc::clone(sender_name),
            labels: header.labels.clone(),
            created_us: header.created_us,
            in_reply_to: header.in_reply_to,
            topic: header.topic().cloned(),
            attempt,
            body,
        }
    }
}

impl From<Item> for Received {
    fn from(item: Item) -> Self {
        Self {
            id: item.id,
            sender: item.sender,
            sender_name: item.sender_name.to_string(),
            labels: item.labels,
            created_us: item.created_us,
            in_reply_to: item.in_reply_to,
            topic: item.topic.map(|topic| topic.as_str().to_owned()),
            attempt: item.attempt,
            payload: match item.body {
                Body::Bytes(bytes) => Payload::Bytes(bytes.to_vec()),
                Body::Parts(parts) => Payload::Parts(parts),
            },
        }
    }
}

/// The messages, in the order in which they are to be read.
#[derive(Debug, Default)]
pub struct Mail {
    pub(crate) items: Vec<Item>,
}

impl Mail {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&Item> {
        self.items.get(at)
    }

    /// All, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Item> {
        self.items.iter()
    }
}

impl<'a> IntoIterator for &'a Mail {
    type Item = &'a Item;
    type IntoIter = std::slice::Iter<'a, Item>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The body of a message that was opened; none where it is not what its header says.
pub(crate) fn body(kind: ContentType, payload: Buffer) -> Option<Body> {
    match kind {
        ContentType::Parts => serde_json::from_slice(&payload).ok().map(Body::Parts),
        ContentType::Bytes | ContentType::Text | ContentType::Json => Some(Body::Bytes(payload)),
    }
}
