//! Letting go of what belongs to a person who is forgotten: messages that are not read, and those that would be handed out
//! again. No name of a person and no key is known here, only the label that a header carries.
//!
//! Not here: what is kept in a trail (the kernel), the record of it.

use std::sync::PoisonError;

use symbi_types::{AgentId, Label, MessageId};

use crate::{Bus, Deliveries};

impl Bus {
    /// Takes unread messages that carry this label out of all mailboxes; how many. Cost: a look at every unread message.
    pub fn discard(&self, label: &Label) -> usize {
        let endpoints: Vec<_> =
            self.endpoints.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let of = |endpoint: &std::sync::Arc<crate::bus::Endpoint>| {
            endpoint.mailbox().as_mut().map_or(0, |mailbox| mailbox.discard(label))
        };
        endpoints.iter().map(of).sum()
    }
}

impl<T: Clone> Deliveries<T> {
    /// Takes out what was handed out or laid aside, and is said to go; its mailboxes and ids.
    pub fn discard(&mut self, goes: impl Fn(&T) -> bool) -> Vec<(AgentId, MessageId)> {
        let mut gone = self.take_entries(&goes);
        let dead = self.dead().0;
        for one in dead.into_iter().filter(|one| one.content.as_ref().is_some_and(&goes)) {
            if self.take_dead(one.mailbox, one.id).is_some() {
                gone.push((one.mailbox, one.id));
            }
        }
        gone
    }
}
