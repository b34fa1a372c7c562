//! What the order of starts owes to everybody: the rules that can be seen from outside.
//!
//! Why: the exact order has plain schedulers of its own (`tests/model.rs`, `tests/reference`), which could share a mistake with this one. What
//! stands here does not say who is next; it says who must not have been.
//! Not here: sums and places (`ledger`).
//!
//! Invariants
//! - N8 the first of all, which only one node can hold, is passed there at most 64 times.
//! - N10 what stood still keeps its place: nothing less urgent takes what it needs to go on.
//! - N12 nothing starts before a task that is more urgent, needs no more, and could start in its stead.
//! - N16 batch gets its turn: a batch task is passed over at most `batch_turn` times by starts it could have had.
//! - N21 what starts at the node that the first of all waits for does not delay it, by the estimates.
//! - N22 a task that may interrupt another does, once that has run its quantum.
//! - N19 a task starts where the strategy says, and leaves the headroom to critical ones.
//! - N17 an open node does not stay empty while a task waits that could start there.

use symbi_scheduler::{NodeId, PASSED_MAX, Strategy, TaskId, Tier};
use symbi_types::ResourceVector;

use crate::ledger::{Broken, Entry, Ledger, Machine, Place, ensure};
use crate::plan::MS;

/// Smaller is more urgent.
pub type Urgency = (Tier, u64, u64);

impl Ledger {
    /// How urgent a task is by itself: by deadline, or by arrival and priority, and then by age.
    fn own_urgency(&self, entry: &Entry) -> Urgency {
        let task = &entry.task;
        let ageing_ns = u64::from(self.options.ageing_ms) * MS;
        let key = match task.tier {
            Tier::Realtime => entry.deadline_ns.unwrap_or(u64::MAX),
            Tier::Interactive | Tier::Batch => {
                entry.arrived_ns + u64::from(255 - task.priority.0) * ageing_ns
            }
        };
        (task.tier, key, entry.number)
    }

    /// How urgent it is, with what it inherits.
    pub fn urgency(&self, entry: &Entry) -> Urgency {
        if entry.inherits.is_empty() {
            return self.own_urgency(entry);
        }
        let all = self.givers(entry).into_iter().map(|of| self.own_urgency(of));
        let best = all.min().expect("there is the task itself");
        (best.0, best.1, entry.number)
    }

    /// Whether nothing but room keeps it from starting.
    fn eligible(&self, entry: &Entry) -> bool {
        let agent = entry.task.agent;
        let first = |agent| {
            let same = |other: &&Entry| other.task.agent == Some(agent) && other.place == Place::Waiting;
            let best =
                self.tasks.values().filter(same).map(|other| (self.urgency(other), other.task.id)).min();
            best.is_some_and(|(_, id)| id == entry.task.id)
        };
        entry.place == Place::Waiting
            && entry.claims.is_none()
            && !entry.held
            && agent.is_none_or(|agent| self.busy(agent).is_none() && first(agent))
            && self.affords(entry)
    }

    /// Whether its tenant's quota leaves room, and no other task of the tenant may go first or have been promised it.
    fn affords(&self, entry: &Entry) -> bool {
        let quota = self.tenants.get(&entry.task.tenant).and_then(|share| share.quota);
        quota.is_none_or(|quota| {
            let sum = self.used_by(entry.task.tenant).checked_add(&entry.task.need);
            let promised = self.tasks.values().any(|other| other.place == Place::Suspending);
            let urgency = self.urgency(entry);
            let older = |other: &Entry| {
                let mine = other.task.tenant == entry.task.tenant && other.place == Place::Waiting;
                mine && self.urgency(other) < urgency
            };
            !promised && !self.tasks.values().any(older) && sum.is_some_and(|sum| quota.fits(&sum))
        })
    }

    /// Of tasks that need the same, only the first is looked at; the others wait for it.
    fn first_of_its_kind(&self, entry: &Entry) -> bool {
        let kind = |of: &Entry| (of.task.tenant, of.task.need, self.urgency(of).0, self.guarded(of));
        let (mine, place) = (self.urgency(entry), kind(entry));
        let before = |of: &Entry| of.place == Place::Waiting && self.urgency(of) < mine && kind(of) == place;
        !self.tasks.values().any(before)
    }

