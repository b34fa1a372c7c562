//! Why a task is not running, or how it is.
//!
//! Not here: the words (`why`). It reads what is there and looks as a decision would, and changes nothing.

use crate::column::{NONE, Slot};
use crate::entry::Stage;
use crate::heap::Item;
use crate::resources::given_back;
use crate::scheduler::Scheduler;
use crate::task::TaskId;
use crate::why::{Reason, Why, lacks};

impl Scheduler {
    /// Why a task is not running, or how it is; `None` when there is none of that name.
    ///
    /// Cost: O(n), for the position is counted. For people who ask, not for the hot path.
    #[must_use]
    pub fn why(&self, task: TaskId) -> Option<Why> {
        let slot = self.tasks.find(task)?;
        let entry = &self.tasks[slot];
        let node = |slot: Slot| self.nodes[slot].id;
        Some(match entry.stage {
            Stage::Running | Stage::Nowhere => Why::Running { node: node(entry.node) },
            Stage::Suspending => Why::Suspending {
                node: node(entry.node),
                urgent: self.tasks.detail(slot).urgent.unwrap_or(task),
            },
            Stage::Suspended | Stage::Held => {
                let free = &self.nodes.rooms[entry.node].free;
                let lacking = lacks(&given_back(self.need(slot)), free).collect();
                let held = entry.stage == Stage::Held;
                Why::Suspended {
                    node: node(entry.node),
                    urgent: self.tasks.detail(slot).urgent,
                    held,
                    lacking,
                }
            }
            _ => {
                let others = self.tasks.slots().filter(|other| self.tasks[*other].stage.waits());
                let position = others.filter(|other| self.stands_before(*other, slot)).count();
                Why::Waiting { position, reason: self.reason(slot) }
            }
        })
    }

    fn reason(&self, slot: Slot) -> Reason {
        let entry = &self.tasks[slot];
        match entry.stage {
            Stage::Stranded => return Reason::Held,
            Stage::Claiming => return Reason::Reserved { node: self.nodes[entry.node].id },
            Stage::Parked => {
                let agent = &self.agents[entry.agent];
                return match agent.running {
                    NONE => Reason::AgentQueue { before: self.tasks[agent.candidate].id },
                    running => Reason::AgentBusy { running: self.tasks[running].id },
                };
            }
            _ => {}
        }
        let class = &self.classes[entry.class];
        let (need, guarded) = (&class.kind.need, class.kind.guarded);
        let Some(first) = class.ready.first() else { return Reason::Turn };
        if !self.quota_allows(entry.class) {
            let tenant = &self.tenants[class.kind.tenant];
            let wanted = tenant.used.checked_add(need).unwrap_or(*need);
            let lacking = tenant.share.quota.map(|quota| lacks(&wanted, &quota).collect());
            return Reason::Quota { tenant: tenant.id, lacking: lacking.unwrap_or_default() };
        }
        if !self.nodes.slots().any(|node| self.nodes.has_room(node, need, guarded)) {
            let (lacking, node) = self.nearest(need, guarded, false);
            return Reason::Lacks { node: node.map(|node| self.nodes[node].id), lacking };
        }
        if self.would_start(entry.class, first).is_none()
            && let Some(head) = self.holder(slot)
        {
            return Reason::HeldBy { head };
        }
        if self.foremost() == Some(slot) { Reason::Next } else { Reason::Turn }
    }

    /// Who waits for what is free and would be taken.
    fn holder(&self, slot: Slot) -> Option<TaskId> {
        let class = &self.classes[self.tasks[slot].class].kind;
        let mut room =
            self.nodes.slots().filter(|node| self.nodes.has_room(*node, &class.need, class.guarded));
        room.find_map(|node| {
            let head = self.head.filter(|head| head.node == node && head.slot != slot).map(|head| head.slot);
            let first = self.nodes[node].suspended.first().map(Item::slot);
            head.or(first).map(|slot| self.tasks[slot].id)
        })
    }
}
