//! Figures of the scheduler: decisions a second and the time of one, by how many tasks wait.
//!
//! `cargo run --release -p symbi-scheduler --example measure [WAITING…]`
//! Each row keeps its number of tasks waiting. The first rows: there is room, and tasks come, start and end in batches of
//! 4,096, as `symbi bench schedule` has it in columns; in brackets the same one by one. The others: nodes are full, one task
//! ends, the next starts, a new one comes.
//! Not here: comparison with others (`symbi bench schedule`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock, and fails by panicking"
)]

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Instant;

use symbi_scheduler::{
    Decision, Node, NodeId, Options, Priority, Scheduler, Strategy, Task, TaskId, TenantId, Tier,
};
use symbi_types::{AgentId, Entropy, ResourceVector};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Numbered(u64);

impl Entropy for Numbered {
    fn fill(&self, buffer: &mut [u8]) {
        let mut random = Random(self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        buffer.fill_with(|| random.below(256) as u8);
    }
}

/// What kind of load a row is.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    nodes: u64,
    agents: u64,
    needs: u64,
    tiers: bool,
    strategy: Strategy,
}

/// Nanoseconds that this thread was on a processor: others may be busy on the machine.
fn processor_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

struct World {
    load: Load,
    random: Random,
    agents: Vec<AgentId>,
    real: Scheduler,
    running: VecDeque<TaskId>,
    next: u64,
    now_ns: u64,
}

impl World {
    fn new(load: Load) -> Self {
        let capacity = ResourceVector::from_array([64_000, 64_000, 10_000, 10_000, 8, 1_000]);
        let nodes: Vec<Node> = (0..load.nodes).map(|id| Node { id: NodeId(id as u32), capacity }).collect();
        let options = Options { strategy: load.strategy, tasks_max: 1 << 22, ..Options::default() };
        Self {
            load,
            random: Random(11),
            agents: (0..load.agents).map(|number| AgentId::random(&Numbered(number + 1))).collect(),
            real: Scheduler::new(&nodes, options).unwrap(),
            running: VecDeque::new(),
            next: 0,
            now_ns: 0,
        }
    }

    fn submit(&mut self) {
        let random = &mut self.random;
        let kind = random.below(self.load.needs);
        let memory_mb = 500 + kind * 37 % 4_000;
        let cpu_millicores = 250 * (1 + kind % 8);
        let need = ResourceVector { memory_mb, cpu_millicores, ..ResourceVector::default() };
        let agent = (!self.agents.is_empty()).then(|| self.agents[random.below(self.load.agents) as usize]);
        let tier = if self.load.tiers && random.below(3) == 0 { Tier::Batch } else { Tier::Interactive };
        let tenant = TenantId(if self.load.tiers { random.below(20) as u32 } else { 0 });
        let priority = Priority(random.below(256) as u8);
        let task = Task { agent, tier, tenant, priority, ..Task::new(TaskId(self.next), need) };
        self.next += 1;
        self.now_ns += 500;
        self.real.advance(self.now_ns);
        self.real.submit(task).unwrap();
    }

    fn decide(&mut self, took: Option<&mut Vec<u64>>) -> u64 {
        let mut decisions = 0;
        let mut times = took;
        loop {
            let began = times.is_some().then(Instant::now);
            let decision = self.real.next();
            if let (Some(times), Some(began)) = (&mut times, began) {
                times.push(began.elapsed().as_nanos() as u64);
            }
            match decision {
                None => return decisions,
                Some(Decision::Start { task, .. } | Decision::Resume { task, .. }) => {
                    self.running.push_back(task)
                }
                Some(Decision::Suspend { task, .. }) => {
                    self.real.suspended(task).unwrap();
                    self.running.retain(|running| *running != task);
                }
            }
            decisions += 1;
        }
    }

    fn cycle(&mut self, took: Option<&mut Vec<u64>>) -> u64 {
        self.submit();
        if let Some(task) = self.running.pop_front() {
            self.real.complete(task).unwrap();
        }
        self.decide(took)
    }
}

fn measure(load: Load, waiting: u64) {
    let mut world = World::new(load);
    let mut full = 0;
    while (world.real.waiting() as u64) < waiting {
        world.submit();
        if full < 64 {
            full = if world.decide(None) == 0 { full + 1 } else { 0 };
        }
    }
    world.decide(None);
    const CYCLES: u64 = 400_000;
    for _ in 0..CYCLES / 4 {
        world.cycle(None);
    }
    let began = processor_ns();
    let decisions: u64 = (0..CYCLES).map(|_| world.cycle(None)).sum();
    let rate = decisions as f64 / (processor_ns() - began) as f64 * 1e3;
    let mut took = Vec::with_capacity(2 * CYCLES as usize);
    for _ in 0..CYCLES / 4 {
        world.cycle(Some(&mut took));
    }
    took.sort_unstable();
    let p = |share: usize| took[took.len() * share / 1_000];
    println!(
        "{:<34} {:>9} waiting {:>6} running {:>4} nodes: submit + next + complete {rate:>5.2} M/s, next p50 {:>4} ns p99 {:>5} ns p99.9 {:>6} ns, {} suspended",
        load.name,
        world.real.waiting(),
        world.real.running(),
        load.nodes,
        p(500),
        p(990),
        p(999),
        world.real.counts().preemptions,
    );
}

