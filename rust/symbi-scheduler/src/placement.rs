//! The next decision: in which order candidates are looked at, where one may start, what a blocked head reserves.
//!
//! Not here: making room by suspending others (`preemption`).
//!
//! Invariants
//! - P1 on the node that a head has reserved, what stands behind the head takes nothing the head lacks, unless by the
//!   durations it is over before the head could start.
//! - P2 where a suspended task waits to go on, what stands behind it takes nothing that it lacks.

use symbi_types::ResourceVector;

use crate::column::{NONE, Slot};
use crate::entry::NEVER;
use crate::front::{Front, LOOK};
use crate::heap::Item;
use crate::options::Strategy;
use crate::resources::given_back;
use crate::scheduler::{PASSED_MAX, Scheduler};
use crate::task::{Decision, Tier};

/// Nodes that are compared for a reservation, or for the best fit.
const COMPARED_MAX: usize = 128;
/// Nodes where something was given back last, which are asked first for a reservation.
const RECENT: u64 = 8;
/// Tasks on a reserved node whose ends are looked at.
const ENDS_MAX: usize = 64;
/// Classes without room for which one decision looks for victims.
const SEARCHES_MAX: usize = 4;

/// The first blocked task and its reserved node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) slot: Slot,
    pub(crate) node: Slot,
}

/// What looking at one class came to.
enum Look {
    Start(Slot, Slot),
    Claimed,
    Aside,
    Blocked,
}

/// What was met so far while looking.
struct Pass {
    head: Option<Head>,
    resume: Option<Item>,
    searches: usize,
    /// What is free where something was given back since all classes were last looked at, as of so many times.
    most: Option<ResourceVector>,
    raises: u64,
}

/// Where there is room.
enum Found {
    At(Slot),
    Reserved,
    Nowhere,
}

#[derive(Clone, Copy)]
enum Queue {
    Realtime,
    Interactive,
    Batch(Slot),
}

impl Scheduler {
    pub(crate) fn batch_is_due(&self) -> bool {
        self.options.batch_turn <= self.since_batch.saturating_add(1) && !self.tenants.active.is_empty()
    }

    /// The next start, suspension or resumption.
    pub(crate) fn choose(&mut self) -> Option<Decision> {
        self.wake_ns = None;
        let mut pass = Pass {
            head: None,
            resume: self.first_resumable(),
            searches: SEARCHES_MAX,
            most: None,
            raises: 0,
        };
        let due = self.batch_is_due();
        let mut found = self.look_at(Queue::Realtime, LOOK, &mut pass).0;
        if found.is_none() && due {
            found = self.look_at_batch(&mut pass);
        }
        if found.is_none() {
            found = self.look_at(Queue::Interactive, LOOK, &mut pass).0;
        }
        if found.is_none() && !due {
            found = self.look_at_batch(&mut pass);
        }
        // Where something was found before the head was come to, its reservation stands.
        let head = pass.head.or(self.head.filter(|_| found.is_some()));
        self.set_head(head);
        if found.is_none() {
            self.refuted = self.nodes.raises;
        }
        found.or_else(|| pass.resume.map(|item| self.resume(item.slot())))
    }

    fn look_at_batch(&mut self, pass: &mut Pass) -> Option<Decision> {
        let (mut at, mut left) = (0, LOOK);
        while 0 < left
            && let Some(item) = self.tenants.active.get(at)
        {
            let (found, looked) = self.look_at(Queue::Batch(item.slot()), left, pass);
            if found.is_some() {
                return found;
            }
            left = left.saturating_sub(looked.max(1));
            // A tenant whose classes were all put aside stands here no more.
            at += usize::from(self.tenants.active.get(at) == Some(item));
        }
        None
    }

