//! What a seed asks of both: settings, nodes, tenants, and steps of which any may be left out.

use symbi_scheduler::{Node, NodeId, Options, Priority, Share, Strategy, Task, TaskId, TenantId, Tier};
use symbi_testkit::SeededEntropy;
use symbi_types::{AgentId, Entropy, ResourceVector};

const MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
pub enum Step {
    /// Time goes on, so many nanoseconds.
    Wait(u64),
    Submit(Vec<Task>),
    /// As many decisions at the most.
    Next(usize),
    /// The nth that runs, and so many after it.
    Complete(u64, usize),
    Cancel(TaskId),
    CancelAgent(AgentId),
    Hold(u64),
    Release(u64),
    Inherit(TaskId, TaskId),
    Disinherit(TaskId, TaskId),
    Move(u64, NodeId),
    AddNode(Node),
    DrainNode(NodeId),
    LoseNode(NodeId),
    SetTenant(TenantId, Share),
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub options: Options,
    pub nodes: Vec<Node>,
    pub tenants: Vec<(TenantId, Share)>,
    pub steps: Vec<Step>,
}

struct Numbered(u64);

impl Entropy for Numbered {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0 as u8 + 1);
    }
}

/// What a seed has of each kind of event: a mistake that needs much of one would drown in runs with a little of all.
struct Features {
    realtime: bool,
    batch: bool,
    agents: bool,
    durations: bool,
    holds: bool,
    inheritance: bool,
    nodes: bool,
    tenants: bool,
    moves: bool,
    small_needs: bool,
}

struct Draw {
    random: SeededEntropy,
    has: Features,
    next: u64,
}

pub fn draw(seed: u64) -> Plan {
    let random = SeededEntropy::new(seed);
    let on = |percent| random.percent(percent);
    let has = Features {
        realtime: on(40),
        batch: on(60),
        agents: on(50),
        durations: on(60),
        holds: on(50),
        inheritance: on(30),
        nodes: on(40),
        tenants: on(60),
        moves: on(30),
        small_needs: on(50),
    };
    let mut draw = Draw { random, has, next: 0 };
    let options = draw.options();
    let count = draw.random.between(1, 4);
    let nodes = (0..count as u32).map(|id| draw.node(id)).collect();
    let tenants =
        if draw.has.tenants { (0..3).map(|id| (TenantId(id), draw.share())).collect() } else { Vec::new() };
    let length = draw.random.between(10, 90);
    let steps = (0..length).map(|_| draw.step()).collect();
    Plan { options, nodes, tenants, steps }
}

impl Draw {
    fn options(&self) -> Options {
        let random = &self.random;
        Options {
            strategy: random.pick(&[Strategy::FirstFit, Strategy::BestFit, Strategy::Priority]),
            headroom_percent: random.pick(&[0, 10, 30, 50]),
            critical_priority: random.pick(&[100, 200, 224, 255]),
            ageing_ms: random.pick(&[1, 5, 1_000]),
            batch_turn: random.pick(&[2, 3, 5, 16]),
            realtime_percent: random.pick(&[0, 50, 100]),
            preemption: false,
            tasks_max: if random.percent(20) { 12 } else { 60 },
            ..Options::default()
        }
    }

    fn amounts(&self, most: u64) -> ResourceVector {
        let random = &self.random;
        let some = |percent, most| if random.percent(percent) { random.between(0, most) } else { 0 };
        ResourceVector {
            memory_mb: some(70, most * 10),
            cpu_millicores: some(80, most) * 250,
            disk_io_mbps: some(15, most),
            network_io_mbps: some(15, most),
            accelerators: some(15, 2),
            sandboxes: some(20, 2),
        }
    }

    fn node(&self, id: u32) -> Node {
        let capacity = self.amounts(16).maximum(&ResourceVector {
            memory_mb: 40,
            cpu_millicores: 1_000,
            ..ResourceVector::default()
        });
        let more =
            ResourceVector { disk_io_mbps: 8, network_io_mbps: 8, accelerators: 1, sandboxes: 2, ..capacity };
        Node {
            id: NodeId(id),
            capacity: if self.random.percent(60) { capacity.maximum(&more) } else { capacity },
        }
    }

