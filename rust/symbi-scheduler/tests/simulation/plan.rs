//! What happens in one run, worked out of its seed before the run begins.
//!
//! Why: a run draws no random number while it goes, so a shorter plan is a run too, and a failing one can be made small.
//! Each seed turns whole features on and off (Groce et al. 2012, swarm testing): a fault that needs many holds
//! and no node loss is found by some seeds, where runs that do a little of everything would hide it.
//! Not here: what the host does with a decision (`host`), what must hold (`ledger`).

use symbi_scheduler::{Node, NodeId, Options, Priority, Share, Strategy, Task, TaskId, TenantId, Tier};
use symbi_testkit::SeededEntropy;
use symbi_types::{AgentId, ResourceVector};

/// A millisecond of virtual time.
pub const MS: u64 = 1_000_000;

/// A task, and what only the host knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub task: Task,
    /// How long it works, when nobody interrupts it.
    pub runs_ns: u64,
    /// How long the host takes to bring it to a stand.
    pub slow_ns: u64,
    /// Which agent does it, by number: a stopped agent is replaced by a new one of the same number.
    pub agent: Option<u8>,
    /// How often it crashes before it succeeds; each time it is tried again as a new task.
    pub crashes: u8,
}

/// A task that an event is about: by name, or the n-th of those that are in a state when it happens.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    Named(u64),
    Waiting(u64),
    Running(u64),
    Standing(u64),
}

/// What the world does to the scheduler.
#[derive(Clone, Debug)]
pub enum Event {
    Submit(Job),
    Hold(Which),
    Release(Which),
    Cancel(Which),
    CancelAgent(u8),
    /// A forced stop: the agent is terminated, whatever it does.
    StopAgent(u8),
    Inherit(Which, Which),
    Disinherit(Which, Which),
    SetTenant(TenantId, Share),
    AddNode(Node),
    DrainNode(u64),
    LoseNode(u64),
    Rebalance(usize),
    /// A request that must be refused and change nothing.
    Nonsense(u64),
    /// Nothing happens, and the scheduler is asked all the same.
    Ask,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: Vec<Node>,
    pub options: Options,
    pub tenants: Vec<(TenantId, Share)>,
    /// Decisions are taken in batches of this size; 0 for one by one.
    pub batch: usize,
    pub events: Vec<(u64, Event)>,
}

/// The n-th agent of a number. The same agent in every run.
pub fn agent(number: u8, generation: u32) -> AgentId {
    AgentId::random(&SeededEntropy::new(u64::from(number) << 32 | u64::from(generation)))
}

const AGENTS: u64 = 12;

struct Features {
    tiers: Vec<Tier>,
    priorities: Vec<u8>,
    tenants: u64,
    agents_percent: u64,
    pauses_ms: Vec<u64>,
    runs_ms: Vec<u64>,
    slow_ms: Vec<u64>,
    large_percent: u64,
    estimate_percent: u64,
    lies: bool,
    held: u64,
    cancelled: u64,
    inherited: u64,
    nodes_fail: u64,
    crashes: u64,
    /// A few tasks run long, one wants a whole node, and many small ones come after it.
    siege: bool,
}

impl Features {
    fn draw(dice: &SeededEntropy, calm: bool) -> Self {
        let all = [Tier::Realtime, Tier::Interactive, Tier::Batch];
        let tiers = match dice.below(6) {
            0 => vec![Tier::Interactive],
            1 => vec![Tier::Interactive, Tier::Batch],
            2 => vec![Tier::Realtime, Tier::Interactive],
            3 => vec![Tier::Batch],
            _ => all.to_vec(),
        };
        let siege = dice.percent(10);
        let rarely = |high| if calm || dice.percent(40) { 0 } else { dice.between(1, high) };
        let drawn = Self {
            tiers,
            priorities: dice
                .pick(&[&[128][..], &[0, 255], &[10, 100, 128, 200, 250], &[0, 1, 2, 3, 4]])
                .to_vec(),
            tenants: dice.pick(&[1, 1, 2, 4]),
            agents_percent: dice.pick(&[0, 30, 70, 100]),
            pauses_ms: dice
                .pick(&[
                    &[0, 0, 1, 2][..],
                    &[1, 3, 10],
                    &[0, 0, 0, 0, 0, 0, 0, 200],
                    &[0, 1, 5, 40, 3_000, 3_600_000],
                ])
                .to_vec(),
            runs_ms: dice.pick(&[&[1, 2, 5][..], &[5, 10, 50], &[0, 1, 20, 300], &[30]]).to_vec(),
            slow_ms: dice.pick(&[&[0][..], &[0, 1], &[1, 5, 30, 400]]).to_vec(),
            large_percent: dice.pick(&[0, 5, 20, 60]),
            estimate_percent: dice.pick(&[0, 50, 100]),
            lies: !calm && dice.percent(50),
            held: rarely(8),
            cancelled: rarely(8),
            inherited: rarely(10),
            nodes_fail: rarely(5),
            crashes: rarely(20),
            siege,
        };
        if !siege {
            return drawn;
        }
        let (pauses_ms, runs_ms) = (vec![0, 0, 1], vec![1, 2]);
        Self {
            tiers: vec![Tier::Interactive],
            priorities: vec![128],
            pauses_ms,
            runs_ms,
            agents_percent: 0,
            ..drawn
        }
    }
}

