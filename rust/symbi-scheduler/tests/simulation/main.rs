//! The scheduler in a simulated world: one seed is one run, on virtual time, and every step is checked.
//!
//! Why: what the scheduler promises is a promise about histories nobody has thought of. A seed draws a plan (`plan`),
//! a host carries out what the scheduler decides, slowly and sometimes badly (`host`), and after every step a second
//! set of books says whether the promises hold (`ledger`, whose header lists them).
//! Not here: the exact order of decisions; `tests/model.rs` has a plain scheduler for that.
//!
//! `SYMBI_SEED=7` runs one seed, `SYMBI_SEED=0..100000` so many, `SYMBI_LONG=1` a hundred times the usual share;
//! `ci/simulate` is the command. A failure names the rule, the seed, and the shortest plan that still breaks the rule.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod cluster;
mod comparison;
mod fair;
mod host;
mod ledger;
mod nonsense;
mod order;
mod plan;
mod submission;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use host::Outcome;
use ledger::Broken;
use plan::Plan;

/// Seeds of the usual test run; a hundred times as many with `SYMBI_LONG=1`.
const SEEDS: u64 = 3_000;
/// Shorter plans that are tried before the shortest so far is printed.
const SHRINKS_MAX: usize = 600;

/// Runs a plan. A panic in the scheduler is a broken rule too: its own assertions name what they guard.
fn run(plan: &Plan) -> Result<Outcome, Broken> {
    let run = || host::run(plan).and_then(|outcome| fair::check(plan.seed).map(|()| outcome));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Broken { rule: "the scheduler's own assertion", text: text.unwrap_or_default() })
    })
}

fn headline(plan: &Plan, broken: &Broken) -> String {
    format!("broken: {} (SYMBI_SEED={}): {}", broken.rule, plan.seed, broken.text)
}

/// What a person needs to see: the rule, the seed, the shortest plan that breaks the same rule.
fn report(plan: &Plan, broken: &Broken) -> String {
    let with = |events: &[_]| Plan { events: events.to_vec(), ..plan.clone() };
    let same = |events: &[_]| run(&with(events)).is_err_and(|now| now.rule == broken.rule);
    let small = with(&symbi_testkit::shrink(&plan.events, SHRINKS_MAX, same));
    let now = run(&small).err().unwrap_or_else(|| broken.clone());
    let mut text = headline(plan, broken) + "\n";
    text += &format!("{} of {} events still break it: {}\n", small.events.len(), plan.events.len(), now.text);
    text += &format!("nodes {:?}\n{:?}\ntenants {:?}\n", small.nodes, small.options, small.tenants);
    for (at_ns, event) in &small.events {
        text += &format!("{:>12.3} ms  {event:?}\n", *at_ns as f64 / plan::MS as f64);
    }
    text
}

/// `SYMBI_SEED`: one seed, or a range of them.
fn asked() -> Option<Range<u64>> {
    let text = std::env::var("SYMBI_SEED").ok()?;
    let number = |text: &str| text.parse::<u64>().expect("SYMBI_SEED is a number, or two with `..` between");
    let (from, to) =
        text.split_once("..").map_or_else(|| (number(&text), None), |(a, b)| (number(a), Some(number(b))));
    Some(from..to.unwrap_or(from + 1))
}

/// Runs the seeds on two threads, and says how far it is when there are many.
fn run_all(seeds: Range<u64>) -> Totals {
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let totals = Mutex::new(Totals::default());
    let failed: Mutex<Option<(Plan, Broken)>> = Mutex::new(None);
    let work = || {
        while failed.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if end <= seed {
                break;
            }
            let plan = plan::draw(seed);
            match run(&plan) {
                Ok(outcome) => totals.lock().unwrap().add(seed, &outcome),
                Err(broken) => *failed.lock().unwrap() = Some((plan, broken)),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    if let Some((plan, broken)) = failed.into_inner().unwrap() {
        eprintln!("{}", headline(&plan, &broken)); // what follows takes a while
        panic!("{}", report(&plan, &broken));
    }
    totals.into_inner().unwrap()
}

/// What all runs came to: proof that the runs reach what they are meant to check.
#[derive(Debug, Default)]
struct Totals {
    runs: u64,
    digest: u64,
    sum: Outcome,
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.runs += 1;
        self.digest ^= outcome.digest.rotate_left((seed % 64) as u32);
        let sum = &mut self.sum;
        for (to, from) in [
            (&mut sum.steps, outcome.steps),
            (&mut sum.accepted, outcome.accepted),
            (&mut sum.refused, outcome.refused),
            (&mut sum.preempted, outcome.preempted),
            (&mut sum.resumed, outcome.resumed),
            (&mut sum.lost, outcome.lost),
            (&mut sum.moved, outcome.moved),
            (&mut sum.missed, outcome.missed),
        ] {
            *to += from;
        }
        if self.runs.is_multiple_of(20_000) {
            eprintln!("{} seeds, {} steps", self.runs, sum.steps);
        }
    }
}

#[test]
fn n1_to_n22_hold_after_every_step_of_every_seed() {
    let long = std::env::var_os("SYMBI_LONG").is_some();
    let seeds = asked().unwrap_or(0..if long { 100 * SEEDS } else { SEEDS });
    let totals = run_all(seeds);
    println!("{totals:?}");
    if totals.runs < SEEDS {
        return;
    }
    let sum = totals.sum;
    for (what, count) in [
        ("tasks", sum.accepted / 40),
        ("refusals", sum.refused),
        ("preemptions", sum.preempted),
        ("resumptions", sum.resumed),
        ("tasks on lost nodes", sum.lost),
        ("moves", sum.moved),
    ] {
        assert!(totals.runs / 20 <= count, "the runs reach too few {what}: {count} in {}", totals.runs);
    }
}

#[test]
fn promised_deadlines_are_kept_where_tasks_take_turns_and_keep_their_word() {
    let mut refused = 0;
    for seed in 0..300 {
        let plan = plan::draw_turns(seed);
        let outcome = run(&plan).unwrap_or_else(|broken| panic!("{}", report(&plan, &broken)));
        assert_eq!(outcome.missed, 0, "seed {seed}: {outcome:?}");
        refused += outcome.refused;
    }
    assert!((3_000..27_000).contains(&refused), "both answers were met: {refused}");
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..40 {
        let (one, other) = (run(&plan::draw(seed)), run(&plan::draw(seed)));
        assert_eq!(one.map_err(|broken| broken.rule), other.map_err(|broken| broken.rule), "seed {seed}");
    }
    let digest = |seed| run(&plan::draw(seed)).map_or(0, |outcome| outcome.digest);
    assert_ne!(digest(1), digest(2));
}
