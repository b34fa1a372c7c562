//! Every invariant of the scheduler holds after every request of random histories, and everything comes to its end.
//!
//! `Q1 Q2 Q3 Q4 Q5 Q6 T1 T2 C1 C2 F1 F2 P1 P2 M1 M2 M3 U1 U2 N1 N2 N3 I1 I2 E1 A1 A2 B1 D1 W1 W2 H1 O1` are looked at
//! by `verify`, or by the assertions on the way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use symbi_scheduler::{
    Decision, Node, NodeId, Options, Priority, Scheduler, Share, Strategy, Task, TaskId, TenantId, Tier,
};
use symbi_types::{AgentId, Entropy, ResourceVector};

/// Uniform enough numbers without a crate: xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }
}

/// Bytes of one number, so that agent `n` has the same id in every run.
struct Numbered(u8);

impl Entropy for Numbered {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(self.0);
    }
}

fn agent(number: u8) -> AgentId {
    AgentId::random(&Numbered(number))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Waiting,
    Running,
    Asked,
    Still,
    Held,
}

struct World {
    random: Random,
    real: Scheduler,
    known: BTreeMap<u64, Known>,
    now_ns: u64,
    next: u64,
    nodes: Vec<u32>,
    next_node: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let options = Options {
            strategy: Strategy::ALL[random.below(3) as usize],
            ageing_ms: 1 + random.below(3) as u32,
            batch_turn: 2 + random.below(6) as u32,
            quantum_ms: random.below(3) as u32,
            preemption: !random.one_in(5),
            tasks_max: 60,
            ..Options::default()
        };
        let real = Scheduler::new(&[], options).unwrap();
        let mut world =
            Self { random, real, known: BTreeMap::new(), now_ns: 0, next: 0, nodes: vec![], next_node: 0 };
        for _ in 0..=world.random.below(4) {
            world.add_node();
        }
        for tenant in 1..3 {
            if world.random.one_in(2) {
                let quota = Some(ResourceVector::from_array([40, 3_000, 40, 40, 2, 3]));
                let share = Share { weight: 1 + world.random.below(5) as u32, quota, waiting_max: Some(20) };
                world.real.set_tenant(TenantId(tenant), share).unwrap();
            }
        }
        world
    }

    fn add_node(&mut self) {
        let amount = |random: &mut Random, most: u64| 1 + random.below(most);
        let random = &mut self.random;
        let capacity = ResourceVector::from_array([
            16 + amount(random, 64),
            1_000 * amount(random, 4),
            amount(random, 50),
            amount(random, 50),
            random.below(3),
            2 + random.below(4),
        ]);
        self.real.add_node(Node { id: NodeId(self.next_node), capacity }).unwrap();
        self.nodes.push(self.next_node);
        self.next_node += 1;
    }

    fn need(&mut self) -> ResourceVector {
        let random = &mut self.random;
        let mut amounts = [0; 6];
        for (amount, most) in amounts.iter_mut().zip([30, 2_000, 20, 20, 2, 2]) {
            if random.one_in(2) {
                *amount = random.below(most);
            }
        }
        if random.one_in(2) {
            ResourceVector { cpu_millicores: 500, ..ResourceVector::default() }
        } else {
            ResourceVector::from_array(amounts)
        }
    }

    fn submit(&mut self) {
        let need = self.need();
        let random = &mut self.random;
        let agent = (!random.one_in(3)).then(|| agent(1 + random.below(12) as u8));
        let tier = Tier::ALL[random.below(3) as usize];
        let task = Task {
            agent,
            tenant: TenantId(random.below(4) as u32),
            tier,
            priority: Priority([0, 1, 100, 128, 230, 255][random.below(6) as usize]),
            deadline_ns: (tier == Tier::Realtime).then(|| self.now_ns + random.below(200_000_000)),
            duration_ns: (tier == Tier::Realtime || random.one_in(2)).then(|| random.below(20_000_000)),
            preemptible: !random.one_in(6),
            ..Task::new(TaskId(self.next), need)
        };
        let checked = self.real.check(&task);
        let before = (self.real.counts(), self.real.totals());
        let answer = self.real.submit(task);
        assert_eq!(checked, answer, "Q2");
        match answer {
            Ok(()) => {
                self.known.insert(self.next, Known::Waiting);
            }
            Err(_) => assert_eq!(before, (self.real.counts(), self.real.totals()), "Q2"),
        }
        self.next += 1;
    }

    fn any(&mut self) -> TaskId {
        let at = self.random.below(self.known.len().max(1) as u64) as usize;
        TaskId(self.known.keys().nth(at).copied().unwrap_or(u64::MAX))
    }

    fn obey(&mut self, decision: Decision) {
        match decision {
            Decision::Start { task, .. } => {
                assert_eq!(self.known.insert(task.0, Known::Running), Some(Known::Waiting), "{decision:?}");
            }
            Decision::Suspend { task, urgent } => {
                assert_eq!(self.known.insert(task.0, Known::Asked), Some(Known::Running), "{decision:?}");
                assert_eq!(self.known.get(&urgent.0), Some(&Known::Waiting), "M1: {decision:?}");
            }
            Decision::Resume { task, .. } => {
                assert_eq!(self.known.insert(task.0, Known::Running), Some(Known::Still), "U1: {decision:?}");
            }
        }
    }

    fn end(&mut self, task: TaskId) {
        match self.known.get(&task.0) {
            Some(Known::Waiting) => {
                assert!(self.real.complete(task).is_err());
                self.real.cancel(task).unwrap();
            }
            Some(_) => {
                assert!(self.real.cancel(task).is_err());
                self.real.complete(task).unwrap();
            }
            None => assert!(self.real.complete(task).is_err() && self.real.cancel(task).is_err()),
        }
        self.known.remove(&task.0);
        assert!(self.real.complete(task).is_err(), "Q1");
    }

    fn step(&mut self) {
        let task = self.any();
        let known = self.known.get(&task.0).copied();
        match self.random.below(24) {
            0..=6 => self.submit(),
            7..=12 => {
                if let Some(decision) = self.real.next() {
                    self.obey(decision);
                } else {
                    assert_eq!(self.real.next(), None, "Q5");
                }
            }
            13..=15 if known != Some(Known::Waiting) => self.end(task),
            16 if self.random.one_in(3) => self.end(task),
            17 => {
                self.now_ns += self.random.below(3_000_000);
                self.real.advance(self.now_ns);
            }
            18 => {
                let answer = self.real.suspended(task);
                assert_eq!(answer.is_ok(), known == Some(Known::Asked));
                if answer.is_ok() {
                    self.known.insert(task.0, Known::Still);
                }
            }
            19 => {
                let answer = self.real.hold(task);
                assert_eq!(answer.is_ok(), known.is_some_and(|known| known != Known::Waiting));
                if answer.is_ok() {
                    self.known.insert(task.0, Known::Held);
                }
            }
            20 => {
                if known == Some(Known::Held) {
                    self.real.release(task).unwrap();
                    self.known.insert(task.0, Known::Still);
                }
            }
            21 => {
                let other = self.any();
                let answer = match self.random.one_in(2) {
                    true => self.real.inherit(task, other),
                    false => self.real.disinherit(task, other),
                };
                assert_eq!(answer.is_ok(), known.is_some());
            }
            22 => self.change_nodes(),
            _ => {
                for proposed in self.real.rebalance(3) {
                    if self.random.one_in(2) {
                        let _ = self.real.moved(proposed.task, proposed.to);
                    }
                }
            }
        }
    }

    fn change_nodes(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        let node = NodeId(self.nodes[at]);
        match self.random.below(8) {
            0 => self.add_node(),
            1 => self.real.drain_node(node).unwrap(),
            2 if 1 < self.nodes.len() => {
                self.nodes.swap_remove(at);
                for task in self.real.lose_node(node).unwrap() {
                    self.known.insert(task.0, Known::Waiting);
                }
                // What was held waits for its release.
                let held: Vec<u64> = self
                    .known
                    .keys()
                    .copied()
                    .filter(|task| self.real.release(TaskId(*task)).is_ok())
                    .collect();
                for task in held {
                    if self.known[&task] == Known::Held {
                        self.known.insert(task, Known::Still);
                    }
                }
            }
            _ => {
                let agent = agent(1 + self.random.below(12) as u8);
                for task in self.real.cancel_agent(agent) {
                    assert_eq!(self.known.remove(&task.0), Some(Known::Waiting));
                }
            }
        }
    }

    /// Faults stop: whatever is asked for is done, and what waits comes to its end.
    fn drain(&mut self) {
        self.add_node();
        let capacity = ResourceVector::from_array([200, 8_000, 100, 100, 10, 10]);
        self.real.add_node(Node { id: NodeId(u32::MAX), capacity }).unwrap();
        let held: Vec<u64> =
            self.known.iter().filter(|(_, known)| **known == Known::Held).map(|(task, _)| *task).collect();
        for task in held {
            self.real.release(TaskId(task)).unwrap();
            self.known.insert(task, Known::Still);
        }
        let mut idle = 0;
        while !self.known.is_empty() {
            self.now_ns += 1_000_000;
            self.real.advance(self.now_ns);
            let before = self.known.len();
            while let Some(decision) = self.real.next() {
                self.obey(decision);
            }
            let asked: Vec<u64> = self
                .known
                .iter()
                .filter(|(_, known)| **known == Known::Asked)
                .map(|(task, _)| *task)
                .collect();
            for task in asked {
                self.real.suspended(TaskId(task)).unwrap();
                self.known.insert(task, Known::Still);
            }
            while let Some(decision) = self.real.next() {
                self.obey(decision);
            }
            let done = self.known.iter().find(|(_, known)| **known == Known::Running).map(|(task, _)| *task);
            if let Some(task) = done {
                self.end(TaskId(task));
            }
            self.verify();
            idle = if self.known.len() == before { idle + 1 } else { 0 };
            assert!(
                idle < 10,
                "no progress: {:?}",
                self.known
                    .iter()
                    .map(|(task, known)| (task, known, self.real.why(TaskId(*task))))
                    .collect::<Vec<_>>()
            );
        }
        assert_eq!((self.real.waiting(), self.real.running(), self.real.agents()), (0, 0, 0));
        assert_eq!(self.real.totals().allocated, ResourceVector::default(), "Q1");
        assert_eq!(self.real.totals().reserved, ResourceVector::default(), "M3");
    }

    fn verify(&mut self) {
        if let Err(broken) = self.real.verify() {
            panic!("{broken}");
        }
        assert_eq!(
            self.real.waiting(),
            self.known.values().filter(|known| **known == Known::Waiting).count()
        );
        let task = self.any();
        assert_eq!(self.real.why(task).is_some(), self.known.contains_key(&task.0));
    }
}

fn histories() -> u64 {
    if std::env::var_os("SYMBI_LONG").is_some() { 5_000 } else { 150 }
}

#[test]
fn every_invariant_holds_after_every_request_and_everything_comes_to_its_end() {
    let mut preemptions = 0;
    for seed in 0..histories() {
        let mut world = World::new(seed);
        for step in 0..400 {
            world.step();
            if let Err(broken) = world.real.verify() {
                panic!("seed {seed}, step {step}: {broken}");
            }
            world.verify();
        }
        world.drain();
        preemptions += world.real.counts().preemptions;
    }
    assert!(histories() < preemptions, "there was something to see: {preemptions} suspensions");
}
