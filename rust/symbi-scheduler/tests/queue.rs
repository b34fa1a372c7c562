//! What the queues promise, one sentence a test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use symbi_scheduler::{
    Decision, Lack, Node, NodeId, Options, PASSED_MAX, Priority, Reason, Resource, Scheduler, Share,
    Strategy, Task, TaskError, TaskId, TenantId, Tier, Why,
};
use symbi_types::{AgentId, ResourceVector, SystemEntropy};

const CAPACITY: ResourceVector = ResourceVector::from_array([100, 4_000, 0, 0, 0, 4]);
const MS: u64 = 1_000_000;

fn need(memory_mb: u64) -> ResourceVector {
    ResourceVector { memory_mb, ..ResourceVector::default() }
}

fn cpu(cpu_millicores: u64) -> ResourceVector {
    ResourceVector { cpu_millicores, memory_mb: 1, ..ResourceVector::default() }
}

fn task(id: u64, priority: u8, memory_mb: u64) -> Task {
    Task { priority: Priority(priority), ..Task::new(TaskId(id), need(memory_mb)) }
}

fn urgent(id: u64, priority: u8, cpu_millicores: u64) -> Task {
    Task { priority: Priority(priority), ..Task::new(TaskId(id), cpu(cpu_millicores)) }
}

fn over(nodes: u32, options: Options, tasks: &[Task]) -> Scheduler {
    let nodes: Vec<Node> = (0..nodes).map(|id| Node { id: NodeId(id), capacity: CAPACITY }).collect();
    let mut queue = Scheduler::new(&nodes, options).unwrap();
    for task in tasks {
        queue.submit(*task).unwrap();
    }
    queue
}

fn queue(tasks: &[Task]) -> Scheduler {
    over(1, Options::default(), tasks)
}

/// The names of what starts or goes on, in order; a suspension stands for itself, negative.
fn drain(queue: &mut Scheduler) -> Vec<i64> {
    let decisions: Vec<Decision> = std::iter::from_fn(|| queue.next()).collect();
    assert_eq!(queue.verify(), Ok(()));
    let number = |task: TaskId| i64::try_from(task.0).unwrap();
    let names = decisions.into_iter().map(|decision| match decision {
        Decision::Start { task, .. } | Decision::Resume { task, .. } => number(task),
        Decision::Suspend { task, .. } => -number(task),
    });
    names.collect()
}

fn waits(queue: &Scheduler, task: u64) -> Reason {
    let why = queue.why(TaskId(task));
    let Some(Why::Waiting { reason, .. }) = why else { unreachable!("task {task} waits, and is {why:?}") };
    reason
}

#[test]
fn s1_the_most_urgent_goes_first_and_the_oldest_among_equals() {
    let mut queue =
        queue(&[task(1, 0, 1), task(2, 255, 1), task(3, 128, 1), task(4, 255, 1), task(5, 128, 1)]);
    assert_eq!(drain(&mut queue), [2, 4, 3, 5, 1]);
}

#[test]
fn s8_what_does_not_fit_waits_and_says_what_it_lacks_and_where() {
    let mut queue = queue(&[task(1, 9, 70), task(2, 9, 40)]);
    assert_eq!(drain(&mut queue), [1]);
    let lacking = vec![Lack { resource: Resource::MemoryMb, need: 40, have: 30 }];
    assert_eq!(queue.why(TaskId(1)), Some(Why::Running { node: NodeId(0) }));
    let reason = Reason::Lacks { node: Some(NodeId(0)), lacking };
    assert_eq!(queue.why(TaskId(2)), Some(Why::Waiting { position: 0, reason }));
    assert_eq!(queue.complete(TaskId(1)), Ok(need(70)), "Q1");
    assert_eq!(drain(&mut queue), [2]);
    assert_eq!(queue.why(TaskId(1)), None);
    assert_eq!(queue.complete(TaskId(1)), Err(TaskError::Unknown { task: TaskId(1) }), "Q1");
}

