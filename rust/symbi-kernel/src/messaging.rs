//! What the kernel keeps for messages besides the bus: who subscribed to what, what is not finished, who waits for room.
//!
//! Not here: deciding and recording, which is what `messages`, `publish`, `acknowledge` and `durable` do with it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use symbi_bus::{Deliveries, DeliveryOptions};
use symbi_types::AgentId;

use crate::acknowledge::Kept;
use crate::admission::{Admission, AdmissionLimits};
use crate::decided::Decided;
use crate::durable::Letters;
use crate::publish::Subscriptions;
use crate::traffic::Traffic;

/// Nothing is due.
pub(crate) const NEVER: u64 = u64::MAX;

/// How messages are delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagingOptions {
    /// At least once: how often, after which pauses.
    pub deliveries: DeliveryOptions,
    /// Messages of each agent; none: only its operations are limited.
    pub rate: Option<AdmissionLimits>,
}

/// See the module.
pub(crate) struct Messaging {
    pub(crate) subscriptions: Mutex<Subscriptions>,
    pub(crate) deliveries: Mutex<Deliveries<Kept>>,
    /// When the embedding loop was last told that a delivery is due, microseconds.
    pub(crate) told_us: AtomicU64,
    /// Mailboxes that had no room for somebody, and those that have some again.
    pub(crate) full: Mutex<BTreeSet<AgentId>>,
    pub(crate) roomy: Mutex<Vec<AgentId>>,
    pub(crate) rates: Option<Mutex<Admission>>,
    pub(crate) traffic: Traffic,
    pub(crate) decided: Decided,
    pub(crate) letters: Mutex<Letters>,
    /// Held while the key that vouches is exchanged.
    pub(crate) exchanging: Mutex<()>,
    /// Messages that a subscription had no room for, since its reader was last told.
    pub(crate) missed: Mutex<HashMap<AgentId, u64>>,
}

impl Messaging {
    pub(crate) fn new(options: MessagingOptions, letters: Letters) -> Self {
        let mut deliveries = Deliveries::new(options.deliveries);
        letters.dead.dead().for_each(|dead| deliveries.lay_aside(dead)); // K240
        Self {
            subscriptions: Mutex::default(),
            deliveries: Mutex::new(deliveries),
            told_us: AtomicU64::new(NEVER),
            full: Mutex::default(),
            roomy: Mutex::default(),
            rates: options.rate.map(|limits| Mutex::new(Admission::new(limits))),
            traffic: Traffic::default(),
            decided: Decided::default(),
            letters: Mutex::new(letters),
            exchanging: Mutex::default(),
            missed: Mutex::default(),
        }
    }
}
