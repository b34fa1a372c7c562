//! What the queue promises, one sentence a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use symbi_scheduler::{
    Lack, PASSED_MAX, Priority, Reason, Resource, Scheduler, Task, TaskError, TaskId, Why,
};
use symbi_types::{AgentId, Entropy, ResourceVector, SystemEntropy};

const NODE: ResourceVector = ResourceVector::from_array([100, 4_000, 0, 0, 0, 4]);

fn need(memory_mb: u64) -> ResourceVector {
    ResourceVector { memory_mb, ..ResourceVector::default() }
}

fn task(id: u64, priority: u8, memory_mb: u64) -> Task {
    let agent = AgentId::random(&SystemEntropy);
    Task { id: TaskId(id), agent, priority: Priority(priority), need: need(memory_mb) }
}

fn queue(tasks: &[Task]) -> Scheduler {
    let mut queue = Scheduler::new(NODE);
    for task in tasks {
        queue.submit(*task).unwrap();
    }
    queue
}

fn drain(queue: &mut Scheduler) -> Vec<u64> {
    std::iter::from_fn(|| queue.next()).map(|task| task.0).collect()
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
    let lack = Lack { resource: Resource::MemoryMb, need: 40, have: 30 };
    assert_eq!(queue.why(TaskId(1)), Some(Why::Running));
    assert_eq!(queue.why(TaskId(2)), Some(Why::Waiting { position: 0, reason: Reason::Lacks(vec![lack]) }));
    assert_eq!(queue.complete(TaskId(1)), Ok(need(70)));
    assert_eq!(drain(&mut queue), [2]);
    assert_eq!(queue.why(TaskId(1)), None);
}

#[test]
fn q4_what_can_never_fit_is_refused_with_the_resource_and_the_capacity() {
    let mut queue = Scheduler::new(NODE);
    let refused = queue.submit(task(1, 0, 101)).unwrap_err();
    assert_eq!(refused.to_string(), "task `1` needs 101 `memory_mb`, and the node has 100");
    assert_eq!(refused.code(), "scheduler.never_fits");
    let five = ResourceVector { sandboxes: 5, ..ResourceVector::default() };
    let refused = queue.submit(Task { need: five, ..task(1, 0, 0) }).unwrap_err();
    assert_eq!(refused.to_string(), "task `1` needs 5 `sandboxes`, and the node has 4");
    assert_eq!((queue.waiting(), queue.agents()), (0, 0), "Q5");
}

#[test]
fn q2_a_task_gives_back_what_it_held_exactly_once() {
    let mut queue = queue(&[task(1, 0, 60)]);
    assert_eq!(queue.complete(TaskId(1)), Err(TaskError::NotRunning { task: TaskId(1) }));
    assert_eq!(queue.next(), Some(TaskId(1)));
    assert_eq!(queue.free(), ResourceVector { memory_mb: 40, ..NODE });
    assert_eq!(queue.cancel(TaskId(1)), Err(TaskError::Running { task: TaskId(1) }));
    assert_eq!(queue.complete(TaskId(1)), Ok(need(60)));
    assert_eq!(queue.complete(TaskId(1)), Err(TaskError::Unknown { task: TaskId(1) }));
    assert_eq!(queue.free(), NODE);
}

#[test]
fn q6_a_blocked_head_is_passed_so_often_and_then_holds_the_rest() {
    let mut queue = queue(&[task(0, 9, 10), task(1, 9, 100)]);
    assert_eq!(queue.next(), Some(TaskId(0)));
    let young = 2..=u64::from(PASSED_MAX) + 2;
    for id in young.clone() {
        queue.submit(task(id, 9, 1)).unwrap();
    }
    let mut started = Vec::new();
    while let Some(id) = queue.next() {
        started.push(id.0);
        queue.complete(id).unwrap();
    }
    let last = u64::from(PASSED_MAX) + 2;
    assert_eq!(started, (2..last).collect::<Vec<_>>(), "each as its turn came, up to the limit");
    let held = Reason::HeldBy { head: TaskId(1) };
    assert_eq!(queue.why(TaskId(last)), Some(Why::Waiting { position: 1, reason: held }));
    queue.complete(TaskId(0)).unwrap();
    assert_eq!(drain(&mut queue), [1], "the head goes before what it held");
    queue.complete(TaskId(1)).unwrap();
    assert_eq!(drain(&mut queue), [last]);
}

