//! What no caller should ask, and what a flood leaves behind: nothing is lost, nothing overflows, every refusal helps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use symbi_scheduler::{
    Decision, Node, NodeId, Options, OptionsError, Priority, Scheduler, Share, Strategy, Task, TaskError,
    TaskId, TenantId, Tier, Why,
};
use symbi_types::ResourceVector;

const MS: u64 = 1_000_000;

fn amounts(memory_mb: u64, cpu_millicores: u64) -> ResourceVector {
    ResourceVector { memory_mb, cpu_millicores, ..ResourceVector::default() }
}

fn node(id: u32, capacity: ResourceVector) -> Node {
    Node { id: NodeId(id), capacity }
}

fn scheduler(nodes: &[Node], options: Options) -> Scheduler {
    Scheduler::new(nodes, options).unwrap()
}

fn task(id: u64, need: ResourceVector) -> Task {
    Task::new(TaskId(id), need)
}

/// Every decision there is now; a flood of them is a failure, not an endless test.
fn decisions(scheduler: &mut Scheduler) -> Vec<Decision> {
    let mut all = Vec::new();
    scheduler.next_many(1 << 22, &mut all);
    all
}

fn started(decisions: &[Decision]) -> Vec<u64> {
    let id = |decision: &Decision| match decision {
        Decision::Start { task, .. } => task.0,
        other => panic!("{other:?} is no start"),
    };
    decisions.iter().map(id).collect()
}

