//! Every decision of the scheduler beside those of a plain one, over thousands of histories.
//!
//! Why: the simulation says what must not happen. This says what must: each answer, in order, over all tiers, several
//! nodes, tenants and their quotas, headroom, back-fill, holds, inherited urgency, and nodes that come and go.
//! `plain` is the written rule with lists; `plan` draws histories.
//! Not here: suspending for others, and large sizes (the simulation).
//!
//! `SYMBI_SEED=7` runs one seed, `SYMBI_SEED=0..100000` so many, `SYMBI_LONG=1` a hundred times the usual share. A failure
//! names the seed and the shortest history that still differs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod plain;
mod plan;
mod requests;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use plain::{Place, Plain};
use plan::{Plan, Step};
use symbi_scheduler::{Decision, OptionsError, Scheduler, TaskError, TaskId, Tier};

/// Seeds of the usual test run; a hundred times as many with `SYMBI_LONG=1`.
const SEEDS: u64 = 4_000;
const SHRINKS_MAX: usize = 2_000;

/// What the runs came to: that they reach what they compare.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    starts: u64,
    resumes: u64,
    refusals: u64,
    estimated: u64,
    lost: u64,
    batch: u64,
}

/// Both, side by side.
struct Pair {
    real: Scheduler,
    plain: Plain,
    now_ns: u64,
    reached: Reached,
}

macro_rules! same {
    ($real:expr, $plain:expr, $($what:tt)+) => {{
        let (real, plain) = ($real, $plain);
        if real != plain {
            return Err(format!("{}: {real:?}, by the written rule {plain:?}", format!($($what)+)));
        }
    }};
}

fn code<T>(answer: Result<T, TaskError>) -> Result<T, &'static str> {
    answer.map_err(|error| error.code())
}

fn node_code<T>(answer: Result<T, OptionsError>) -> Result<T, &'static str> {
    answer.map_err(|error| error.code())
}

impl Pair {
    fn new(plan: &Plan) -> Self {
        let real = Scheduler::new(&plan.nodes, plan.options).unwrap();
        let mut pair = Self {
            real,
            plain: Plain::new(&plan.nodes, plan.options),
            now_ns: 0,
            reached: Reached::default(),
        };
        for (tenant, share) in &plan.tenants {
            pair.real.set_tenant(*tenant, *share).unwrap();
            pair.plain.set_tenant(*tenant, *share);
        }
        pair
    }

    /// The nth task in such a place.
    fn nth(&self, nth: u64, places: &[Place]) -> Option<TaskId> {
        let mut there: Vec<TaskId> = self
            .plain
            .tasks
            .iter()
            .filter(|work| places.contains(&work.place))
            .map(|work| work.task.id)
            .collect();
        there.sort();
        there.get(nth as usize % there.len().max(1)).copied()
    }

