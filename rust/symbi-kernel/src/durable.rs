//! Messages that are kept in the trail until they are acknowledged: what was taken survives a crash.
//!
//! Why: a record that is on disk is the one thing that survives kill -9. So such a message is an external operation: its
//! intent, with the message sealed in it, is on disk before the sender hears that it was taken, and before it is
//! delivered. A runtime that is opened again reads which messages were not finished, and hands them to the first agent
//! of the recipient's name.
//! Not here: handing out again, acknowledging (`acknowledge`): as for any message at least once; what waits for the disk
//! (`begun`).
//!
//! Invariants
//! - K165 what a sender was told is taken is handed out until it is acknowledged or dead, in this opening or a later one.
//! - K166 a message is given to one agent at a time: the recipient, and when that is gone the next one of its name.
//! - K167 a message that was acknowledged, in this opening or an earlier one, is not taken a second time under its id
//!   while it would live.

mod begun;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use symbi_audit::Record;
use symbi_bus::{BusError, ContentType, Known};
use symbi_types::{AgentId, Label, LabelSet, MessageId, OperationId};

pub(crate) use self::begun::{BegunLetters, take_letters};
use crate::acknowledge::{Keeping, Kept};
use crate::action::{Action, Class};
use crate::buried::Graveyard;
use crate::durable_topics::{Route, read_routes};
use crate::encoding::keep;
use crate::exit::Payload;
use crate::kernel::{Kernel, lock};
use crate::messages::{
    Composed, Guarantee, LIFETIME_US, MessageError, Recipient, Sealable, SendOptions, Sent,
};
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
    pub(crate) operation: Option<OperationId>,
    pub(crate) recipient_name: String,
    /// In which mailbox it is; none: it waits for somebody of the name.
    pub(crate) mailbox: Option<AgentId>,
    pub(crate) expires_us: u64,
    pub(crate) kept: Kept,
    /// Of a message that was published; none: the agent's own mail.
    pub(crate) route: Option<Route>,
}

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct Letters {
    pub(crate) open: HashMap<MessageId, Letter>,
    /// Of those that are open: not taken yet (K243).
    begun: HashSet<MessageId>,
    /// Finished in earlier openings.
    pub(crate) finished: HashMap<MessageId, Done>,
    /// Letters of topics, by mailbox and the message that their readers see.
    pub(crate) routed: HashMap<(AgentId, MessageId), MessageId>,
    /// Given up, in this opening or an earlier one.
    pub(crate) dead: Graveyard,
}

/// A letter that was finished: the recipient's name, the message's end, and its route.
#[derive(Clone)]
pub(crate) struct Done {
    pub(crate) recipient_name: String,
    pub(crate) expires_us: u64,
    pub(crate) route: Option<Route>,
}

impl Letters {
    /// A record of the trail, in its order.
    pub(crate) fn take(&mut self, record: &Record, details: &Json) {
        let text = |key: &str| details.get(key).and_then(Json::as_str);
        match record.event_type.as_str() {
            "operation.intent" => {
                if details.get("routes").is_some() {
                    self.open.extend(read_routes(record, details));
                } else if let Some((id, letter)) = read(record, details) {
                    self.open.insert(id, letter);
                }
            }
            "operation.outcome" if matches!(text("outcome"), Some("failed" | "released")) => {
                self.open
                    .retain(|_, letter| letter.operation.is_none() || letter.operation != record.operation());
            }
            "message.finished" | "message.dead" => {
                let one = text("message").into_iter();
                let lists =
                    ["messages", "letters"].into_iter().filter_map(|key| details.get(key)?.as_array());
                let named = one.chain(lists.flatten().filter_map(Json::as_str));
                let is_dead = record.event_type == "message.dead";
                for id in named.filter_map(|text| text.parse().ok()) {
                    if is_dead && text("reason") == Some("erased") {
                        self.dead.drop_all(&[id]);
                    }
                    let Some(letter) = self.open.remove(&id) else { continue };
                    if is_dead {
                        self.died(id, letter, details);
                        continue;
                    }
                    if REMEMBERED_MAX <= self.finished.len() {
                        self.finished.retain(|_, done| record.timestamp_us <= done.expires_us);
                    }
                    if self.finished.len() < REMEMBERED_MAX {
                        let Letter { recipient_name, expires_us, route, .. } = letter;
                        self.finished.insert(id, Done { recipient_name, expires_us, route });
                    }
                }
            }
            "operation" => self.settle(record, details),
            _ => {}
        }
    }
}

impl Letter {
    /// For a snapshot.
    pub(crate) fn row(&self, name: MessageId) -> Json {
        let kept = &self.kept.0;
        let labels: Vec<&str> = kept.labels.iter().map(symbi_types::Label::as_str).collect();
        json!({
            "id": name.to_string(), "op": self.operation.map(|operation| operation.to_string()),
            "to": self.recipient_name, "until": self.expires_us, "from": kept.sender.to_string(),
            "name": kept.sender_name, "labels": labels, "at": kept.created_us,
            "reply": kept.in_reply_to.map(|id| id.to_string()), "letter": kept.sealed,
            "route": self.route.as_ref().map(Route::to_json), "topic": kept.topic.as_ref().map(ToString::to_string),
        })
    }
}

