//! Published and kept: a message to a topic that survives a crash for each of those who were subscribed.
//!
//! Why: a subscription lives as long as its runtime, its agent's name and its pattern longer. So the one record of such a
//! publication, on disk before its publisher is answered, names who was to hear it by these two; after a crash whoever
//! subscribes under the same name to the same pattern is handed what was not finished.
//! Not here: messages to one agent (`durable`), topics in general (`publish`).
//!
//! Invariants
//! - K207 what a publisher was told is taken reaches each subscription that it was routed to, or the next one of the same name
//!   and pattern, until it is acknowledged or dead; in this opening or a later one.
//! - K208 all that were to hear it, or nobody: a subscription without room makes its publisher wait before anything is kept.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use symbi_audit::Record;
use symbi_bus::{BusError, ContentType, Known, Publication, Topic};
use symbi_crypto::sha256;
use symbi_policy::Entity;
use symbi_types::{AgentId, LabelSet, MessageId};

use crate::Principal;
use crate::acknowledge::{Keeping, Kept};
use crate::action::{Action, Class};
use crate::agents::check_labels;
use crate::content;
use crate::durable::{BegunLetters, DURABLE_BYTES_MAX, Letter, take_letters};
use crate::encoding::{check_size, content_type, encode, keep};
use crate::exit::Payload;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::messages::{Guarantee, LIFETIME_US, MessageError, SendOptions, Sent, remaining};
use crate::monitor::{Asked, Granted, PERMIT_MS};
use crate::permit::{Outcome, Permit};

/// The same action to policy; another class to the monitor.
static DURABLE_PUBLISH: Action = Action { name: "message.publish", class: Class::External, brake: false };

/// How a letter came to its reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The message, as its readers see it.
    pub(crate) message: MessageId,
    /// What the reader subscribed to.
    pub(crate) pattern: String,
}

impl Route {
    /// The name of the letter: one for each that hears the message.
    fn letter(&self, name: &str) -> Option<MessageId> {
        let length = u64::try_from(name.len()).ok()?.to_be_bytes();
        let parts: [&[u8]; 5] = [
            b"symbi/letter/v1\0",
            self.message.as_bytes(),
            &length,
            name.as_bytes(),
            self.pattern.as_bytes(),
        ];
        let mut bytes: [u8; 16] = sha256(&parts).first_chunk().copied()?;
        let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
        *version = (*version & 0x0f) | 0x40; // as every id is a UUID of version 4
        *variant = (*variant & 0x3f) | 0x80;
        MessageId::from_bytes(bytes)
    }

    pub(crate) fn to_json(&self) -> Json {
        json!({"message": self.message.to_string(), "pattern": self.pattern})
    }

    pub(crate) fn from_json(value: &Json) -> Option<Self> {
        let message = value.get("message")?.as_str()?.parse().ok()?;
        Some(Self { message, pattern: value.get("pattern")?.as_str()?.to_owned() })
    }
}

/// The letters of a publication that was kept, as its record tells them.
pub(crate) fn read_routes(record: &Record, details: &Json) -> Vec<(MessageId, Letter)> {
    let read = || {
        let text = |key: &str| details.get(key).and_then(Json::as_str);
        let kept = Kept(Arc::new(Keeping {
            sender: record.agent()?,
            sender_name: text("sender_name")?.to_owned(),
            labels: record.labels.iter().filter_map(|label| label.parse().ok()).collect(),
            created_us: details.get("created_us")?.as_u64()?,
            in_reply_to: None,
            topic: Some(text("topic")?.parse().ok()?),
            sealed: text("letter")?.to_owned(),
        }));
        let message: MessageId = text("message")?.parse().ok()?;
        let expires_us = details.get("expires_us")?.as_u64()?;
        let routes = details.get("routes")?.as_array()?.iter().filter_map(|route| {
            let recipient_name = route.get("name")?.as_str()?.to_owned();
            let route = Route { message, pattern: route.get("pattern")?.as_str()?.to_owned() };
            let id = route.letter(&recipient_name)?;
            let operation = record.operation();
            let (kept, route) = (kept.clone(), Some(route));
            Some((id, Letter { operation, recipient_name, mailbox: None, expires_us, kept, route }))
        });
        Some(routes.collect())
    };
    read().unwrap_or_default()
}

/// A publication whose intent is recorded: to be delivered when that is on disk. Dropped, nobody hears it (K243).
pub struct DurablePublish {
    letters: BegunLetters,
    permit: Permit,
    sender: AgentId,
    id: MessageId,
    topic: Topic,
    /// Each mailbox with the name of its letter.
    mailboxes: Vec<(AgentId, MessageId)>,
    labels: LabelSet,
    content_type: ContentType,
    options: SendOptions,
}

impl DurablePublish {
    /// The record to wait for.
    #[must_use]
    pub fn intent_seq(&self) -> u64 {
        self.permit.intent_seq()
    }
}

