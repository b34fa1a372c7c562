//! Retry budgets against plain purses of credit, and against agents that fail on purpose.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;

use proptest::prelude::*;
use symbi_supervisor::{Budgets, Lack, Options, Size};

const AGENT: Size = Size { capacity: 4, refill_ns: 100 };
const RUNTIME: Size = Size { capacity: 10, refill_ns: 30 };

/// A purse: credit in nanoseconds, filled by time, spent whole refills at a time.
#[derive(Clone, Copy)]
struct Purse {
    credit_ns: u64,
    at_ns: u64,
}

impl Purse {
    fn full(size: Size) -> Self {
        Self { credit_ns: u64::from(size.capacity) * size.refill_ns, at_ns: 0 }
    }

    fn refill(&mut self, size: Size, now_ns: u64) {
        let most = u64::from(size.capacity) * size.refill_ns;
        self.credit_ns = (self.credit_ns + now_ns - self.at_ns).min(most);
        self.at_ns = now_ns;
    }

    fn give(&mut self, size: Size) {
        let most = u64::from(size.capacity) * size.refill_ns;
        self.credit_ns = (self.credit_ns + size.refill_ns / 10).min(most);
    }

    fn left(&self, size: Size) -> u64 {
        self.credit_ns / size.refill_ns
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take(u8),
    Done(u8),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4u8).prop_map(Step::Take),
        2 => (0..4u8).prop_map(Step::Done),
        3 => (0..200u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn sv5_sv7_a_budget_is_a_purse(steps in steps()) {
        let mut real = Budgets::new(AGENT, RUNTIME);
        let mut whole = Purse::full(RUNTIME);
        let mut own: HashMap<u8, Purse> = HashMap::new();
        let mut now_ns = 0;
        for step in steps {
            whole.refill(RUNTIME, now_ns);
            own.values_mut().for_each(|purse| purse.refill(AGENT, now_ns));
            match step {
                Step::Wait(ns) => now_ns += ns,
                Step::Done(name) => {
                    real.done(&name.to_string());
                    whole.give(RUNTIME);
                    if let Some(purse) = own.get_mut(&name) {
                        purse.give(AGENT);
                    }
                }
                Step::Take(name) => {
                    let fresh = Purse { at_ns: now_ns, ..Purse::full(AGENT) };
                    let purse = own.entry(name).or_insert(fresh);
                    let (mine, all) = (purse.left(AGENT), whole.left(RUNTIME));
                    let expected = if mine == 0 {
                        Err(Lack::Agent)
                    } else if all == 0 || (mine < 2 && all <= 5) {
                        Err(Lack::Runtime)
                    } else {
                        purse.credit_ns -= AGENT.refill_ns;
                        whole.credit_ns -= RUNTIME.refill_ns;
                        Ok(())
                    };
                    prop_assert_eq!(real.take(&name.to_string(), now_ns), expected);
                    let left = (own[&name].left(AGENT), whole.left(RUNTIME));
                    prop_assert_eq!(real.left(&name.to_string(), now_ns), left, "SV7");
                }
            }
        }
    }

    /// Sixteen names that fail as fast as they can, for minutes: whoever kept its own budget is granted its retry.
    #[test]
    fn sv6_who_fails_on_purpose_cannot_spend_what_others_need(
        attacks in prop::collection::vec((0..16u8, 0..20_000_000u64, any::<bool>()), 1..4_000),
    ) {
        let options = Options::default();
        let mut budgets = Budgets::new(options.agent, options.runtime);
        let mut now_ns = 0;
        for (name, wait_ns, done) in attacks {
            now_ns += wait_ns;
            if done {
                budgets.done(&format!("attacker {name}"));
            }
            let _ = budgets.take(&format!("attacker {name}"), now_ns);
        }
        prop_assert_eq!(budgets.take("careful", now_ns), Ok(()));
    }
}

#[test]
fn sv5_a_name_alone_gets_its_capacity_and_no_more() {
    let options = Options::default();
    let mut budgets = Budgets::new(options.agent, options.runtime);
    let granted = (0..1_000).filter(|_| budgets.take("storm", 0).is_ok()).count();
    assert_eq!(granted, 10);
    assert_eq!(budgets.take("storm", 0), Err(Lack::Agent));
    assert_eq!(budgets.take("storm", options.agent.refill_ns), Ok(()));
}

#[test]
fn ten_tasks_that_are_done_pay_for_one_retry() {
    let options = Options::default();
    let mut budgets = Budgets::new(options.agent, options.runtime);
    while budgets.take("busy", 0).is_ok() {}
    (0..9).for_each(|_| budgets.done("busy"));
    assert_eq!(budgets.take("busy", 0), Err(Lack::Agent));
    budgets.done("busy");
    assert_eq!(budgets.take("busy", 0), Ok(()));
}
