//! The collector: lets go, a little at a time, of what a runtime leaves behind while it works.
//!
//! Why: places for agents that are gone, messages that nobody read in time, limits and windows that are over. Each
//! is bounded or small, and a runtime that lives for months must still be as large as on its first day.
//! Not here: a timer. The embedding loop asks [`Kernel::collect_due_ns`] when the bell rings, and calls
//! [`Kernel::collect`] then; without garbage nothing is due, and nobody has a timer.
//!
//! Who has something that may be let go one day stands on a roll. A pass goes down the roll, some agents at each call,
//! lets go of what is over, takes off it who has nothing left, and finds out when the next thing will be over.
//!
//! Invariants
//! - K60 one call does a bounded amount of work, and never waits for the log.
//! - K61 collecting changes nothing that anybody could observe but memory, and the places in mailboxes.
//! - K62 what was given up unread stands in the trail, with its number.
//! - K63 when nothing is left to let go, nothing is due.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

use symbi_audit::Event;
use symbi_scheduler::State;
use symbi_types::{AgentId, Moment};

use crate::json::Object;
use crate::kernel::{Kernel, lock};

/// Nothing is due.
const NEVER: u64 = u64::MAX;
/// From an agent's first operation to the pass that looks after it: by then its limits have filled up again.
const SETTLE_NS: u64 = 1_100_000_000;
/// What a record costs, in units; a unit is about a microsecond.
const RECORD_UNITS: usize = 32;
/// Messages, requests and keys that are looked at for one unit.
const LOOKED_AN_UNIT: usize = 32;
/// Denials whose record is written in one call.
const DENIALS_AT_ONCE: usize = 8;

/// Who has something that may be let go.
#[derive(Debug, Default)]
struct Roll {
    agents: Vec<AgentId>,
    /// Agents below this place are still to be visited in this pass.
    left: usize,
    /// The earliest that something of those visited will be over.
    soonest_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Collector {
    roll: Mutex<Roll>,
    /// When the next pass begins, monotonic.
    due_ns: AtomicU64,
    /// A pass will look after whatever happens now.
    soon: AtomicBool,
    /// One at a time.
    at_work: Mutex<()>,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            roll: Mutex::default(),
            due_ns: AtomicU64::new(NEVER),
            soon: AtomicBool::new(false),
            at_work: Mutex::default(),
        }
    }
}

/// What one call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Work done; a unit is about a microsecond.
    pub units: usize,
    /// Agents that were looked at.
    pub agents: usize,
    /// Messages that had expired unread.
    pub messages: usize,
    /// Requests that nobody can answer in time any more.
    pub requests: usize,
    /// Keys of agents that are gone.
    pub sessions: usize,
    /// Repetitions of denials whose window was over.
    pub denials: usize,
    /// The pass is not over: call again.
    pub more: bool,
}

/// How many of each kind there are in a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Agents that are not terminated.
    pub agents: usize,
    /// Runs that were begun and not ended.
    pub runs: usize,
    /// External operations between intent and outcome: permits given out.
    pub permits: usize,
    /// Agents on the bus that have spoken or were spoken to.
    pub mailboxes: usize,
    /// Messages that are not read.
    pub messages: usize,
    /// Requests that wait for an answer.
    pub requests: usize,
    /// Keys of one agent for another.
    pub sessions: usize,
    /// Rate limits that are not full again.
    pub buckets: usize,
    /// Agents whose records may not be on disk.
    pub shares: usize,
    /// Windows of denials.
    pub denials: usize,
    /// Agents that the collector looks after.
    pub listed: usize,
}

impl Kernel {
    /// When [`Kernel::collect`] has something to do, in nanoseconds of the monotonic clock; none while it has not.
    /// The wake-up descriptor becomes readable when that changes from none.
    #[must_use]
    pub fn collect_due_ns(&self) -> Option<u64> {
        if 0 < lock(&self.collector.roll).left {
            return Some(0); // the pass is not over
        }
        Some(self.collector.due_ns.load(Ordering::SeqCst)).filter(|due| *due != NEVER)
    }

