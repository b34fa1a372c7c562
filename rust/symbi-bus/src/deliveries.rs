//! At least once: what was handed out and is not acknowledged, when it is handed out again, what was given up.
//!
//! Why: a receiver may fail after it was given a message. So it says when it is done; until then the message is kept, and
//! given again after a pause that doubles. What is never done is laid aside as a dead letter, for a person to look at.
//! Not here: the messages themselves (`content` is the caller's, sealed), the log, policy. Reads no clock.
//!
//! Invariants
//! - AL1 what was expected is, until it is finished or dead, in exactly one state here, and reaches one of the two.
//! - AL2 a message that was finished at a mailbox is not handed out there again, and is finished once, as long as its id
//!   is remembered: [`DeliveryOptions::remembered_max`] ids a mailbox, until the message's end.
//! - AL3 between two hand-outs of a message lies its back-off, and there are at most `attempts_max`.
//! - AL4 handed out and not finished are at most `unfinished_max` a mailbox; dead letters are at most `dead_max`, and
//!   those that were let go for younger ones are counted.

use std::collections::{BTreeSet, HashMap, VecDeque};

use symbi_types::{AgentId, MessageId};

use crate::{Dead, DeadReason};

/// How often, and after which pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// Hand-outs of one message.
    pub attempts_max: u32,
    /// How long a receiver may take, in microseconds, before the message counts as failed.
    pub patience_us: u64,
    /// The pause after the first failure, in microseconds; doubled with each.
    pub backoff_us: u64,
    /// The longest pause.
    pub backoff_us_max: u64,
    /// Handed out and not finished, of one mailbox.
    pub unfinished_max: usize,
    /// Ids of finished messages that are remembered, of one mailbox.
    pub remembered_max: usize,
    /// Dead letters that are kept.
    pub dead_max: usize,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            patience_us: 30_000_000,
            backoff_us: 200_000,
            backoff_us_max: 60_000_000,
            unfinished_max: 256,
            remembered_max: 4_096,
            dead_max: 1_024,
        }
    }
}

/// What is known of an id when it is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is expected now.
    Fresh,
    /// It is on its way, or handed out.
    Underway,
    /// It was finished.
    Finished,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The message is finished now.
    Now,
    /// It was before (AL2).
    Before,
    /// No such message, or it is not handed out.
    Unknown,
}

/// What passing time did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed<T> {
    /// Mailboxes in which something is to be handed out again.
    pub ready: Vec<AgentId>,
    /// What was given up.
    pub dead: Vec<Dead<T>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the mailbox, until its end.
    Expected,
    /// With its receiver, until then.
    Handed { until_us: u64 },
    /// To be handed out again, from then on.
    Waiting { from_us: u64 },
}

#[derive(Debug)]
struct Entry<T> {
    state: State,
    attempts: u32,
    expires_us: u64,
    content: Option<T>,
}

impl<T> Entry<T> {
    /// When time changes something about it.
    fn due_us(&self) -> u64 {
        match self.state {
            State::Expected => self.expires_us,
            State::Handed { until_us: at } | State::Waiting { from_us: at } => at.min(self.expires_us),
        }
    }
}

#[derive(Debug)]
struct Held<T> {
    entries: HashMap<MessageId, Entry<T>>,
    /// Those that are handed out, or wait to be again.
    unfinished: usize,
    finished: HashMap<MessageId, u64>,
    finished_in_order: VecDeque<MessageId>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            unfinished: 0,
            finished: HashMap::new(),
            finished_in_order: VecDeque::new(),
        }
    }
}

/// All of them, of all mailboxes.
#[derive(Debug)]
pub struct Deliveries<T> {
    options: DeliveryOptions,
    held: HashMap<AgentId, Held<T>>,
    due: BTreeSet<(u64, AgentId, MessageId)>,
    dead: VecDeque<Dead<T>>,
    let_go: u64,
}

impl<T: Clone> Deliveries<T> {
    /// None yet.
    #[must_use]
    pub fn new(options: DeliveryOptions) -> Self {
        Self { options, held: HashMap::new(), due: BTreeSet::new(), dead: VecDeque::new(), let_go: 0 }
    }

