//! Nodes come, are drained and are lost, and tasks move between them, while everything else goes on.
//!
//! Not here: what the books make of it (`ledger`).

use symbi_scheduler::{Cause, Node, NodeId, TaskError, TaskId};

use crate::host::{Happening, Host};
use crate::ledger::{Broken, Place, ensure};
use crate::plan::MS;

impl Host<'_> {
    pub fn add_node(&mut self, node: Node) -> Result<(), Broken> {
        let answer = self.scheduler.add_node(node);
        ensure!(answer == Ok(()), "N15 a node can be added", "{}: {answer:?}", node.id);
        self.ledger.adds(node);
        Ok(())
    }

    pub fn nth_node(&self, n: u64) -> NodeId {
        let count = self.ledger.nodes.len().max(1);
        let found = self.ledger.nodes.keys().nth(usize::try_from(n).unwrap() % count);
        found.copied().unwrap_or(NodeId(u32::MAX))
    }

    pub fn drain_node(&mut self, n: u64) -> Result<(), Broken> {
        let node = self.nth_node(n);
        let answer = self.scheduler.drain_node(node);
        let machine = self.ledger.nodes.get_mut(&node);
        ensure!(answer.is_ok() == machine.is_some(), "N15 says why", "drain {node}: {answer:?}");
        if let Some(machine) = machine {
            machine.drained = true;
            let claims = self.ledger.tasks.values_mut().filter(|entry| entry.claims == Some(node));
            claims.for_each(|entry| entry.claims = None);
        }
        Ok(())
    }

    pub fn lose_node(&mut self, n: u64) -> Result<(), Broken> {
        let node = self.nth_node(n);
        let answer = self.scheduler.lose_node(node);
        ensure!(
            answer.is_ok() == self.ledger.nodes.contains_key(&node),
            "N15 says why",
            "lose {node}: {answer:?}"
        );
        let Ok(told) = answer else { return Ok(()) };
        for entry in self.ledger.loses(node, &told)? {
            self.note(&[8, entry.task.id.0]);
            self.outcome.lost += 1;
            let Some(agent) = entry.task.agent else { continue };
            let standing = entry.place == Place::Standing;
            let causes =
                if standing { &[Cause::Cleared, Cause::TaskCompleted][..] } else { &[Cause::TaskCompleted] };
            self.turn_agent(agent, causes)?;
        }
        Ok(())
    }

    /// Half of the moves are carried out at once, the others while the world goes on.
    pub fn rebalance(&mut self, limit: usize) -> Result<(), Broken> {
        let moves = self.scheduler.rebalance(limit);
        ensure!(moves.len() <= limit, "N15 within the limit", "{moves:?}");
        for (at, to) in moves.into_iter().enumerate() {
            self.ledger.may_move(to)?;
            if at % 2 == 0 {
                let before = self.outcome.moved;
                self.moved(to.task, to.to)?;
                let moved = before < self.outcome.moved || at != 0;
                ensure!(moved, "N15 a move is carried out", "{to:?} is proposed, and there is no room");
            } else {
                let stretch = self.ledger.tasks[&to.task].stretch;
                self.timeline.push(self.now_ns() + 2 * MS, Happening::Moved(to.task, stretch, to.to));
            }
        }
        Ok(())
    }

    pub fn moved(&mut self, task: TaskId, node: NodeId) -> Result<(), Broken> {
        let before = self.ledger.tasks[&task].clone();
        if !self.ledger.nodes.contains_key(&node) || before.place != Place::Running {
            return Ok(());
        }
        match self.scheduler.moved(task, node) {
            Ok(()) => {
                let now_ns = self.now_ns();
                self.ledger.moves(now_ns, task, node);
                self.outcome.moved += 1;
                self.note(&[5, task.0, node.0.into()]);
            }
            Err(TaskError::NoRoom { .. }) => {}
            Err(other) => ensure!(false, "N15 a move is carried out", "{task} to {node}: {other}"),
        }
        Ok(())
    }
}
