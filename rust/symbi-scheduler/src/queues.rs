//! Where a waiting task stands: parked at its agent, ready in its class, its class in the queue of its tier or aside.
//!
//! Not here: in which order the queues are looked at (`placement`).

use crate::classes::{Class, Kind};
use crate::column::{NONE, Slot};
use crate::entry::Stage;
use crate::front::{Front, LOOK};
use crate::heap::{Item, Places};
use crate::scheduler::{PASSED_MAX, Scheduler};
use crate::task::Tier;

impl Scheduler {
    /// Puts a task that stands nowhere where it waits.
    pub(crate) fn enqueue(&mut self, slot: Slot) {
        let agent = self.tasks[slot].agent;
        if agent == NONE {
            self.list(slot);
            return;
        }
        let tasks = &mut self.agents[agent];
        if tasks.running == NONE && tasks.candidate == NONE && tasks.parked.is_empty() {
            tasks.candidate = slot; // the usual case: it has no other
            self.list(slot);
            return;
        }
        tasks.parked.push(Item::new(self.tasks[slot].rank, slot), &mut self.tasks.places);
        self.tasks.enter(slot, Stage::Parked);
        self.promote(agent);
    }

    /// Makes the best waiting task of an idle agent its candidate (A1); forgets an agent that has none (A2).
    pub(crate) fn promote(&mut self, agent: Slot) {
        let tasks = &mut self.agents[agent];
        if tasks.running != NONE {
            return;
        }
        if let Some(best) = tasks.parked.first() {
            let before = tasks.candidate;
            if before != NONE && self.tasks[before].rank < best.rank() {
                return;
            }
            tasks.parked.remove(best.slot(), &mut self.tasks.places);
            tasks.candidate = best.slot();
            self.list(best.slot()); // first, so that a class that both are of is not empty meanwhile
            if before != NONE {
                self.unlist(before);
                let item = Item::new(self.tasks[before].rank, before);
                self.agents[agent].parked.push(item, &mut self.tasks.places);
                self.tasks.enter(before, Stage::Parked);
            }
        }
        self.agents.leave(agent);
    }

    /// Puts a candidate into its class, which is another one if its urgency has changed.
    pub(crate) fn list(&mut self, slot: Slot) {
        let entry = &self.tasks[slot];
        let (tier, priority) = entry.urgency;
        let kind = self.classes[entry.class].kind;
        // Nobody loses by inheriting: who may use the headroom by itself still may.
        let guarded = self.is_guarded(tier, priority) && self.is_guarded(entry.tier, entry.priority);
        let wanted = Kind { tier, guarded, ..kind };
        if wanted != kind {
            let class = self.classes.enter(wanted);
            self.classes.leave(std::mem::replace(&mut self.tasks[slot].class, class));
        }
        let class = self.tasks[slot].class;
        self.classes[class].ready.push(Item::new(self.tasks[slot].rank, slot), &mut self.tasks.places);
        self.tasks.enter(slot, Stage::Ready);
        self.reorder(class);
    }

    /// Takes a ready task out of its class.
    pub(crate) fn unlist(&mut self, slot: Slot) {
        let class = self.tasks[slot].class;
        self.classes[class].ready.remove(slot, &mut self.tasks.places);
        self.tasks.enter(slot, Stage::Nowhere);
        self.reorder(class);
    }

    /// Puts the class where its first task belongs (C1).
    fn reorder(&mut self, slot: Slot) {
        let class = &mut self.classes[slot];
        let wanted = class.ready.first().map(Item::rank);
        let listed = std::mem::replace(&mut class.listed, wanted);
        if listed == wanted {
            return;
        }
        self.settled = false;
        let (kind, aside) = (class.kind, class.aside);
        if wanted.is_none() {
            class.aside = false;
        }
        let (front, places) = self.front(kind, aside);
        if let Some(rank) = listed {
            front.remove(Item::new(rank, slot), places);
        }
        if let Some(rank) = wanted {
            front.insert(Item::new(rank, slot), places);
        }
        if kind.tier == Tier::Batch && !aside {
            self.tenants.relist(kind.tenant);
        }
    }

    fn front(&mut self, kind: Kind, aside: bool) -> (&mut Front, &mut Places) {
        let front = match kind.tier {
            _ if aside => &mut self.tenants[kind.tenant].aside,
            Tier::Realtime => &mut self.realtime,
            Tier::Interactive => &mut self.interactive,
            Tier::Batch => &mut self.tenants[kind.tenant].batch,
        };
        (front, &mut self.classes.places)
    }

    /// Puts a class aside until its tenant's quota may allow it, or back.
    pub(crate) fn set_aside(&mut self, slot: Slot, aside: bool) {
        let Class { kind, listed: Some(rank), .. } = self.classes[slot] else { return };
        let (front, places) = self.front(kind, !aside);
        front.remove(Item::new(rank, slot), places);
        let (front, places) = self.front(kind, aside);
        front.insert(Item::new(rank, slot), places);
        self.classes[slot].aside = aside;
        if kind.tier == Tier::Batch {
            self.tenants.relist(kind.tenant);
        }
    }

    /// Whether the tenant's quota allows the first task of the class, and no older one of the tenant is to go first.
    pub(crate) fn quota_allows(&self, slot: Slot) -> bool {
        let Class { kind, listed: Some(rank), .. } = &self.classes[slot] else { return false };
        let tenant = &self.tenants[kind.tenant];
        let Some(quota) = tenant.share.quota else { return true };
        let used = tenant.used.checked_add(&kind.need);
        let older = tenant.aside.first().filter(|first| first.rank() < *rank);
        let held =
            older.is_some_and(|first| tenant.passed_seq == first.rank().seq && PASSED_MAX <= tenant.passed);
        !held && used.is_some_and(|used| quota.fits(&used))
    }

    /// A task of the tenant starts: it may have passed an older one that the quota did not allow.
    pub(crate) fn count_quota_pass(&mut self, slot: Slot) {
        let rank = self.tasks[slot].rank;
        let tenant = self.tenant(slot);
        let tenant = &mut self.tenants[tenant];
        if let Some(first) = tenant.aside.first().filter(|first| first.rank() < rank) {
            if tenant.passed_seq != first.rank().seq {
                (tenant.passed_seq, tenant.passed) = (first.rank().seq, 0);
            }
            tenant.passed += 1;
        }
    }

    /// Something of the tenant is over, or its quota has changed: what was put aside may be looked at again.
    pub(crate) fn reconsider(&mut self, tenant: Slot) {
        let mut at = 0;
        while at < LOOK
            && let Some(first) = self.tenants[tenant].aside.get(at)
        {
            if self.quota_allows(first.slot()) {
                self.set_aside(first.slot(), false);
                self.settled = false;
            } else {
                at += 1;
            }
        }
    }
}