    /// A message is laid into a mailbox, to be finished there before `expires_us`.
    pub fn expect(&mut self, mailbox: AgentId, id: MessageId, expires_us: u64, now_us: u64) -> Known {
        let held = self.held.entry(mailbox).or_default();
        if held.finished.get(&id).is_some_and(|until_us| now_us <= *until_us) {
            return Known::Finished;
        }
        if held.entries.contains_key(&id) {
            return Known::Underway;
        }
        let entry = Entry { state: State::Expected, attempts: 0, expires_us, content: None };
        self.due.insert((entry.due_us(), mailbox, id));
        held.entries.insert(id, entry);
        Known::Fresh
    }

    /// It did not reach the mailbox after all.
    pub fn forget(&mut self, mailbox: AgentId, id: MessageId) {
        let Some(held) = self.held.get_mut(&mailbox) else { return };
        if held.entries.get(&id).is_some_and(|entry| entry.state == State::Expected)
            && let Some(entry) = held.entries.remove(&id)
        {
            self.due.remove(&(entry.due_us(), mailbox, id));
        }
        self.tidy(mailbox);
    }

    /// A message that was kept elsewhere is to be handed out, as if for the `attempts + 1`-th time.
    pub fn restore(
        &mut self,
        mailbox: AgentId,
        id: MessageId,
        content: T,
        (attempts, expires_us, now_us): (u32, u64, u64),
    ) {
        if self.expect(mailbox, id, expires_us, now_us) == Known::Fresh {
            self.change(mailbox, id, |entry| {
                entry.attempts = attempts;
                entry.content = Some(content);
                entry.state = State::Waiting { from_us: now_us };
            });
            if let Some(held) = self.held.get_mut(&mailbox) {
                held.unfinished += 1;
            }
        }
    }

    /// How many messages may be handed out from a mailbox before others are finished (AL4); where none is expected to
    /// be, any number.
    #[must_use]
    pub fn room(&self, mailbox: AgentId) -> usize {
        match self.held.get(&mailbox) {
            Some(held) if !held.entries.is_empty() => {
                self.options.unfinished_max.saturating_sub(held.unfinished)
            }
            _ => usize::MAX,
        }
    }

    /// Whether the message is to be finished, not only read.
    #[must_use]
    pub fn expects(&self, mailbox: AgentId, id: MessageId) -> bool {
        self.held.get(&mailbox).is_some_and(|held| held.entries.contains_key(&id))
    }

    /// A message is handed out for the first time; none where nobody expects it to be finished.
    pub fn hand_out(&mut self, mailbox: AgentId, id: MessageId, content: T, now_us: u64) -> Option<u32> {
        let until_us = now_us.saturating_add(self.options.patience_us);
        if !self.expects(mailbox, id) {
            return None;
        }
        self.change(mailbox, id, |entry| {
            debug_assert!(entry.state == State::Expected, "AL1: a mailbox gives a message once");
            entry.attempts += 1;
            entry.content = Some(content);
            entry.state = State::Handed { until_us };
        });
        let held = self.held.get_mut(&mailbox)?;
        held.unfinished += 1;
        held.entries.get(&id).map(|entry| entry.attempts)
    }

    /// What is to be handed out again now, the one that waited longest first.
    pub fn again(&mut self, mailbox: AgentId, limit: usize, now_us: u64) -> Vec<(MessageId, u32, T)> {
        let Some(held) = self.held.get(&mailbox) else { return Vec::new() };
        if held.unfinished == 0 {
            return Vec::new();
        }
        let most = self.options.attempts_max;
        let mut ready: Vec<(u64, MessageId)> = held
            .entries
            .iter()
            .filter(|(_, entry)| entry.attempts < most && now_us < entry.expires_us)
            .filter_map(|(id, entry)| match entry.state {
                State::Waiting { from_us } if from_us <= now_us => Some((from_us, *id)),
                _ => None,
            })
            .collect();
        ready.sort_unstable();
        ready.truncate(limit);
        let until_us = now_us.saturating_add(self.options.patience_us);
        let mut given = Vec::with_capacity(ready.len());
        for (_, id) in ready {
            let mut told = None;
            self.change(mailbox, id, |entry| {
                entry.attempts += 1;
                entry.state = State::Handed { until_us };
                told = entry.content.clone().map(|content| (id, entry.attempts, content));
            });
            given.extend(told);
        }
        given
    }