#[test]
fn an_impossible_task_is_refused_with_an_amount_that_fits() {
    let nodes = [node(1, amounts(100, 9_000)), node(2, amounts(400, 1_000))];
    let mut scheduler = scheduler(&nodes, Options::default());
    for (need, resource) in [
        (amounts(401, 0), "memory_mb"),
        (amounts(0, 9_001), "cpu_millicores"),
        (amounts(u64::MAX, u64::MAX), "memory_mb"),
        (ResourceVector { accelerators: 1, ..Default::default() }, "accelerators"),
    ] {
        let refused = scheduler.submit(task(1, need)).unwrap_err();
        let TaskError::NeverFits { lack, largest, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(lack.resource.as_str(), resource);
        assert!(lack.have < lack.need);
        assert_eq!(scheduler.submit(task(2, largest)), Ok(()), "what would fit does");
        scheduler.cancel(TaskId(2)).unwrap();
    }
    let both = amounts(200, 5_000); // each alone is there, on different nodes
    assert!(matches!(scheduler.submit(task(1, both)), Err(TaskError::NeverFits { .. })));
    assert_eq!((scheduler.waiting(), scheduler.why(TaskId(1))), (0, None));
}

#[test]
fn what_would_fit_leaves_the_headroom_that_is_kept_from_the_task() {
    let options = Options { strategy: Strategy::Priority, headroom_percent: 20, ..Options::default() };
    let mut scheduler = scheduler(&[node(1, amounts(100, 1_000))], options);
    let refused = scheduler.submit(task(1, amounts(81, 0))).unwrap_err();
    let TaskError::NeverFits { lack, largest, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((lack.need, lack.have, largest), (81, 80, amounts(80, 800)));
    assert_eq!(scheduler.submit(task(1, largest)), Ok(()));
    let critical = Task { priority: Priority(255), ..task(2, amounts(100, 1_000)) };
    assert_eq!(scheduler.submit(critical), Ok(()), "it is kept for these");
}

#[test]
fn a_task_that_needs_nothing_starts_on_a_full_node() {
    let mut scheduler = scheduler(&[node(1, amounts(1, 1))], Options::default());
    scheduler.submit(task(1, amounts(1, 1))).unwrap();
    scheduler.submit(task(2, ResourceVector::default())).unwrap();
    assert_eq!(started(&decisions(&mut scheduler)), [1, 2]);
    let without = Scheduler::new(&[], Options::default()).unwrap().submit(task(1, amounts(1, 1)));
    assert!(matches!(without, Err(TaskError::NeverFits { .. })), "no node at all: {without:?}");
}

#[test]
fn the_largest_numbers_are_refused_or_counted_and_never_wrap() {
    let endless = ResourceVector::from_array([u64::MAX; ResourceVector::DIMENSIONS]);
    let refused = Scheduler::new(&[node(1, endless)], Options::default()).unwrap_err();
    assert!(matches!(refused, OptionsError::TooLarge { .. }), "{refused:?}");
    assert!(refused.to_string().ends_with("at most 2^46 of each"), "{refused}");

    let most = ResourceVector::from_array([1 << 46; ResourceVector::DIMENSIONS]);
    let nodes: Vec<Node> = (0..8).map(|id| node(id, most)).collect();
    let mut scheduler = scheduler(&nodes, Options { ageing_ms: 86_400_000, ..Options::default() });
    let mut id = 0;
    for now_ns in [0, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
        scheduler.advance(now_ns);
        for tier in Tier::ALL {
            for times in [None, Some(1), Some(u64::MAX)] {
                for priority in [0, 255] {
                    id += 1;
                    let _ = scheduler.submit(Task {
                        tier,
                        priority: Priority(priority),
                        deadline_ns: times,
                        duration_ns: times,
                        ..task(id, most)
                    });
                }
            }
        }
        for decision in decisions(&mut scheduler) {
            if let Decision::Start { task, .. } = decision {
                assert_eq!(scheduler.complete(task), Ok(most));
            }
        }
        assert_eq!(scheduler.verify(), Ok(()));
    }
    assert!(12 < id);
}

#[test]
fn time_that_is_told_backwards_stands_still() {
    let mut scheduler = scheduler(&[node(1, amounts(9, 9))], Options::default());
    scheduler.advance(5_000 * MS);
    scheduler.submit(Task { priority: Priority(9), ..task(1, amounts(9, 9)) }).unwrap();
    scheduler.advance(0);
    scheduler.submit(Task { priority: Priority(9), ..task(2, amounts(9, 9)) }).unwrap();
    assert_eq!(
        started(&decisions(&mut scheduler)),
        [1],
        "the first to come, though the second came `earlier`"
    );
}

#[test]
fn a_task_ends_once_and_a_name_is_used_once() {
    let mut scheduler = scheduler(&[node(1, amounts(9, 9))], Options::default());
    let mine = task(1, amounts(4, 4));
    scheduler.submit(mine).unwrap();
    for again in [mine, Task { tier: Tier::Batch, need: amounts(1, 1), ..mine }] {
        assert_eq!(scheduler.submit(again), Err(TaskError::Duplicate { task: TaskId(1) }));
    }
    assert_eq!(scheduler.complete(TaskId(1)), Err(TaskError::NotRunning { task: TaskId(1) }));
    assert_eq!(started(&decisions(&mut scheduler)), [1]);
    assert_eq!(scheduler.submit(mine), Err(TaskError::Duplicate { task: TaskId(1) }), "while it runs too");
    assert_eq!(scheduler.complete(TaskId(1)), Ok(amounts(4, 4)));
    for _ in 0..3 {
        assert_eq!(scheduler.complete(TaskId(1)), Err(TaskError::Unknown { task: TaskId(1) }));
        assert_eq!(scheduler.free(NodeId(1)), Some(amounts(9, 9)));
    }
    assert_eq!(scheduler.submit(mine), Ok(()), "the name is free again");
}

/// Submissions beyond the limit. All of them are refused, however many come.
const BEYOND: u64 = 1_000_000;

#[test]
fn a_million_submissions_beyond_the_limit_are_refused_and_none_before_it_is_lost() {
    let limit = if std::env::var_os("SYMBI_LONG").is_some() { 1 << 20 } else { 20_000 };
    let options = Options { tasks_max: limit, ..Options::default() };
    let mut scheduler = scheduler(&[node(1, amounts(100, 0)), node(2, amounts(50, 0))], options);
    let limit = limit as u64;
    for id in 0..limit {
        scheduler.submit(task(id, amounts(1, 0))).unwrap();
    }
    for id in limit..limit + BEYOND {
        let refused = scheduler.submit(task(id, amounts(1, 0))).unwrap_err();
        assert_eq!(refused.code(), "scheduler.full");
    }
    assert_eq!(scheduler.waiting() as u64, limit);
    let mut ended = 0;
    let mut later = limit + BEYOND;
    loop {
        let now = started(&decisions(&mut scheduler));
        if now.is_empty() {
            break;
        }
        for id in now {
            let due = if ended < limit { ended } else { limit + BEYOND + ended - limit };
            assert_eq!(id, due, "in the order in which they were accepted");
            assert_eq!(scheduler.complete(TaskId(id)), Ok(amounts(1, 0)));
            ended += 1;
            if ended.is_multiple_of(100) {
                scheduler.submit(task(later, amounts(1, 0))).unwrap(); // there is room again
                later += 1;
            }
        }
    }
    assert_eq!(ended, limit + later - limit - BEYOND, "every accepted one ended");
    assert_eq!(scheduler.totals().allocated, ResourceVector::default());
}

#[test]
fn one_tenants_flood_is_its_own_back_pressure() {
    let mut scheduler = scheduler(&[node(1, amounts(1, 0))], Options::default());
    let share = Share { waiting_max: Some(10), ..Share::default() };
    scheduler.set_tenant(TenantId(7), share).unwrap();
    let flood = |id| Task { tenant: TenantId(7), ..task(id, amounts(1, 0)) };
    let accepted = (0..100_000).filter(|id| scheduler.submit(flood(*id)).is_ok()).count();
    assert_eq!(accepted, 10);
    assert_eq!(scheduler.submit(flood(500_000)).unwrap_err().code(), "scheduler.tenant_full");
    scheduler.submit(task(600_000, amounts(1, 0))).unwrap();
    let quiet = scheduler.why(TaskId(600_000));
    assert!(matches!(quiet, Some(Why::Waiting { position: 10, .. })), "another tenant goes on: {quiet:?}");
    assert_eq!(started(&decisions(&mut scheduler)), [0]);
    assert_eq!(scheduler.submit(flood(700_000)), Ok(()), "one has started, so one may wait more");
}
