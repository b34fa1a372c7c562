//! The other end: nothing is handed out that was not verified here. The questions are `open`'s.

use std::sync::{Mutex, PoisonError};

use symbi_types::{AgentId, MessageId};

use crate::open::{OpenDesk, Opened, Refused};
use crate::{Bus, BusError};

/// What was in a mailbox, in the order in which it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The messages that hold.
    pub opened: Vec<Opened>,
    /// The others, for the log (B4).
    pub refused: Vec<Refused>,
}

/// The state of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// No answer came yet.
    Pending,
    /// The answer. The request is over.
    Opened(Opened),
    /// Something came in place of the answer and does not hold. The request still waits.
    Refused(Refused),
}

/// Desks of one bus; there are as many as threads ever received at once.
#[derive(Default)]
pub(crate) struct OpenDesks(Mutex<Vec<OpenDesk>>);

impl OpenDesks {
    fn take(&self) -> OpenDesk {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, desk: OpenDesk) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(desk);
    }
}

impl Bus {
    /// Takes up to `limit` messages out of an agent's mailbox and opens those that hold.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`].
    ///
    /// Cost: of a signed batch about 1 µs each; of messages signed alone a check each, together about 10 µs, divided
    /// by [`crate::BusOptions::workers`], one by one 30 µs.
    pub fn receive_many(&self, agent: AgentId, limit: usize, now_us: u64) -> Result<Received, BusError> {
        let mut received = Received::default();
        self.receive_into(agent, limit, now_us, &mut received)?;
        Ok(received)
    }

    /// As [`Bus::receive_many`], into memory of the caller, which is cleared.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`].
    pub fn receive_into(
        &self,
        agent: AgentId,
        limit: usize,
        now_us: u64,
        received: &mut Received,
    ) -> Result<(), BusError> {
        received.opened.clear();
        received.refused.clear();
        let endpoint = self.endpoint(agent)?;
        let mut desk = self.open_desks.take();
        if let Some(mailbox) = endpoint.mailbox().as_mut() {
            mailbox.take(limit, &mut desk.messages);
        }
        self.open_many(&endpoint, agent, &mut desk, now_us, |outcome| match outcome {
            Ok(opened) => received.opened.push(opened),
            Err(refused) => received.refused.push(refused),
        });
        self.open_desks.give(desk);
        Ok(())
    }

    /// The answer to a message that was sent with `expects_reply`.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`]; [`BusError::NoSuchRequest`] where nobody waits, or does any more.
    pub fn take_reply(&self, agent: AgentId, request: MessageId, now_us: u64) -> Result<Reply, BusError> {
        let endpoint = self.endpoint(agent)?;
        let taken = endpoint.mailbox().as_mut().and_then(|mailbox| mailbox.take_reply(request));
        let Some(message) = taken.ok_or(BusError::NoSuchRequest { request })? else {
            return Ok(Reply::Pending);
        };
        let mut desk = self.open_desks.take();
        desk.messages.push(message);
        let mut reply = Reply::Pending;
        self.open_many(&endpoint, agent, &mut desk, now_us, |outcome| {
            reply = match outcome {
                Ok(opened) => Reply::Opened(opened),
                Err(refused) => Reply::Refused(refused),
            };
        });
        self.open_desks.give(desk);
        if let (Reply::Opened(_), Some(mailbox)) = (&reply, endpoint.mailbox().as_mut()) {
            mailbox.forget(request);
        }
        Ok(reply)
    }

    /// Stops waiting for an answer; a later one is a message like others. Returns the answer that had come unread,
    /// which is lost.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`].
    pub fn forget_reply(&self, agent: AgentId, request: MessageId) -> Result<Option<MessageId>, BusError> {
        let endpoint = self.endpoint(agent)?;
        let lost = endpoint.mailbox().as_mut().and_then(|mailbox| mailbox.forget(request));
        Ok(lost.map(|message| message.id()))
    }
}