/// Processor time of a submission, a decision and a completion, in batches, or one by one.
fn columns(waiting: usize, together: bool) -> [f64; 3] {
    const CORES_MEMORY: [(u64, u64); 5] =
        [(500, 256), (1_000, 512), (1_000, 2_048), (2_000, 1_024), (4_000, 4_096)];
    const PLENTY: u64 = 1 << 32;
    let mut random = Random(88_172_645_463_325_252);
    let agents: Vec<AgentId> = (0..10_000).map(|number| AgentId::random(&Numbered(number + 1))).collect();
    let mut next = 0;
    let mut tasks = |count: usize| -> Vec<Task> {
        let one = |_| {
            next += 1;
            let (cpu_millicores, memory_mb) = CORES_MEMORY[random.below(5) as usize];
            let agent = Some(agents[(next % 10_000) as usize]);
            let need = ResourceVector { memory_mb, cpu_millicores, ..ResourceVector::default() };
            let priority = Priority(random.below(256) as u8);
            Task { agent, priority, ..Task::new(TaskId(next), need) }
        };
        (0..count).map(one).collect()
    };
    let capacity = ResourceVector::from_array([524_288, 128_000, PLENTY, PLENTY, 0, PLENTY]);
    let nodes: Vec<Node> = (0..100).map(|id| Node { id: NodeId(id), capacity }).collect();
    let options = Options { preemption: false, tasks_max: 1 << 21, ..Options::default() };
    let mut real = Scheduler::new(&nodes, options).unwrap();
    real.submit_many(tasks(waiting).into_iter(), |answer| answer.unwrap());
    let (begun, size, mut spent, mut done) = (Instant::now(), waiting.min(4_096), [0; 3], 0);
    for batch in 0..256 {
        let (coming, mut decided) = (tasks(size), Vec::with_capacity(size));
        let mut ends = Vec::with_capacity(size);
        real.advance(begun.elapsed().as_nanos() as u64);
        let mut times = [processor_ns(); 4];
        match together {
            true => real.submit_many(coming.iter().copied(), |answer| answer.unwrap()),
            false => coming.iter().for_each(|task| real.submit(*task).unwrap()),
        }
        times[1] = processor_ns();
        real.next_many(size, &mut decided);
        times[2] = processor_ns();
        ends.extend(decided.iter().map(|decision| match decision {
            Decision::Start { task, .. } => *task,
            other => unreachable!("nothing stands still here: {other:?}"),
        }));
        match together {
            true => real.complete_many(&ends, |answer| answer.unwrap()),
            false => ends.iter().for_each(|task| assert!(real.complete(*task).is_ok())),
        }
        times[3] = processor_ns();
        if 64 <= batch {
            done += ends.len();
            for (spent, at) in spent.iter_mut().zip(times.windows(2)) {
                *spent += at[1] - at[0];
            }
        }
    }
    spent.map(|ns| ns as f64 / done as f64)
}

/// What a program has at least that keeps its tasks in order and finds them by name: no placement, nothing else.
fn bare(waiting: u64) {
    let mut random = Random(11);
    let (mut heap, mut names) = (BinaryHeap::new(), HashMap::new());
    for id in 0..waiting {
        heap.push((random.below(256), std::cmp::Reverse(id)));
        names.insert(id, [0u64; 12]);
    }
    const CYCLES: u64 = 400_000;
    let began = processor_ns();
    for id in waiting..waiting + CYCLES {
        heap.push((random.below(256), std::cmp::Reverse(id)));
        names.insert(id, [id; 12]);
        if let Some((_, std::cmp::Reverse(first))) = heap.pop() {
            names.remove(&first);
        }
    }
    let rate = CYCLES as f64 / (processor_ns() - began) as f64 * 1e3;
    println!("{:<34} {waiting:>9} waiting: push + pop {rate:>5.2} M/s", "std BinaryHeap and HashMap");
}

fn main() {
    let given: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let sizes = if given.is_empty() { vec![1_000, 10_000, 100_000, 1_000_000] } else { given };
    let plain = Load {
        name: "100 needs, no agents",
        nodes: 100,
        agents: 0,
        needs: 100,
        tiers: false,
        strategy: Strategy::FirstFit,
    };
    for waiting in &sizes {
        let (many, single) = (columns(*waiting as usize, true), columns(*waiting as usize, false));
        let (sum, alone) = (many.iter().sum::<f64>(), single.iter().sum::<f64>());
        println!(
            "in batches {waiting:>9} waiting: submit {:>4.0} next {:>4.0} complete {:>4.0}, together {sum:>4.0} ns, {:.2} M/s (one by one {alone:.0} ns)",
            many[0],
            many[1],
            many[2],
            1e3 / sum
        );
    }
    for waiting in &sizes {
        measure(plain, *waiting);
    }
    if 1 < std::env::args().count() {
        return;
    }
    bare(100_000);
    let waiting = 100_000;
    measure(Load { name: "one need", needs: 1, ..plain }, waiting);
    measure(Load { name: "10,000 agents", agents: 10_000, ..plain }, waiting);
    measure(Load { name: "best fit", strategy: Strategy::BestFit, ..plain }, waiting);
    measure(Load { name: "priority-based", strategy: Strategy::Priority, ..plain }, waiting);
    measure(Load { name: "20 tenants, a third batch", tiers: true, ..plain }, waiting);
    measure(Load { name: "every task another need", needs: 1 << 40, ..plain }, waiting);
    measure(Load { name: "10,000 nodes", nodes: 10_000, ..plain }, waiting);
    measure(Load { name: "1 node", nodes: 1, ..plain }, waiting);
}