    /// The receiver is done with a message (AL2): one that it was handed, even if it took too long.
    pub fn finish(&mut self, mailbox: AgentId, id: MessageId, now_us: u64) -> Finished {
        let Some(held) = self.held.get_mut(&mailbox) else { return Finished::Unknown };
        if held.finished.get(&id).is_some_and(|until_us| now_us <= *until_us) {
            return Finished::Before;
        }
        if !held.entries.get(&id).is_some_and(|entry| entry.state != State::Expected) {
            return Finished::Unknown;
        }
        let Some(entry) = held.entries.remove(&id) else { return Finished::Unknown };
        held.unfinished -= 1;
        self.due.remove(&(entry.due_us(), mailbox, id));
        held.remember(id, entry.expires_us, self.options.remembered_max);
        Finished::Now
    }

    /// Ids that were finished before this opening.
    pub fn remember(&mut self, mailbox: AgentId, id: MessageId, expires_us: u64) {
        let most = self.options.remembered_max;
        self.held.entry(mailbox).or_default().remember(id, expires_us, most);
    }

    /// The receiver could not do it. When it will be handed out again; none where it is dead now, or unknown. Time must
    /// pass ([`Deliveries::pass`]) for a dead one to be told.
    pub fn fail(&mut self, mailbox: AgentId, id: MessageId, now_us: u64) -> Option<u64> {
        let options = self.options;
        let mut next = None;
        self.change(mailbox, id, |entry| {
            if let State::Handed { .. } = entry.state {
                let from_us = if entry.attempts < options.attempts_max {
                    now_us.saturating_add(backoff(&options, entry.attempts))
                } else {
                    now_us // and `pass` buries it
                };
                entry.state = State::Waiting { from_us };
                next = Some(from_us);
            }
        });
        next
    }

    /// When time changes something, in microseconds since the epoch.
    #[must_use]
    pub fn next_us(&self) -> Option<u64> {
        self.due.first().map(|(at_us, _, _)| *at_us)
    }

    /// Time has come to `now_us`: at most `limit` messages change their state.
    pub fn pass(&mut self, now_us: u64, limit: usize) -> Passed<T> {
        let mut passed = Passed { ready: Vec::new(), dead: Vec::new() };
        for _ in 0..limit {
            let Some((at_us, mailbox, id)) =
                self.due.first().copied().filter(|(at_us, _, _)| *at_us <= now_us)
            else {
                break;
            };
            let Some(entry) = self.held.get(&mailbox).and_then(|held| held.entries.get(&id)) else {
                self.due.remove(&(at_us, mailbox, id));
                continue;
            };
            let spent = self.options.attempts_max <= entry.attempts;
            let reason = match entry.state {
                State::Handed { .. } | State::Waiting { .. } if spent => Some(DeadReason::Attempts),
                _ if entry.expires_us <= now_us => Some(DeadReason::Expired),
                _ => None,
            };
            if let Some(reason) = reason {
                passed.dead.extend(self.bury(mailbox, id, reason));
                continue;
            }
            if matches!(entry.state, State::Handed { .. }) {
                let _ = self.fail(mailbox, id, now_us); // it took too long
                continue;
            }
            // Ready. It is looked at again at its end, and not before.
            self.due.remove(&(at_us, mailbox, id));
            self.due.insert((entry_end(&self.held, mailbox, id), mailbox, id));
            passed.ready.push(mailbox);
        }
        passed.ready.sort_unstable();
        passed.ready.dedup();
        passed
    }

    /// A receiver is gone: what it had not finished, in no order, to be kept elsewhere or buried.
    pub fn close(&mut self, mailbox: AgentId) -> Vec<(MessageId, u32, Option<T>)> {
        let Some(held) = self.held.remove(&mailbox) else { return Vec::new() };
        let unfinished = held.entries.into_iter();
        unfinished
            .map(|(id, entry)| {
                self.due.remove(&(entry.due_us(), mailbox, id));
                self.due.remove(&(entry.expires_us, mailbox, id));
                (id, entry.attempts, entry.content)
            })
            .collect()
    }

