//! Messages that are kept in the trail until they are acknowledged: what was taken survives a crash.
//!
//! Why: a record that is on disk is the one thing that survives kill -9. So such a message is an external operation: its
//! intent, with the message sealed in it, is on disk before the sender hears that it was taken, and before it is
//! delivered. A runtime that is opened again reads which messages were not finished, and hands them to the first agent
//! of the recipient's name.
//! Not here: handing out again, acknowledging (`acknowledge`): as for any message at least once.
//!
//! Invariants
//! - K165 what a sender was told is taken is handed out until it is acknowledged or dead, in this opening or a later one.
//! - K166 a message is given to one agent at a time: the recipient, and when that is gone the next one of its name.
//! - K167 a message that was acknowledged, in this opening or an earlier one, is not taken a second time under its id
//!   while it would live.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use symbi_audit::Record;
use symbi_bus::{BusError, ContentType, Known, Outgoing};
use symbi_types::{AgentId, LabelSet, MessageId, OperationId};

use crate::acknowledge::{Keeping, Kept};
use crate::action::{Action, Class};
use crate::agents::AgentError;
use crate::encoding::keep;
use crate::exit::Payload;
use crate::kernel::{Kernel, lock};
use crate::messages::{Composed, Guarantee, LIFETIME_US, MessageError, Recipient, SendOptions, Sent};
use crate::monitor::{Asked, PERMIT_MS};
use crate::permit::{Outcome, Permit};

/// Bytes of such a message: sealed and in base64 it must fit into one record.
pub const DURABLE_BYTES_MAX: usize = 128 << 10;
/// Ids of finished messages that are remembered over an opening.
const REMEMBERED_MAX: usize = 65_536;

/// The same action to policy; another class to the monitor.
static DURABLE_SEND: Action = Action { name: "message.send", class: Class::External, brake: false };

/// One message that is kept.
#[derive(Clone)]
pub(crate) struct Letter {
    operation: Option<OperationId>,
    recipient_name: String,
    /// In whose mailbox it is; none: it waits for somebody of the name.
    mailbox: Option<AgentId>,
    expires_us: u64,
    kept: Kept,
}

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct Letters {
    open: HashMap<MessageId, Letter>,
    /// Finished in earlier openings: the recipient's name, and the message's end.
    finished: HashMap<MessageId, (String, u64)>,
}

impl Letters {
    /// A record of the trail, in its order.
    pub(crate) fn take(&mut self, record: &Record, details: &Json) {
        let text = |key: &str| details.get(key).and_then(Json::as_str);
        match record.event_type.as_str() {
            "operation.intent" => {
                let Some((id, letter)) = read(record, details) else { return };
                self.open.insert(id, letter);
            }
            "operation.outcome" if matches!(text("outcome"), Some("failed" | "released")) => {
                self.open
                    .retain(|_, letter| letter.operation.is_none() || letter.operation != record.operation());
            }
            "message.finished" | "message.dead" => {
                let one = text("message").into_iter();
                let many = details.get("messages").and_then(Json::as_array).into_iter().flatten();
                for id in one.chain(many.filter_map(Json::as_str)).filter_map(|text| text.parse().ok()) {
                    let Some(letter) = self.open.remove(&id) else { continue };
                    if REMEMBERED_MAX <= self.finished.len() {
                        self.finished.retain(|_, (_, until_us)| record.timestamp_us <= *until_us);
                    }
                    if record.event_type == "message.finished" && self.finished.len() < REMEMBERED_MAX {
                        self.finished.insert(id, (letter.recipient_name, letter.expires_us));
                    }
                }
            }
            _ => {}
        }
    }
}

impl Letters {
    /// All of it, for a snapshot.
    pub(crate) fn rows(&self) -> Vec<Json> {
        let open = self.open.iter().map(|(id, letter)| {
            let kept = &letter.kept.0;
            let labels: Vec<&str> = kept.labels.iter().map(symbi_types::Label::as_str).collect();
            json!({
                "id": id.to_string(), "op": letter.operation.map(|operation| operation.to_string()),
                "to": letter.recipient_name, "until": letter.expires_us, "from": kept.sender.to_string(),
                "name": kept.sender_name, "labels": labels, "at": kept.created_us,
                "reply": kept.in_reply_to.map(|id| id.to_string()), "letter": kept.sealed,
            })
        });
        let finished = self.finished.iter();
        let finished =
            finished.map(|(id, (to, until))| json!({"id": id.to_string(), "to": to, "until": until}));
        open.chain(finished).collect()
    }

