//! A circuit against a plain list of everything that happened to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use symbi_supervisor::{Breakers, Circuit, CircuitOptions, CircuitState, Place, Ticket};

const OPTIONS: CircuitOptions =
    CircuitOptions { failures: 3, memory_ns: 1_000, open_ns: 100, open_max_ns: 350, probes: 2 };

/// The rule as it is written, over whole lists.
#[derive(Debug, Default)]
struct Model {
    outcomes: Vec<bool>, // failed?, oldest first
    last_ns: u64,
    open_until_ns: Option<u64>,
    half_open: bool,
    probe_until_ns: Option<u64>,
    probes_good: u32,
    in_a_row: u32,
    era: u32, // of tickets that count
}

impl Model {
    fn enter(&mut self, now_ns: u64) -> Result<u32, u64> {
        if let Some(until_ns) = self.open_until_ns {
            if now_ns < until_ns {
                return Err(until_ns - now_ns);
            }
            (self.open_until_ns, self.half_open, self.probes_good) = (None, true, 0);
        }
        if self.half_open {
            if let Some(until_ns) = self.probe_until_ns.filter(|until_ns| now_ns < *until_ns) {
                return Err(until_ns - now_ns);
            }
            self.era += 1;
            self.probe_until_ns = Some(now_ns + OPTIONS.open_ns);
        }
        Ok(self.era)
    }

    fn open(&mut self, now_ns: u64) {
        let open_ns = (OPTIONS.open_ns * 2u64.pow(self.in_a_row.min(20))).min(OPTIONS.open_max_ns);
        self.open_until_ns = Some(now_ns + open_ns);
        (self.half_open, self.probe_until_ns) = (false, None);
        self.in_a_row += 1;
        self.outcomes.clear();
        self.last_ns = now_ns;
        self.era += 1;
    }

    fn leave(&mut self, era: u32, failed: bool, now_ns: u64) {
        if era != self.era {
            return;
        }
        if self.half_open {
            self.probe_until_ns = None;
            if failed {
                return self.open(now_ns);
            }
            self.probes_good += 1;
            if self.probes_good == OPTIONS.probes {
                *self = Self { era: self.era + 1, ..Self::default() };
            }
            return;
        }
        if now_ns - self.last_ns > OPTIONS.memory_ns {
            self.outcomes.clear();
        }
        self.last_ns = now_ns;
        self.outcomes.push(failed);
        let remembered: Vec<bool> = self.outcomes.iter().rev().take(32).copied().collect();
        let failures = remembered.iter().filter(|failed| **failed).count();
        if failed && failures >= 3 && failures * 2 >= remembered.len() {
            self.open(now_ns);
        }
    }