    /// The time that [`Kernel::collect_due_ns`] is on.
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        self.moment().mono_ns
    }

    /// Lets go of what is over, about `units` of work (K60). Cost: about a microsecond a unit.
    pub fn collect(&self, units: usize) -> Collected {
        let mut done = Collected::default();
        let _one_at_a_time = match self.collector.at_work.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return Collected { more: true, ..done },
        };
        let now = self.moment();
        self.begin_pass(now);
        if self.has_room_for_records() {
            done.denials = self.flush_some_denials(DENIALS_AT_ONCE);
            done.units += done.denials * RECORD_UNITS;
        }
        while done.units < units && self.has_room_for_records() {
            let Some((place, agent)) = self.next_on_roll() else { break };
            self.visit(place, agent, now, units - done.units, &mut done);
        }
        done.more = self.end_pass();
        done
    }

    /// How many of each kind there are. Cost: proportional to the number of agents.
    #[must_use]
    pub fn live(&self) -> Live {
        let bus = self.bus().counts();
        Live {
            agents: self.agents().len(),
            runs: self.turns().runs.len(),
            permits: self.operations_in_flight(),
            mailboxes: bus.mailboxes,
            messages: bus.messages,
            requests: bus.requests,
            sessions: bus.sessions,
            buckets: self.admission().len(),
            shares: lock(&self.shares).len(),
            denials: self.denials().len(),
            listed: lock(&self.collector.roll).agents.len(),
        }
    }

    /// After something was made for `agent` that will be over one day: puts it on the roll. Cheap where it is on it.
    pub(crate) fn touch(&self, agent: AgentId) {
        let fresh =
            self.agents().get_mut(agent).is_some_and(|known| !std::mem::replace(&mut known.listed, true));
        if fresh {
            lock(&self.collector.roll).agents.push(agent);
        }
        self.garbage_is_left();
    }

    /// Something will be over soon: a pass shall look after it.
    pub(crate) fn garbage_is_left(&self) {
        if self.collector.soon.load(Ordering::Relaxed) || self.collector.soon.swap(true, Ordering::SeqCst) {
            return;
        }
        let due_ns = self.moment().mono_ns.saturating_add(SETTLE_NS);
        if due_ns < self.collector.due_ns.fetch_min(due_ns, Ordering::SeqCst) {
            self.wake().ring();
        }
    }

    /// The log takes the records of this call without making anybody wait (K60).
    fn has_room_for_records(&self) -> bool {
        self.log().buffered() < self.log().buffer_max() / 2
    }

    fn begin_pass(&self, now: Moment) {
        let mut roll = lock(&self.collector.roll);
        if roll.left == 0 && self.collector.due_ns.load(Ordering::SeqCst) <= now.mono_ns {
            // What happens from here on asks for another pass.
            self.collector.soon.store(false, Ordering::SeqCst);
            self.collector.due_ns.store(NEVER, Ordering::SeqCst);
            roll.left = roll.agents.len();
            roll.soonest_ns = NEVER;
        }
    }

    /// Whether the pass is not over; at its end, when the next one begins (K63).
    fn end_pass(&self) -> bool {
        let now_us = self.log().now(); // before the locks (K25)
        let now_ns = self.moment().mono_ns;
        let denials_us = self.denials().due_us();
        let roll = lock(&self.collector.roll);
        let windows_ns =
            denials_us.map_or(NEVER, |due_us| now_ns.saturating_add(due_us.saturating_sub(now_us) * 1_000));
        if 0 < roll.left {
            return true; // a time set now would stand when the pass is over, and begin another at once (K63)
        }
        self.collector.due_ns.fetch_min(windows_ns.min(roll.soonest_ns), Ordering::SeqCst);
        false
    }

    fn next_on_roll(&self) -> Option<(usize, AgentId)> {
        let mut roll = lock(&self.collector.roll);
        roll.left = roll.left.checked_sub(1)?;
        let place = roll.left;
        roll.agents.get(place).map(|agent| (place, *agent))
    }

    /// Lets go of what is over of one agent.
    fn visit(&self, place: usize, agent: AgentId, now: Moment, room: usize, done: &mut Collected) {
        done.agents += 1;
        done.units += 1;
        // Off the roll first: whatever is made for it from here on puts it there again.
        let lives = {
            let mut agents = self.agents();
            agents.get_mut(agent).is_some_and(|known| {
                known.listed = false;
                if known.state != State::Running {
                    known.forget_entity();
                }
                true
            })
        };
        let soonest_ns = if lives { self.tidy(agent, now, room, done) } else { None };
        let stays = soonest_ns.is_some()
            && self.agents().get_mut(agent).is_some_and(|known| !std::mem::replace(&mut known.listed, true));
        let mut roll = lock(&self.collector.roll);
        roll.soonest_ns = roll.soonest_ns.min(soonest_ns.unwrap_or(NEVER));
        if !stays && roll.agents.get(place) == Some(&agent) {
            roll.agents.swap_remove(place); // who comes in its place was visited, or came during this pass
        }
    }

    /// When something of the agent will be over; `NEVER` where only other agents' ends can change that; none where it
    /// has nothing.
    fn tidy(&self, agent: AgentId, now: Moment, room: usize, done: &mut Collected) -> Option<u64> {
        let full_ns = self.admission().tidy(agent, now.mono_ns);
        let full_ns = full_ns.max(self.tidy_rate(agent, now.mono_ns));
        let shared = lock(&self.shares).tidy(agent, self.log().durable());
        let _ = self.close_traffic(agent, None); // a log that cannot write is red, and says so
        let tidied = self.tidy_mailboxes(agent, now.wall_us, room);
        let given_up = tidied.messages + tidied.requests;
        done.messages += tidied.messages;
        done.requests += tidied.requests;
        done.sessions += tidied.sessions;
        done.units += given_up + tidied.sessions + tidied.looked / LOOKED_AN_UNIT;
        if 0 < given_up {
            self.record_expired(agent, tidied.messages, tidied.requests);
            done.units += RECORD_UNITS;
        }
        let expires_ns = tidied.next_us.map(|next_us| {
            now.mono_ns.saturating_add(next_us.saturating_sub(now.wall_us).saturating_mul(1_000))
        });
        let share_ns = shared.then(|| now.mono_ns.saturating_add(SETTLE_NS));
        let held_ns = (!tidied.is_bare).then_some(NEVER);
        [full_ns, share_ns, expires_ns, held_ns].into_iter().flatten().min()
    }

    /// An agent's mailbox and those of its subscriptions.
    fn tidy_mailboxes(&self, agent: AgentId, now_us: u64, room: usize) -> symbi_bus::Tidied {
        let mut all = self.bus().tidy(agent, now_us, room).unwrap_or_default();
        for mailbox in self.subscriptions_of(agent) {
            let one = self.bus().tidy(mailbox, now_us, room.saturating_sub(all.messages)).unwrap_or_default();
            if 0 < one.messages {
                self.has_room_again(mailbox);
            }
            all.messages += one.messages;
            all.sessions += one.sessions;
            all.looked += one.looked;
            all.is_bare &= one.is_bare;
            all.next_us = [all.next_us, one.next_us].into_iter().flatten().min();
        }
        if 0 < all.messages {
            self.has_room_again(agent);
        }
        all
    }

    /// K62.
    fn record_expired(&self, agent: AgentId, messages: usize, requests: usize) {
        let details =
            Object::new().number("messages", messages as u64).number("requests", requests as u64).finish();
        let event = Event { agent_id: Some(agent), ..Event::new("message.expired", &details) };
        let _ = self.log().append(&event); // a log that cannot write is red, and says so
    }
}
