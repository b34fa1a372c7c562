//! Topics: who hears of what, and the way of a message to all of them.
//!
//! A subscription is a mailbox of its own: one that is not read fills up and stalls nobody, neither its agent's other
//! mail nor other subscribers.
//! Not here: patterns (`symbi_bus::Routes`).
//!
//! Invariants
//! - K157 a route is decided like a message of its own: the subscriber may hear this very topic, and the publisher may
//!   write to the subscriber. So a pattern opens no topic that policy closes, and a topic is no way round a rule on
//!   messages. A route that is refused is recorded, and the publisher is not told.
//! - K158 a subscription that had no room is told how many messages it missed, and so is the trail.
//! - K159 a subscription ends with its agent.

use std::collections::{HashMap, HashSet};

use symbi_audit::Event;
use symbi_bus::{BusError, Pattern, Publication, Routes, SUBSCRIPTIONS_MAX, SendError, Topic};
use symbi_policy::{Entity, Obligation, vocabulary};
use symbi_types::{AgentId, LabelSet, MessageId};

use crate::Principal;
use crate::agents::{AgentError, check_labels};
use crate::content;
use crate::encoding::{check_size, content_type, encode};
use crate::exit::Payload;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::messages::{Guarantee, MessageError, SendOptions, remaining};
use crate::monitor::Asked;

/// Subscriptions of one agent.
pub const SUBSCRIPTIONS_OF_AGENT_MAX: usize = 64;
/// Entities of topics that are kept: one that is published often is made once.
const TOPICS_KEPT: usize = 4_096;

#[derive(Debug)]
struct Subscription {
    agent: AgentId,
    pattern: Pattern,
    /// Topics whose key it was given.
    joined: HashSet<Topic>,
}

/// All subscriptions.
#[derive(Default)]
pub(crate) struct Subscriptions {
    routes: Routes,
    by_mailbox: HashMap<AgentId, Subscription>,
    by_agent: HashMap<AgentId, Vec<AgentId>>,
    topics: HashMap<String, Entity>,
    /// What each subscription had no room for, as it was told.
    told: HashMap<AgentId, u64>,
}

/// A message that was published.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its id.
    pub id: MessageId,
    /// Subscriptions that had no room. Of a message that is to be acknowledged they are to be tried again; any other they
    /// have missed.
    pub full: Vec<AgentId>,
}

impl Kernel {
    /// Subscribes an agent. Answers the subscription's mailbox, to be read like the agent's own, and the record.
    ///
    /// # Errors
    /// Refused; not a pattern; too many.
    pub fn subscribe(&self, agent: AgentId, pattern: &str) -> Result<(AgentId, u64), MessageError> {
        let pattern: Pattern = pattern.parse().map_err(BusError::from)?;
        let topic = vocabulary::topic(pattern.as_str()).map_err(AgentError::from)?;
        let asked = self.ask(Principal::Agent(agent), "message.subscribe", topic)?;
        let granted = self.decide(&asked)?;
        let mailbox = AgentId::random(self.entropy());
        {
            let mut all = lock(&self.messaging.subscriptions);
            let limit = SUBSCRIPTIONS_OF_AGENT_MAX;
            let mine = all.by_agent.get(&agent).map_or(0, Vec::len);
            if limit <= mine || SUBSCRIPTIONS_MAX <= all.routes.len() {
                drop(all);
                self.undo(&granted.held());
                return Err(BusError::TooManySubscriptions { limit }.into());
            }
            all.by_agent.entry(agent).or_default().push(mailbox);
            let one = Subscription { agent, pattern: pattern.clone(), joined: HashSet::new() };
            all.by_mailbox.insert(mailbox, one);
        }
        let opened = self
            .record_internal(&asked, granted, |details| details.display("subscription", mailbox))
            .map_err(MessageError::from)
            .and_then(|(_, seq)| {
                self.bus().register(mailbox)?;
                Ok(seq)
            });
        match opened {
            Ok(seq) => {
                let added = lock(&self.messaging.subscriptions).routes.add(mailbox, &pattern);
                debug_assert!(added, "counted above");
                let name = self.agents().get(agent).map(|known| known.spec.name.clone());
                self.claim(mailbox, &name.unwrap_or_default(), Some(pattern.as_str())); // K207
                Ok((mailbox, seq))
            }
            Err(error) => {
                self.drop_subscription(mailbox);
                Err(error)
            }
        }
    }