#[test]
fn q4_what_can_never_fit_is_refused_with_what_would() {
    let mut queue = queue(&[]);
    let refused = queue.submit(task(1, 0, 101)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "task `1` needs 101 `memory_mb`, and the node that comes nearest has 100"
    );
    assert_eq!(refused.code(), "scheduler.never_fits");
    assert!(matches!(refused, TaskError::NeverFits { largest: CAPACITY, .. }));
    let huge = Task::new(TaskId(1), ResourceVector::from_array([u64::MAX; 6]));
    assert!(matches!(queue.submit(huge), Err(TaskError::NeverFits { .. })));
    assert_eq!((queue.waiting(), queue.agents()), (0, 0), "Q2");
}

#[test]
fn s1_an_old_task_of_low_priority_goes_before_a_young_urgent_one_after_so_much_waiting() {
    let mut queue = queue(&[task(9, 200, 100)]);
    assert_eq!(drain(&mut queue), [9]);
    queue.submit(task(1, 0, 100)).unwrap();
    queue.advance(254 * 1_000 * MS);
    queue.submit(task(2, 255, 100)).unwrap();
    queue.advance(255 * 1_000 * MS);
    queue.submit(task(3, 255, 100)).unwrap();
    let mut order = Vec::new();
    for _ in 0..3 {
        queue.complete(TaskId(*order.last().unwrap_or(&9))).unwrap();
        order.extend(drain(&mut queue).into_iter().map(i64::cast_unsigned));
    }
    assert_eq!(order, [2, 1, 3], "O2");
}

#[test]
fn p1_what_passes_a_blocked_head_takes_nothing_from_it_but_by_a_short_duration() {
    let long = Task { duration_ns: Some(100 * MS), ..task(1, 9, 60) };
    let mut queue = queue(&[long, task(2, 9, 80), task(3, 9, 10)]);
    assert_eq!(drain(&mut queue), [1], "task 3 would fit, and might keep what task 2 waits for");
    assert_eq!(waits(&queue, 3), Reason::HeldBy { head: TaskId(2) });
    queue.submit(Task { duration_ns: Some(101 * MS), ..task(4, 9, 10) }).unwrap();
    assert_eq!(drain(&mut queue), Vec::<i64>::new());
    queue.submit(Task { duration_ns: Some(100 * MS), ..task(5, 10, 11) }).unwrap();
    assert_eq!(drain(&mut queue), [5], "a more urgent one that comes later is no passing");
    queue.submit(Task { duration_ns: Some(100 * MS), ..task(6, 9, 12) }).unwrap();
    assert_eq!(drain(&mut queue), [6], "it is over before task 2 could start");
    queue.submit(Task { need: ResourceVector { cpu_millicores: 9, ..need(0) }, ..task(7, 9, 0) }).unwrap();
    assert_eq!(drain(&mut queue), [7], "it takes nothing that task 2 waits for");
}

#[test]
fn q6_the_node_of_a_blocked_head_is_taken_by_others_only_so_often() {
    let mut queue = queue(&[task(0, 9, 10), task(1, 9, 100)]);
    assert_eq!(drain(&mut queue), [0]);
    let nothing = |id| task(id, 9, 0);
    let last = u64::from(PASSED_MAX) + 2;
    for id in 2..=last {
        queue.submit(nothing(id)).unwrap();
    }
    assert_eq!(drain(&mut queue).len(), usize::from(PASSED_MAX), "Q6");
    assert_eq!(waits(&queue, last), Reason::HeldBy { head: TaskId(1) });
    queue.complete(TaskId(0)).unwrap();
    assert_eq!(drain(&mut queue), [1, i64::try_from(last).unwrap()]);
}