    /// One of [`Letters::rows`].
    pub(crate) fn load(&mut self, row: &Json) -> Option<()> {
        let text = |key: &str| row.get(key).and_then(Json::as_str);
        let number = |key: &str| row.get(key).and_then(Json::as_u64);
        let (id, to, until) = (text("id")?.parse().ok()?, text("to")?.to_owned(), number("until")?);
        let Some(letter) = text("letter") else {
            self.finished.insert(id, (to, until));
            return Some(());
        };
        let labels = row.get("labels")?.as_array()?.iter().filter_map(Json::as_str);
        let kept = Kept(Arc::new(Keeping {
            sender: text("from")?.parse().ok()?,
            sender_name: text("name")?.to_owned(),
            labels: labels.filter_map(|label| label.parse().ok()).collect(),
            created_us: number("at")?,
            in_reply_to: text("reply").and_then(|id| id.parse().ok()),
            topic: None,
            sealed: letter.to_owned(),
        }));
        let operation = text("op").and_then(|operation| operation.parse().ok());
        let letter = Letter { operation, recipient_name: to, mailbox: None, expires_us: until, kept };
        self.open.insert(id, letter);
        Some(())
    }
}

fn read(record: &Record, details: &Json) -> Option<(MessageId, Letter)> {
    let text = |key: &str| details.get(key).and_then(Json::as_str);
    let number = |key: &str| details.get(key).and_then(Json::as_u64);
    let kept = Kept(Arc::new(Keeping {
        sender: record.agent()?,
        sender_name: text("sender_name")?.to_owned(),
        labels: record.labels.iter().filter_map(|label| label.parse().ok()).collect(),
        created_us: number("created_us")?,
        in_reply_to: text("in_reply_to").and_then(|id| id.parse().ok()),
        topic: None,
        sealed: text("letter")?.to_owned(),
    }));
    let letter = Letter {
        operation: record.operation(),
        recipient_name: text("recipient_name")?.to_owned(),
        mailbox: None,
        expires_us: number("expires_us")?,
        kept,
    };
    Some((text("message")?.parse().ok()?, letter))
}

/// A message whose intent is recorded: to be delivered when that is on disk.
pub struct DurableSend {
    permit: Permit,
    sender: AgentId,
    to: AgentId,
    id: MessageId,
    labels: LabelSet,
    content_type: ContentType,
    options: SendOptions,
}

impl DurableSend {
    /// The record to wait for.
    #[must_use]
    pub fn intent_seq(&self) -> u64 {
        self.permit.intent_seq()
    }
}

/// What became of a message that is to be kept.
pub enum Durable {
    /// Wait for its record, then [`Kernel::deliver_durable`].
    Begun(Box<DurableSend>),
    /// It was taken before: nothing is to be done.
    Repeated(MessageId),
}

impl Kernel {
    /// Decides on a message that is to survive a crash, and records it (K165).
    ///
    /// # Errors
    /// As [`Kernel::send_with`]; larger than [`DURABLE_BYTES_MAX`].
    pub fn begin_durable(
        self: &Arc<Self>,
        sender: AgentId,
        recipient: &Recipient,
        payload: Payload,
        options: &SendOptions,
    ) -> Result<Durable, MessageError> {
        let (asked, to) = self.address(sender, recipient, &payload)?;
        let asked = Asked { action: &DURABLE_SEND, ..asked };
        let composed = self.compose(sender, (asked, to), payload)?;
        let Composed { asked, granted, to, labels, content_type, encoded } = composed;
        let give_back = |error: MessageError| {
            self.release(granted.reservations());
            Err(error)
        };
        if DURABLE_BYTES_MAX < encoded.len() {
            let (bytes, limit) = (encoded.len(), DURABLE_BYTES_MAX);
            return give_back(BusError::PayloadTooLarge { bytes, limit }.into());
        }
        let id = options.id.unwrap_or_else(|| MessageId::random(self.entropy()));
        let now_us = self.moment().wall_us;
        let known = {
            let mut deliveries = lock(&self.messaging.deliveries);
            let until_us = now_us.saturating_add(options.lifetime_us.unwrap_or(LIFETIME_US));
            let known = deliveries.expect(to, id, until_us, now_us);
            if known == Known::Fresh {
                deliveries.forget(to, id); // expected when it is delivered
            }
            known
        };
        if known != Known::Fresh || lock(&self.messaging.letters).open.contains_key(&id) {
            self.release(granted.reservations());
            return Ok(Durable::Repeated(id)); // K167
        }
        if !self.bus().has_room(to, encoded.len()) {
            lock(&self.messaging.full).insert(to);
            if !self.bus().has_room(to, encoded.len()) {
                let (messages, bytes) = self.bus().unread(to).unwrap_or_default();
                return give_back(BusError::MailboxFull { agent: to, messages, bytes }.into());
            }
        }
        let (sender_name, recipient_name) = {
            let agents = self.agents();
            let name = |id| agents.get(id).map(|known| known.spec.name.clone()).unwrap_or_default();
            (name(sender), name(to))
        };
        let expires_us = now_us.saturating_add(options.lifetime_us.unwrap_or(LIFETIME_US));
        let sealed = self.seal(&keep(content_type, &encoded));
        let letter = Letter {
            operation: Some(granted.operation),
            recipient_name: recipient_name.clone(),
            mailbox: Some(to),
            expires_us,
            kept: Kept(Arc::new(Keeping {
                sender,
                sender_name: sender_name.clone(),
                labels: labels.clone(),
                created_us: now_us,
                in_reply_to: options.in_reply_to,
                topic: None,
                sealed: sealed.clone(),
            })),
        };
        let recorded = Asked { labels: labels.clone(), ..asked };
        let permit = self.permit(&recorded, granted, labels.clone(), encoded, PERMIT_MS, |details| {
            let details = details
                .display("recipient", to)
                .string("recipient_name", &recipient_name)
                .string("sender_name", &sender_name)
                .display("message", id)
                .number("created_us", now_us)
                .number("expires_us", expires_us)
                .string("letter", &sealed);
            match options.in_reply_to {
                Some(request) => details.display("in_reply_to", request),
                None => details,
            }
        })?;
        lock(&self.messaging.letters).open.insert(id, letter);
        let options = SendOptions { guarantee: Guarantee::AtLeastOnce, id: Some(id), ..*options };
        let begun = DurableSend { permit, sender, to, id, labels, content_type, options };
        Ok(Durable::Begun(Box::new(begun)))
    }

