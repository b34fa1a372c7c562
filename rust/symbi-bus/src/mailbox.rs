//! What came for one agent and is not read, whom it waits for, and the keys of those who write to it.
//!
//! Invariants
//! - M1 messages and reserved places together are at most the bound, and so are their bytes (B5).
//! - M2 a reply goes to the place that waits for it only if it comes from the agent that was asked.
//! - M3 a place that waits takes one reply; replies have a bound of bytes of their own, or a full mailbox could keep an
//!   agent from the answer that would let it read on.
//! - M4 what is given up unread has expired, or nobody can wait for it any more.

use std::collections::{HashMap, VecDeque};

use symbi_types::{AgentId, Label, MessageId};

use crate::SecureMessage;
use crate::session::Session;

/// Idle sessions that a recipient keeps; past it, opening one lets another go, at the cost of a new agreement later.
const SESSIONS_KEPT: usize = 256;

/// Room for messages that an empty mailbox keeps.
const ROOM_KEPT: usize = 16;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) depth: usize,
    pub(crate) bytes: usize,
}

/// Messages and bytes, in a mailbox or promised to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    from: AgentId,
    reply: Option<SecureMessage>,
    /// After it no answer can come that would still hold.
    until_us: u64,
}

/// What a mailbox gave up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) messages: usize,
    pub(crate) requests: usize,
    /// When there is something to give up again, if nothing happens before; none where nothing can expire.
    pub(crate) next_us: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    queue: VecDeque<SecureMessage>,
    load: Load, // M1
    waiting: HashMap<MessageId, Waiting>,
    replies_bytes: usize, // M3
    sessions: HashMap<AgentId, Session>,
    pub(crate) closed: bool,
}

/// Where a message is going to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Queue,
    Reply(MessageId),
}

impl Mailbox {
    /// Promises a place to a message, or says how full the mailbox is.
    pub(crate) fn reserve(
        &mut self,
        sender: AgentId,
        in_reply_to: Option<MessageId>,
        bytes: usize,
        bounds: Bounds,
    ) -> Result<Place, Load> {
        let asked = in_reply_to.filter(|request| {
            self.waiting.get(request).is_some_and(|waiting| waiting.from == sender && waiting.reply.is_none())
        });
        if let Some(request) = asked
            && self.replies_bytes + bytes <= bounds.bytes
        {
            self.replies_bytes += bytes;
            return Ok(Place::Reply(request));
        }
        if bounds.depth <= self.load.messages || bounds.bytes < self.load.bytes + bytes {
            return Err(self.load);
        }
        self.load.messages += 1;
        self.load.bytes += bytes;
        Ok(Place::Queue)
    }

    /// Takes a promise back.
    pub(crate) fn release(&mut self, place: Place, bytes: usize) {
        match place {
            Place::Queue => {
                assert!(0 < self.load.messages && bytes <= self.load.bytes, "M1");
                self.load.messages -= 1;
                self.load.bytes -= bytes;
            }
            Place::Reply(_) => {
                assert!(bytes <= self.replies_bytes, "M3");
                self.replies_bytes -= bytes;
            }
        }
    }

    /// Gives back what was promised and is not needed.
    pub(crate) fn shrink(&mut self, place: Place, by: usize) {
        match place {
            Place::Queue => self.load.bytes -= by,
            Place::Reply(_) => self.replies_bytes -= by,
        }
    }

    /// Lays a message in the place that was promised. True when somebody should look: the mailbox was empty, or a
    /// reply came. Where nobody waits for that reply any more it is a message like others, if there is room.
    pub(crate) fn put(&mut self, place: Place, message: SecureMessage, bounds: Bounds) -> Result<bool, Load> {
        if let Place::Reply(request) = place {
            if let Some(waiting) = self.waiting.get_mut(&request).filter(|waiting| waiting.reply.is_none()) {
                waiting.reply = Some(message);
                return Ok(true);
            }
            self.release(place, message.size());
            if let Err(full) = self.reserve(message.header().sender, None, message.size(), bounds) {
                self.left(&message);
                return Err(full);
            }
        }
        self.queue.push_back(message);
        Ok(self.queue.len() == 1)
    }

    /// The oldest messages. Each must be [`Mailbox::left`] once it is opened: until then its key is kept.
    pub(crate) fn take(&mut self, limit: usize, taken: &mut Vec<SecureMessage>) {
        let first = taken.len();
        let count = limit.min(self.queue.len());
        taken.extend(self.queue.drain(..count));
        for message in taken.iter().skip(first) {
            self.release(Place::Queue, message.size());
        }
    }

    /// Lets a request wait for the answer of `from`; false when `limit` wait already.
    pub(crate) fn wait(&mut self, request: MessageId, from: AgentId, until_us: u64, limit: usize) -> bool {
        let room = self.waiting.len() < limit;
        if room {
            self.waiting.insert(request, Waiting { from, reply: None, until_us });
        }
        room
    }

