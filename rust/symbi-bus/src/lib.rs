//! Mailboxes, request and reply, the sealed and signed envelope.
//!
//! Why: agents that do not trust one another, nor what carries their messages, still know who said what, to whom, and
//! that nobody else read it or changed it. A message is verified when it is received, not believed because it came.
//! Not here: policy and rate limits (the kernel asks them before it sends), which topic reaches whom, the log, delivery
//! beyond the life of the process (at most once, now). Reads no clock; time and randomness are given.
//!
//! Invariants
//! - B1 what a receiver is handed is what the named sender sealed, for it, byte for byte, labels included.
//! - B2 a message is handed out at most once.
//! - B3 no key seals two messages under one nonce: nonces count, and a fresh epoch has a fresh key.
//! - B4 nothing is dropped in silence: a full mailbox refuses, and what is refused at receipt is named with a reason.
//! - B5 every mailbox is bounded, in messages and in bytes.
//! - B6 an agent that never speaks costs about a hundred bytes: keys are made when they are first needed.
//! - B7 what a reader has taken out of a mailbox is opened as if the mailbox had not closed meanwhile.
//!
//! Decisions: docs/adr/0062, 0160, 0161, 0162. Format: docs/formats/message.md.

mod ahead;
mod authority;
mod bus;
mod certificate;
mod crew;
mod dead;
mod deliveries;
mod envelope;
mod error;
mod forget;
mod header;
mod identity;
mod mailbox;
mod open;
mod patterns;
mod pool;
mod publish;
mod receive;
mod rotation;
mod seal;
mod send;
mod session;
mod stream;
mod sync;
mod tidy;
mod together;
mod topic;
mod topic_keys;
mod window;

pub use bus::{Bus, BusOptions};
pub use certificate::{Certificate, CertificateError};
pub use crew::{Crew, Share};
pub use dead::{Dead, DeadReason};
pub use deliveries::{Deliveries, DeliveryOptions, Finished, Known, Passed};
pub use envelope::{Inclusion, LIFETIME_US_MAX, OVERHEAD_BYTES_MAX, SecureMessage};
pub use error::{BusError, Refusal};
pub use header::{ContentType, Header, LABELS_MAX, PAYLOAD_BYTES_MAX, Target};
pub use identity::Identity;
pub use open::{Opened, Refused, SKEW_US_MAX};
pub use patterns::{Pattern, Routes, SUBSCRIPTIONS_MAX, TOPIC_BYTES_MAX, TopicError, check_topic};
pub use pool::Buffer;
pub use publish::{Publication, Published};
pub use receive::{Received, Reply};
pub use rotation::Endorsement;
pub use send::{Outgoing, SendError, Sent};
pub use tidy::{BusCounts, Tidied};
pub use topic::Topic;
pub use topic_keys::{TopicKeys, WrappedKey};