impl Letters {
    /// Those that carry this label, given up or not: each letter's name, and the message as its readers see it.
    pub(crate) fn of_label(&self, label: &Label) -> Vec<(MessageId, MessageId)> {
        let carries = |letter: &Letter| letter.kept.0.labels.contains(label.as_str());
        let open = self.open.iter().filter(|(_, letter)| carries(letter));
        let open =
            open.map(|(name, letter)| (*name, letter.route.as_ref().map_or(*name, |route| route.message)));
        open.chain(self.dead.of_label(label)).collect()
    }

    /// All of it, for a snapshot.
    pub(crate) fn rows(&self) -> Vec<Json> {
        let open = self.open.iter().map(|(name, letter)| letter.row(*name));
        let finished = self.finished.iter().map(|(id, done)| {
            let route = done.route.as_ref().map(Route::to_json);
            json!({"id": id.to_string(), "to": done.recipient_name, "until": done.expires_us, "route": route})
        });
        open.chain(finished).chain(self.dead.rows()).collect()
    }

    /// One of [`Letters::rows`].
    pub(crate) fn load(&mut self, row: &Json) -> Option<()> {
        let text = |key: &str| row.get(key).and_then(Json::as_str);
        let number = |key: &str| row.get(key).and_then(Json::as_u64);
        let (id, to, until) = (text("id")?.parse().ok()?, text("to")?.to_owned(), number("until")?);
        let route = row.get("route").and_then(Route::from_json);
        let Some(letter) = text("letter") else {
            self.finished.insert(id, Done { recipient_name: to, expires_us: until, route });
            return Some(());
        };
        let labels = row.get("labels")?.as_array()?.iter().filter_map(Json::as_str);
        let kept = Kept(Arc::new(Keeping {
            sender: text("from")?.parse().ok()?,
            sender_name: text("name")?.to_owned(),
            labels: labels.filter_map(|label| label.parse().ok()).collect(),
            created_us: number("at")?,
            in_reply_to: text("reply").and_then(|id| id.parse().ok()),
            topic: text("topic").and_then(|topic| topic.parse().ok()),
            sealed: letter.to_owned(),
        }));
        let operation = text("op").and_then(|operation| operation.parse().ok());
        let letter = Letter { operation, recipient_name: to, mailbox: None, expires_us: until, kept, route };
        if row.get("dead").is_some() {
            return self.dead.load(row, id, letter);
        }
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
        route: None,
        operation: record.operation(),
        recipient_name: text("recipient_name")?.to_owned(),
        mailbox: None,
        expires_us: number("expires_us")?,
        kept,
    };
    Some((text("message")?.parse().ok()?, letter))
}