    fn apply(&mut self, step: &Step) -> Result<(), String> {
        const RUNS: [Place; 2] = [Place::Running, Place::Standing];
        match step {
            Step::Wait(ns) => {
                self.now_ns += ns;
                self.real.advance(self.now_ns);
                self.plain.advance(self.now_ns);
            }
            Step::Submit(tasks) => {
                let at = |task: &symbi_scheduler::Task| symbi_scheduler::Task {
                    deadline_ns: task.deadline_ns.map(|from_now| self.now_ns + from_now),
                    ..*task
                };
                let tasks: Vec<_> = tasks.iter().map(at).collect();
                let mut answers = Vec::new();
                self.real.submit_many(tasks.iter().copied(), |answer| answers.push(code(answer)));
                for (task, answer) in tasks.into_iter().zip(answers) {
                    self.reached.refusals += u64::from(answer.is_err());
                    same!(answer, self.plain.submit(task), "submit {task:?}");
                }
            }
            Step::Next(limit) => return self.decide(*limit),
            Step::Complete(nth, count) => {
                let ids: Vec<TaskId> = (0..*count as u64)
                    .filter_map(|more| self.nth(nth + more * 3, &[Place::Running]))
                    .collect();
                let mut answers = Vec::new();
                self.real.complete_many(&ids, |answer| answers.push(code(answer)));
                for (id, answer) in ids.into_iter().zip(answers) {
                    same!(answer, self.plain.complete(id), "complete {id}");
                }
            }
            Step::Cancel(id) => same!(code(self.real.cancel(*id)), self.plain.cancel(*id), "cancel {id}"),
            Step::CancelAgent(agent) => {
                same!(self.real.cancel_agent(*agent), self.plain.cancel_agent(*agent), "cancel agent");
            }
            Step::Hold(nth) => {
                let Some(id) = self.nth(*nth, &RUNS) else { return Ok(()) };
                same!(code(self.real.hold(id)), self.plain.hold(id), "hold {id}");
            }
            Step::Release(nth) => {
                let Some(id) = self.nth(*nth, &[Place::Held, Place::Stranded]) else { return Ok(()) };
                same!(code(self.real.release(id)), self.plain.release(id), "release {id}");
            }
            Step::Inherit(task, from) => {
                same!(
                    code(self.real.inherit(*task, *from)),
                    self.plain.inherit(*task, *from),
                    "inherit {task} {from}"
                );
            }
            Step::Disinherit(task, from) => {
                let plain = self.plain.disinherit(*task, *from);
                same!(code(self.real.disinherit(*task, *from)), plain, "disinherit {task} {from}");
            }
            Step::Move(nth, node) => {
                let Some(id) = self.nth(*nth, &[Place::Running]) else { return Ok(()) };
                same!(code(self.real.moved(id, *node)), self.plain.moved(id, *node), "move {id} to {node}");
            }
            Step::AddNode(node) => {
                same!(node_code(self.real.add_node(*node)), self.plain.add_node(*node), "add {node:?}");
            }
            Step::DrainNode(node) => {
                same!(node_code(self.real.drain_node(*node)), self.plain.drain_node(*node), "drain {node}");
            }
            Step::LoseNode(node) => {
                let told = node_code(self.real.lose_node(*node));
                self.reached.lost += told.as_ref().map_or(0, |tasks| tasks.len() as u64);
                same!(told, self.plain.lose_node(*node), "lose {node}");
            }
            Step::SetTenant(tenant, share) => {
                self.real.set_tenant(*tenant, *share).unwrap();
                self.plain.set_tenant(*tenant, *share);
            }
        }
        Ok(())
    }

