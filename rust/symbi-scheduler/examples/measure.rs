//! Figures of the scheduler: decisions a second and the time of one, by how many tasks wait.
//!
//! `cargo run --release -p symbi-scheduler --example measure [WAITING…]`
//! Each row keeps its number of tasks waiting: nodes are full, one task ends, the next starts, a new one comes.
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
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
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
