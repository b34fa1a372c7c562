//! Ordinary messages in the trail: one record for many, with the root of a Merkle tree over them.
//!
//! Why: a record costs a signature; one for each message would double the price of a message. So the messages of a sender
//! that were decided alike are gathered, and recorded together before anybody receives one of them. Each stands in the
//! record with its id and the hash of its envelope, so that whoever has the envelope can prove it against the trail.
//! Not here: messages that a counter was read for, or that are kept in the trail; each of these is a record of its own.
//!
//! A leaf is [`symbi_bus::SecureMessage::leaf`], the tree that of RFC 6962 (`symbi_crypto::merkle`). In the record
//! `messages` is base64 of 48 bytes for each: its id (16), its leaf (32); `root` is in hex.
//!
//! Invariants
//! - K150 a message is recorded before it is handed to anybody: its receiver closes what its sender has gathered.
//! - K151 what is recorded together was decided alike: sender, recipient, run, labels, rules, policies.
//! - K152 a record names at most `GATHERED_MAX` messages, and nothing is gathered for a sender that is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use symbi_audit::Event;
use symbi_crypto::merkle::MerkleTree;
use symbi_types::{AgentId, LabelSet, MessageId, OperationId, RunId};

use crate::Principal;
use crate::json::Object;
use crate::kernel::{ActivePolicies, Kernel, lock};
use crate::monitor::{Asked, Granted};
use crate::refusal::Refusal;

/// Messages in one record.
pub(crate) const GATHERED_MAX: usize = 256;
/// Records that one sender gathers for at once; past it the oldest is closed.
const GROUPS_MAX: usize = 16;
/// Bytes of a message in a record, before base64.
const ENTRY_BYTES: usize = 48;

/// What is gathered and not recorded yet, by sender.
#[derive(Default)]
pub(crate) struct Traffic {
    senders: Mutex<HashMap<AgentId, Arc<Mutex<Vec<Group>>>>>,
}

/// Messages that were decided alike (K151).
struct Group {
    action: &'static str,
    resource: String,
    recipient: Option<AgentId>,
    run: Option<RunId>,
    labels: LabelSet,
    decision: &'static str,
    rules: Vec<String>,
    policies: Arc<ActivePolicies>,
    operation: OperationId,
    bytes: u64,
    entries: Vec<u8>,
}

impl Group {
    fn takes(&self, asked: &Asked<'_>, granted: &Granted, recipient: Option<AgentId>) -> bool {
        self.recipient == recipient
            && self.run == asked.run
            && self.action == asked.action.name
            && Arc::ptr_eq(&self.policies, granted.policies())
            && self.decision == granted.word()
            && self.labels == asked.labels
            && self.rules == granted.rules()
            && (recipient.is_some() || self.resource == asked.resource.uid().to_string())
    }

    fn count(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    let (high, low) = bytes.split_at(16);
    let number = |half: &[u8]| half.try_into().map_or(0, u128::from_be_bytes);
    format!("{:032x}{:032x}", number(high), number(low))
}

impl Kernel {
    fn gathered(&self, sender: AgentId) -> Arc<Mutex<Vec<Group>>> {
        Arc::clone(lock(&self.messaging.traffic.senders).entry(sender).or_default())
    }

    /// Messages that were sealed, and decided alike, are about to be delivered (K150).
    ///
    /// # Errors
    /// The log cannot write: they must not be.
    pub(crate) fn gather(
        &self,
        (sender, recipient): (AgentId, Option<AgentId>),
        asked: &Asked<'_>,
        granted: &Granted,
        messages: impl IntoIterator<Item = (MessageId, [u8; 32])>,
    ) -> Result<(), Refusal> {
        let gathered = self.gathered(sender);
        let mut groups = lock(&gathered);
        let mut open = None;
        for (id, leaf) in messages {
            let at = match open {
                Some(at) => at,
                None => self.group_of(&mut groups, (sender, recipient), asked, granted)?,
            };
            open = Some(at);
            let Some(group) = groups.get_mut(at) else { return Ok(()) };
            group.bytes += asked.bytes;
            group.entries.extend_from_slice(id.as_bytes());
            group.entries.extend_from_slice(&leaf);
            if GATHERED_MAX <= group.count() {
                let whole = groups.remove(at);
                self.record_group(sender, &whole)?; // K152
                open = None;
            }
        }
        Ok(())
    }