    /// Looks at classes of one queue in order; says how many stayed there in vain.
    fn look_at(&mut self, queue: Queue, limit: usize, pass: &mut Pass) -> (Option<Decision>, usize) {
        let mut at = 0;
        while at < limit
            && let Some(item) = self.queue(queue).get(at)
        {
            if let Some(resume) = pass.resume.filter(|resume| resume.rank() < item.rank()) {
                pass.resume = None;
                return (Some(self.resume(resume.slot())), at);
            }
            if pass.searches == 0 && pass.head.is_some() {
                let sight = &mut self.classes.sights[item.slot()];
                if pass.raises != self.nodes.raises {
                    pass.raises = self.nodes.raises;
                    pass.most = self.nodes.most_since(self.refuted);
                }
                let known = self.nodes.len() <= sight.hint.node && self.refuted <= sight.hint.seen;
                let full = match pass.most {
                    Some(most) if known && !most.fits(&sight.need) => {
                        sight.hint.seen = pass.raises;
                        true
                    }
                    _ => self.nodes.is_still_full(&mut sight.hint, &sight.need),
                };
                if full && !self.may_pass(item, pass.head) {
                    at += 1; // the usual case behind a head
                    continue;
                }
            }
            match self.look(item.slot(), pass) {
                Look::Start(slot, node) => {
                    if let Some(head) = pass.head.filter(|head| head.node == node) {
                        let head = &mut self.tasks[head.slot];
                        head.passed += 1;
                        assert!(head.passed <= PASSED_MAX, "Q6");
                    }
                    self.count_quota_pass(slot);
                    let decision = self.start(slot, node);
                    return (Some(decision), at);
                }
                Look::Claimed => return (self.decided.pop_front(), at),
                Look::Aside => {}
                Look::Blocked => at += 1,
            }
        }
        (None, at)
    }

    const fn queue_of_tier(tier: Tier, tenant: Slot) -> Queue {
        match tier {
            Tier::Realtime => Queue::Realtime,
            Tier::Interactive => Queue::Interactive,
            Tier::Batch => Queue::Batch(tenant),
        }
    }

    fn queue(&self, queue: Queue) -> &Front {
        match queue {
            Queue::Realtime => &self.realtime,
            Queue::Interactive => &self.interactive,
            Queue::Batch(tenant) => &self.tenants[tenant].batch,
        }
    }

    fn look(&mut self, class: Slot, pass: &mut Pass) -> Look {
        let Some(first) = self.classes[class].ready.first() else { return Look::Blocked };
        if !self.quota_allows(class) {
            self.set_aside(class, true);
            return Look::Aside;
        }
        match self.find_node(class, first, pass.head) {
            Found::At(node) => return Look::Start(first.slot(), node),
            Found::Reserved => return Look::Blocked,
            Found::Nowhere => {}
        }
        if 0 < pass.searches && self.options.preemption {
            pass.searches -= 1;
            if self.preempt(class, first, pass.head) {
                return Look::Claimed;
            }
        }
        if pass.head.is_none() {
            pass.head = self.reserve(class, first.slot());
            if pass.head.is_some() {
                self.set_head(pass.head);
            }
        }
        Look::Blocked
    }

    pub(crate) fn set_head(&mut self, head: Option<Head>) {
        self.head = head;
        self.nodes.reserve(head.map_or(NONE, |head| head.node));
    }

    /// Whether the first task of a class that has no room elsewhere may start on the reserved node.
    fn may_pass(&self, class: Item, head: Option<Head>) -> bool {
        let Some(node) = self.nodes.reserved() else { return false };
        if !self.nodes.rooms[node].free.fits(&self.classes.sights[class.slot()].need) {
            return false;
        }
        let kind = &self.classes[class.slot()].kind;
        let Some(first) = self.classes[class.slot()].ready.first() else { return false };
        self.nodes.has_room(node, &kind.need, kind.guarded) && self.may_start(node, first, &kind.need, head)
    }