/// Draws a plan.
pub fn draw(seed: u64) -> Plan {
    if seed % 32 == 5 {
        return draw_interruption(seed);
    }
    let dice = SeededEntropy::new(seed);
    let calm = seed.is_multiple_of(4);
    let features = Features::draw(&dice, calm);
    let nodes: Vec<Node> = (0..dice.pick(&[1, 1, 2, 3, 6])).map(|id| node(&dice, id)).collect();
    let options = Options {
        strategy: dice.pick(&[Strategy::FirstFit, Strategy::BestFit, Strategy::Priority]),
        headroom_percent: dice.pick(&[0, 10, 30]),
        critical_priority: dice.pick(&[100, 224, 250]),
        ageing_ms: dice.pick(&[1, 50, 1_000]),
        batch_turn: dice.pick(&[2, 2, 4, 16]),
        quantum_ms: dice.pick(&[0, 1, 20, 100]),
        realtime_percent: dice.pick(&[10, 50, 100]),
        preemption: dice.percent(80),
        tasks_max: dice.pick(&[20, 1_000, 1 << 20]),
    };
    let tenants = (0..features.tenants).map(|id| (tenant(id), share(&dice, &nodes))).collect();
    let mut plan =
        Plan { seed, nodes, options, tenants, batch: dice.pick(&[0, 0, 1, 7]), events: Vec::new() };
    let mut at_ns = 0;
    for id in 0..dice.between(20, 220) {
        at_ns += dice.pick(&features.pauses_ms) * MS + dice.below(MS);
        let event = event(&dice, &features, &plan, at_ns, id);
        plan.events.push((at_ns, event));
    }
    plan
}

/// Long tasks fill the node, a more urgent one comes while they are young, and then nothing happens for long.
fn draw_interruption(seed: u64) -> Plan {
    let dice = SeededEntropy::new(seed);
    let capacity = ResourceVector { cpu_millicores: 1_000, ..ResourceVector::default() };
    let nodes = vec![Node { id: NodeId(0), capacity }];
    let options = Options { quantum_ms: dice.pick(&[0, 1, 20, 100]), ..Options::default() };
    let mut plan = Plan { seed, nodes, options, tenants: Vec::new(), batch: 0, events: Vec::new() };
    let urgent = dice.between(1, 3);
    for id in 0..=urgent {
        let need =
            ResourceVector { cpu_millicores: if id == urgent { 300 } else { 1_000 / urgent }, ..capacity };
        let priority = Priority(if id == urgent { 200 } else { 10 });
        let task = Task { priority, preemptible: dice.percent(90), ..Task::new(TaskId(id), need) };
        let job = Job { task, runs_ns: 5_000 * MS, slow_ns: dice.below(9) * MS, agent: None, crashes: 0 };
        plan.events.push((id * dice.below(9 * MS), Event::Submit(job)));
    }
    plan.events.sort_by_key(|(at_ns, _)| *at_ns);
    plan.events.extend((1..9).map(|step| (step * 100 * MS, Event::Ask)));
    plan
}

/// Realtime tasks that take the only processor in turns, and keep their word: no promised deadline may be missed.
pub fn draw_turns(seed: u64) -> Plan {
    let dice = SeededEntropy::new(seed);
    let capacity = ResourceVector { cpu_millicores: 1_000, ..ResourceVector::default() };
    let nodes = vec![Node { id: NodeId(0), capacity }];
    let options = Options { realtime_percent: 100, ..Options::default() };
    let mut plan = Plan { seed, nodes, options, tenants: Vec::new(), batch: 0, events: Vec::new() };
    let mut at_ns = 0;
    for id in 0..100 {
        at_ns += dice.below(2 * MS);
        let runs_ns = dice.between(1, 4 * MS);
        let task = Task {
            tier: Tier::Realtime,
            deadline_ns: Some(at_ns + dice.between(runs_ns, 40 * MS)),
            duration_ns: Some(runs_ns + dice.pick(&[0, MS])),
            ..Task::new(TaskId(id), capacity)
        };
        plan.events.push((at_ns, Event::Submit(Job { task, runs_ns, slow_ns: 0, agent: None, crashes: 0 })));
    }
    plan
}

fn tenant(id: u64) -> TenantId {
    TenantId(u32::try_from(id).unwrap())
}