    fn state(&self, now_ns: u64) -> CircuitState {
        match self.open_until_ns {
            Some(until_ns) if now_ns < until_ns => CircuitState::Open,
            Some(_) => CircuitState::HalfOpen,
            None if self.half_open => CircuitState::HalfOpen,
            None => CircuitState::Closed,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter,
    Leave(usize, bool),
    Withdraw(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Enter),
        5 => (0..4usize, prop::bool::weighted(0.6)).prop_map(|(at, failed)| Step::Leave(at, failed)),
        1 => (0..4usize).prop_map(Step::Withdraw),
        3 => (0..160u64).prop_map(Step::Wait),
        1 => (900..1_200u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn sv8_sv9_sv10_sv11_sv12_a_circuit_follows_the_written_rule(steps in steps()) {
        let (mut real, mut model, mut now_ns) = (Circuit::new(), Model::default(), 0);
        let mut calls: Vec<(Ticket, u32)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(ns) => now_ns += ns,
                Step::Enter => match (real.enter(&OPTIONS, now_ns), model.enter(now_ns)) {
                    (Ok(ticket), Ok(era)) => calls.push((ticket, era)),
                    (real, model) => prop_assert_eq!(real.map(|_| ()), model.map(|_| ()), "SV8"),
                },
                Step::Leave(at, failed) if at < calls.len() => {
                    let (ticket, era) = calls.remove(at);
                    real.leave(&OPTIONS, Some(ticket), failed, OPTIONS.failures, now_ns);
                    model.leave(era, failed, now_ns);
                }
                Step::Withdraw(at) if at < calls.len() => {
                    let (ticket, era) = calls.remove(at);
                    real.withdraw(ticket);
                    if era == model.era {
                        model.probe_until_ns = None;
                    }
                }
                Step::Leave(..) | Step::Withdraw(_) => {}
            }
            prop_assert_eq!(real.state(now_ns), model.state(now_ns));
        }
    }

    /// SV13: three colluding callers fail as they like; the fourth succeeds and is let through each time.
    #[test]
    fn sv13_a_caller_that_succeeds_is_let_through_whatever_others_do(
        steps in prop::collection::vec((0..5u8, any::<bool>(), 0..200u64), 1..400),
    ) {
        let mut breakers = Breakers::new(OPTIONS);
        let mut now_ns = 0;
        for (who, failed, wait_ns) in steps {
            now_ns += wait_ns;
            let victim = Place { dependency: "tool", caller: "victim" };
            prop_assert_eq!(breakers.wait_ns(victim, now_ns), None);
            let ticket = breakers.enter(victim, now_ns);
            prop_assert!(ticket.is_ok());
            let caller = format!("attacker {who}");
            let attacker = Place { dependency: "tool", caller: &caller };
            if let Ok(ticket) = breakers.enter(attacker, now_ns) {
                breakers.leave(attacker, ticket, failed, now_ns);
            }
            breakers.leave(victim, ticket.unwrap(), false, now_ns);
        }
    }
}

fn fail(breakers: &mut Breakers, caller: &str, now_ns: u64) {
    let place = Place { dependency: "tool", caller };
    let ticket = breakers.enter(place, now_ns).unwrap();
    breakers.leave(place, ticket, true, now_ns);
}

#[test]
fn a_thing_that_is_shut_for_most_is_shut_for_the_next_after_one_failure() {
    let mut breakers = Breakers::new(OPTIONS);
    let next = Place { dependency: "tool", caller: "next" };
    for caller in ["one", "two", "three"] {
        fail(&mut breakers, "next", 0);
        assert_eq!(breakers.wait_ns(next, 0), None, "one failure alone shuts nothing");
        breakers.sweep(2_000); // it is forgotten
        (0..3).for_each(|_| fail(&mut breakers, caller, 2_000));
    }
    fail(&mut breakers, "next", 2_010);
    assert_eq!(breakers.wait_ns(next, 2_010), Some(100));
}

#[test]
fn sv14_what_has_recovered_is_forgotten() {
    let mut breakers = Breakers::new(OPTIONS);
    let place = Place { dependency: "tool", caller: "one" };
    fail(&mut breakers, "one", 0);
    assert_eq!(breakers.view(0).len(), 1);
    for _ in 0..32 {
        let ticket = breakers.enter(place, 10).unwrap();
        breakers.leave(place, ticket, false, 10);
    }
    assert_eq!(breakers.view(10), Vec::new());
    fail(&mut breakers, "one", 20);
    breakers.sweep(2_000);
    assert_eq!(breakers.view(2_000), Vec::new());
    for number in 0..2 * symbi_supervisor::CALLERS_MAX {
        fail(&mut breakers, &number.to_string(), 3_000);
    }
    assert_eq!(breakers.view(3_000).len(), 1, "and there is a bound");
}

#[test]
fn sv9_an_outcome_of_a_circuit_that_is_gone_says_nothing_to_the_next() {
    let mut breakers = Breakers::new(OPTIONS);
    let place = Place { dependency: "tool", caller: "one" };
    fail(&mut breakers, "one", 0);
    let late = breakers.enter(place, 0).unwrap();
    breakers.sweep(2_000);
    fail(&mut breakers, "one", 2_000);
    fail(&mut breakers, "one", 2_000);
    breakers.leave(place, late, true, 2_000);
    assert_eq!(breakers.view(2_000)[0].state, CircuitState::Closed);
}