    /// What was handed out and is said to go.
    pub(crate) fn entries_of(&self, goes: &impl Fn(&T) -> bool) -> Vec<(AgentId, MessageId)> {
        let of = |(mailbox, held): (&AgentId, &Held<T>)| {
            let found = held.entries.iter().filter(|(_, entry)| entry.content.as_ref().is_some_and(goes));
            found.map(|(id, _)| (*mailbox, *id)).collect::<Vec<_>>()
        };
        self.held.iter().flat_map(of).collect()
    }

    /// Lays a message aside as a dead letter.
    pub fn lay_aside(&mut self, dead: Dead<T>) {
        if self.options.dead_max <= self.dead.len() {
            self.dead.pop_front();
            self.let_go += 1; // AL4
        }
        self.dead.push_back(dead);
    }

    /// What was never handed out, and so not kept here: the caller has it.
    pub fn complete_dead(&mut self, mailbox: AgentId, id: MessageId, content: T) {
        let dead = self.dead.iter_mut().find(|dead| (dead.mailbox, dead.id) == (mailbox, id));
        if let Some(dead) = dead {
            dead.content.get_or_insert(content);
        }
    }

    /// The dead letters, the oldest first, and how many were let go for them.
    #[must_use]
    pub fn dead(&self) -> (Vec<Dead<T>>, u64) {
        (self.dead.iter().cloned().collect(), self.let_go)
    }

    /// Takes a dead letter out.
    pub fn take_dead(&mut self, mailbox: AgentId, id: MessageId) -> Option<Dead<T>> {
        let place = self.dead.iter().position(|dead| (dead.mailbox, dead.id) == (mailbox, id))?;
        self.dead.remove(place)
    }

    /// Messages that are expected or handed out, and dead letters.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.held.values().map(|held| held.entries.len()).sum(), self.dead.len())
    }

    fn bury(&mut self, mailbox: AgentId, id: MessageId, reason: DeadReason) -> Option<Dead<T>> {
        let dead = self.take_entry(mailbox, id, reason)?;
        self.lay_aside(dead.clone());
        Some(dead)
    }

    /// Takes out what was expected or handed out; it is laid aside nowhere.
    pub(crate) fn take_entry(
        &mut self,
        mailbox: AgentId,
        id: MessageId,
        reason: DeadReason,
    ) -> Option<Dead<T>> {
        let held = self.held.get_mut(&mailbox)?;
        let entry = held.entries.remove(&id)?;
        if entry.state != State::Expected {
            held.unfinished -= 1;
        }
        self.due.remove(&(entry.due_us(), mailbox, id));
        self.due.remove(&(entry.expires_us, mailbox, id));
        self.tidy(mailbox);
        Some(Dead { mailbox, id, reason, attempts: entry.attempts, content: entry.content })
    }

    /// Changes an entry, and when time will change it.
    fn change(&mut self, mailbox: AgentId, id: MessageId, change: impl FnOnce(&mut Entry<T>)) {
        let Some(entry) = self.held.get_mut(&mailbox).and_then(|held| held.entries.get_mut(&id)) else {
            return;
        };
        self.due.remove(&(entry.due_us(), mailbox, id));
        self.due.remove(&(entry.expires_us, mailbox, id));
        change(entry);
        self.due.insert((entry.due_us(), mailbox, id));
    }

    /// A mailbox of which nothing is known takes no place.
    fn tidy(&mut self, mailbox: AgentId) {
        if self.held.get(&mailbox).is_some_and(|held| held.entries.is_empty() && held.finished.is_empty()) {
            self.held.remove(&mailbox);
        }
    }
}

impl<T> Held<T> {
    fn remember(&mut self, id: MessageId, expires_us: u64, most: usize) {
        if self.finished.insert(id, expires_us).is_none() {
            self.finished_in_order.push_back(id);
        }
        while most < self.finished_in_order.len() {
            if let Some(oldest) = self.finished_in_order.pop_front() {
                self.finished.remove(&oldest);
            }
        }
    }
}

fn entry_end<T>(held: &HashMap<AgentId, Held<T>>, mailbox: AgentId, id: MessageId) -> u64 {
    held.get(&mailbox).and_then(|held| held.entries.get(&id)).map_or(u64::MAX, |entry| entry.expires_us)
}

/// The pause after the `attempts`-th failure.
fn backoff(options: &DeliveryOptions, attempts: u32) -> u64 {
    let doubled = 1u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
    options.backoff_us.saturating_mul(doubled).min(options.backoff_us_max)
}