    /// The node where the first task of a class may start.
    fn find_node(&mut self, slot: Slot, first: Item, head: Option<Head>) -> Found {
        let class = &self.classes[slot];
        let (need, guarded) = (class.kind.need, class.kind.guarded);
        let mut hint = self.classes.sights[slot].hint;
        self.nodes.refresh(&mut hint, &need, guarded);
        let mut room = self.nodes.first_from(hint.node, &need, guarded);
        hint.node = room.unwrap_or(self.nodes.len()); // N3
        self.classes.sights[slot].hint = hint;
        let (mut best, mut compared) = (None, 0);
        let mut found = Found::Nowhere;
        let mut apart = self.nodes.reserved().filter(|node| self.nodes.has_room(*node, &need, guarded));
        while let Some(node) = apart.filter(|node| room.is_none_or(|room| *node < room)).or(room) {
            if apart == Some(node) {
                apart = None;
            }
            if self.may_start(node, first, &need, head) {
                if self.options.strategy != Strategy::BestFit {
                    return Found::At(node);
                }
                let left = self.left_over(node, &need);
                if best.is_none_or(|best| left < best) {
                    best = Some(left);
                    found = Found::At(node);
                }
                compared += 1;
                if COMPARED_MAX <= compared {
                    break;
                }
            } else if best.is_none() {
                found = Found::Reserved;
            }
            if room == Some(node) {
                room = self.nodes.first_from(node + 1, &need, guarded);
            }
        }
        found
    }

    /// What would be left there, as a sum of parts of what the node has.
    fn left_over(&self, node: Slot, need: &ResourceVector) -> u64 {
        let amounts = self.nodes.rooms[node].free.to_array().into_iter().zip(need.to_array());
        let parts = amounts.zip(self.nodes[node].capacity.to_array()).filter(|(_, capacity)| 0 < *capacity);
        parts.map(|((free, need), capacity)| ((free - need) << 16) / capacity).sum()
    }

    /// Whether nothing that stands before the task waits for what it would take there (P1, P2).
    pub(crate) fn may_start(
        &self,
        node: Slot,
        task: Item,
        need: &ResourceVector,
        head: Option<Head>,
    ) -> bool {
        let free = &self.nodes.rooms[node].free;
        if let Some(head) = head.filter(|head| head.node == node) {
            let spares = spares(free, self.need(head.slot), need) || self.is_over_in_time(task.slot(), head);
            if !spares || PASSED_MAX <= self.tasks[head.slot].passed {
                return false;
            }
        }
        match self.nodes[node].suspended.first().filter(|first| first.rank() < task.rank()) {
            Some(first) => spares(free, &given_back(self.need(first.slot())), need),
            None => true,
        }
    }

    /// Whether the task would be over before the head could start, all by their estimates.
    fn is_over_in_time(&self, task: Slot, head: Head) -> bool {
        let duration_ns = self.tasks.detail(task).duration_ns;
        if duration_ns == NEVER {
            return false;
        }
        let mut ends = Vec::with_capacity(ENDS_MAX);
        let mut at = self.nodes[head.node].first;
        while at != NONE {
            let (entry, detail) = (&self.tasks[at], self.tasks.detail(at));
            if ends.len() == ENDS_MAX {
                return false; // too many to be sure of
            }
            let left_ns = detail.duration_ns.saturating_sub(detail.ran_ns);
            let end_ns = entry.since_ns.saturating_add(left_ns);
            if detail.duration_ns != NEVER && self.now_ns < end_ns {
                ends.push((end_ns, at));
            }
            at = entry.after;
        }
        ends.sort_unstable();
        let mut free = self.nodes.rooms[head.node].free;
        let starts = ends.into_iter().find(|(_, slot)| {
            free = free.checked_add(self.need(*slot)).unwrap_or(free);
            free.fits(self.need(head.slot))
        });
        starts.is_some_and(|(starts_ns, _)| self.now_ns.saturating_add(duration_ns) <= starts_ns)
    }

    /// Reserves a node for a blocked task, of those compared the one that comes nearest; `None` where none is large
    /// enough.
    fn reserve(&mut self, class: Slot, slot: Slot) -> Option<Head> {
        let (need, guarded) = (self.classes[class].kind.need, self.classes[class].kind.guarded);
        let still = self.head.filter(|head| head.slot == slot);
        if let Some(head) = still.filter(|head| self.nodes.could_hold(head.node, &need, guarded)) {
            return Some(head);
        }
        // Where something was given back lately, there is some of what it needs; else anywhere.
        let seen = self.nodes.raises.saturating_sub(RECENT);
        let mut nearest =
            self.nodes.raised_since(seen).and_then(|recent| self.nearest_of(recent, &need, guarded));
        if nearest.is_none() {
            let count = self.nodes.len();
            let begin = self.search.begin(count);
            nearest = self.nearest_of((begin..count).chain(0..begin), &need, guarded);
        }
        nearest.map(|node| Head { slot, node })
    }