    /// The group that takes such messages; a fresh one where none does.
    fn group_of(
        &self,
        groups: &mut Vec<Group>,
        (sender, recipient): (AgentId, Option<AgentId>),
        asked: &Asked<'_>,
        granted: &Granted,
    ) -> Result<usize, Refusal> {
        if let Some(at) = groups.iter().position(|group| group.takes(asked, granted, recipient)) {
            return Ok(at);
        }
        if GROUPS_MAX <= groups.len() {
            let oldest = groups.remove(0);
            self.record_group(sender, &oldest)?;
        }
        groups.push(Group {
            action: asked.action.name,
            resource: asked.resource.uid().to_string(),
            recipient,
            run: asked.run,
            labels: asked.labels.clone(),
            decision: granted.word(),
            rules: granted.rules().to_vec(),
            policies: Arc::clone(granted.policies()),
            operation: granted.operation,
            bytes: 0,
            entries: Vec::with_capacity(ENTRY_BYTES * 4),
        });
        Ok(groups.len() - 1)
    }

    /// Records what was gathered of a sender; of it what is for `recipient`, where one is named. Answers the last record.
    ///
    /// # Errors
    /// The log cannot write: nobody may be handed what was gathered.
    pub(crate) fn close_traffic(
        &self,
        sender: AgentId,
        recipient: Option<AgentId>,
    ) -> Result<Option<u64>, Refusal> {
        let Some(gathered) = lock(&self.messaging.traffic.senders).get(&sender).cloned() else {
            return Ok(None);
        };
        // Held over the log: a second receiver must not go on before the record is in the log's buffer.
        let mut groups = lock(&gathered);
        let mut last = None;
        let mut at = 0;
        while let Some(group) = groups.get(at) {
            if recipient.is_some() && group.recipient.is_some() && group.recipient != recipient {
                at += 1;
                continue;
            }
            last = Some(self.record_group(sender, group)?);
            groups.remove(at);
        }
        Ok(last)
    }

    /// As [`Kernel::close_traffic`], of everybody; of a sender that is gone nothing is kept.
    pub(crate) fn close_all_traffic(&self) {
        let senders: Vec<AgentId> = lock(&self.messaging.traffic.senders).keys().copied().collect();
        for sender in senders {
            let _ = self.close_traffic(sender, None); // a log that cannot write says so itself
        }
    }

    /// The sender is gone.
    pub(crate) fn end_traffic(&self, sender: AgentId) {
        let _ = self.close_traffic(sender, None);
        lock(&self.messaging.traffic.senders).remove(&sender);
    }

    fn record_group(&self, sender: AgentId, group: &Group) -> Result<u64, Refusal> {
        let entries = group.entries.chunks_exact(ENTRY_BYTES);
        let mut tree = MerkleTree::default();
        let whole = tree.build(entries.filter_map(|entry| entry.last_chunk::<32>().copied()));
        debug_assert!(whole, "K152: a tree takes as many as are gathered");
        let details = Object::new()
            .string("action", group.action)
            .display("principal", Principal::Agent(sender))
            .string("resource", &group.resource)
            .number("bytes", group.bytes);
        let details = match group.rules.as_slice() {
            [] => details,
            rules => details.strings("rules", rules.iter().map(String::as_str)),
        };
        let details = match group.recipient {
            Some(recipient) => details.display("recipient", recipient),
            None => details,
        };
        let details = details
            .number("count", group.count() as u64)
            .string("root", &hex(&tree.root()))
            .base64("messages", &group.entries)
            .finish();
        let event = Event {
            agent_id: Some(sender),
            run: group.run,
            op: Some(group.operation),
            decision: Some(group.decision),
            policy: Some(&group.policies.digest),
            labels: &group.labels,
            ..Event::new("operation", &details)
        };
        let seq = self.log().append(&event).map_err(|_| self.unavailable())?.seq;
        lock(&self.shares).add(sender, seq);
        Ok(seq)
    }
}
