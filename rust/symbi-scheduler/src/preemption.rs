//! Making room for an urgent task by asking less urgent ones to stand still.
//!
//! What standing still gives back is processor, disk and network; memory, accelerators and the sandbox slot stay with
//! the task. So a node is looked at only where those already suffice. Of its tasks the least urgent set is taken that
//! covers what is lacking, and of all nodes the set whose most urgent member is the least urgent, then the smallest.
//! The urgent task then *claims* the node: what is free, and whatever is given back there, is its own until it has all
//! it needs; then it starts. The search is bounded, and what it found out is kept with the class: until time or
//! something given back can change it, it is not repeated.
//!
//! Invariants
//! - M1 only a strictly less urgent task is asked: of a lower tier, or interactive and of lower priority, inherited
//!   urgency counted on both sides; and only one that may be suspended.
//! - M2 a task ran at least a quantum before it is asked, since its start or since it went on.
//! - M3 what is given back on the node goes to claims before anyone else, in the order in which they were made.

use crate::classes::Tried;
use crate::column::{NONE, Slot};
use crate::entry::Stage;
use crate::heap::Item;
use crate::levels::level;
use crate::nodes::Claim;
use crate::placement::Head;
use crate::resources::{add, given_back, kept, sub};
use crate::scheduler::Scheduler;
use crate::task::{Decision, TaskId};
use symbi_types::ResourceVector;

/// Nodes that one search looks at.
const NODES_MAX: usize = 128;
/// Tasks on a node that one search looks at, those that have run longest first.
const TASKS_MAX: usize = 32;

/// Where searches go on, and what they found.
#[derive(Debug, Default)]
pub(crate) struct Search {
    cursor: Slot,
    nodes: Vec<Slot>,
    fitting: Vec<(usize, Slot)>,
    victims: Vec<Slot>,
    best: Vec<Slot>,
}

impl Search {
    /// With which of so many nodes to begin: each time with others, where not all are looked at.
    pub(crate) fn begin(&mut self, count: Slot) -> Slot {
        if count as usize <= NODES_MAX {
            return 0;
        }
        self.cursor = (self.cursor + NODES_MAX as Slot) % count;
        self.cursor
    }
}

impl Scheduler {
    /// Asks others to stand still so that the first task of a class can start. Whether it did.
    pub(crate) fn preempt(&mut self, class: Slot, first: Item, head: Option<Head>) -> bool {
        let own = level(self.tasks[first.slot()].urgency);
        if self.levels.lowest().is_none_or(|lowest| own <= lowest) {
            return false; // M1: nothing that runs is less urgent
        }
        let tried = self.classes[class].tried;
        let known = self.now_ns < tried.again_ns && own <= tried.level;
        let mut nodes = std::mem::take(&mut self.search.nodes);
        nodes.clear();
        match self.nodes.raised_since(tried.raises).filter(|_| known) {
            Some(raised) => nodes.extend(raised),
            None => {
                let count = self.nodes.len();
                let begin = self.search.begin(count);
                nodes.extend((begin..count).chain(0..begin).take(NODES_MAX));
            }
        }
        let whole = !known || self.nodes.raised_since(tried.raises).is_none();
        let mut best: Option<((usize, usize), Slot)> = None;
        let mut fresh_ns = u64::MAX;
        for node in &nodes {
            let Some(price) = self.price(*node, class, first, own, head, &mut fresh_ns) else { continue };
            if best.is_none_or(|(least, _)| price < least) {
                best = Some((price, *node));
                std::mem::swap(&mut self.search.best, &mut self.search.victims);
                if price == (0, 1) {
                    break; // nothing is cheaper than one batch task
                }
            }
        }
        let looked = nodes.len();
        self.search.nodes = nodes;
        if let Some((_, node)) = best {
            self.classes[class].tried = Tried::default();
            self.claim(first.slot(), node);
            return true;
        }
        self.remember(class, own, whole, fresh_ns, looked);
        false
    }