    fn decide(&mut self, limit: usize) -> Result<(), String> {
        for _ in 0..limit {
            let before = self.plain.clone();
            let (real, plain) = (self.real.next(), self.plain.next());
            if real.is_none() && plain.is_some_and(|(_, estimated)| estimated) {
                // An estimate that was overrun may let something start; nobody looks for that before something changes.
                self.plain = before;
                self.reached.estimated += 1;
                return Ok(());
            }
            let named = plain.map(|(decision, _)| match decision {
                Decision::Start { task, .. }
                | Decision::Resume { task, .. }
                | Decision::Suspend { task, .. } => task,
            });
            let why = named.and_then(|task| self.real.why(task));
            same!(real, plain.map(|(decision, _)| decision), "next at {} ns ({why:?})", self.now_ns);
            match real {
                None => return Ok(()),
                Some(Decision::Resume { .. }) => self.reached.resumes += 1,
                Some(Decision::Start { task, .. }) => {
                    let work = &self.plain.tasks[self.plain.at(task).unwrap()];
                    self.reached.batch += u64::from(work.task.tier == Tier::Batch);
                    self.reached.starts += 1;
                    self.reached.estimated += u64::from(plain.is_some_and(|(_, estimated)| estimated));
                }
                Some(Decision::Suspend { .. }) => return Err("somebody is to stand still".to_owned()),
            }
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), String> {
        let counts = self.real.counts();
        for tier in Tier::ALL {
            let of = |places: &[Place]| {
                let there = |work: &&plain::Work| work.task.tier == tier && places.contains(&work.place);
                self.plain.tasks.iter().filter(there).count()
            };
            same!(
                counts.waiting[tier as usize],
                of(&[Place::Waiting, Place::Stranded]),
                "{tier} tasks that wait"
            );
            same!(counts.running[tier as usize], of(&[Place::Running]), "{tier} tasks that run");
            same!(
                counts.suspended[tier as usize],
                of(&[Place::Standing, Place::Held]),
                "{tier} tasks that stand"
            );
        }
        same!(counts.deadlines_missed, self.plain.missed, "deadlines missed");
        for node in (0..6).map(symbi_scheduler::NodeId) {
            same!(
                self.real.free(node),
                self.plain.slot(node).map(|slot| self.plain.free(slot)),
                "free on {node}"
            );
        }
        for tenant in (0..4).map(symbi_scheduler::TenantId) {
            same!(self.real.used(tenant).unwrap_or_default(), self.plain.used(tenant), "used by {tenant}");
        }
        self.real.verify()
    }
}

fn run_steps(plan: &Plan) -> Result<Reached, String> {
    let mut pair = Pair::new(plan);
    for (at, step) in plan.steps.iter().enumerate() {
        let told = |text| format!("step {at}, {step:?}: {text}");
        pair.apply(step).map_err(told)?;
        if !matches!(plan.steps.get(at + 1), Some(Step::Next(_)) | Some(Step::Wait(_))) {
            pair.decide(usize::MAX).map_err(told)?;
        }
        pair.compare().map_err(told)?;
    }
    Ok(pair.reached)
}

fn run(plan: &Plan) -> Result<Reached, String> {
    catch_unwind(AssertUnwindSafe(|| run_steps(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

fn report(seed: u64, plan: &Plan, text: &str) -> String {
    let with = |steps: &[Step]| Plan { steps: steps.to_vec(), ..plan.clone() };
    let small = with(&symbi_testkit::shrink(&plan.steps, SHRINKS_MAX, |steps| run(&with(steps)).is_err()));
    let now = run(&small).err().unwrap_or_else(|| text.to_owned());
    let steps: Vec<String> = small.steps.iter().map(|step| format!("  {step:?}\n")).collect();
    format!(
        "they differ (SYMBI_SEED={seed}): {now}\n{:?}\n{:?}\n{:?}\n{}",
        small.options,
        small.nodes,
        small.tenants,
        steps.concat()
    )
}

/// `SYMBI_SEED`: one seed, or a range of them.
fn asked() -> Option<Range<u64>> {
    let text = std::env::var("SYMBI_SEED").ok()?;
    let number = |text: &str| text.parse::<u64>().expect("SYMBI_SEED is a number, or two with `..` between");
    let (from, to) =
        text.split_once("..").map_or_else(|| (number(&text), None), |(a, b)| (number(a), Some(number(b))));
    Some(from..to.unwrap_or(from + 1))
}

#[test]
fn each_decision_is_the_one_that_the_written_rule_says() {
    let long = std::env::var_os("SYMBI_LONG").is_some();
    let seeds = asked().unwrap_or(0..if long { 100 * SEEDS } else { SEEDS });
    let (next, total) = (AtomicU64::new(seeds.start), Mutex::new(Reached::default()));
    let failed: Mutex<Option<(u64, Plan, String)>> = Mutex::new(None);
    let work = || {
        while failed.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seeds.end <= seed {
                break;
            }
            let plan = plan::draw(seed);
            match run(&plan) {
                Ok(reached) => {
                    let mut total = total.lock().unwrap();
                    total.starts += reached.starts;
                    total.resumes += reached.resumes;
                    total.refusals += reached.refusals;
                    total.estimated += reached.estimated;
                    total.lost += reached.lost;
                    total.batch += reached.batch;
                }
                Err(text) => *failed.lock().unwrap() = Some((seed, plan, text)),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    if let Some((seed, plan, text)) = failed.into_inner().unwrap() {
        panic!("{}", report(seed, &plan, &text));
    }
    let (reached, runs) = (total.into_inner().unwrap(), seeds.end - seeds.start);
    println!("{runs} seeds: {reached:?}");
    if SEEDS <= runs {
        let least = [
            ("starts", reached.starts, 10),
            ("starts of batch", reached.batch, 1),
            ("refusals", reached.refusals, 1),
        ];
        for (what, count, a_seed) in least {
            assert!(runs * a_seed <= count, "too few {what} are compared: {count} in {runs} seeds");
        }
        for (what, count) in [
            ("resumptions", reached.resumes),
            ("starts by estimate", reached.estimated),
            ("lost", reached.lost),
        ] {
            assert!(runs / 20 <= count, "too few {what} are compared: {count} in {runs} seeds");
        }
    }
}
