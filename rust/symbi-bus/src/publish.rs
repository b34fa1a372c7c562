//! One message for everybody on a topic: sealed and signed once, laid before each.

use symbi_types::{AgentId, LabelSet, MessageId};

use crate::seal::{Draft, Ticket, lay_out, sign};
use crate::{Bus, BusError, ContentType, SecureMessage, SendError, Sent, Topic};

/// A message for everybody on a topic.
#[derive(Clone, Debug)]
pub struct Publication<'a> {
    /// Who publishes it.
    pub sender: AgentId,
    /// Under which topic.
    pub topic: &'a Topic,
    /// Before whom it is laid. Who has not joined the topic's keys refuses it when it is opened.
    pub recipients: &'a [AgentId],
    /// Its id, or a fresh one.
    pub id: Option<MessageId>,
    /// What it says.
    pub payload: &'a [u8],
    /// What kind of bytes that is.
    pub content_type: ContentType,
    /// What the payload carries.
    pub labels: &'a LabelSet,
    /// Microseconds that it lives; `None` for [`crate::BusOptions::lifetime_us`].
    pub lifetime_us: Option<u64>,
}

/// A message that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The message.
    pub sent: Sent,
    /// For each recipient, in order, whether it lies in its mailbox.
    pub laid: Vec<Result<(), BusError>>,
}

impl Bus {
    /// Seals and signs a message once under the topic's key, and lays it before each recipient: a full
    /// mailbox refuses for itself alone.
    ///
    /// # Errors
    /// What is wrong with the message itself; then nobody has it.
    ///
    /// Cost: one signature, and about 0.1 µs for each recipient.
    pub fn publish(&self, publication: &Publication<'_>, now_us: u64) -> Result<Published, BusError> {
        let unrecorded = |_: &SecureMessage| Ok::<(), std::convert::Infallible>(());
        self.publish_recorded(publication, now_us, unrecorded).map_err(SendError::bus)
    }

    /// As [`Bus::publish`], with `record` called on the sealed message before anybody can receive it. Where that fails,
    /// nobody does.
    ///
    /// # Errors
    /// As [`Bus::publish`], or what `record` said.
    pub fn publish_recorded<E>(
        &self,
        publication: &Publication<'_>,
        now_us: u64,
        record: impl FnOnce(&SecureMessage) -> Result<(), E>,
    ) -> Result<Published, SendError<E>> {
        let sender = publication.sender;
        let lifetime_us = self.check(publication.payload, publication.labels, publication.lifetime_us)?;
        let (_, from) = self.party(sender, now_us)?;
        let keys = self.topic_keys(publication.topic);
        let no_key = BusError::NoTopicKey { sender, topic: publication.topic.clone() };
        let ticket: Ticket = keys.ticket(sender, &from).ok_or_else(|| no_key.clone())?;
        let draft = Draft {
            id: publication.id.unwrap_or_else(|| MessageId::random(&*self.entropy)),
            sender,
            target: keys.target().clone(),
            payload: publication.payload,
            content_type: publication.content_type,
            labels: publication.labels,
            in_reply_to: None,
            created_us: now_us,
            expires_us: now_us.saturating_add(lifetime_us),
            ticket,
        };
        let mut unsigned = lay_out(&from, draft, false, &self.pool);
        unsigned.seal().map_err(|_| no_key)?;
        let message = sign(&from, unsigned, &self.pool);
        record(&message).map_err(SendError::Record)?;
        let sent = Sent { id: message.id(), leaf: message.leaf() };
        let lay = |recipient: &AgentId| self.deliver(*recipient, message.clone());
        Ok(Published { sent, laid: publication.recipients.iter().map(lay).collect() })
    }
}
