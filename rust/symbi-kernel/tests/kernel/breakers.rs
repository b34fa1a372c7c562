//! Circuit breakers and retry budgets behind the monitor, and agents that abuse them.

use std::sync::Arc;

use symbi_kernel::{
    AgentError, AttemptVerdict as Verdict, Kernel, KernelError, Outcome, Permit, Principal, RefusalCode,
    SandboxAsk, Supervision,
};
use symbi_types::{AgentId, SecurityTier};

use crate::supervise::{begin, fail, failed, supervised, thrice};
use crate::world::{OPEN, World, act, agent, ask, at_most, policies, refusal, take, tool};

/// `count` calls that fail as `kind` says; the breaker lets them all through.
fn failures(kernel: &Arc<Kernel>, by: AgentId, name: &str, kind: &str, count: usize) {
    for _ in 0..count {
        let permit = ask(kernel, by, name).unwrap();
        take(kernel, &permit);
        permit.settle(&Outcome::Failed { kind: kind.to_owned(), text: String::new() }).unwrap();
    }
}

#[test]
fn k95_an_open_breaker_refuses_before_anything_is_reserved_until_a_probe_succeeds() {
    let mut world = World::with(Some(at_most(100, symbi_policy::Per::Principal)));
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    tool(&kernel, "api");
    failures(&kernel, one, "api", "ConnectionRefusedError", 5);
    for _ in 0..200 {
        assert_eq!(refusal(ask(&kernel, one, "api")).code, RefusalCode::Unavailable);
    }
    let view = kernel.breakers();
    assert_eq!((view[0].dependency.as_str(), view[0].state.as_str(), view[0].refused), ("api", "open", 200));
    world.clock.advance_us(5_000_000);
    let probe = ask(&kernel, one, "api").unwrap();
    assert_eq!(refusal(ask(&kernel, one, "api")).code, RefusalCode::Unavailable, "one probe at a time");
    take(&kernel, &probe);
    probe.settle(&Outcome::Done).unwrap();
    assert!(kernel.breakers().is_empty());
    (0..50).for_each(|_| act(&kernel, one, "api")); // 5 + 1 + 50 of 100: what was refused was not counted
    kernel.close().unwrap();
    assert!(world.of_type("operation.denied").len() < 20, "identical denials are one record");
}

#[test]
fn what_a_caller_does_wrong_does_not_open_a_breaker_and_a_probe_that_is_not_used_is_free_again() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    tool(&kernel, "api");
    failures(&kernel, one, "api", "ValueError", 50);
    assert!(kernel.breakers().is_empty());
    failures(&kernel, one, "api", "MyApiError", 5);
    world.clock.advance_us(5_000_000);
    drop(ask(&kernel, one, "api").unwrap());
    drop(ask(&kernel, one, "api").unwrap());
    act(&kernel, one, "api");
}

#[test]
fn an_agent_that_fails_on_purpose_shuts_no_door_for_others() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (bad, good) = (agent(&kernel, "bad"), agent(&kernel, "good"));
    tool(&kernel, "api");
    failures(&kernel, bad, "api", "TimeoutError", 5);
    assert_eq!(refusal(ask(&kernel, bad, "api")).code, RefusalCode::Unavailable);
    act(&kernel, good, "api");
}

#[test]
fn an_agent_that_fails_on_purpose_cannot_spend_the_retries_of_others() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let eager = Supervision { retries: 100, ..Supervision::default() };
    let mut granted = 0;
    for _ in 0..40 {
        let bad = supervised(&kernel, "bad", eager.clone()); // a new instance is no new budget
        let mut last = begin(&kernel, bad, None).unwrap().run;
        while let Verdict::Retry { .. } =
            kernel.end_run(last, &failed("TimeoutError")).unwrap().aftermath.verdict
        {
            granted += 1;
            last = begin(&kernel, bad, Some(last)).unwrap().run;
        }
        assert_eq!(kernel.dead_tasks().0.last().unwrap().reason, "agent_budget");
    }
    assert_eq!(granted, 10);
    let good = supervised(&kernel, "good", thrice());
    let first = begin(&kernel, good, None).unwrap().run;
    fail(&kernel, first);
}

#[test]
fn a_tier_that_does_not_start_is_left_alone_for_whom_it_fails() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (one, other) = (agent(&kernel, "one"), agent(&kernel, "other"));
    let start = |agent| -> Result<Permit, AgentError> {
        let ask =
            SandboxAsk { tier: SecurityTier::Docker, network: false, writable: false, spec: b"{}".to_vec() };
        kernel.begin_sandbox(Principal::Host, Some(agent), ask)
    };
    for _ in 0..5 {
        let permit = start(one).unwrap();
        take(&kernel, &permit);
        let kind = "sandbox.unavailable".to_owned();
        permit.settle(&Outcome::Failed { kind, text: String::new() }).unwrap();
    }
    assert_eq!(refusal(start(one)).code, RefusalCode::Unavailable);
    assert_eq!(kernel.breakers()[0].dependency, "sandbox:docker");
    start(other).unwrap();
}

#[test]
fn a_tool_that_policy_denies_looks_the_same_whether_or_not_it_fails_for_others() {
    let text = format!(
        "{OPEN}\nforbid(principal == Agent::\"low\", action == Action::\"tool.call\", resource == Tool::\"api\");"
    );
    let mut world = World::with(Some(policies(&text, &[])));
    let kernel = world.kernel();
    tool(&kernel, "api");
    for name in ["one", "two", "three", "four"] {
        let by = agent(&kernel, name);
        failures(&kernel, by, "api", "TimeoutError", 1);
        while ask(&kernel, by, "api").is_ok() {
            failures(&kernel, by, "api", "TimeoutError", 1);
        }
    }
    let low = agent(&kernel, "low");
    assert_eq!(refusal(ask(&kernel, low, "api")).code, RefusalCode::Denied);
}

#[test]
fn breakers_and_budgets_are_as_large_as_they_were_asked_for() {
    let mut world = World::open_to_all();
    world.supervision.circuit.failures = 2;
    world.supervision.agent.capacity = 1;
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    tool(&kernel, "t");
    for _ in 0..2 {
        let permit = ask(&kernel, one, "t").unwrap();
        take(&kernel, &permit);
        permit
            .settle(&Outcome::Failed { kind: "ConnectionRefusedError".to_owned(), text: String::new() })
            .unwrap();
    }
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::Unavailable);
    let first = begin(&kernel, one, None).unwrap().run;
    fail(&kernel, first);
    let second = begin(&kernel, one, Some(first)).unwrap().run;
    let ended = kernel.end_run(second, &failed("TimeoutError")).unwrap();
    assert_eq!(ended.aftermath.verdict, Verdict::Dead, "one retry was all there was");
}

#[test]
fn breakers_and_budgets_that_cannot_be_are_refused_when_the_runtime_opens() {
    let mut world = World::open_to_all();
    world.supervision.runtime.capacity = 0;
    let refused = world.try_kernel_at(&world.data()).map(|_| ());
    assert!(matches!(refused, Err(KernelError::Supervision(_))), "{refused:?}");
    assert!(!world.data().join("trail").exists(), "before anything is made");
}