    /// Notes when the search may be repeated: when the first task has run its quantum, but not at once.
    fn remember(&mut self, class: Slot, own: usize, whole: bool, fresh_ns: u64, looked: usize) {
        let pause_ns = (self.quantum_ns / 4).max(1);
        let partial = looked < self.nodes.len() as usize;
        let begun = self.begun;
        let tried = &mut self.classes[class].tried;
        if whole {
            tried.begun = begun;
            tried.fresh = fresh_ns != u64::MAX || partial;
            let latest_ns = self.now_ns.saturating_add(self.quantum_ns.max(1)); // what starts later is not ripe before
            tried.again_ns =
                fresh_ns.max(self.now_ns.saturating_add(pause_ns)).min(latest_ns.max(self.now_ns + 1));
            if partial {
                tried.again_ns = self.now_ns.saturating_add(pause_ns);
            }
        } else if fresh_ns != u64::MAX || tried.begun != begun {
            tried.fresh = true; // what began since will be ripe
        }
        (tried.raises, tried.level) = (self.nodes.raises, own);
        if tried.fresh {
            let again_ns = tried.again_ns;
            self.wake_ns = Some(self.wake_ns.map_or(again_ns, |wake_ns| wake_ns.min(again_ns)));
        }
    }

    /// What suspending on this node would cost: the level of the most urgent victim, and their number. They are left
    /// in `search.victims`. `fresh_ns` becomes the time when the first that has not run its quantum has.
    fn price(
        &mut self,
        node: Slot,
        class: Slot,
        first: Item,
        own: usize,
        head: Option<Head>,
        fresh_ns: &mut u64,
    ) -> Option<(usize, usize)> {
        let longest = self.nodes[node].first;
        if longest == NONE {
            return None;
        }
        let ripe_ns = self.tasks[longest].since_ns.saturating_add(self.quantum_ns);
        if self.now_ns < ripe_ns {
            *fresh_ns = (*fresh_ns).min(ripe_ns);
            return None; // M2: those behind it began later
        }
        let lack = self.lack(node, class, first, own, head)?;
        let mut fitting = std::mem::take(&mut self.search.fitting);
        fitting.clear();
        let (mut at, mut looked) = (self.nodes[node].first, 0);
        while at != NONE && looked < TASKS_MAX {
            let entry = &self.tasks[at];
            let theirs = level(entry.urgency);
            if entry.stage == Stage::Running && entry.preemptible && theirs < own {
                let ripe_ns = entry.since_ns.saturating_add(self.quantum_ns);
                if self.now_ns < ripe_ns {
                    *fresh_ns = (*fresh_ns).min(ripe_ns);
                    break; // M2: those behind it began later
                }
                fitting.push((theirs, at));
            }
            (at, looked) = (entry.after, looked + 1);
        }
        fitting.sort_by_key(|(theirs, _)| *theirs);
        let price = self.least_set(&fitting, &lack);
        self.search.fitting = fitting;
        price
    }

    /// What is lacking on the node that standing still can give; `None` where that is not enough, or others wait there.
    fn lack(
        &self,
        node: Slot,
        class: Slot,
        first: Item,
        own: usize,
        head: Option<Head>,
    ) -> Option<ResourceVector> {
        let kind = &self.classes[class].kind;
        if !self.nodes.could_hold(node, &kind.need, kind.guarded)
            || head.is_some_and(|head| head.node == node)
        {
            return None;
        }
        let waits = self.nodes[node].suspended.first().filter(|waits| waits.rank() < first.rank());
        if waits.is_some_and(|waits| own <= level(self.tasks[waits.slot()].urgency)) {
            return None;
        }
        let mut lack = kind.need;
        sub(&mut lack, &kind.need.minimum(&self.nodes.usable(node, kind.guarded)));
        (kept(&lack) == ResourceVector::default()).then_some(lack)
    }

    /// The least urgent of these, in order, whose standing still covers what is lacking, without any that is not needed.
    fn least_set(&mut self, fitting: &[(usize, Slot)], lack: &ResourceVector) -> Option<(usize, usize)> {
        let mut victims = std::mem::take(&mut self.search.victims);
        victims.clear();
        let mut sum = ResourceVector::default();
        for (_, slot) in fitting {
            if sum.fits(lack) {
                break;
            }
            let part = given_back(self.need(*slot)).minimum(lack);
            if part != ResourceVector::default() {
                add(&mut sum, &given_back(self.need(*slot)));
                victims.push(*slot);
            }
        }
        let enough = sum.fits(lack);
        for at in (0..victims.len()).rev() {
            let part = victims.get(at).map(|slot| given_back(self.need(*slot))).unwrap_or_default();
            let mut without = sum;
            sub(&mut without, &part);
            if enough && without.fits(lack) {
                victims.remove(at);
                sum = without;
            }
        }
        let highest = victims.iter().map(|slot| level(self.tasks[*slot].urgency)).max();
        let price = highest.filter(|_| enough).map(|highest| (highest, victims.len()));
        self.search.victims = victims;
        price
    }