#[test]
fn q3_an_agent_does_one_task_at_a_time_its_best_first() {
    let agent = AgentId::random(&SystemEntropy);
    let of = |id, priority| Task { agent: Some(agent), ..task(id, priority, 1) };
    let mut queue = queue(&[of(1, 5), of(2, 9), of(3, 9), task(4, 0, 1)]);
    assert_eq!(waits(&queue, 1), Reason::AgentQueue { before: TaskId(2) });
    assert_eq!(drain(&mut queue), [2, 4]);
    assert_eq!(waits(&queue, 1), Reason::AgentBusy { running: TaskId(2) });
    queue.complete(TaskId(2)).unwrap();
    assert_eq!(drain(&mut queue), [3]);
    assert_eq!(queue.cancel_agent(agent), [TaskId(1)], "the running one is not among them");
    queue.complete(TaskId(3)).unwrap();
    assert_eq!(drain(&mut queue), Vec::<i64>::new());
}

#[test]
fn s7_an_urgent_task_suspends_a_less_urgent_one_that_had_its_quantum_and_it_goes_on_afterwards() {
    let mut queue = queue(&[urgent(1, 10, 3_000), urgent(2, 20, 1_000)]);
    assert_eq!(drain(&mut queue), [2, 1]);
    queue.submit(urgent(3, 200, 2_000)).unwrap();
    assert_eq!(drain(&mut queue), Vec::<i64>::new(), "M2");
    assert_eq!(queue.wake_at(), Some(20 * MS));
    queue.advance(20 * MS);
    assert_eq!(drain(&mut queue), [-1], "M1: the least urgent that covers it");
    assert_eq!(waits(&queue, 3), Reason::Reserved { node: NodeId(0) });
    queue.suspended(TaskId(1)).unwrap();
    assert_eq!(drain(&mut queue), [3], "M3");
    assert_eq!(queue.free(NodeId(0)).map(|free| free.memory_mb), Some(97), "a frozen task keeps its memory");
    queue.complete(TaskId(3)).unwrap();
    assert_eq!(drain(&mut queue), [1], "U1");
    queue.submit(urgent(4, 200, 2_000)).unwrap();
    queue.advance(39 * MS);
    assert_eq!(drain(&mut queue), Vec::<i64>::new(), "M2: another quantum, and task 2 is too small");
    assert!((40 * MS..=45 * MS).contains(&queue.wake_at().unwrap()), "a search is not repeated at once");
    queue.advance(45 * MS);
    assert_eq!(drain(&mut queue), [-1]);
    assert_eq!(queue.cancel(TaskId(4)), Ok(()));
    queue.suspended(TaskId(1)).unwrap();
    assert_eq!(drain(&mut queue), [1], "nobody needs its place any more");
}

#[test]
fn u1_a_held_task_goes_on_only_when_it_is_released() {
    let mut queue = queue(&[urgent(1, 10, 3_000)]);
    assert_eq!(drain(&mut queue), [1]);
    queue.hold(TaskId(1)).unwrap();
    assert_eq!(queue.free(NodeId(0)), CAPACITY.checked_sub(&need(1)));
    assert_eq!(drain(&mut queue), Vec::<i64>::new());
    queue.submit(urgent(2, 10, 2_000)).unwrap();
    assert_eq!(drain(&mut queue), [2]);
    queue.release(TaskId(1)).unwrap();
    assert_eq!(drain(&mut queue), Vec::<i64>::new());
    queue.complete(TaskId(2)).unwrap();
    assert_eq!(drain(&mut queue), [1]);
    assert_eq!(queue.release(TaskId(1)), Err(TaskError::NotHeld { task: TaskId(1) }));
}

