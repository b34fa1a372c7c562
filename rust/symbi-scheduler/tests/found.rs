//! What the simulation found, one story a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use symbi_scheduler::{Decision, Node, NodeId, Options, Priority, Scheduler, Strategy, Task, TaskId, Tier};
use symbi_types::ResourceVector;

fn amounts(memory_mb: u64, cpu_millicores: u64) -> ResourceVector {
    ResourceVector { memory_mb, cpu_millicores, ..ResourceVector::default() }
}

fn node(id: u32, capacity: ResourceVector) -> Node {
    Node { id: NodeId(id), capacity }
}

fn task(id: u64, need: ResourceVector) -> Task {
    Task::new(TaskId(id), need)
}

fn start(task: u64, node: u32) -> Decision {
    Decision::Start { task: TaskId(task), node: NodeId(node) }
}

fn decisions(scheduler: &mut Scheduler) -> Vec<Decision> {
    let mut all = Vec::new();
    scheduler.next_many(100, &mut all);
    all
}

/// Room was being made on a node when it was drained, and the task started there.
#[test]
fn a_drained_node_is_given_up_by_who_waits_for_room_there() {
    let options = Options { quantum_ms: 0, ..Options::default() };
    let nodes = [node(1, amounts(100, 1_000)), node(2, amounts(10, 10))];
    let mut scheduler = Scheduler::new(&nodes, options).unwrap();
    scheduler.submit(task(1, amounts(10, 1_000))).unwrap();
    assert_eq!(decisions(&mut scheduler), [start(1, 1)]);
    scheduler.submit(Task { priority: Priority(255), ..task(2, amounts(10, 500)) }).unwrap();
    let asked = decisions(&mut scheduler);
    assert_eq!(asked, [Decision::Suspend { task: TaskId(1), urgent: TaskId(2) }]);
    scheduler.drain_node(NodeId(1)).unwrap();
    scheduler.suspended(TaskId(1)).unwrap();
    assert_eq!(decisions(&mut scheduler), [Decision::Resume { task: TaskId(1), node: NodeId(1) }]);
    scheduler.add_node(node(3, amounts(100, 1_000))).unwrap();
    assert_eq!(decisions(&mut scheduler), [start(2, 3)]);
    assert_eq!(scheduler.verify(), Ok(()));
}

/// A critical batch task inherited from an interactive one that was not critical. Headroom was kept from it then, and it
/// waited beside an empty node until the other was over.
#[test]
fn whoever_inherits_loses_nothing_by_it() {
    let options = Options { strategy: Strategy::Priority, headroom_percent: 30, ..Options::default() };
    let mut scheduler = Scheduler::new(&[node(1, amounts(100, 1_000))], options).unwrap();
    scheduler.submit(task(1, amounts(10, 0))).unwrap();
    assert_eq!(decisions(&mut scheduler), [start(1, 1)]);
    let critical = Task { tier: Tier::Batch, priority: Priority(255), ..task(2, amounts(90, 0)) };
    scheduler.submit(critical).unwrap();
    scheduler.inherit(TaskId(2), TaskId(1)).unwrap();
    assert_eq!(decisions(&mut scheduler), [start(2, 1)]);
}
