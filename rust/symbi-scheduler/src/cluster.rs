//! Nodes that come, are drained and are lost; which tasks are on which; evening out the load.
//!
//! Invariants
//! - B1 each proposed move leaves the busier of its two nodes less busy than it was; their number is bounded.

use symbi_types::ResourceVector;

use crate::column::{NONE, Slot};
use crate::entry::Stage;
use crate::error::TaskError;
use crate::options::OptionsError;
use crate::rank::deadline_key;
use crate::resources::{add, sub};
use crate::scheduler::Scheduler;
use crate::task::{Move, Node, NodeId, TaskId, Tier};
use crate::tenants::{WHOLE, dominant_share};

/// A move must lower the load of the busier node by at least this part of what it has.
const GAIN_MIN: u64 = WHOLE / 20;
/// Tasks on a node that are considered for a move, those that run longest first.
const CONSIDERED_MAX: usize = 64;

impl Scheduler {
    /// Adds a node, or opens a drained one again on which nothing is left.
    ///
    /// # Errors
    /// [`OptionsError`]: the name is in use, too many nodes, too large; nothing changed.
    pub fn add_node(&mut self, node: Node) -> Result<(), OptionsError> {
        self.nodes.add(node, self.options.headroom_percent)?;
        self.reckon();
        Ok(())
    }

    /// Nothing starts on the node any more. What is there goes on, resumes there, and may be moved.
    ///
    /// # Errors
    /// [`OptionsError::UnknownNode`]; nothing changed.
    pub fn drain_node(&mut self, node: NodeId) -> Result<(), OptionsError> {
        let slot = self.nodes.find(node).ok_or(OptionsError::UnknownNode { node })?;
        self.nodes.drain(slot);
        self.drop_claims(slot);
        self.settled = false;
        Ok(())
    }

    /// Nobody waits for room on the node any more: those who did stand in the queue again.
    fn drop_claims(&mut self, node: Slot) {
        let claiming: Vec<Slot> = self.nodes[node].claims.iter().map(|claim| claim.task).collect();
        for slot in claiming {
            self.drop_claim(slot);
            let (agent, tenant) = (self.tasks[slot].agent, self.tenant(slot));
            if agent != NONE {
                self.agents[agent].running = NONE;
            }
            self.tasks.enter(slot, Stage::Nowhere);
            self.enqueue(slot);
            self.reconsider(tenant);
        }
    }

    /// The node is gone. Its tasks wait again, at their place, those that were held until they are released. Returns
    /// their names, in order.
    ///
    /// # Errors
    /// [`OptionsError::UnknownNode`]; nothing changed.
    ///
    /// Cost: O(log n) for each of its tasks.
    pub fn lose_node(&mut self, node: NodeId) -> Result<Vec<TaskId>, OptionsError> {
        let lost = self.nodes.find(node).ok_or(OptionsError::UnknownNode { node })?;
        self.nodes.drain(lost);
        self.drop_claims(lost);
        let mut gone: Vec<Slot> = self.listed(self.nodes[lost].first).collect();
        gone.extend(self.listed(self.nodes[lost].still));
        for slot in &gone {
            self.send_back(*slot, lost);
        }
        self.nodes.lose(lost);
        self.reckon();
        gone.sort_unstable_by_key(|slot| self.tasks[*slot].rank);
        for slot in gone.iter().filter(|slot| self.tasks[**slot].agent != NONE) {
            if self.tasks[*slot].stage != Stage::Stranded {
                let agent = self.tasks[*slot].agent;
                self.agents[agent].running = NONE;
            }
        }
        for slot in &gone {
            if self.tasks[*slot].stage != Stage::Stranded {
                self.tasks.enter(*slot, Stage::Nowhere);
                self.enqueue(*slot);
            }
        }
        for slot in &gone {
            self.reconsider(self.tenant(*slot));
        }
        Ok(gone.into_iter().map(|slot| self.tasks[slot].id).collect())
    }

    /// Takes a task off a lost node; it has to begin anew.
    fn send_back(&mut self, slot: Slot, node: Slot) {
        let held = self.tasks[slot].stage == Stage::Held;
        let amount = self.displace(slot);
        self.nodes.give_back(node, &amount, &mut self.whole); // Q1
        self.settle_account(slot);
        self.tasks[slot].node = NONE;
        let detail = self.tasks.detail_mut(slot);
        (detail.ran_ns, detail.urgent, detail.charged) = (0, None, 0);
        let tenant = self.tenant(slot);
        self.tenants[tenant].waiting += 1;
        self.tasks.enter(slot, if held { Stage::Stranded } else { Stage::Nowhere });
        if self.tasks[slot].tier == Tier::Realtime {
            let detail = self.tasks.detail_mut(slot);
            detail.own_key = deadline_key(detail.deadline_ns); // U2
            self.renew(slot);
            self.admission.wait(&self.demand(slot));
        }
    }

    /// The nodes are others: what can be promised changes.
    fn reckon(&mut self) {
        let cpu_millicores = self.nodes.capacity.cpu_millicores;
        self.admission.set_rate(cpu_millicores, self.options.realtime_percent);
        self.settled = false;
    }

    pub(crate) fn listed(&self, first: Slot) -> impl Iterator<Item = Slot> {
        let some = |slot: Slot| (slot != NONE).then_some(slot);
        std::iter::successors(some(first), move |slot| some(self.tasks[*slot].after))
    }

    /// Puts the task at the end of those that run on the node: it began last.
    pub(crate) fn link(&mut self, slot: Slot, node: Slot) {
        let last = std::mem::replace(&mut self.nodes[node].last, slot);
        (self.tasks[slot].before, self.tasks[slot].after) = (last, NONE);
        match last {
            NONE => self.nodes[node].first = slot,
            last => self.tasks[last].after = slot,
        }
    }

