//! Requests that make no sense, at any moment of a run.
//!
//! Invariants
//! - N15 each is refused, and the comparison of the books that follows shows that nothing changed.

use symbi_scheduler::{Node, NodeId, Share, Task, TaskId, TenantId, Tier};
use symbi_types::ResourceVector;

use crate::host::Host;
use crate::ledger::{Broken, Place, ensure};
use crate::plan::Which;

impl Host<'_> {
    /// N15: one of them, by number.
    pub fn nonsense(&mut self, dice: u64) -> Result<(), Broken> {
        let (n, nobody) = (dice >> 8, TaskId(u64::MAX - 1));
        let huge = ResourceVector::from_array([0, 0, u64::MAX, 0, 0, 0]);
        let waiting = self.find(Which::Waiting(n));
        let running = self.find(Which::Running(n));
        let any = self.ledger.nth(n, |_| true).unwrap_or(nobody);
        let blank = Task::new(nobody, ResourceVector::default());
        let bare = Task { tier: Tier::Realtime, deadline_ns: None, ..blank };
        let sudden = Task { tier: Tier::Realtime, deadline_ns: Some(u64::MAX), duration_ns: None, ..blank };
        let known = self.ledger.nodes.iter().next();
        let again = known.map(|(id, machine)| Node { id: *id, capacity: machine.capacity });
        let again = again.filter(|node| !self.ledger.nodes[&node.id].drained);
        let refused = match dice % 16 {
            0 => any == nobody || self.scheduler.submit(Task { id: any, ..blank }).is_err(),
            1 => self.scheduler.submit(Task { need: huge, ..blank }).is_err(),
            2 => self.scheduler.submit(bare).is_err(),
            3 => self.scheduler.submit(sudden).is_err(),
            4 => self.scheduler.complete(nobody).is_err(),
            5 => self.scheduler.complete(self.last).is_err(),
            6 => self.scheduler.complete(waiting).is_err(),
            7 => self.scheduler.suspended(waiting).is_err(),
            8 => {
                self.ledger.tasks.get(&running).is_some_and(|entry| entry.place == Place::Suspending)
                    || self.scheduler.suspended(running).is_err()
            }
            9 => self.scheduler.cancel(running).is_err(),
            10 => self.scheduler.moved(running, NodeId(u32::MAX)).is_err(),
            11 => self.scheduler.moved(waiting, self.nth_node(n)).is_err(),
            12 => again.is_none_or(|node| self.scheduler.add_node(node).is_err()),
            13 => self.scheduler.lose_node(NodeId(u32::MAX)).is_err(),
            14 => self.scheduler.set_tenant(TenantId(0), Share { weight: 0, ..Share::default() }).is_err(),
            _ => {
                self.scheduler.advance(0);
                true
            }
        };
        ensure!(refused, "N15 nonsense is refused", "number {}", dice % 16);
        Ok(())
    }
}