    fn share(&self) -> Share {
        let random = &self.random;
        let quota = random.percent(60).then(|| {
            self.amounts(12).maximum(&ResourceVector {
                memory_mb: 60,
                cpu_millicores: 1_000,
                disk_io_mbps: 8,
                network_io_mbps: 8,
                accelerators: 2,
                sandboxes: 3,
            })
        });
        Share {
            weight: random.between(1, 3) as u32,
            quota,
            waiting_max: random.percent(20).then(|| random.between(1, 6) as usize),
        }
    }

    fn agent(&self) -> AgentId {
        AgentId::random(&Numbered(self.random.below(6)))
    }

    fn known(&self) -> TaskId {
        TaskId(self.random.below(self.next + 1))
    }

    fn task(&mut self) -> Task {
        let random = &self.random;
        let tier = match random.below(10) {
            0..=2 if self.has.realtime => Tier::Realtime,
            3..=6 if self.has.batch => Tier::Batch,
            _ => Tier::Interactive,
        };
        let timed = tier == Tier::Realtime && random.percent(97) || self.has.durations && random.percent(60);
        let deadline = tier == Tier::Realtime && random.percent(97) || random.percent(5);
        let most = if self.has.small_needs { 4 } else { 16 };
        // A few needs come again and again: alike tasks stand behind each other.
        let need = match random.below(4) {
            0 => ResourceVector { memory_mb: 10, cpu_millicores: 500, ..ResourceVector::default() },
            1 => ResourceVector { memory_mb: 30, cpu_millicores: 1_000, ..ResourceVector::default() },
            _ => self.amounts(most),
        };
        let id = if random.percent(2) { self.known() } else { TaskId(self.next) };
        self.next += 1;
        Task {
            id,
            agent: (self.has.agents && random.percent(60)).then(|| self.agent()),
            tenant: TenantId(if self.has.tenants { random.below(4) as u32 } else { 0 }),
            tier,
            priority: Priority(random.pick(&[0, 1, 100, 128, 200, 224, 255])),
            deadline_ns: deadline.then(|| random.between(1, 400) * MS),
            duration_ns: timed.then(|| random.between(1, 60) * MS),
            need,
            preemptible: random.percent(80),
        }
    }

    fn step(&mut self) -> Step {
        let random = &self.random;
        let (nth, node) = (random.below(16), NodeId(random.below(6) as u32));
        match random.below(100) {
            0..=29 => {
                let count = random.pick(&[1, 1, 1, 2, 5, 9]);
                Step::Submit((0..count).map(|_| self.task()).collect())
            }
            30..=39 => Step::Next(random.pick(&[0, 1, 2])),
            40..=64 => Step::Complete(nth, random.pick(&[1, 1, 1, 3, 8])),
            65..=73 => Step::Wait(random.pick(&[1, MS, 3 * MS, 10 * MS, 100 * MS, 3_000 * MS])),
            74..=76 => Step::Cancel(self.known()),
            77 if self.has.agents => Step::CancelAgent(self.agent()),
            78..=81 if self.has.holds => Step::Hold(nth),
            82..=85 if self.has.holds => Step::Release(nth),
            86..=87 if self.has.inheritance => Step::Inherit(self.known(), self.known()),
            88 if self.has.inheritance => Step::Disinherit(self.known(), self.known()),
            89..=90 if self.has.moves => Step::Move(nth, node),
            91..=92 if self.has.nodes => Step::AddNode(self.node(node.0)),
            93 if self.has.nodes => Step::DrainNode(node),
            94 if self.has.nodes => Step::LoseNode(node),
            95..=96 if self.has.tenants => Step::SetTenant(TenantId(random.below(4) as u32), self.share()),
            _ => Step::Complete(nth, 1),
        }
    }
}