/// What became of a publication that is to be kept.
pub enum DurablePublication {
    /// Wait for its record, then [`Kernel::deliver_durable_publish`].
    Begun(Box<DurablePublish>),
    /// Nobody is to hear it, or all have it from an earlier sending under its id: nothing is to be done.
    Nobody(MessageId),
}

/// Who hears it: mailbox, letter, agent's name and route.
type Heard = (AgentId, MessageId, String, Route);

impl Kernel {
    /// Decides on a publication that is to survive a crash, and records it for all who are to hear it (K207, K208).
    ///
    /// # Errors
    /// As [`Kernel::publish`]; larger than [`DURABLE_BYTES_MAX`]; a subscription has no room.
    pub fn begin_durable_publish(
        self: &Arc<Self>,
        sender: AgentId,
        topic: &str,
        mut payload: Payload,
        options: &SendOptions,
    ) -> Result<DurablePublication, MessageError> {
        let topic: Topic = topic.parse().map_err(BusError::from)?;
        check_size(&payload)?;
        let entity = self.topic(topic.as_str())?;
        let asked = self.ask(Principal::Agent(sender), "message.publish", entity.clone())?;
        let asked = Asked { action: &DURABLE_PUBLISH, ..asked };
        let carried = asked.labels.clone();
        let (labels, labelled) = self.label_payload(&mut payload, &carried, asked.subject.uid().id());
        check_labels(&labels)?;
        let asked = Asked { labels, bytes: payload.len() as u64, ..asked };
        self.within_rate(sender, &asked)?;
        let granted = self.decide_showing(&asked, Some(&|| content::of_message(&payload)))?;
        // Persons who agree to a publication agree to each way that it goes.
        let asked = Asked { agreed: granted.terms.approval.clone(), ..asked };
        self.redacted(&asked, &granted, &mut payload, &labelled)?;
        let labels = remaining(&payload, &asked.labels);
        let content_type = content_type(&payload);
        let id = options.id.unwrap_or_else(|| MessageId::random(self.entropy()));
        let ready = || {
            let encoded = encode(payload)?;
            if DURABLE_BYTES_MAX < encoded.len() {
                let (bytes, limit) = (encoded.len(), DURABLE_BYTES_MAX);
                return Err(MessageError::from(BusError::PayloadTooLarge { bytes, limit }));
            }
            let heard = self.heard(&asked, &labels, &entity, (&topic, id))?;
            for (mailbox, ..) in &heard {
                self.wants_room(*mailbox, encoded.len())?; // K208
            }
            Ok((encoded, heard))
        };
        match ready() {
            Ok(ready) => {
                let options = SendOptions { id: Some(id), ..*options };
                self.keep_publication(sender, topic, ready, (asked, granted), (labels, content_type, options))
            }
            Err(error) => {
                self.undo(&granted.held()); // K21
                Err(error)
            }
        }
    }

