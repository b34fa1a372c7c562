//! Random lives of a runtime against a plain model, with the power cut at random points.
//!
//! The model is a list of promises in the order in which they were made: "these bytes were let out" and "this record is
//! on disk". Whatever a power cut leaves, the next opening must keep every promise made before it: the record is there,
//! and of an act its intent, with the same bytes and a decision that allows it. What is unknown and what counts is
//! worked out here again from the records alone.
//!
//! `SYMBI_LONG=1` runs 100 times as many. A failure names its seed; `SYMBI_SEED` runs that one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use symbi_audit::{Reader, Record};
use symbi_kernel::{
    Kernel, Outcome, Payload, Permit, Principal, Recipient, Resolution, RunOutcome, ToolCall,
};
use symbi_policy::Per;
use symbi_testkit::{CrashState, SeededEntropy};
use symbi_types::{AgentId, OperationId, RunId};

use crate::world::*;

const LIVES: u64 = 10;
const STEPS: usize = 60;
/// Of the states that a power cut may leave, one in so many is opened.
const SAMPLED: u64 = 12;
/// Tool calls a minute, of all agents. Low, so that lives run into it.
const CALLS_MAX: u64 = 12;

enum Promise {
    Acted(OperationId, Vec<u8>),
    Durable(u64),
}

struct Life {
    world: World,
    kernel: Arc<Kernel>,
    dice: SeededEntropy,
    agents: Vec<AgentId>,
    runs: Vec<RunId>,
    permits: Vec<(Permit, bool)>,
    promises: Vec<Promise>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut world = World::with(Some(at_most(CALLS_MAX, Per::Global))).on_disk();
        world.seed = seed * 1_000;
        let kernel = world.kernel();
        let mut life = Self {
            world,
            kernel,
            dice: SeededEntropy::new(seed),
            agents: Vec::new(),
            runs: Vec::new(),
            permits: Vec::new(),
            promises: Vec::new(),
        };
        tool(&life.kernel, "t");
        for name in ["a", "b", "c"] {
            life.agents.push(agent(&life.kernel, name));
        }
        life
    }

    fn below(&self, bound: usize) -> usize {
        usize::try_from(self.dice.below(bound as u64)).unwrap()
    }

    fn any(&self) -> AgentId {
        self.agents[self.below(self.agents.len())]
    }

    fn promise(&mut self, promise: Promise) {
        self.promises.push(promise);
        self.world.disk().mark(self.promises.len() as u64);
    }

    fn wait(&mut self, seq: u64) {
        self.kernel.wait_durable(seq, SOON).unwrap();
        self.promise(Promise::Durable(seq));
    }

    fn step(&mut self) {
        let one = self.any();
        match self.below(12) {
            0..=2 => {
                let arguments = format!("{{\"n\":{}}}", self.dice.next_u64() >> 12).into_bytes();
                let given = ToolCall { arguments, ..call("t") };
                if let Ok(permit) = self.kernel.begin_tool_call(Principal::Agent(one), given) {
                    self.permits.push((permit, false));
                }
            }
            3 | 4 if !self.permits.is_empty() => {
                let at = self.below(self.permits.len());
                let (permit, taken) = &mut self.permits[at];
                if !*taken {
                    self.kernel.wait_durable(permit.intent_seq(), SOON).unwrap();
                    if let Ok(bytes) = permit.take() {
                        *taken = true;
                        let acted = Promise::Acted(permit.operation(), bytes);
                        self.promise(acted);
                    }
                }
            }
            5 if !self.permits.is_empty() => {
                let at = self.below(self.permits.len());
                let (permit, _) = self.permits.remove(at);
                let failed = Outcome::Failed { kind: "Error".into(), text: "no".into() };
                let outcome = if self.below(2) == 0 { Outcome::Done } else { failed };
                if let Ok(seq) = permit.settle(&outcome) {
                    self.wait(seq);
                }
            }
            6 if !self.permits.is_empty() => {
                let at = self.below(self.permits.len());
                drop(self.permits.remove(at));
            }
            7 => {
                let seq = self.kernel.note(one, "a line").unwrap();
                if self.below(2) == 0 {
                    self.wait(seq);
                }
            }
            8 => {
                let to = Recipient::Agent(self.any());
                let _ = self.kernel.send(one, &to, Payload::Bytes(vec![7; 40]), None, false);
                let _ = self.kernel.receive_many(one, 3);
            }
            9 => {
                if let Some(unknown) = self.kernel.unknown_operations().first() {
                    let seq = self.kernel.resolve(OPERATOR, unknown.operation, Resolution::Failed).unwrap();
                    self.wait(seq);
                }
            }
            10 => match self.runs.pop() {
                Some(run) => drop(self.kernel.end_run(run, &RunOutcome::Done)),
                None => self.runs.push(run(&self.kernel, one).run),
            },
            _ => {
                if self.below(3) == 0 {
                    let text = format!("penguins number {}", self.dice.next_u64());
                    let (_, seq) = self.kernel.write_document(one, "birds", &text, &[]).unwrap();
                    self.wait(seq);
                    self.kernel.drain();
                } else {
                    self.world.clock.advance_us(self.dice.below(3_000_000));
                }
            }
        }
    }

    /// Opens what a power cut left, and holds it against the promises.
    fn judge(&self, crash: &CrashState, keys: &Path) {
        let story = &crash.story;
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("keys")).unwrap();
        copy(keys, &image.path().join("keys"));
        // The disk knows one path; the kernel is told where it is.
        let trail = self.world.data().join("trail");
        let mut world = World::with(self.world.policies.clone());
        world.disk = Some(crash.disk.clone());
        world.clock = Arc::clone(&self.world.clock);
        world.seed = self.world.seed + 1;
        world.directory = image;
        let opened = world.try_kernel_on(world.directory.path(), Some(trail.clone()));
        let kernel = match opened {
            Ok(kernel) => kernel,
            Err(_) if crash.mark == 0 => return,
            Err(error) => panic!("{story}: {error}"),
        };
        let reader = Reader::with_storage(&trail, Arc::new(crash.disk.clone())).unwrap();
        let records: Vec<Record> = reader.records(0).map(Result::unwrap).collect();
        for promise in &self.promises[..usize::try_from(crash.mark).unwrap()] {
            match promise {
                Promise::Durable(seq) => {
                    assert!(*seq < kernel.opened().records, "A1, K26: record {seq} is lost: {story}")
                }
                Promise::Acted(operation, bytes) => {
                    let intent = records
                        .iter()
                        .find(|one| {
                            one.event_type == "operation.intent" && one.operation() == Some(*operation)
                        })
                        .unwrap_or_else(|| panic!("K24: an act without its intent: {story}"));
                    let sealed = details(intent)["sealed"].as_str().and_then(|sealed| kernel.unseal(sealed));
                    assert_eq!(sealed.as_ref(), Some(bytes), "K34: {story}");
                    assert_eq!(intent.decision.as_deref(), Some("allow"), "K20: {story}");
                }
            }
        }
        let (unknown, counted) = from_the_records(&records);
        let found: BTreeSet<String> =
            kernel.unknown_operations().iter().map(|one| one.operation.to_string()).collect();
        assert_eq!(found, unknown, "K37: {story}");
        // All of this happened within one window or is too old for it; the clock stands at the end of the life.
        let one = agent(&kernel, "after");
        tool(&kernel, "t");
        let mut held = Vec::new();
        while let Ok(permit) = ask(&kernel, one, "t") {
            held.push(permit);
            assert!(held.len() as u64 <= CALLS_MAX, "K6: {story}");
        }
        let now_us = records.last().map_or(0, |last| last.timestamp_us);
        let recent = counted.iter().filter(|at_us| now_us < **at_us + 60_000_000).count() as u64;
        assert!(
            held.len() as u64 <= CALLS_MAX.saturating_sub(recent),
            "K38: {recent} count, {} more: {story}",
            held.len()
        );
    }
}