    /// Ends a subscription of the agent. What it has not read is lost, or dead where it was to be acknowledged.
    ///
    /// # Errors
    /// It has no such subscription.
    pub fn unsubscribe(&self, agent: AgentId, mailbox: AgentId) -> Result<u64, MessageError> {
        let mine = lock(&self.messaging.subscriptions).by_mailbox.get(&mailbox).map(|one| one.agent);
        if mine != Some(agent) {
            return Err(AgentError::Absent("subscription").into());
        }
        let unread = self.close_subscription(mailbox);
        let details = Object::new().display("subscription", mailbox).number("unread", unread as u64).finish();
        let event = Event { agent_id: Some(agent), ..Event::new("message.unsubscribed", &details) };
        Ok(self.log().append(&event).map_err(|_| self.unavailable())?.seq)
    }

    /// K159.
    pub(crate) fn close_subscriptions(&self, agent: AgentId) {
        for mailbox in self.subscriptions_of(agent) {
            self.close_subscription(mailbox);
        }
    }

    pub(crate) fn subscriptions_of(&self, agent: AgentId) -> Vec<AgentId> {
        lock(&self.messaging.subscriptions).by_agent.get(&agent).cloned().unwrap_or_default()
    }

    fn close_subscription(&self, mailbox: AgentId) -> usize {
        self.drop_subscription(mailbox);
        let unread = self.bus().unregister(mailbox).map_or(0, |unread| unread.len());
        self.close_deliveries(mailbox);
        unread
    }