    /// Delivers a message whose intent is on disk.
    ///
    /// # Errors
    /// It may not be any more: its sender was stopped, or its run cancelled. Then it is not kept either.
    pub fn deliver_durable(&self, begun: DurableSend) -> Result<Sent, MessageError> {
        let DurableSend { permit, sender, to, id, labels, content_type, options } = begun;
        let encoded = match permit.take() {
            Ok(encoded) => encoded,
            Err(error) => {
                self.forget_letters(&[id]);
                return Err(AgentError::Invalid(error.to_string()).into());
            }
        };
        let now_us = self.moment().wall_us;
        self.expect(to, id, &options, now_us);
        let outgoing = Outgoing {
            sender,
            recipient: to,
            payload: &encoded,
            content_type,
            labels: &labels,
            in_reply_to: options.in_reply_to,
            expects_reply: options.expects_reply,
            lifetime_us: options.lifetime_us,
            id: Some(id),
        };
        if self.bus().seal_and_deliver(&outgoing, now_us).is_err() {
            // It is taken (K165): it goes to its reader from here, or waits for the next one of the name.
            lock(&self.messaging.deliveries).forget(to, id);
            if self.agents().has(to) {
                self.hand_over(id, to);
            } else {
                self.park_letter(id);
            }
        } else if let Some(request) = options.in_reply_to {
            self.request_over(request, Some(sender));
        }
        self.touch(to);
        let seq = permit.settle(&Outcome::Done).ok();
        Ok(Sent { id, seq, is_repeated: false })
    }

    /// Finished, dead, or never taken: not kept any more.
    pub(crate) fn forget_letters(&self, ids: &[MessageId]) {
        let mut letters = lock(&self.messaging.letters);
        for id in ids {
            letters.open.remove(id);
        }
    }

    /// Its reader is gone: it waits for the next one of the name (K166). False where it is not kept.
    pub(crate) fn park_letter(&self, id: MessageId) -> bool {
        match lock(&self.messaging.letters).open.get_mut(&id) {
            Some(letter) => {
                letter.mailbox = None;
                true
            }
            None => false,
        }
    }

    /// Somebody of this name is there: what waits for the name is its (K166).
    pub(crate) fn claim_letters(&self, agent: AgentId, name: &str) {
        let (mine, finished): (Vec<MessageId>, Vec<(MessageId, u64)>) = {
            let letters = lock(&self.messaging.letters);
            if letters.open.is_empty() && letters.finished.is_empty() {
                return;
            }
            let waits = |letter: &Letter| letter.mailbox.is_none() && letter.recipient_name == name;
            let mut mine: Vec<_> = letters.open.iter().filter(|(_, letter)| waits(letter)).collect();
            mine.sort_by_key(|(id, letter)| (letter.kept.0.created_us, **id));
            let mine = mine.into_iter().map(|(id, _)| *id).collect();
            let known = letters.finished.iter().filter(|(_, (other, _))| other == name);
            (mine, known.map(|(id, (_, until_us))| (*id, *until_us)).collect())
        };
        {
            let mut deliveries = lock(&self.messaging.deliveries);
            for (id, until_us) in finished {
                deliveries.remember(agent, id, until_us); // K167
            }
        }
        for id in mine {
            self.hand_over(id, agent);
        }
    }

    fn hand_over(&self, id: MessageId, agent: AgentId) {
        let now_us = self.moment().wall_us;
        let Some((kept, expires_us)) = ({
            let mut letters = lock(&self.messaging.letters);
            letters.open.get_mut(&id).map(|letter| {
                letter.mailbox = Some(agent);
                (letter.kept.clone(), letter.expires_us)
            })
        }) else {
            return;
        };
        lock(&self.messaging.deliveries).restore(agent, id, kept, (0, expires_us, now_us));
        lock(&self.ready_mailboxes).push(agent);
        self.tell_due();
        self.ring();
    }

    /// Messages that are kept in the trail and not finished.
    #[must_use]
    pub fn letters_open(&self) -> usize {
        lock(&self.messaging.letters).open.len()
    }
}