/// A message whose intent is recorded: to be delivered when that is on disk. Dropped, it is not sent (K243).
pub struct DurableSend {
    letters: BegunLetters,
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
            self.undo(&granted.held());
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
        let is_kept = lock(&self.messaging.letters).keeps(&id);
        match is_kept {
            Ok(false) if known == Known::Fresh => {}
            Ok(_) => {
                self.undo(&granted.held());
                return Ok(Durable::Repeated(id)); // K167
            }
            Err(error) => return give_back(error),
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
        let sealed = self.seal_for(&labels, &keep(content_type, &encoded));
        let letter = Letter {
            operation: Some(granted.operation),
            recipient_name: recipient_name.clone(),
            mailbox: Some(to),
            expires_us,
            route: None,
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
        let letters = match self.begin_letters([(id, letter)]) {
            Ok(Some(letters)) => letters,
            Ok(None) => {
                self.undo(&granted.held());
                return Ok(Durable::Repeated(id)); // K167: of two at once the other was first
            }
            Err(error) => return give_back(error),
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
        let options = SendOptions { guarantee: Guarantee::AtLeastOnce, id: Some(id), ..*options };
        let begun = DurableSend { letters, permit, sender, to, id, labels, content_type, options };
        Ok(Durable::Begun(Box::new(begun)))
    }

    /// Delivers a message whose intent is on disk.
    ///
    /// # Errors
    /// It may not be any more: its sender was stopped, or its run cancelled. Then it is not kept either.
    pub fn deliver_durable(&self, begun: DurableSend) -> Result<Sent, MessageError> {
        let DurableSend { letters, permit, sender, to, id, labels, content_type, options } = begun;
        let encoded = take_letters(&permit, letters)?;
        let now_us = self.moment().wall_us;
        self.expect(to, id, &options, now_us);
        let what = Sealable { payload: &encoded, content_type, labels: &labels };
        let outgoing = what.outgoing((sender, to), Some(id), &options);
        if self.bus().seal_and_deliver(&outgoing, now_us).is_err() {
            // It is taken (K165): it goes to its reader from here, or waits for the next one of the name.
            lock(&self.messaging.deliveries).forget(to, id);
            self.find_reader(id, to, id);
        } else if let Some(request) = options.in_reply_to {
            self.request_over(request, Some(sender));
        }
        self.touch(to);
        let seq = permit.settle(&Outcome::Done).ok();
        Ok(Sent { id, seq, is_repeated: false })
    }

    /// A letter that could not be laid into its mailbox: handed out from here, to its reader or whoever has its name by now,
    /// or to the next one (K166).
    pub(crate) fn find_reader(&self, letter: MessageId, mailbox: AgentId, seen: MessageId) {
        if self.reads(mailbox).is_some() {
            return self.hand_over(letter, mailbox);
        }
        self.park_letter(mailbox, seen);
        let named = lock(&self.messaging.letters).open.get(&letter).map(|one| {
            let pattern = one.route.as_ref().map(|route| route.pattern.clone());
            (one.recipient_name.clone(), pattern)
        });
        let Some((name, pattern)) = named else { return };
        if let Some(next) = self.reader_of(&name, pattern.as_deref()) {
            self.hand_over(letter, next);
        }
    }

    /// Finished: not kept any more.
    pub(crate) fn forget_letters(&self, mailbox: AgentId, ids: &[MessageId]) {
        let mut letters = lock(&self.messaging.letters);
        for id in ids {
            let letter = letters.routed.remove(&(mailbox, *id)).unwrap_or(*id);
            letters.open.remove(&letter);
        }
    }

    /// Of a person who was erased: none of these letters is kept, wherever it lies.
    pub(crate) fn drop_letters(&self, names: &[MessageId]) {
        let mut letters = lock(&self.messaging.letters);
        for name in names {
            letters.open.remove(name);
        }
        letters.dead.drop_all(names);
        letters.routed.retain(|_, letter| !names.contains(letter));
    }

    /// Its reader is gone: it waits for the next one of the name (K166). False where it is not kept.
    pub(crate) fn park_letter(&self, mailbox: AgentId, id: MessageId) -> bool {
        let mut letters = lock(&self.messaging.letters);
        let letter = letters.routed.remove(&(mailbox, id)).unwrap_or(id);
        match letters.open.get_mut(&letter) {
            Some(letter) => {
                letter.mailbox = None;
                true
            }
            None => false,
        }
    }

    /// Somebody of this name is there: what waits for the name is its (K166).
    pub(crate) fn claim_letters(&self, agent: AgentId, name: &str) {
        self.claim(agent, name, None);
    }

    /// Likewise for a mailbox: an agent's own, or that of its subscription to a pattern.
    pub(crate) fn claim(&self, agent: AgentId, name: &str, pattern: Option<&str>) {
        let of_route = |route: Option<&Route>| route.map(|route| route.pattern.as_str()) == pattern;
        let (mine, finished): (Vec<MessageId>, Vec<(MessageId, u64)>) = {
            let letters = lock(&self.messaging.letters);
            if letters.open.is_empty() && letters.finished.is_empty() {
                return;
            }
            let waits = |letter: &Letter| {
                letter.mailbox.is_none() && letter.recipient_name == name && of_route(letter.route.as_ref())
            };
            let mut mine: Vec<_> = letters.open.iter().filter(|(_, letter)| waits(letter)).collect();
            mine.sort_by_key(|(id, letter)| (letter.kept.0.created_us, **id));
            let mine = mine.into_iter().map(|(id, _)| *id).collect();
            let known = letters.finished.iter();
            let known =
                known.filter(|(_, done)| done.recipient_name == name && of_route(done.route.as_ref()));
            let seen = |id: &MessageId, done: &Done| done.route.as_ref().map_or(*id, |route| route.message);
            (mine, known.map(|(id, done)| (seen(id, done), done.expires_us)).collect())
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

    pub(crate) fn hand_over(&self, id: MessageId, agent: AgentId) {
        let now_us = self.moment().wall_us;
        let Some((seen, kept, expires_us)) = ({
            let mut letters = lock(&self.messaging.letters);
            let found = letters.open.get_mut(&id).map(|letter| {
                letter.mailbox = Some(agent);
                let seen = letter.route.as_ref().map(|route| route.message);
                (seen, letter.kept.clone(), letter.expires_us)
            });
            if let Some((Some(seen), ..)) = &found {
                letters.routed.insert((agent, *seen), id);
            }
            found
        }) else {
            return;
        };
        let (seen, sent_us) = (seen.unwrap_or(id), kept.0.created_us.min(now_us)); // in the order of their sending
        lock(&self.messaging.deliveries).restore(agent, seen, kept, (0, expires_us, sent_us));
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