    fn keep_publication(
        self: &Arc<Self>,
        sender: AgentId,
        topic: Topic,
        (encoded, heard): (Vec<u8>, Vec<Heard>),
        (asked, granted): (Asked<'static>, Granted),
        (labels, content_type, options): (LabelSet, ContentType, SendOptions),
    ) -> Result<DurablePublication, MessageError> {
        let id = options.id.unwrap_or_else(|| MessageId::random(self.entropy()));
        if heard.is_empty() {
            let extra = |details: Object| details.display("message", id).number("routes", 0);
            self.record_internal(&asked, granted, extra)?;
            return Ok(DurablePublication::Nobody(id));
        }
        let now_us = self.moment().wall_us;
        let expires_us = now_us.saturating_add(options.lifetime_us.unwrap_or(LIFETIME_US));
        let sender_name = self.agents().get(sender).map(|known| known.spec.name.clone()).unwrap_or_default();
        let sealed = self.seal_for(&labels, &keep(content_type, &encoded)); // ER1
        let kept = Kept(Arc::new(Keeping {
            sender,
            sender_name: sender_name.clone(),
            labels: labels.clone(),
            created_us: now_us,
            in_reply_to: None,
            topic: Some(topic.clone()),
            sealed: sealed.clone(),
        }));
        let routes: Vec<Json> =
            heard.iter().map(|(_, _, name, route)| json!({"name": name, "pattern": route.pattern})).collect();
        let operation = granted.operation;
        let mut mailboxes = Vec::with_capacity(heard.len());
        let mut begun = Vec::with_capacity(heard.len());
        for (mailbox, letter, recipient_name, route) in heard {
            mailboxes.push((mailbox, letter));
            let (operation, kept) = (Some(operation), kept.clone());
            let (mailbox, route) = (Some(mailbox), Some(route));
            begun.push((letter, Letter { operation, recipient_name, mailbox, expires_us, kept, route }));
        }
        let letters = match self.begin_letters(begun) {
            Ok(Some(letters)) => letters,
            Ok(None) => {
                self.undo(&granted.held()); // K21: of two at once under one id the other was first
                return Ok(DurablePublication::Nobody(id));
            }
            Err(error) => {
                self.undo(&granted.held()); // K21
                return Err(error);
            }
        };
        let asked = Asked { labels: labels.clone(), ..asked };
        let permit = self.permit(&asked, granted, labels.clone(), encoded, PERMIT_MS, |details| {
            details
                .display("message", id)
                .string("topic", topic.as_str())
                .string("sender_name", &sender_name)
                .number("created_us", now_us)
                .number("expires_us", expires_us)
                .raw("routes", &Json::from(routes).to_string())
                .string("letter", &sealed)
        })?;
        let options = SendOptions { guarantee: Guarantee::AtLeastOnce, ..options };
        let begun =
            DurablePublish { letters, permit, sender, id, topic, mailboxes, labels, content_type, options };
        Ok(DurablePublication::Begun(Box::new(begun)))
    }

    /// Whom policy lets hear it, of those who have it not yet.
    fn heard(
        &self,
        asked: &Asked<'_>,
        labels: &LabelSet,
        entity: &Entity,
        (topic, id): (&Topic, MessageId),
    ) -> Result<Vec<Heard>, MessageError> {
        let mut heard = Vec::new();
        let now_us = self.moment().wall_us;
        for (mailbox, agent) in self.routes(topic.as_str(), None) {
            let Some(pattern) = self.pattern_of(mailbox) else { continue };
            let name = self.agents().get(agent).map(|known| known.spec.name.clone());
            let route = Route { message: id, pattern };
            let Some((name, letter)) = name.and_then(|name| route.letter(&name).map(|letter| (name, letter)))
            else {
                continue;
            };
            let is_fresh = {
                let mut deliveries = lock(&self.messaging.deliveries);
                let known = deliveries.expect(mailbox, id, u64::MAX, now_us);
                if known == Known::Fresh {
                    deliveries.forget(mailbox, id); // expected when it is delivered
                }
                known == Known::Fresh
            };
            // Two agents of one name that subscribed to one pattern share what is kept: the first has it (K166).
            let is_kept = lock(&self.messaging.letters).keeps(&letter)?
                || heard.iter().any(|(_, other, ..): &Heard| *other == letter);
            if is_fresh
                && !is_kept
                && self.may_go(asked, labels, entity, agent)?
                && self.joins(mailbox, topic)
            {
                heard.push((mailbox, letter, name, route));
            }
        }
        Ok(heard)
    }

    fn wants_room(&self, mailbox: AgentId, bytes: usize) -> Result<(), BusError> {
        if self.bus().has_room(mailbox, bytes) {
            return Ok(());
        }
        lock(&self.messaging.full).insert(mailbox); // K153; and looked at again, or its reading could be missed
        if self.bus().has_room(mailbox, bytes) {
            return Ok(());
        }
        let (messages, bytes) = self.bus().unread(mailbox).unwrap_or_default();
        Err(BusError::MailboxFull { agent: mailbox, messages, bytes })
    }

    /// Delivers a publication whose intent is on disk.
    ///
    /// # Errors
    /// It may not be any more: its publisher was stopped, or its run cancelled. Then it is not kept either.
    pub fn deliver_durable_publish(&self, begun: DurablePublish) -> Result<Sent, MessageError> {
        let DurablePublish { letters, permit, sender, id, topic, mailboxes, labels, content_type, options } =
            begun;
        let encoded = take_letters(&permit, letters)?;
        {
            let mut letters = lock(&self.messaging.letters);
            letters.routed.extend(mailboxes.iter().map(|(mailbox, letter)| ((*mailbox, id), *letter)));
        }
        let now_us = self.moment().wall_us;
        let recipients: Vec<AgentId> = mailboxes.iter().map(|(mailbox, _)| *mailbox).collect();
        for mailbox in &recipients {
            self.expect(*mailbox, id, &options, now_us);
        }
        let publication = Publication {
            sender,
            topic: &topic,
            recipients: &recipients,
            id: Some(id),
            payload: &encoded,
            content_type,
            labels: &labels,
            lifetime_us: options.lifetime_us,
        };
        let laid =
            self.bus().publish(&publication, now_us).map(|published| published.laid).unwrap_or_default();
        for (at, (mailbox, letter)) in mailboxes.into_iter().enumerate() {
            if laid.get(at).is_some_and(Result::is_ok) {
                continue;
            }
            // It is taken (K207): it goes to its reader from here, or waits for the next subscription of its kind.
            lock(&self.messaging.deliveries).forget(mailbox, id);
            self.find_reader(letter, mailbox, id);
        }
        let seq = permit.settle(&Outcome::Done).ok();
        Ok(Sent { id, seq, is_repeated: false })
    }

    /// Adds the names of the letters that differ from what their readers see, for who reads the trail again.
    pub(crate) fn name_letters(&self, details: Object, mailbox: AgentId, ids: &[MessageId]) -> Object {
        let letters = lock(&self.messaging.letters);
        let named: Vec<String> = ids
            .iter()
            .filter_map(|id| letters.routed.get(&(mailbox, *id)))
            .map(ToString::to_string)
            .collect();
        match named.as_slice() {
            [] => details,
            named => details.strings("letters", named.iter().map(String::as_str)),
        }
    }
}