    /// Gives up what has expired, at most `limit` of it (M4). Cost: a look at everything that is there.
    pub(crate) fn expire(&mut self, now_us: u64, limit: usize) -> Expired {
        let mut expired = Expired::default();
        let over = |message: &SecureMessage| message.header().expires_us < now_us;
        let mut gone = VecDeque::new();
        if self.queue.iter().any(over) {
            let mut kept = VecDeque::with_capacity(self.queue.len());
            for message in self.queue.drain(..) {
                let place = if over(&message) && gone.len() < limit { &mut gone } else { &mut kept };
                place.push_back(message);
            }
            self.queue = kept;
        }
        for message in &gone {
            self.release(Place::Queue, message.size());
            self.left(message);
        }
        expired.messages = gone.len();
        let late = |waiting: &Waiting| waiting.until_us < now_us;
        let requests: Vec<MessageId> = self
            .waiting
            .iter()
            .filter(|(_, one)| late(one))
            .map(|(request, _)| *request)
            .take(limit)
            .collect();
        expired.requests = requests.len();
        for request in requests {
            let _ = self.forget(request); // its answer, if it came, has expired too
        }
        let soonest = self.queue.iter().map(|message| message.header().expires_us);
        let waiting = self.waiting.values().map(|waiting| waiting.until_us);
        expired.next_us = soonest.chain(waiting).min().map(|at| at.saturating_add(1));
        if self.queue.is_empty() && ROOM_KEPT < self.queue.capacity() {
            self.queue = VecDeque::new();
        }
        expired
    }

    /// What carries this label, as [`Mailbox::discard`] finds it.
    pub(crate) fn count(&self, label: &Label) -> usize {
        let goes = |message: &SecureMessage| message.header().labels.contains(label.as_str());
        let answered = |one: &&Waiting| one.reply.as_ref().is_some_and(goes);
        self.queue.iter().filter(|message| goes(message)).count()
            + self.waiting.values().filter(answered).count()
    }

    /// Takes out what carries this label: unread messages, and answers that nobody has fetched.
    pub(crate) fn discard(&mut self, label: &Label) -> usize {
        let goes = |message: &SecureMessage| message.header().labels.contains(label.as_str());
        let (gone, kept) = self.queue.drain(..).partition(goes);
        self.queue = kept;
        let gone: VecDeque<SecureMessage> = gone;
        for message in &gone {
            self.release(Place::Queue, message.size());
            self.left(message);
        }
        let answered = |one: &Waiting| one.reply.as_ref().is_some_and(goes);
        let requests: Vec<MessageId> =
            self.waiting.iter().filter(|(_, one)| answered(one)).map(|(request, _)| *request).collect();
        for request in &requests {
            let _ = self.forget(*request);
        }
        gone.len() + requests.len()
    }

    /// The senders that have written here, of whom nothing is unread.
    pub(crate) fn idle_senders(&self) -> Vec<AgentId> {
        self.sessions.iter().filter(|(_, session)| session.is_idle()).map(|(sender, _)| *sender).collect()
    }

    /// Lets the keys of a sender go, unless something of it came meanwhile.
    pub(crate) fn drop_session(&mut self, sender: AgentId) -> bool {
        let idle = self.sessions.get(&sender).is_some_and(Session::is_idle);
        if idle {
            self.sessions.remove(&sender);
        }
        idle
    }

    /// Whether there is nothing in it: no message, promise, request or key.
    pub(crate) fn is_bare(&self) -> bool {
        let load = self.load.messages + self.load.bytes + self.replies_bytes;
        !self.closed && load == 0 && self.waiting.is_empty() && self.sessions.is_empty()
    }

    /// Messages, waiting requests and sessions that it holds.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.queue.len(), self.waiting.len(), self.sessions.len())
    }

    /// The reply, if it came; `None` when nobody waits. As with `take`, it must be `left`.
    pub(crate) fn take_reply(&mut self, request: MessageId) -> Option<Option<SecureMessage>> {
        let reply = self.waiting.get_mut(&request)?.reply.take();
        if let Some(message) = &reply {
            self.release(Place::Reply(request), message.size());
        }
        Some(reply)
    }

    /// Stops waiting. The reply that had come, if one had.
    pub(crate) fn forget(&mut self, request: MessageId) -> Option<SecureMessage> {
        let reply = self.take_reply(request).flatten();
        self.waiting.remove(&request);
        if let Some(message) = &reply {
            self.left(message);
        }
        reply
    }

    /// Everything unread; the mailbox takes nothing any more. What a reader has taken out and is opening keeps its keys, and
    /// the numbers that were seen under them, until it is [`Mailbox::left`] (B7).
    pub(crate) fn close(&mut self) -> Vec<SecureMessage> {
        self.closed = true;
        let mut unread = Vec::new();
        self.take(usize::MAX, &mut unread);
        unread.iter().for_each(|message| self.left(message));
        let requests: Vec<MessageId> = self.waiting.keys().copied().collect();
        unread.extend(requests.into_iter().filter_map(|request| self.forget(request)));
        self.sessions.retain(|_, session| !session.is_idle());
        unread
    }

    /// The session with a sender. Where there is none and many are kept, an idle one goes.
    pub(crate) fn session(&mut self, sender: AgentId) -> &mut Session {
        if SESSIONS_KEPT <= self.sessions.len() && !self.sessions.contains_key(&sender) {
            let idle = self.sessions.iter().find(|(_, session)| session.is_idle()).map(|(sender, _)| *sender);
            if let Some(idle) = idle {
                self.sessions.remove(&idle);
            }
        }
        self.sessions.entry(sender).or_default()
    }

    pub(crate) fn known_session(&mut self, sender: AgentId) -> Option<&mut Session> {
        self.sessions.get_mut(&sender)
    }

    /// A message is opened, or lost: its key may go when no other needs it.
    pub(crate) fn left(&mut self, message: &SecureMessage) {
        let header = message.header();
        if let Some(session) = self.sessions.get_mut(&header.sender) {
            session.left(&header.epoch, &header.stream);
        }
    }

    pub(crate) fn load(&self) -> Load {
        self.load
    }
}
