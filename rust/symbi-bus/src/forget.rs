//! Letting go of what belongs to a person who is forgotten: messages that are not read, and those that would be handed out
//! again. No name of a person and no key is known here, only the label that a header carries.
//!
//! Not here: what is kept in a trail (the kernel), the record of it.

use std::sync::PoisonError;

use symbi_types::{AgentId, Label, MessageId};

use crate::mailbox::Mailbox;
use crate::{Bus, DeadReason, Deliveries};

impl Bus {
    /// Unread messages that carry this label, in all mailboxes. Cost: as [`Bus::discard`].
    #[must_use]
    pub fn count(&self, label: &Label) -> usize {
        self.in_mailboxes(|mailbox| mailbox.count(label))
    }

    /// Takes unread messages that carry this label out of all mailboxes; how many. Cost: a look at every unread message.
    pub fn discard(&self, label: &Label) -> usize {
        self.in_mailboxes(|mailbox| mailbox.discard(label))
    }

    fn in_mailboxes(&self, found: impl Fn(&mut Mailbox) -> usize) -> usize {
        let endpoints: Vec<_> =
            self.endpoints.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let of = |endpoint: &std::sync::Arc<crate::bus::Endpoint>| {
            endpoint.mailbox().as_deref_mut().map_or(0, &found)
        };
        endpoints.iter().map(of).sum()
    }
}

impl<T: Clone> Deliveries<T> {
    /// What was handed out or laid aside, and is said to go: mailboxes and ids, each once.
    pub fn holding(&self, goes: impl Fn(&T) -> bool) -> Vec<(AgentId, MessageId)> {
        let mut found = self.entries_of(&goes);
        for one in self.dead().0.into_iter().filter(|one| one.content.as_ref().is_some_and(&goes)) {
            if !found.contains(&(one.mailbox, one.id)) {
                found.push((one.mailbox, one.id));
            }
        }
        found
    }

    /// Takes that out; no dead letter of others makes room for it.
    pub fn discard(&mut self, goes: impl Fn(&T) -> bool) -> Vec<(AgentId, MessageId)> {
        let gone = self.holding(goes);
        for (mailbox, id) in &gone {
            drop(self.take_entry(*mailbox, *id, DeadReason::Gone));
            while self.take_dead(*mailbox, *id).is_some() {}
        }
        gone
    }
}