#[test]
fn q3_an_agent_does_one_task_at_a_time_its_best_first() {
    let agent = AgentId::random(&SystemEntropy);
    let of = |id, priority| Task { agent, ..task(id, priority, 1) };
    let mut queue = queue(&[of(1, 5), of(2, 9), of(3, 9), task(4, 0, 1)]);
    let waits = |reason| Some(Why::Waiting { position: 2, reason });
    assert_eq!(queue.why(TaskId(1)), waits(Reason::AgentQueue { before: TaskId(2) }));
    assert_eq!(drain(&mut queue), [2, 4]);
    let busy = Why::Waiting { position: 1, reason: Reason::AgentBusy { running: TaskId(2) } };
    assert_eq!(queue.why(TaskId(1)), Some(busy));
    queue.complete(TaskId(2)).unwrap();
    assert_eq!(drain(&mut queue), [3]);
    assert_eq!(queue.cancel_agent(agent), [TaskId(1)], "the running one is not among them");
    queue.complete(TaskId(3)).unwrap();
    assert_eq!(drain(&mut queue), Vec::<u64>::new());
}

#[test]
fn a_name_in_use_is_refused_and_free_again_afterwards() {
    let mut queue = queue(&[task(1, 0, 1)]);
    assert_eq!(queue.submit(task(1, 255, 1)), Err(TaskError::Duplicate { task: TaskId(1) }));
    queue.cancel(TaskId(1)).unwrap();
    assert_eq!(queue.submit(task(1, 0, 1)), Ok(()));
}

/// Uniform enough numbers without a crate: xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Seeded(std::sync::Mutex<Random>);

impl Entropy for Seeded {
    fn fill(&self, buffer: &mut [u8]) {
        let mut random = self.0.lock().unwrap();
        buffer.fill_with(|| random.below(256) as u8);
    }
}

/// Nanoseconds that this thread was on a processor: others may be busy on the machine.
fn processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// `cargo nextest run --cargo-profile ci -p symbi-scheduler --run-ignored only --no-capture`
#[test]
#[ignore = "a measurement, run by hand"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn measure_decisions_a_second() {
    let entropy = Seeded(std::sync::Mutex::new(Random(7)));
    let mut random = Random(11);
    for (agents, tasks) in [(1_000, 1_000), (10_000, 100_000), (10_000, 1_000_000)] {
        let agents: Vec<AgentId> = (0..agents).map(|_| AgentId::random(&entropy)).collect();
        let slots = ResourceVector::from_array([64 * 1_000, 1_000_000, 0, 0, 0, 1_000]);
        let mut queue = Scheduler::new(slots);
        let began = processor_ns();
        for id in 0..tasks {
            let agent = agents[random.below(agents.len() as u64) as usize];
            let need = need(16 + random.below(100));
            let priority = Priority(random.below(256) as u8);
            queue.submit(Task { id: TaskId(id), agent, priority, need }).unwrap();
        }
        let submitted = processor_ns() - began;
        let mut running = std::collections::VecDeque::new();
        let mut took = Vec::with_capacity(tasks as usize);
        let began = processor_ns();
        loop {
            let at = std::time::Instant::now();
            if let Some(id) = queue.next() {
                took.push(at.elapsed());
                running.push_back(id);
            } else if let Some(id) = running.pop_front() {
                queue.complete(id).unwrap();
            } else {
                break;
            }
        }
        let total = processor_ns() - began;
        took.sort();
        let p = |share: usize| took[took.len() * share / 1_000].as_nanos();
        println!(
            "{} agents, {tasks} tasks: submit {:.0}/s; decide and complete {:.0}/s; next p50 {} ns, p99 {} ns, p99.9 {} ns",
            agents.len(),
            tasks as f64 / submitted as f64 * 1e9,
            took.len() as f64 / total as f64 * 1e9,
            p(500),
            p(990),
            p(999),
        );
    }
}