    fn drop_subscription(&self, mailbox: AgentId) {
        let mut all = lock(&self.messaging.subscriptions);
        let Some(gone) = all.by_mailbox.remove(&mailbox) else { return };
        all.routes.remove(mailbox, &gone.pattern);
        all.told.remove(&mailbox);
        for topic in &gone.joined {
            self.bus().topic_keys(topic).leave(mailbox);
            self.bus().drop_topic(topic); // where it was the last
        }
        if let Some(mine) = all.by_agent.get_mut(&gone.agent) {
            mine.retain(|other| *other != mailbox);
            if mine.is_empty() {
                all.by_agent.remove(&gone.agent);
            }
        }
        drop(all);
        lock(&self.messaging.missed).remove(&mailbox);
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn count_subscriptions(&self) -> usize {
        lock(&self.messaging.subscriptions).by_mailbox.len()
    }

    /// Who reads a mailbox: the agent whose it is, or whose subscription it is.
    pub(crate) fn reads(&self, mailbox: AgentId) -> Option<AgentId> {
        if self.agents().get(mailbox).is_some() {
            return Some(mailbox);
        }
        lock(&self.messaging.subscriptions).by_mailbox.get(&mailbox).map(|one| one.agent)
    }

    /// The mailbox of an agent of that name: its own, or that of its subscription to this pattern.
    pub(crate) fn reader_of(&self, name: &str, pattern: Option<&str>) -> Option<AgentId> {
        let Some(pattern) = pattern else { return self.agents().by_name(name) };
        let found: Vec<(AgentId, AgentId)> = {
            let all = lock(&self.messaging.subscriptions);
            let alike = all.by_mailbox.iter().filter(|(_, one)| one.pattern.as_str() == pattern);
            alike.map(|(mailbox, one)| (*mailbox, one.agent)).collect()
        };
        let agents = self.agents();
        let is_its = |agent: AgentId| agents.get(agent).is_some_and(|known| known.spec.name == name);
        found.into_iter().find(|(_, agent)| is_its(*agent)).map(|(mailbox, _)| mailbox)
    }

    /// What a subscription hears.
    pub(crate) fn pattern_of(&self, mailbox: AgentId) -> Option<String> {
        let all = lock(&self.messaging.subscriptions);
        all.by_mailbox.get(&mailbox).map(|one| one.pattern.as_str().to_owned())
    }

    /// The entity of a topic; one of those published lately is not made again.
    pub(crate) fn topic(&self, name: &str) -> Result<Entity, AgentError> {
        let mut all = lock(&self.messaging.subscriptions);
        if let Some(known) = all.topics.get(name) {
            return Ok(known.clone());
        }
        if TOPICS_KEPT <= all.topics.len() {
            all.topics.clear();
        }
        let topic = vocabulary::topic(name)?;
        all.topics.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    /// Publishes under a topic, to every subscription whose pattern takes it. `only`: to these alone, which had no room.
    ///
    /// # Errors
    /// Refused; not a topic; too large. Nothing was published.
    pub fn publish(
        &self,
        sender: AgentId,
        topic: &str,
        mut payload: Payload,
        options: &SendOptions,
        only: Option<&[AgentId]>,
    ) -> Result<Published, MessageError> {
        let topic: Topic = topic.parse().map_err(BusError::from)?;
        check_size(&payload)?;
        let entity = self.topic(topic.as_str())?;
        let asked = self.ask(Principal::Agent(sender), "message.publish", entity.clone())?;
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
        let encoded = encode(payload).inspect_err(|_| self.undo(&granted.held()))?;
        let id = options.id.unwrap_or_else(|| MessageId::random(self.entropy()));
        let mut mailboxes = Vec::new();
        for (mailbox, agent) in self.routes(topic.as_str(), only) {
            let may_go = self.may_go(&asked, &labels, &entity, agent);
            if may_go.inspect_err(|_| self.undo(&granted.held()))? && self.joins(mailbox, &topic) {
                mailboxes.push(mailbox);
            }
        }
        let now_us = self.moment().wall_us;
        if options.guarantee == Guarantee::AtLeastOnce {
            mailboxes.retain(|mailbox| self.expect(*mailbox, id, options, now_us));
        }
        if mailboxes.is_empty() {
            let extra = |details: Object| details.display("message", id).number("routes", 0);
            self.record_internal(&asked, granted, extra)?;
            return Ok(Published { id, full: Vec::new() });
        }
        let publication = Publication {
            sender,
            topic: &topic,
            recipients: &mailboxes,
            id: Some(id),
            payload: &encoded,
            content_type,
            labels: &labels,
            lifetime_us: options.lifetime_us,
        };
        let held = granted.held();
        let published = self.bus().publish_recorded(&publication, now_us, |message| {
            self.record_message(&asked, granted, (sender, None), message).map(drop)
        });
        let laid = match published {
            Ok(published) => published.laid,
            Err(error) => {
                self.undo(&held); // K21
                mailboxes.iter().for_each(|mailbox| lock(&self.messaging.deliveries).forget(*mailbox, id));
                return Err(match error {
                    SendError::Bus(error) => error.into(),
                    SendError::Record(refusal) => refusal.into(),
                });
            }
        };
        Ok(Published { id, full: self.not_laid(id, mailboxes, laid, options.guarantee) })
    }

    /// The mailboxes that had no room. Nobody who is to acknowledge a message misses it: its sender tries again.
    fn not_laid(
        &self,
        id: MessageId,
        mailboxes: Vec<AgentId>,
        laid: Vec<Result<(), BusError>>,
        guarantee: Guarantee,
    ) -> Vec<AgentId> {
        let mut full = Vec::new();
        for (mailbox, laid) in mailboxes.into_iter().zip(laid) {
            let Err(error) = laid else { continue };
            lock(&self.messaging.deliveries).forget(mailbox, id);
            if !matches!(error, BusError::MailboxFull { .. }) {
                continue; // it has just unsubscribed
            }
            if guarantee == Guarantee::AtMostOnce {
                *lock(&self.messaging.missed).entry(mailbox).or_default() += 1; // K158
            } else {
                lock(&self.messaging.full).insert(mailbox); // K153; and looked at again, or its reading could be missed
                if self.bus().has_room(mailbox, 0) {
                    self.has_room_again(mailbox);
                }
            }
            full.push(mailbox);
        }
        full
    }

    /// Who hears of a topic: mailbox and agent.
    pub(crate) fn routes(&self, topic: &str, only: Option<&[AgentId]>) -> Vec<(AgentId, AgentId)> {
        let all = lock(&self.messaging.subscriptions);
        let wanted = |mailbox: &AgentId| only.is_none_or(|only| only.contains(mailbox));
        let found = all.routes.of(topic).into_iter().filter(wanted);
        found.filter_map(|mailbox| all.by_mailbox.get(&mailbox).map(|one| (mailbox, one.agent))).collect()
    }

    /// Gives a subscription the topic's key, once. False where it has just ended.
    pub(crate) fn joins(&self, mailbox: AgentId, topic: &Topic) -> bool {
        let mut all = lock(&self.messaging.subscriptions);
        let Some(one) = all.by_mailbox.get_mut(&mailbox) else { return false };
        if one.joined.insert(topic.clone()) {
            self.bus().topic_keys(topic).join(mailbox); // within: nobody leaves before it has joined
        }
        true
    }

    /// K157.
    pub(crate) fn may_go(
        &self,
        asked: &Asked<'_>,
        labels: &LabelSet,
        topic: &Entity,
        agent: AgentId,
    ) -> Result<bool, MessageError> {
        let (entity, room) = {
            let mut agents = self.agents();
            let Some(known) = agents.get_mut(agent) else { return Ok(false) };
            (known.entity(agent).map_err(AgentError::from)?, known.has_room_for(labels))
        };
        if !room {
            self.record_refused_message(agent, "too_many_labels");
            return Ok(false);
        }
        let Ok(hears) = self.ask(Principal::Agent(agent), "message.subscribe", topic.clone()) else {
            return Ok(false);
        };
        let part =
            |one| Asked { labels: labels.clone(), bytes: asked.bytes, agreed: asked.agreed.clone(), ..one };
        let hears = Asked { run: None, ..part(hears) };
        let Principal::Agent(sender) = asked.principal else { return Ok(false) };
        let reaches = part(self.ask(asked.principal, "message.send", entity)?);
        let reaches = if reaches.subject.uid() == reaches.resource.uid() {
            match self.agents().both(sender, agent).map_err(AgentError::from)? {
                Some(both) => Asked { subject: both.clone(), resource: both, ..reaches },
                None => return Ok(false),
            }
        } else {
            reaches
        };
        Ok(self.is_let_through(&hears)? && self.is_let_through(&reaches)?)
    }

    /// Decides on a route. Where counters were read, the permission is a record of its own (K22). An obligation cannot be
    /// met for one of many: the route is refused.
    fn is_let_through(&self, asked: &Asked<'_>) -> Result<bool, MessageError> {
        let weighed = self.weigh(asked);
        if self.enforce() && weighed.decision.is_denied() {
            self.refuse_weighed(asked, &weighed);
            return Ok(false);
        }
        let agreed = |one: &Obligation| matches!(one, Obligation::Approval(approval) if asked.agreed.as_ref() == Some(approval));
        let met = weighed.decision.obligations().iter().all(agreed) || !self.enforce();
        let Ok(granted) = self.granted(asked, weighed, None) else { return Ok(false) };
        if !met {
            let _ = self.refuse_opaque(asked, &granted);
            return Ok(false);
        }
        if granted.is_counted() {
            self.record_internal(asked, granted, |details| details)?;
        }
        Ok(true)
    }

    /// Tells the trail what a subscription had no room for, when it is read (K158).
    pub(crate) fn tell_missed(&self, mailbox: AgentId, agent: AgentId) {
        let count = lock(&self.messaging.missed).get_mut(&mailbox).map(std::mem::take).unwrap_or_default();
        if count == 0 {
            return;
        }
        let details = Object::new().display("subscription", mailbox).number("count", count).finish();
        let event = Event { agent_id: Some(agent), ..Event::new("message.missed", &details) };
        let _ = self.log().append(&event); // a log that cannot write is red, and says so
        *lock(&self.messaging.subscriptions).told.entry(mailbox).or_default() += count;
    }

    /// How many messages a subscription of the agent had no room for, in all.
    ///
    /// # Errors
    /// It is another's, or there is none.
    pub fn missed(&self, agent: AgentId, mailbox: AgentId) -> Result<u64, MessageError> {
        self.owns(agent, mailbox)?;
        let waiting = lock(&self.messaging.missed).get(&mailbox).copied().unwrap_or_default();
        Ok(waiting + lock(&self.messaging.subscriptions).told.get(&mailbox).copied().unwrap_or_default())
    }
}
