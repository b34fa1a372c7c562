//! Letting go of what nobody can use any more: expired messages, requests that no answer can reach in time, keys for
//! senders that are gone.
//!
//! Why: an expired message is refused when it is received, but until then it takes a place that another could have; and
//! an agent that lives long would keep a key for everybody who ever wrote to it.
//! Not here: when, and how much at a time (the kernel's collector).
//!
//! Invariants
//! - TD1 tidying changes nothing that anybody could still receive, and no answer that could still come.
//! - TD2 one call gives up at most `limit` messages, as many requests, and as many keys.

use std::sync::PoisonError;

use symbi_types::AgentId;

use crate::{Bus, BusError};

/// What one call let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Messages that had expired unread.
    pub messages: usize,
    /// Requests that nobody can answer in time any more.
    pub requests: usize,
    /// Keys of senders that are no more.
    pub sessions: usize,
    /// Messages, requests and keys that were looked at.
    pub looked: usize,
    /// When there will be something to let go, microseconds since the epoch; none: never, if nothing happens.
    pub next_us: Option<u64>,
    /// The agent has nothing on the bus that could ever be let go.
    pub is_bare: bool,
}

/// How much there is on a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusCounts {
    /// Agents that have spoken or were spoken to.
    pub mailboxes: usize,
    /// Messages that are not read.
    pub messages: usize,
    /// Requests that wait for an answer.
    pub requests: usize,
    /// Keys of one sender for one recipient.
    pub sessions: usize,
}

impl Bus {
    /// Lets go of what one agent has and nobody can use any more (TD1).
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`].
    ///
    /// Cost: a look at each message, request and key of the agent, about 10 ns each.
    pub fn tidy(&self, agent: AgentId, now_us: u64, limit: usize) -> Result<Tidied, BusError> {
        let endpoint = self.endpoint(agent)?;
        let mut tidied = Tidied::default();
        let senders = match endpoint.mailbox().as_mut() {
            None => return Ok(Tidied { is_bare: true, ..tidied }),
            Some(mailbox) => {
                let (messages, requests, sessions) = mailbox.counts();
                tidied.looked = messages + requests + sessions;
                let expired = mailbox.expire(now_us, limit);
                tidied.messages = expired.messages;
                tidied.requests = expired.requests;
                tidied.next_us = expired.next_us;
                mailbox.idle_senders()
            }
        };
        let gone: Vec<AgentId> = {
            let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
            senders.into_iter().filter(|sender| !endpoints.contains_key(sender)).take(limit).collect()
        };
        let mut place = endpoint.mailbox();
        if let Some(mailbox) = place.as_mut() {
            tidied.sessions = gone.into_iter().filter(|sender| mailbox.drop_session(*sender)).count();
            tidied.is_bare = mailbox.is_bare();
        }
        if tidied.is_bare {
            *place = None; // B6 again: about a hundred bytes
        }
        Ok(tidied)
    }

    /// How much there is. Cost: proportional to the number of agents.
    #[must_use]
    pub fn counts(&self) -> BusCounts {
        let endpoints: Vec<_> =
            self.endpoints.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut all = BusCounts::default();
        for endpoint in endpoints {
            if let Some(mailbox) = endpoint.mailbox().as_ref() {
                let (messages, requests, sessions) = mailbox.counts();
                all.mailboxes += 1;
                all.messages += messages;
                all.requests += requests;
                all.sessions += sessions;
            }
        }
        all
    }
}