    /// The task takes what is free on the node, and asks those in `search.best` to stand still.
    fn claim(&mut self, slot: Slot, node: Slot) {
        let (id, need, tenant) = (self.tasks[slot].id, *self.need(slot), self.tenant(slot));
        self.count_quota_pass(slot);
        self.unlist(slot);
        self.occupy(slot);
        self.tasks.enter(slot, Stage::Claiming);
        self.tasks[slot].node = node;
        if self.head.is_some_and(|head| head.slot == slot) {
            self.set_head(None);
        }
        add(&mut self.tenants[tenant].used, &need);
        let guarded = self.classes[self.tasks[slot].class].kind.guarded;
        let got = need.minimum(&self.nodes.usable(node, guarded));
        self.nodes.take(node, &got);
        add(&mut self.nodes[node].reserved, &got);
        self.nodes[node].claims.push(Claim { task: slot, need, got });
        let victims = std::mem::take(&mut self.search.best);
        for victim in &victims {
            let (task, theirs) = (self.tasks[*victim].id, level(self.tasks[*victim].urgency));
            self.tasks.detail_mut(*victim).urgent = Some(id);
            self.levels.sub(theirs);
            self.tasks.enter(*victim, Stage::Suspending);
            self.tasks.counts.preemptions += 1;
            self.decided.push_back(Decision::Suspend { task, urgent: id });
        }
        self.search.best = victims;
    }

    /// Starts a task whose claim has all it needs.
    pub(crate) fn start_claim(&mut self, slot: Slot) -> Decision {
        let node = self.tasks[slot].node;
        let claim = self.take_claim(slot);
        assert!(claim.got == claim.need, "M3: what starts has all it needs");
        self.begin(slot, node)
    }

    fn take_claim(&mut self, slot: Slot) -> Claim {
        let node = &mut self.nodes[self.tasks[slot].node];
        let at = node.claims.iter().position(|claim| claim.task == slot);
        assert!(at.is_some(), "T1: a task that claims has a claim");
        let claim = node.claims.remove(at.unwrap_or_default());
        sub(&mut node.reserved, &claim.got);
        claim
    }

    /// Gives back what a claim had. Those who were not asked yet to stand still for it are not.
    pub(crate) fn drop_claim(&mut self, slot: Slot) {
        let (id, node, tenant) = (self.tasks[slot].id, self.tasks[slot].node, self.tenant(slot));
        let claim = self.take_claim(slot);
        sub(&mut self.tenants[tenant].used, &claim.need);
        self.whole.retain(|whole| *whole != slot);
        let mut spared = Vec::new();
        self.decided.retain(|decision| match decision {
            Decision::Suspend { task, urgent } if *urgent == id => {
                spared.push(*task);
                false
            }
            _ => true,
        });
        for task in spared {
            if let Some(victim) = self.tasks.find(task) {
                self.levels.add(level(self.tasks[victim].urgency));
                self.tasks.detail_mut(victim).urgent = None;
                self.tasks.enter(victim, Stage::Running);
            }
        }
        self.nodes.give_back(node, &claim.got, &mut self.whole);
        self.raised(node);
    }

    /// A task that was to be asked to stand still, and was not yet, is not asked any more.
    pub(crate) fn withdraw(&mut self, slot: Slot) {
        let id = self.tasks[slot].id;
        if self.is_yet_to_be_asked(id) {
            self.decided
                .retain(|decision| !matches!(decision, Decision::Suspend { task, .. } if *task == id));
        }
    }

    /// Whether the decision that the task stands still was not handed out yet.
    pub(crate) fn is_yet_to_be_asked(&self, id: TaskId) -> bool {
        self.decided.iter().any(|decision| matches!(decision, Decision::Suspend { task, .. } if *task == id))
    }
}