    /// Puts the task among those that stand still on the node.
    pub(crate) fn link_still(&mut self, slot: Slot, node: Slot) {
        let first = std::mem::replace(&mut self.nodes[node].still, slot);
        (self.tasks[slot].before, self.tasks[slot].after) = (NONE, first);
        if first != NONE {
            self.tasks[first].before = slot;
        }
    }

    /// Takes the task out of the list of its node that it is in.
    pub(crate) fn unlink(&mut self, slot: Slot) {
        let (before, after, node) = (self.tasks[slot].before, self.tasks[slot].after, self.tasks[slot].node);
        let entry = &mut self.nodes[node];
        match before {
            NONE if entry.first == slot => entry.first = after,
            NONE => {
                assert!(entry.still == slot, "T1: a task is in a list of its node");
                entry.still = after;
            }
            before => self.tasks[before].after = after,
        }
        match after {
            NONE if self.nodes[node].last == slot => self.nodes[node].last = before,
            NONE => {}
            after => self.tasks[after].before = before,
        }
        (self.tasks[slot].before, self.tasks[slot].after) = (NONE, NONE);
    }

    /// Up to `limit` moves that even out the load, drained nodes first. A node's load is the largest part of any
    /// resource that is taken there. Nothing is moved before [`Scheduler::moved`].
    ///
    /// Cost: O(nodes) a move.
    pub fn rebalance(&mut self, limit: usize) -> Vec<Move> {
        let mut free: Vec<(Slot, ResourceVector)> =
            self.nodes.slots().map(|node| (node, self.nodes.rooms[node].free)).collect();
        let mut moves: Vec<(Slot, Move)> = Vec::new();
        while moves.len() < limit
            && let Some((task, from, to)) = self.improvement(&free, &moves)
        {
            let need = *self.need(task);
            for (node, free) in &mut free {
                if *node == from {
                    add(free, &need);
                } else if *node == to {
                    sub(free, &need);
                }
            }
            let (id, from, to) = (self.tasks[task].id, self.nodes[from].id, self.nodes[to].id);
            moves.push((task, Move { task: id, from, to }));
        }
        moves.into_iter().map(|(_, proposed)| proposed).collect()
    }

    fn load(&self, node: Slot, free: &ResourceVector) -> u64 {
        let mut taken = self.nodes[node].capacity;
        sub(&mut taken, free);
        if taken == ResourceVector::default() {
            0
        } else {
            dominant_share(&taken, &self.nodes[node].capacity)
        }
    }

    /// The best move from the busiest node to the idlest, if it helps (B1).
    fn improvement(
        &self,
        free: &[(Slot, ResourceVector)],
        moves: &[(Slot, Move)],
    ) -> Option<(Slot, Slot, Slot)> {
        let movable = |node: Slot| {
            let tasks = self.listed(self.nodes[node].first).take(CONSIDERED_MAX);
            tasks.filter(|slot| {
                let entry = &self.tasks[*slot];
                let chosen = moves.iter().any(|(moved, _)| moved == slot);
                entry.stage == Stage::Running && entry.preemptible && !chosen
            })
        };
        let closed = |node: Slot| !self.nodes.rooms[node].open;
        let sources = free.iter().filter(|(node, _)| movable(*node).next().is_some());
        let (from, from_free) = sources
            .max_by_key(|(node, free)| (closed(*node), self.load(*node, free), std::cmp::Reverse(*node)))?;
        let load = if closed(*from) { WHOLE * 2 } else { self.load(*from, from_free) };
        let targets = free.iter().filter(|(node, _)| node != from && !closed(*node));
        let (to, to_free) = targets.min_by_key(|(node, free)| (self.load(*node, free), *node))?;
        let fits = |slot: &Slot| {
            let kind = &self.classes[self.tasks[*slot].class].kind;
            to_free.fits(&kind.need) && self.nodes.has_room(*to, &kind.need, kind.guarded)
        };
        let after = |slot: Slot| {
            let (mut there, mut here) = (*to_free, *from_free);
            sub(&mut there, self.need(slot));
            add(&mut here, self.need(slot));
            let here = if closed(*from) { 0 } else { self.load(*from, &here) };
            here.max(self.load(*to, &there))
        };
        let best = movable(*from).filter(fits).map(|slot| (after(slot), slot)).min()?;
        (best.0 + GAIN_MIN <= load).then_some((best.1, *from, *to))
    }

    /// A running task runs on another node now, as [`Scheduler::rebalance`] or an operator proposed.
    ///
    /// # Errors
    /// [`TaskError::Unknown`], [`TaskError::NotRunning`], [`TaskError::UnknownNode`], [`TaskError::NoRoom`]; nothing
    /// changed.
    pub fn moved(&mut self, task: TaskId, node: NodeId) -> Result<(), TaskError> {
        let slot = self.slot(task)?;
        if self.tasks[slot].stage != Stage::Running {
            return Err(TaskError::NotRunning { task });
        }
        let to = self.nodes.find(node).ok_or(TaskError::UnknownNode { node })?;
        let from = self.tasks[slot].node;
        if from == to {
            return Ok(());
        }
        let kind = self.classes[self.tasks[slot].class].kind;
        if !self.nodes.has_room(to, &kind.need, kind.guarded) {
            return Err(TaskError::NoRoom { task, node });
        }
        self.stop(slot);
        self.nodes.take(to, &kind.need);
        self.nodes.give_back(from, &kind.need, &mut self.whole); // Q1
        self.raised(from);
        self.run(slot, to);
        Ok(())
    }
}