/// Operations whose outcome is unknown, and the times of those that count.
fn from_the_records(records: &[Record]) -> (BTreeSet<String>, Vec<u64>) {
    let (mut unknown, mut counted) = (BTreeSet::new(), Vec::new());
    let mut at = std::collections::BTreeMap::new();
    for record in records {
        let Some(operation) = record.operation().map(|one| one.to_string()) else { continue };
        let outcome = details(record)["outcome"].as_str().unwrap_or_default().to_owned();
        match (record.event_type.as_str(), outcome.as_str()) {
            ("operation.intent", _) => {
                unknown.insert(operation.clone());
                at.insert(operation, record.timestamp_us);
            }
            ("operation.outcome", "released") | ("operation.resolved", "failed") => {
                unknown.remove(&operation);
                at.remove(&operation);
            }
            ("operation.outcome", "unknown") => {}
            ("operation.outcome" | "operation.resolved", _) => {
                unknown.remove(&operation);
            }
            _ => {}
        }
    }
    counted.extend(at.into_values());
    (unknown, counted)
}

fn live(seed: u64) -> u64 {
    let mut life = Life::new(seed);
    for _ in 0..STEPS {
        life.step();
    }
    let keys = life.world.data().join("keys");
    let dice = SeededEntropy::new(seed ^ 0xabcd);
    let mut judged = 0;
    let disk = life.world.disk().clone();
    disk.crash_states(4_096, 1, seed, |crash| {
        if dice.below(SAMPLED) == 0 {
            life.judge(&crash, &keys);
            judged += 1;
        }
    });
    judged
}

#[test]
fn k24_k37_k38_whatever_a_power_cut_leaves_every_promise_made_before_it_holds() {
    if let Some(seed) = std::env::var("SYMBI_SEED").ok().and_then(|seed| seed.parse().ok()) {
        live(seed);
        return;
    }
    let lives = if std::env::var_os("SYMBI_LONG").is_some() { LIVES * 100 } else { LIVES };
    let mut judged = 0;
    for seed in 1..=lives {
        let outcome = std::panic::catch_unwind(|| live(seed));
        judged += outcome.unwrap_or_else(|_| panic!("life {seed}: run it alone with SYMBI_SEED={seed}"));
    }
    println!("{judged} power cuts in {lives} lives");
    assert!(lives * 10 < judged, "too few were looked at: {judged}");
}
