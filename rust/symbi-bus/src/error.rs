//! Why a message was not taken (an error), or not believed (a refusal).

use symbi_types::{AgentId, MessageId};
use thiserror::Error;

use crate::Topic;

/// A request that the bus did not carry out. Nothing was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BusError {
    /// No such agent is registered.
    #[error("agent `{agent}` is not on the bus")]
    UnknownAgent {
        /// The agent.
        agent: AgentId,
    },
    /// The agent is registered already.
    #[error("agent `{agent}` is on the bus already")]
    AlreadyRegistered {
        /// The agent.
        agent: AgentId,
    },
    /// The recipient does not read fast enough; try again later (B4).
    #[error("the mailbox of agent `{agent}` is full: {messages} messages, {bytes} bytes")]
    MailboxFull {
        /// The recipient.
        agent: AgentId,
        /// Messages in it.
        messages: usize,
        /// Bytes in it.
        bytes: usize,
    },
    /// More than a mailbox may ever hold.
    #[error("the payload has {bytes} bytes, and at most {limit} are carried")]
    PayloadTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More labels than an envelope carries.
    #[error("the payload has {count} labels, and at most {limit} are carried")]
    TooManyLabels {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A lifetime that cannot be.
    #[error("a message lives 1 to {limit} microseconds, not {given}")]
    Lifetime {
        /// What was asked for.
        given: u64,
        /// The limit.
        limit: u64,
    },
    /// The sender waits for too many replies.
    #[error("agent `{agent}` waits for {limit} replies already")]
    TooManyRequests {
        /// The sender.
        agent: AgentId,
        /// The limit.
        limit: usize,
    },
    /// Nobody waits for a reply to that message.
    #[error("message `{request}` is not waiting for a reply")]
    NoSuchRequest {
        /// The message.
        request: MessageId,
    },
    /// The runtime has taken back the agent's certificate.
    #[error("the keys of agent `{agent}` were revoked")]
    Revoked {
        /// The agent.
        agent: AgentId,
    },
    /// The sender cannot seal under the topic's key.
    #[error("no key of topic `{topic}` for `{sender}`")]
    NoTopicKey {
        /// The sender.
        sender: AgentId,
        /// The topic.
        topic: Topic,
    },
    /// Not a message that this mailbox handed out and that is not finished.
    #[error("message `{message}` is not one to be acknowledged")]
    NotHandedOut {
        /// The message.
        message: MessageId,
    },
    /// A topic or pattern that cannot be.
    #[error(transparent)]
    Topic(#[from] crate::TopicError),
    /// As many subscriptions as there may be.
    #[error("there are {limit} subscriptions already")]
    TooManySubscriptions {
        /// The limit.
        limit: usize,
    },
    /// One of the two identities cannot be used with the other.
    #[error("no key can be agreed between `{sender}` and `{recipient}`")]
    NoKey {
        /// The sender.
        sender: AgentId,
        /// The recipient.
        recipient: AgentId,
    },
}

impl BusError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownAgent { .. } => "bus.unknown_agent",
            Self::AlreadyRegistered { .. } => "bus.already_registered",
            Self::MailboxFull { .. } => "bus.mailbox_full",
            Self::PayloadTooLarge { .. } => "bus.payload_too_large",
            Self::TooManyLabels { .. } => "bus.too_many_labels",
            Self::Lifetime { .. } => "bus.lifetime",
            Self::TooManyRequests { .. } => "bus.too_many_requests",
            Self::NoSuchRequest { .. } => "bus.no_such_request",
            Self::Revoked { .. } => "bus.revoked",
            Self::NoTopicKey { .. } => "bus.no_topic_key",
            Self::NotHandedOut { .. } => "bus.not_handed_out",
            Self::Topic(_) => "bus.topic",
            Self::TooManySubscriptions { .. } => "bus.too_many_subscriptions",
            Self::NoKey { .. } => "bus.no_key",
        }
    }
}

/// Why a message that came was not handed out (B1, B2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// Not a version that is known here.
    #[error("the message has an unknown version")]
    UnknownVersion,
    /// Not a suite of algorithms that is known here: none is negotiated.
    #[error("the message has an unknown suite of algorithms")]
    UnknownSuite,
    /// Not an envelope.
    #[error("the message is no envelope")]
    Malformed,
    /// It is sealed for another agent.
    #[error("the message is for another agent")]
    WrongRecipient,
    /// It is for a topic that the receiver has not joined, or had not when it was sealed.
    #[error("the message is for members of a topic")]
    NotMember,
    /// It is of a key that was never agreed here, or not since the last start.
    #[error("the message is of an unknown epoch")]
    UnknownEpoch,
    /// It is not signed by the agent that it names.
    #[error("the message is not signed by the sender it names")]
    Forged,
    /// The runtime has taken back the certificate of the key that signed it.
    #[error("the key that signed the message was revoked")]
    Revoked,
    /// It was made when the certificate of the key that signed it was not valid.
    #[error("the certificate of the message's signer was not valid when it was made")]
    CertificateExpired,
    /// It was changed after it was sealed.
    #[error("the message was changed on its way")]
    Tampered,
    /// It is from a time that has not come.
    #[error("the message is from the future")]
    Future,
    /// Its time is over.
    #[error("the message has expired")]
    Expired,
    /// It was handed out before.
    #[error("the message was received before")]
    Replayed,
}

impl Refusal {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownVersion => "bus.unknown_version",
            Self::UnknownSuite => "bus.unknown_suite",
            Self::Malformed => "bus.malformed",
            Self::WrongRecipient => "bus.wrong_recipient",
            Self::NotMember => "bus.not_member",
            Self::UnknownEpoch => "bus.unknown_epoch",
            Self::Forged => "bus.forged",
            Self::Revoked => "bus.revoked",
            Self::CertificateExpired => "bus.certificate_expired",
            Self::Tampered => "bus.tampered",
            Self::Future => "bus.future",
            Self::Expired => "bus.expired",
            Self::Replayed => "bus.replayed",
        }
    }
}