fn node(dice: &SeededEntropy, id: u32) -> Node {
    let size = dice.pick(&[1, 1, 2, 4]);
    let capacity = [100 * size, 1_000 * size, 50, 50, dice.pick(&[0, 2]), 4 * size];
    Node { id: NodeId(id), capacity: ResourceVector::from_array(capacity) }
}

fn share(dice: &SeededEntropy, nodes: &[Node]) -> Share {
    let memory_mb: u64 = nodes.iter().map(|node| node.capacity.memory_mb).sum();
    let quota = ResourceVector {
        memory_mb: memory_mb * dice.pick(&[20, 50, 90]) / 100,
        ..ResourceVector::from_array([u64::MAX; 6])
    };
    Share {
        weight: dice.pick(&[1, 1, 3, 10]),
        quota: dice.percent(40).then_some(quota),
        waiting_max: dice.percent(10).then_some(5),
    }
}

/// What a task asks for: mostly a little, sometimes all that the largest node has.
fn need(dice: &SeededEntropy, nodes: &[Node], large_percent: u64) -> ResourceVector {
    let on = dice.pick(nodes).capacity.to_array();
    let large = dice.percent(large_percent);
    let mut amounts = on.map(|have| match dice.below(4) {
        0 => 0,
        _ if large => have * dice.pick(&[50, 80, 100]) / 100,
        _ => have * dice.between(0, 30) / 100,
    });
    amounts[5] = dice.below(2); // a sandbox or none
    amounts[4] = if dice.percent(10) { amounts[4] } else { 0 };
    ResourceVector::from_array(amounts)
}

fn job(dice: &SeededEntropy, features: &Features, plan: &Plan, at_ns: u64, id: u64) -> Job {
    let tier = dice.pick(&features.tiers);
    let runs_ms = if features.siege && id < 4 { 100_000 } else { dice.pick(&features.runs_ms) };
    let runs_ns = runs_ms * MS + dice.below(MS);
    let large_percent = match (features.siege, id) {
        (false, _) => features.large_percent,
        (true, 5) => 100,
        (true, _) => 0,
    };
    let realtime = tier == Tier::Realtime;
    let told = realtime || dice.percent(features.estimate_percent);
    let word = if features.lies {
        dice.pick(&[runs_ns / 2, runs_ns, runs_ns * 3])
    } else {
        runs_ns + dice.below(MS)
    };
    let task = Task {
        tenant: tenant(dice.below(features.tenants)),
        tier,
        priority: Priority(dice.pick(&features.priorities)),
        deadline_ns: (realtime || dice.percent(5)).then(|| at_ns + runs_ns * dice.pick(&[1, 2, 5, 40])),
        duration_ns: told.then_some(word.max(1)),
        preemptible: dice.percent(80),
        ..Task::new(TaskId(id), need(dice, &plan.nodes, large_percent))
    };
    let crashes = if dice.percent(features.crashes) { 1 + u8::from(dice.percent(30)) } else { 0 };
    let agent = dice.percent(features.agents_percent).then(|| u8::try_from(dice.below(AGENTS)).unwrap());
    Job { task, runs_ns, slow_ns: dice.pick(&features.slow_ms) * MS, agent, crashes }
}

fn which(dice: &SeededEntropy) -> Which {
    let n = dice.below(64);
    dice.pick(&[Which::Named(n), Which::Waiting(n), Which::Running(n), Which::Running(n), Which::Standing(n)])
}

fn event(dice: &SeededEntropy, features: &Features, plan: &Plan, at_ns: u64, id: u64) -> Event {
    let mut dart = dice.below(100);
    let mut hits = |share: u64| {
        let hit = dart < share;
        dart = dart.wrapping_sub(share);
        hit
    };
    let number = || u8::try_from(dice.below(AGENTS)).unwrap();
    if hits(features.held) {
        return if dice.percent(50) { Event::Hold(which(dice)) } else { Event::Release(which(dice)) };
    }
    if hits(features.cancelled) {
        return match dice.below(5) {
            0 => Event::CancelAgent(number()),
            1 => Event::StopAgent(number()),
            _ => Event::Cancel(which(dice)),
        };
    }
    if hits(features.inherited) {
        let (task, from) = (which(dice), which(dice));
        return if dice.percent(70) { Event::Inherit(task, from) } else { Event::Disinherit(task, from) };
    }
    if hits(features.nodes_fail) {
        let added = u32::try_from(100 + id).unwrap();
        return match dice.below(6) {
            0 | 1 => Event::AddNode(node(dice, added)),
            2 => Event::DrainNode(dice.below(8)),
            3 => Event::LoseNode(dice.below(8)),
            4 => Event::SetTenant(tenant(dice.below(features.tenants)), share(dice, &plan.nodes)),
            _ => Event::Rebalance(usize::try_from(dice.between(1, 4)).unwrap()),
        };
    }
    if hits(3) {
        return Event::Nonsense(dice.next_u64());
    }
    if hits(8) {
        return Event::Ask;
    }
    Event::Submit(job(dice, features, plan, at_ns, id))
}
