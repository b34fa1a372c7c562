//! What the simulation, and the plain scheduler beside the real one, found: one story a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use symbi_scheduler::{
    Decision, Node, NodeId, Options, Priority, Scheduler, Strategy, Task, TaskId, TenantId, Tier,
};
use symbi_types::{AgentId, Entropy, ResourceVector};

/// Bytes of one number, so that an agent has the same name in every run.
struct Numbered(u8);

impl Entropy for Numbered {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}

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

/// Two tasks stood still on a node. The first, which lacked more than was free, was held; the second would have fitted, and
/// nobody looked.
#[test]
fn whoever_stood_behind_a_task_that_is_held_goes_on() {
    let options = Options { preemption: false, ..Options::default() };
    let mut scheduler = Scheduler::new(&[node(1, amounts(100, 1_000))], options).unwrap();
    for (id, cpu_millicores) in [(1, 900), (2, 100)] {
        scheduler.submit(task(id, amounts(10, cpu_millicores))).unwrap();
    }
    assert_eq!(decisions(&mut scheduler), [start(1, 1), start(2, 1)]);
    scheduler.hold(TaskId(1)).unwrap();
    scheduler.hold(TaskId(2)).unwrap();
    scheduler.submit(task(3, amounts(10, 500))).unwrap();
    assert_eq!(decisions(&mut scheduler), [start(3, 1)]);
    scheduler.release(TaskId(1)).unwrap();
    scheduler.release(TaskId(2)).unwrap();
    assert_eq!(decisions(&mut scheduler), [], "the first of them waits for 900, and stands before the other");
    scheduler.hold(TaskId(1)).unwrap();
    assert_eq!(decisions(&mut scheduler), [Decision::Resume { task: TaskId(2), node: NodeId(1) }]);
}

/// A tenant was owed its turn in batch. Its only candidate was replaced by a better task of the same agent, and the tenant
/// was taken for one that comes back from a pause.
#[test]
fn a_better_task_of_the_same_agent_loses_no_turn_of_its_tenant() {
    let options = Options { preemption: false, ..Options::default() };
    let mut scheduler = Scheduler::new(&[node(1, amounts(100, 1_000))], options).unwrap();
    let batch = |id, tenant, agent, need| Task {
        tier: Tier::Batch,
        tenant: TenantId(tenant),
        agent: Some(AgentId::random(&Numbered(agent))),
        priority: Priority(0),
        ..task(id, need)
    };
    let (core, much_memory) = (amounts(0, 1_000), amounts(90, 0));
    scheduler.submit(task(1, amounts(50, 0))).unwrap();
    scheduler.submit(batch(10, 1, 1, core)).unwrap();
    scheduler.submit(batch(20, 2, 2, much_memory)).unwrap();
    assert_eq!(decisions(&mut scheduler), [start(1, 1), start(10, 1)]);
    for id in 11..13 {
        scheduler.complete(TaskId(id - 1)).unwrap();
        scheduler.submit(batch(id, 1, 1, core)).unwrap();
        assert_eq!(decisions(&mut scheduler), [start(id, 1)], "the other tenant's task lacks memory");
    }
    scheduler.complete(TaskId(12)).unwrap();
    // The first tenant was served three times. The second is owed as much, and now has tasks that fit.
    scheduler.submit(Task { priority: Priority(255), ..batch(21, 2, 2, core) }).unwrap();
    scheduler.submit(batch(22, 2, 3, core)).unwrap();
    scheduler.submit(batch(13, 1, 4, core)).unwrap();
    assert_eq!(decisions(&mut scheduler), [start(21, 1)]);
    scheduler.complete(TaskId(21)).unwrap();
    assert_eq!(decisions(&mut scheduler), [start(22, 1)]);
}
