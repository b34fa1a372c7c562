//! Every invariant, looked at over everything: for tests and the simulator.
//!
//! Why: the assertions on the way see one task at a time; what holds over all of them is checked here, in O(n).

use std::collections::{BTreeMap, BTreeSet};

use symbi_types::ResourceVector;

use crate::column::{NONE, Slot};
use crate::entry::Stage;
use crate::heap::Item;
use crate::levels::level;
use crate::resources::kept;
use crate::scheduler::{PASSED_MAX, Scheduler};
use crate::task::Tier;

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

fn total<'a>(mut amounts: impl Iterator<Item = &'a ResourceVector>) -> Option<ResourceVector> {
    amounts.try_fold(ResourceVector::default(), |sum, amount| sum.checked_add(amount))
}

impl Scheduler {
    /// Checks every invariant.
    ///
    /// # Errors
    /// The name of one that is broken, and where.
    ///
    /// Cost: O(n). For tests and the simulator.
    #[doc(hidden)]
    pub fn verify(&self) -> Result<(), String> {
        self.verify_tasks()?;
        self.verify_classes()?;
        self.verify_agents()?;
        self.verify_nodes()?;
        self.verify_tenants()?;
        self.tenants.verify()?;
        self.nodes.verify()
    }

    fn verify_tasks(&self) -> Result<(), String> {
        let mut counts = [[0; 3]; 4];
        let mut levels = BTreeMap::new();
        let (mut waiting, mut seqs) = (0, BTreeSet::new());
        for slot in self.tasks.slots() {
            let entry = &self.tasks[slot];
            ensure(self.tasks.find(entry.id) == Some(slot), || {
                format!("T1: task {} has another slot", entry.id)
            })?;
            ensure(seqs.insert(entry.rank.seq), || format!("O1: task {} has another's rank", entry.id))?;
            let state = match entry.stage {
                Stage::Running => 1,
                Stage::Suspending => 2,
                Stage::Suspended | Stage::Held => 3,
                _ => 0,
            };
            if let Some(count) = counts.get_mut(state).and_then(|tiers| tiers.get_mut(entry.tier as usize)) {
                *count += 1;
            }
            if entry.stage == Stage::Running && entry.preemptible {
                *levels.entry(level(entry.urgency)).or_insert(0) += 1;
            }
            waiting += usize::from(entry.stage.waits() && entry.tier == Tier::Realtime);
            let due = self.due(slot);
            ensure((entry.rank.key, entry.urgency) == due, || format!("I1: task {}", entry.id))?;
            let plain = entry.tier == Tier::Interactive && entry.urgency == (entry.tier, entry.priority);
            ensure(plain || self.tasks.has_detail(slot), || format!("T3: task {}", entry.id))?;
            ensure(entry.passed <= PASSED_MAX, || format!("Q6: task {}", entry.id))?;
            ensure((entry.node == NONE) <= entry.stage.waits(), || {
                format!("T1: task {} runs nowhere", entry.id)
            })?;
        }
        let kept = &self.tasks.counts;
        let wanted = [kept.waiting, kept.running, kept.suspending, kept.suspended];
        ensure(counts == wanted, || format!("T2: {counts:?}, and {wanted:?} are counted"))?;
        ensure(self.tasks.names() == seqs.len(), || "T1: a name is left of a task that is over".to_owned())?;
        ensure(self.admission.len().0 == waiting, || {
            "D1: another number of deadlines is promised".to_owned()
        })?;
        let counted = self.levels.counts().iter().enumerate().filter(|(_, count)| **count != 0);
        ensure(counted.map(|(at, count)| (at, *count)).eq(levels), || "E1: the levels differ".to_owned())
    }

    fn verify_classes(&self) -> Result<(), String> {
        let mut ready = 0;
        for slot in self.classes.slots() {
            let class = &self.classes[slot];
            class.ready.verify(&self.tasks.places)?;
            ready += class.ready.len();
            for item in class.ready.iter() {
                let entry = &self.tasks[item.slot()];
                let here = entry.class == slot && entry.stage == Stage::Ready && entry.rank == item.rank();
                ensure(here, || format!("T1: task {} stands in a class that is not its own", entry.id))?;
            }
            let first = class.ready.first().map(Item::rank);
            ensure(class.listed == first, || format!("C1: class {slot} stands by {:?}", class.listed))?;
            let named = self.tasks.slots().filter(|task| self.tasks[*task].class == slot);
            ensure(named.count() == self.classes.tasks(slot), || format!("C2: class {slot}"))?;
            let hint = self.classes.sights[slot].hint;
            if hint.seen == self.nodes.raises {
                let mut before =
                    (0..hint.node.min(self.nodes.len())).filter(|node| self.nodes.reserved() != Some(*node));
                let none =
                    !before.any(|node| self.nodes.has_room(node, &class.kind.need, class.kind.guarded));
                ensure(none, || format!("N3: class {slot}"))?;
            }
        }
        let stand = self.tasks.slots().filter(|slot| self.tasks[*slot].stage == Stage::Ready).count();
        ensure(ready == stand, || format!("T1: {stand} are ready, and {ready} stand in classes"))?;
        let mut fronts = vec![&self.realtime, &self.interactive];
        for tenant in self.tenants.slots() {
            fronts.extend([&self.tenants[tenant].batch, &self.tenants[tenant].aside]);
        }
        let mut listed = 0;
        for front in fronts {
            front.verify(&self.classes.places)?;
            listed += front.len();
            for item in front.iter() {
                let stands = self.classes[item.slot()].listed == Some(item.rank());
                ensure(stands, || format!("C1: class {} is listed elsewhere", item.slot()))?;
            }
        }
        let wanted = self.classes.slots().filter(|slot| self.classes[*slot].listed.is_some()).count();
        ensure(listed == wanted, || format!("C1: {wanted} classes wait, and {listed} are listed"))
    }