    fn nearest_of(
        &self,
        nodes: impl Iterator<Item = Slot>,
        need: &ResourceVector,
        guarded: bool,
    ) -> Option<Slot> {
        let enough = nodes.filter(|node| self.nodes.could_hold(*node, need, guarded)).take(COMPARED_MAX);
        enough.min_by_key(|node| {
            (distance(need, &self.nodes.rooms[*node].free, &self.nodes[*node].capacity), *node)
        })
    }

    /// Whether a ready task would start, were it looked at now, and where: nothing is remembered.
    pub(crate) fn would_start(&self, class: Slot, task: Item) -> Option<Slot> {
        let kind = &self.classes[class].kind;
        let before = |head: &Head| self.stands_before(head.slot, task.slot());
        let head = self.head.filter(|head| head.slot != task.slot()).filter(before);
        let mut room = self.nodes.slots().filter(|node| self.nodes.has_room(*node, &kind.need, kind.guarded));
        room.find(|node| self.may_start(*node, task, &kind.need, head))
    }

    /// Whether `one` is looked at before `other`.
    pub(crate) fn stands_before(&self, one: Slot, other: Slot) -> bool {
        let order = |slot: Slot| {
            let entry = &self.tasks[slot];
            let turn = match entry.urgency.0 {
                Tier::Realtime => 0,
                Tier::Interactive => 2,
                Tier::Batch => 1 + 2 * u8::from(!self.batch_is_due()),
            };
            let clock = match entry.urgency.0 {
                Tier::Batch => self.tenants[self.tenant(slot)].clock(),
                _ => (0, 0),
            };
            (turn, clock, entry.rank)
        };
        order(one) < order(other)
    }

    /// The first ready task that would start, looking as [`Scheduler::choose`] does.
    pub(crate) fn foremost(&self) -> Option<Slot> {
        let due = self.batch_is_due();
        let batch = self.tenants.active.iter().map(|item| Self::queue_of_tier(Tier::Batch, item.slot()));
        let middle = [Queue::Interactive];
        let order: Vec<Queue> = match due {
            true => [Queue::Realtime].into_iter().chain(batch).chain(middle).collect(),
            false => [Queue::Realtime].into_iter().chain(middle).chain(batch).collect(),
        };
        let heads = order.into_iter().flat_map(|queue| self.queue(queue).iter().take(LOOK));
        let firsts = heads.filter_map(|item| Some((item.slot(), self.classes[item.slot()].ready.first()?)));
        firsts
            .filter(|(class, _)| self.quota_allows(*class))
            .find(|(class, first)| self.would_start(*class, *first).is_some())
            .map(|(_, first)| first.slot())
    }
}

/// Whether taking `need` from `free` leaves a task that waits for `wanted` no worse off.
fn spares(free: &ResourceVector, wanted: &ResourceVector, need: &ResourceVector) -> bool {
    let parts = free.to_array().into_iter().zip(wanted.to_array()).zip(need.to_array());
    parts.into_iter().all(|((free, wanted), need)| need == 0 || wanted == 0 || wanted + need <= free)
}

/// How much `have` lacks of `need`, as a sum of parts of `capacity`.
pub(crate) fn distance(need: &ResourceVector, have: &ResourceVector, capacity: &ResourceVector) -> u64 {
    let parts = need.to_array().into_iter().zip(have.to_array()).zip(capacity.to_array());
    let lacking = parts.filter(|((need, have), _)| have < need);
    let far = lacking.map(|((need, have), capacity)| match need - have {
        lack if capacity == 0 || 1 << 47 <= lack => 1 << 32,
        lack => (lack << 16) / capacity,
    });
    far.fold(0, u64::saturating_add)
}