#[test]
fn d2_a_deadline_that_cannot_be_kept_is_refused_with_the_earliest_that_can() {
    let realtime = |id, deadline_ms: u64| Task {
        tier: Tier::Realtime,
        deadline_ns: Some(deadline_ms * MS),
        duration_ns: Some(10 * MS),
        ..Task::new(TaskId(id), cpu(4_000))
    };
    let mut queue = queue(&[realtime(1, 20)]);
    let refused = queue.submit(realtime(2, 30)).unwrap_err();
    assert_eq!(refused, TaskError::Deadline { task: TaskId(2), earliest_ns: 40 * MS });
    queue.submit(realtime(2, 40)).unwrap();
    let missing = TaskError::Incomplete { task: TaskId(3), missing: "duration_ns" };
    assert_eq!(queue.submit(Task { duration_ns: None, ..realtime(3, 99) }), Err(missing));
    assert_eq!(drain(&mut queue), [1]);
    queue.advance(21 * MS);
    queue.complete(TaskId(1)).unwrap();
    assert_eq!(queue.counts().deadlines_missed, 1);
}

#[test]
fn f1_tenants_share_the_batch_tier_by_weight_and_batch_never_starves() {
    let batch = |id, tenant| Task { tier: Tier::Batch, tenant: TenantId(tenant), ..task(id, 9, 100) };
    let mut queue = queue(&[]);
    queue.set_tenant(TenantId(1), Share { weight: 3, ..Share::default() }).unwrap();
    for id in 0..40 {
        queue.submit(batch(id, 1 + u32::from(20 <= id))).unwrap();
    }
    let mut served = [0; 2];
    for _ in 0..20 {
        let started = drain(&mut queue);
        let [id] = started.as_slice() else { unreachable!("one fits") };
        *served.get_mut(usize::from(20 <= *id)).unwrap() += 1;
        queue.complete(TaskId(id.cast_unsigned())).unwrap();
    }
    assert!(13 <= served.into_iter().max().unwrap(), "F1: {served:?}");
    for id in 100..132 {
        queue.submit(task(id, 255, 100)).unwrap();
    }
    let mut tiers = 0;
    for _ in 0..32 {
        let started = drain(&mut queue);
        tiers += started.iter().filter(|id| **id < 100).count();
        queue.complete(TaskId(started.first().unwrap().cast_unsigned())).unwrap();
    }
    assert_eq!(tiers, 2, "one start in sixteen");
}

#[test]
fn f2_a_tenant_at_its_quota_does_not_block_others() {
    let of = |id, tenant, memory_mb| Task { tenant: TenantId(tenant), ..task(id, 9, memory_mb) };
    let mut queue = queue(&[]);
    let share = Share { quota: Some(need(20)), waiting_max: Some(2), ..Share::default() };
    queue.set_tenant(TenantId(1), share).unwrap();
    for task in [of(1, 1, 15), of(2, 1, 15), of(3, 2, 15)] {
        queue.submit(task).unwrap();
    }
    assert_eq!(drain(&mut queue), [1, 3]);
    let lacking = vec![Lack { resource: Resource::MemoryMb, need: 30, have: 20 }];
    assert_eq!(waits(&queue, 2), Reason::Quota { tenant: TenantId(1), lacking });
    assert_eq!(queue.submit(of(4, 1, 21)).unwrap_err().code(), "scheduler.over_quota");
    queue.submit(of(5, 1, 5)).unwrap();
    assert_eq!(queue.submit(of(6, 1, 5)).unwrap_err().code(), "scheduler.tenant_full");
    assert_eq!(drain(&mut queue), [5], "what the quota allows passes what it does not");
    queue.complete(TaskId(1)).unwrap();
    assert_eq!(drain(&mut queue), [2]);
}