    fn verify_agents(&self) -> Result<(), String> {
        let mut tasks = 0;
        for slot in self.agents.slots() {
            let agent = &self.agents[slot];
            agent.parked.verify(&self.tasks.places)?;
            tasks += agent.parked.len()
                + usize::from(agent.candidate != NONE)
                + usize::from(agent.running != NONE);
            let busy = agent.running != NONE;
            ensure(busy != (agent.candidate != NONE), || format!("A1, A2: agent slot {slot}"))?;
            if busy {
                let entry = &self.tasks[agent.running];
                let works = entry.agent == slot && !matches!(entry.stage, Stage::Ready | Stage::Parked);
                ensure(works, || format!("Q3: agent slot {slot}"))?;
            } else {
                let entry = &self.tasks[agent.candidate];
                let best = agent.parked.first().is_none_or(|first| entry.rank < first.rank());
                ensure(best && entry.stage == Stage::Ready, || format!("A1: agent slot {slot}"))?;
            }
        }
        let named = self.tasks.slots().filter(|slot| self.tasks[*slot].agent != NONE).count();
        ensure(named == tasks, || format!("A1: {named} tasks have agents, and agents have {tasks}"))
    }

    fn verify_nodes(&self) -> Result<(), String> {
        let mut placed = 0;
        for slot in self.nodes.slots() {
            let node = &self.nodes[slot];
            let mut amounts = vec![self.nodes.rooms[slot].free, node.reserved];
            let mut since_ns = 0;
            for task in self.listed(node.first) {
                let entry = &self.tasks[task];
                let runs = matches!(entry.stage, Stage::Running | Stage::Suspending) && entry.node == slot;
                ensure(runs && since_ns <= entry.since_ns, || {
                    format!("T1: task {} runs elsewhere", entry.id)
                })?;
                since_ns = entry.since_ns;
                amounts.push(*self.need(task));
                placed += 1;
            }
            let mut suspended = 0;
            for task in self.listed(node.still) {
                let entry = &self.tasks[task];
                let stands = matches!(entry.stage, Stage::Suspended | Stage::Held) && entry.node == slot;
                ensure(stands, || format!("T1: task {} stands still elsewhere", entry.id))?;
                suspended += usize::from(entry.stage == Stage::Suspended);
                amounts.push(kept(self.need(task)));
                placed += 1;
            }
            node.suspended.verify(&self.tasks.places)?;
            ensure(node.suspended.len() == suspended, || format!("U1: node {}", node.id))?;
            let sum = total(amounts.iter());
            ensure(sum == Some(node.capacity), || {
                format!("N1: node {} has {:?} of {sum:?}", node.id, node.capacity)
            })?;
            let got = total(node.claims.iter().map(|claim| &claim.got));
            ensure(got == Some(node.reserved), || format!("M3: node {}", node.id))?;
            for claim in &node.claims {
                let entry = &self.tasks[claim.task];
                let waits = entry.stage == Stage::Claiming && entry.node == slot;
                ensure(waits, || format!("M3: task {} claims nothing", entry.id))?;
                let whole = self.whole.contains(&claim.task);
                ensure(whole == (claim.got == claim.need), || format!("M3: task {} could start", entry.id))?;
            }
        }
        let wanted = self.tasks.slots().filter(|slot| self.tasks[*slot].stage.placed()).count();
        ensure(placed == wanted, || format!("T1: {wanted} tasks have a node, and nodes have {placed}"))
    }

    fn verify_tenants(&self) -> Result<(), String> {
        let holds = |slot: &Slot| {
            let stage = self.tasks[*slot].stage;
            stage.placed() || stage == Stage::Claiming
        };
        for slot in self.tenants.slots() {
            let tenant = &self.tenants[slot];
            let own = || self.tasks.slots().filter(move |task| self.tenant(*task) == slot);
            let needs: Vec<ResourceVector> = own().filter(holds).map(|task| *self.need(task)).collect();
            ensure(total(needs.iter()) == Some(tenant.used), || format!("F2: tenant {}", tenant.id))?;
            let waiting = own().filter(|task| self.tasks[*task].stage.waits()).count();
            ensure(waiting == tenant.waiting, || format!("F2: tenant {} has {waiting} waiting", tenant.id))?;
        }
        Ok(())
    }
}
