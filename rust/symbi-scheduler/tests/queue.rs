//! What the queue promises, one sentence a test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use symbi_scheduler::{
    Decision, Lack, Node, NodeId, Options, Priority, Reason, Resource, Scheduler, Task, TaskError, TaskId,
    Why,
};
use symbi_types::ResourceVector;

const CAPACITY: ResourceVector = ResourceVector::from_array([100, 4_000, 0, 0, 0, 4]);

fn need(memory_mb: u64) -> ResourceVector {
    ResourceVector { memory_mb, ..ResourceVector::default() }
}

fn task(id: u64, priority: u8, memory_mb: u64) -> Task {
    Task { priority: Priority(priority), ..Task::new(TaskId(id), need(memory_mb)) }
}

fn queue(tasks: &[Task]) -> Scheduler {
    let node = Node { id: NodeId(0), capacity: CAPACITY };
    let mut queue = Scheduler::new(&[node], Options::default()).unwrap();
    for task in tasks {
        queue.submit(*task).unwrap();
    }
    queue
}

fn drain(queue: &mut Scheduler) -> Vec<u64> {
    std::iter::from_fn(|| queue.next())
        .map(|decision| match decision {
            Decision::Start { task, .. } | Decision::Resume { task, .. } | Decision::Suspend { task, .. } => {
                task.0
            }
        })
        .collect()
}

#[test]
fn s1_the_most_urgent_goes_first_and_the_oldest_among_equals() {
    let mut queue =
        queue(&[task(1, 0, 1), task(2, 255, 1), task(3, 128, 1), task(4, 255, 1), task(5, 128, 1)]);
    assert_eq!(drain(&mut queue), [2, 4, 3, 5, 1]);
}

#[test]
fn s8_what_does_not_fit_waits_and_says_what_it_lacks() {
    let mut queue = queue(&[task(1, 9, 70), task(2, 9, 40)]);
    assert_eq!(drain(&mut queue), [1]);
    let lacking = vec![Lack { resource: Resource::MemoryMb, need: 40, have: 30 }];
    assert_eq!(queue.why(TaskId(1)), Some(Why::Running { node: NodeId(0) }));
    let reason = Reason::Lacks { node: Some(NodeId(0)), lacking };
    assert_eq!(queue.why(TaskId(2)), Some(Why::Waiting { position: 0, reason }));
    assert_eq!(queue.complete(TaskId(1)), Ok(need(70)), "Q1");
    assert_eq!(queue.verify(), Ok(()));
    assert_eq!(drain(&mut queue), [2]);
    assert_eq!(queue.why(TaskId(1)), None);
    assert_eq!(queue.complete(TaskId(1)), Err(TaskError::Unknown { task: TaskId(1) }));
}