    /// Whether `other` could have had what `entry` was given.
    fn could_instead(&self, other: &Entry, entry: &Entry) -> bool {
        let shorter = match (other.task.duration_ns, entry.task.duration_ns) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(mine)) => other <= mine,
        };
        entry.task.need.fits(&other.task.need)
            && shorter
            && (self.guarded(entry) || !self.guarded(other))
            && self.first_of_its_kind(other)
            && self.eligible(other)
    }

    /// Its place among those that stand still: a batch task's is that of an interactive one which came at that moment.
    fn return_urgency(&self, entry: &Entry) -> Urgency {
        match self.urgency(entry) {
            (Tier::Batch, _, number) => {
                let ageing_ns = u64::from(self.options.ageing_ms) * MS;
                (Tier::Interactive, entry.since_ns + 255 * ageing_ns, number)
            }
            other => other,
        }
    }

    /// The first that may go on at the node, if it is more urgent and the task takes what it lacks.
    fn robbed(&self, entry: &Entry, mine: Urgency, node: NodeId) -> Option<TaskId> {
        let stands = |of: &&Entry| of.place == Place::Standing && !of.held && of.node == Some(node);
        let standing = self.tasks.values().filter(stands);
        let first = standing.min_by_key(|of| self.return_urgency(of))?;
        let back = first.task.need.checked_sub(&first.holds()).expect("it holds a part of its need");
        (self.return_urgency(first) < mine && !self.lets_be(entry, &back, node)).then_some(first.task.id)
    }

    /// Judges a start before it is booked.
    pub fn judge(&mut self, now_ns: u64, task: TaskId, node: NodeId) -> Result<(), Broken> {
        let entry = self.tasks[&task].clone();
        let mine = self.urgency(&entry);
        ensure!(self.has_room(&entry, node), "N19 headroom is kept", "{task} starts on {node}");
        let ranked = self.tasks.values().map(|other| (self.urgency(other), other));
        let mut before: Vec<(Urgency, &Entry)> = ranked.filter(|(theirs, _)| *theirs < mine).collect();
        if mine.0 == Tier::Batch {
            // Against other tiers it may be its turn, and tenants take turns by what they used.
            before.retain(|(theirs, other)| theirs.0 == mine.0 && other.task.tenant == entry.task.tenant);
        }
        before.sort_by_key(|(theirs, _)| *theirs);
        if let Some(first) = self.robbed(&entry, mine, node) {
            let text = format!("{task} starts on {node} before {first} goes on");
            return Err(Broken { rule: "N10 it keeps its place", text });
        }
        let free_for_all = before.is_empty() && mine.0 != Tier::Batch && self.original;
        before.retain(|(_, other)| other.place == Place::Waiting);
        let wronged = before.iter().find(|(_, other)| self.could_instead(other, &entry));
        if let Some((theirs, other)) = wronged {
            let text = format!("{task} starts on {node} before {} ({theirs:?} < {mine:?})", other.task.id);
            return Err(Broken { rule: "N12 nobody is passed over", text });
        }
        let batch = |other: &Entry| {
            let waits = other.place == Place::Waiting && self.has_quota(other);
            other.task.tier == Tier::Batch && (waits || self.eligible(other))
        };
        let head = before
            .iter()
            .map(|(_, other)| other)
            .find(|other| (self.eligible(other) || self.has_quota(other)) && self.has_a_place(other))
            .filter(|other| !self.has_quota(other)); // whether it is the first depends on more than is known here
        if let Some(head) = head
            && self.only_place(head) == Some(node)
            && !self.tasks.values().any(batch)
        {
            let other_wait = |other: &Entry| other.claims.is_some() || other.place == Place::Standing;
            let made = self.tasks.values().any(other_wait);
            let text = || format!("{task} starts on {node}, where {} waits", head.task.id);
            if !made
                && !self.lets_be(&entry, &head.task.need, node)
                && !self.over_in_time(now_ns, &entry, head, node)
            {
                return Err(Broken { rule: "N21 no head is delayed", text: text() });
            }
            let head = head.task.id;
            let passed = &mut self.tasks.get_mut(&head).expect("it waits").passed;
            *passed += 1;
            ensure!(*passed <= u32::from(PASSED_MAX), "N8 passed at most 64 times", "{task} passes {head}");
        }
        let others_wait = |other: &Entry| match other.place {
            Place::Waiting => other.claims.is_some() || other.task.tier == Tier::Batch, // whose turn it may be
            Place::Running => false,
            Place::Suspending | Place::Standing => true,
        };
        let made = self.tasks.values().any(others_wait);
        if free_for_all && !made {
            self.judge_place(&entry, node)?;
        }
        self.take_turn(&entry)
    }

    fn left_on(&self, node: NodeId) -> ResourceVector {
        self.nodes[&node].capacity.checked_sub(&self.held_on(node)).expect("N3")
    }

    /// Whether it has room there now, and leaves the headroom if that is kept from it.
    fn has_room(&self, entry: &Entry, node: NodeId) -> bool {
        let machine = Machine { capacity: self.left_on(node), ..self.nodes[&node] };
        let headroom = if self.guarded(entry) { u64::from(self.options.headroom_percent) } else { 0 };
        let whole = self.nodes[&node].capacity.to_array().map(|have| have * headroom / 100);
        let parts = machine.capacity.to_array().into_iter().zip(entry.task.need.to_array()).zip(whole);
        !machine.drained && parts.into_iter().all(|((have, need), keep)| need == 0 || need + keep <= have)
    }

    /// N19: where nothing stands before the task, the strategy alone says where it starts.
    fn judge_place(&self, entry: &Entry, node: NodeId) -> Result<(), Broken> {
        let rooms = self.nodes.keys().copied().filter(|node| self.has_room(entry, *node));
        let left = |node: NodeId| -> u64 {
            let left = self.left_on(node).checked_sub(&entry.task.need).expect("it has room");
            let parts = left.to_array().into_iter().zip(self.nodes[&node].capacity.to_array());
            parts.filter(|(_, all)| 0 < *all).map(|(left, all)| (left << 16) / all).sum()
        };
        let due = match self.options.strategy {
            Strategy::BestFit => rooms.min_by_key(|node| (left(*node), *node)),
            Strategy::FirstFit | Strategy::Priority => rooms.min(),
        };
        ensure!(due == Some(node), "N19 by the strategy", "{} starts on {node}, not {due:?}", entry.task.id);
        Ok(())
    }

    fn has_quota(&self, entry: &Entry) -> bool {
        self.tenants.get(&entry.task.tenant).is_some_and(|share| share.quota.is_some())
    }

    /// Whether what the task takes there leaves another, which waits for so much, no worse off.
    fn lets_be(&self, entry: &Entry, wanted: &ResourceVector, node: NodeId) -> bool {
        let left = self.left_on(node).to_array().into_iter();
        let mut parts = left.zip(wanted.to_array()).zip(entry.task.need.to_array());
        parts.all(|((left, wanted), need)| need == 0 || wanted == 0 || wanted + need <= left)
    }

    /// Whether it is over before the head could start, all by their estimates.
    fn over_in_time(&self, now_ns: u64, entry: &Entry, head: &Entry, node: NodeId) -> bool {
        let runs =
            |of: &&Entry| matches!(of.place, Place::Running | Place::Suspending) && of.node == Some(node);
        let end =
            |of: &Entry| Some((of.since_ns + of.task.duration_ns?.saturating_sub(of.ran_ns), of.task.need));
        let mut ends: Vec<_> = self.tasks.values().filter(runs).filter_map(end).collect();
        ends.retain(|(end_ns, _)| now_ns < *end_ns);
        ends.sort_by_key(|(end_ns, _)| *end_ns);
        let mut left = self.left_on(node);
        let start = ends.into_iter().find(|(_, need)| {
            left = left.checked_add(need).expect("far below the range");
            left.fits(&head.task.need)
        });
        start.zip(entry.task.duration_ns).is_some_and(|((start_ns, _), runs_ns)| now_ns + runs_ns <= start_ns)
    }

    /// N16: counts for each batch task how often it was passed over by another tier.
    fn take_turn(&mut self, entry: &Entry) -> Result<(), Broken> {
        let turn = self.options.batch_turn;
        if entry.task.tier == Tier::Batch {
            self.without_batch = 0;
            return Ok(());
        }
        if self.urgency(entry).0 == Tier::Realtime {
            return Ok(()); // goes before any turn
        }
        let could = |other: &Entry| self.urgency(other).0 == Tier::Batch && self.could_instead(other, entry);
        // What stands still waits before batch, and may wait behind this one.
        let stands = self.tasks.values().any(|other| other.place == Place::Standing);
        if stands || !self.tasks.values().any(could) {
            self.without_batch = 0;
            return Ok(());
        }
        self.without_batch += 1;
        ensure!(
            self.without_batch <= turn,
            "N16 batch has its turn",
            "{} starts in a row",
            self.without_batch
        );
        Ok(())
    }

    /// Whether an open node is large enough for it.
    fn has_a_place(&self, entry: &Entry) -> bool {
        self.nodes.values().any(|machine| self.could_hold(machine, entry))
    }

    /// The node that has a place for it, where only one has: what it waits for is no other.
    fn only_place(&self, entry: &Entry) -> Option<NodeId> {
        let mut places = self.nodes.iter().filter(|(_, machine)| self.could_hold(machine, entry));
        places.next().filter(|_| places.next().is_none()).map(|(node, _)| *node)
    }

    /// A task that waits alone for twice the quantum, and one that runs as long, is less urgent, and has what it lacks.
    fn forgotten(&self, now_ns: u64) -> Option<(TaskId, TaskId)> {
        let long_ns = 2 * u64::from(self.options.quantum_ms) * MS + MS;
        let mut waiting = self.tasks.values().filter(|of| !matches!(of.place, Place::Running));
        let urgent = waiting.next().filter(|of| of.place == Place::Waiting && waiting.next().is_none())?;
        let plain =
            urgent.stretch == 0 && !urgent.held && urgent.task.agent.is_none() && urgent.inherits.is_empty();
        let plain = plain && self.original && !self.has_quota(urgent) && !self.guarded(urgent);
        if !plain || !self.options.preemption || now_ns < urgent.arrived_ns + long_ns {
            return None;
        }
        let gives = |of: &&Entry| {
            let node = of.node.expect("it runs somewhere");
            let [_, cpu, disk, network, ..] = of.task.need.to_array();
            let back = ResourceVector::from_array([0, cpu, disk, network, 0, 0]);
            let left = self.left_on(node).checked_add(&back).expect("far below the range");
            of.task.preemptible
                && of.since_ns + long_ns <= now_ns
                && self.level(of) < self.level(urgent)
                && !self.nodes[&node].drained
                && left.fits(&urgent.task.need)
        };
        Some((
            urgent.task.id,
            self.tasks.values().filter(|of| of.place == Place::Running).find(gives)?.task.id,
        ))
    }

    /// Judges a pause, when the scheduler has nothing more to decide.
    pub fn judge_pause(&self, now_ns: u64) -> Result<(), Broken> {
        if let Some((urgent, victim)) = self.forgotten(now_ns) {
            let text = format!("{urgent} waits, and {victim} alone could make room for it");
            return Err(Broken { rule: "N22 who may interrupt does", text });
        }
        for (node, machine) in &self.nodes {
            if self.held_on(*node) != ResourceVector::default() {
                continue;
            }
            let fits = |entry: &&Entry| self.could_hold(machine, entry) && self.eligible(entry);
            let idle = self.tasks.values().find(fits).map(|entry| entry.task.id);
            ensure!(idle.is_none(), "N17 no node idles in vain", "{node} is empty, and {idle:?} waits");
        }
        Ok(())
    }
}