#[test]
fn r3_three_strategies_place_first_fullest_and_with_headroom() {
    let placed = |strategy, priority| {
        let mut queue = over(3, Options { strategy, ..Options::default() }, &[]);
        for (id, memory_mb) in [(1, 50), (2, 80), (3, 15)] {
            queue.submit(task(id, priority, memory_mb)).unwrap();
            assert!(queue.next().is_some());
        }
        let of = |id| match queue.why(TaskId(id)) {
            Some(Why::Running { node }) => node.0,
            other => unreachable!("{other:?}"),
        };
        [of(1), of(2), of(3)]
    };
    assert_eq!(placed(Strategy::FirstFit, 128), [0, 1, 0]);
    assert_eq!(placed(Strategy::BestFit, 128), [0, 1, 1]);
    let mut queue = over(1, Options { strategy: Strategy::Priority, ..Options::default() }, &[]);
    queue.submit(task(1, 128, 90)).unwrap();
    queue.submit(task(2, 128, 1)).unwrap();
    assert_eq!(drain(&mut queue), [1]);
    queue.submit(task(3, 224, 10)).unwrap();
    assert_eq!(drain(&mut queue), [3], "a tenth is kept for critical tasks");
    assert!(matches!(queue.submit(task(4, 128, 91)), Err(TaskError::NeverFits { .. })), "Q4");
}

#[test]
fn s2_a_lost_node_gives_its_tasks_back_their_places_and_load_is_evened_out() {
    let mut queue = over(2, Options::default(), &[task(1, 9, 60), task(2, 9, 30), task(3, 9, 60)]);
    assert_eq!(drain(&mut queue), [1, 2, 3]);
    queue.submit(task(4, 9, 60)).unwrap();
    assert_eq!(queue.lose_node(NodeId(0)), Ok(vec![TaskId(1), TaskId(2)]));
    assert_eq!(drain(&mut queue), Vec::<i64>::new());
    queue.complete(TaskId(3)).unwrap();
    assert_eq!(drain(&mut queue), [1, 2], "before task 4, which came later");
    queue.add_node(Node { id: NodeId(7), capacity: CAPACITY }).unwrap();
    assert_eq!(drain(&mut queue), [4]);
    queue.complete(TaskId(4)).unwrap();
    let moves = queue.rebalance(8);
    assert_eq!(moves.len(), 1, "B1");
    queue.moved(moves.first().unwrap().task, NodeId(7)).unwrap();
    assert_eq!(queue.rebalance(8), []);
    queue.drain_node(NodeId(1)).unwrap();
    assert_eq!(queue.rebalance(8).len(), 1, "a drained node is emptied");
    assert_eq!(queue.verify(), Ok(()));
}

#[test]
fn i1_whoever_answers_an_urgent_task_is_as_urgent_until_it_is_over() {
    let mut queue = queue(&[task(9, 0, 100), task(1, 0, 60), task(2, 100, 60)]);
    assert_eq!(drain(&mut queue), [2]);
    queue.submit(task(3, 200, 60)).unwrap();
    queue.inherit(TaskId(1), TaskId(3)).unwrap();
    queue.inherit(TaskId(3), TaskId(1)).unwrap(); // I2: left out
    queue.complete(TaskId(2)).unwrap();
    assert_eq!(drain(&mut queue), [1], "its own place is the older one");
    queue.disinherit(TaskId(1), TaskId(3)).unwrap();
    queue.complete(TaskId(1)).unwrap();
    assert_eq!(drain(&mut queue), [3]);
    assert_eq!(queue.verify(), Ok(()), "I1");
}

#[test]
fn q5_a_name_in_use_is_refused_and_free_again_afterwards_and_too_many_are_refused() {
    let mut queue = over(1, Options { tasks_max: 1, ..Options::default() }, &[task(1, 0, 1)]);
    assert_eq!(queue.submit(task(1, 255, 1)), Err(TaskError::Duplicate { task: TaskId(1) }));
    assert_eq!(queue.submit(task(2, 255, 1)), Err(TaskError::Full { limit: 1 }));
    queue.cancel(TaskId(1)).unwrap();
    assert_eq!(queue.submit(task(1, 0, 1)), Ok(()));
    assert_eq!(drain(&mut queue), [1]);
    assert_eq!(queue.next(), None);
}
