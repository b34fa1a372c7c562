//! K176: budgets of the time of runs: reserved before, settled by what it came to, whatever ends the run.

use std::sync::Arc;

use symbi_kernel::{AgentError, AgentSpec, Cause, Kernel, Principal, Priority, RefusalCode, RunOutcome};
use symbi_policy::parse_counters;
use symbi_types::{AgentId, LabelSet, ResourceLimits, ResourceVector, RunId};

use crate::world::*;

fn timed(caps: &str) -> World {
    let text =
        format!("[budgets.time]\naction = \"agent.run\"\nmeasure = \"time_ms\"\nwindow_s = 3600\n{caps}");
    let mut world = World::with(Some(policies(OPEN, &parse_counters("time", &text).unwrap())));
    world.capacity = ResourceVector::from_array([4_096, 8_000, 1_000, 1_000, 0, 8]);
    world
}

fn limited(kernel: &Kernel, name: &str, limit_ms: Option<u64>) -> AgentId {
    let limits = ResourceLimits { execution_timeout_ms: limit_ms, ..ResourceLimits::default() };
    kernel.create_agent(Principal::Host, Arc::new(AgentSpec { limits, ..spec(name) })).unwrap().0
}

fn begin(kernel: &Kernel, agent: AgentId) -> Result<RunId, AgentError> {
    kernel
        .begin_run(Principal::Host, agent, b"", &LabelSet::default(), Priority::NORMAL)
        .map(|begun| begun.run)
}

fn work(world: &World, kernel: &Kernel, run: RunId, ms: u64) {
    world.clock.advance_us(ms * 1_000);
    kernel.end_run(run, &RunOutcome::Done).unwrap();
}

#[test]
fn k176_a_run_may_take_what_is_left_of_each_level_and_gives_back_what_it_did_not_take() {
    let mut world = timed("run = 4000\nagent = 10000\ntenant = 12000");
    let kernel = world.kernel();
    let (one, two) = (limited(&kernel, "one", None), limited(&kernel, "two", None));
    let allowed = |run| kernel.run_allowance(run).time_ms.unwrap();
    let run = begin(&kernel, one).unwrap();
    assert_eq!(allowed(run), 4_000, "of the run");
    work(&world, &kernel, run, 1_500);
    for _ in 0..2 {
        let run = begin(&kernel, one).unwrap();
        assert_eq!(allowed(run), 4_000, "1,500 were taken, not 4,000");
        work(&world, &kernel, run, 3_500);
    }
    let run = begin(&kernel, one).unwrap();
    assert_eq!(allowed(run), 1_500, "of the agent: 10,000 less 8,500");
    work(&world, &kernel, run, 1_500);
    let refused = refusal(begin(&kernel, one));
    assert_eq!(refused.code, RefusalCode::OverBudget);
    assert!(refused.message.contains("time_agent"), "{refused}");
    let run = begin(&kernel, two).unwrap();
    assert_eq!(allowed(run), 2_000, "of the tenant: 12,000 less 10,000");
}

#[test]
fn k176_an_agents_own_limit_is_what_its_run_reserves_so_that_others_run_beside_it() {
    let mut world = timed("tenant = 10000");
    let kernel = world.kernel();
    let agents: Vec<AgentId> = (0..4).map(|at| limited(&kernel, &format!("a{at}"), Some(3_000))).collect();
    let runs: Vec<RunId> = agents[..3].iter().map(|agent| begin(&kernel, *agent).unwrap()).collect();
    assert!(runs.iter().all(|run| kernel.run_allowance(*run).time_ms == Some(3_000)));
    let last = begin(&kernel, agents[3]).unwrap();
    assert_eq!(
        kernel.run_allowance(last).time_ms,
        Some(1_000),
        "never above the cap, what is under way included"
    );
    let open = limited(&kernel, "open", None);
    assert_eq!(refusal(begin(&kernel, open)).code, RefusalCode::OverBudget);
    kernel.end_run(runs[0], &RunOutcome::Cancelled).unwrap();
    assert_eq!(kernel.run_allowance(begin(&kernel, open).unwrap()).time_ms, Some(3_000), "it took nothing");
}

#[test]
fn k176_a_run_that_waits_or_stands_still_takes_no_time() {
    let mut world = timed("agent = 10000");
    let kernel = world.kernel();
    let one = limited(&kernel, "one", None);
    let run = begin(&kernel, one).unwrap();
    world.clock.advance_us(1_000_000);
    kernel.suspend_agent(Principal::Host, one, Cause::OperatorHold).unwrap();
    kernel.run_suspended(run).unwrap();
    world.clock.advance_us(60_000_000);
    kernel.resume_agent(OPERATOR, one).unwrap();
    kernel.run_resumed(run).unwrap();
    work(&world, &kernel, run, 1_000);
    let run = begin(&kernel, one).unwrap();
    assert_eq!(kernel.run_allowance(run).time_ms, Some(8_000));
    kernel.end_run(run, &RunOutcome::Cancelled).unwrap();
    settle_disk(&kernel, one);
    let finished = details(world.of_type("run.finished").first().unwrap());
    assert_eq!(finished["used"]["time_ms"], 2_000);
}

#[test]
fn k176_after_a_crash_what_was_taken_is_known_and_what_was_under_way_stays_reserved() {
    for snapshot_records in [symbi_kernel::SNAPSHOT_RECORDS, 4] {
        let mut world = timed("agent = 10000");
        world.snapshot_records = snapshot_records;
        let kernel = world.kernel();
        let (one, two) = (limited(&kernel, "one", Some(3_000)), limited(&kernel, "two", Some(4_000)));
        let first = begin(&kernel, one).unwrap();
        work(&world, &kernel, first, 1_000);
        begin(&kernel, two).unwrap();
        settle_disk(&kernel, one);
        let before = kernel.count_rows();
        let (after, _image) = world.crashed();
        assert_eq!(after.count_rows(), before);
        let one = limited(&after, "one", None);
        assert_eq!(after.run_allowance(begin(&after, one).unwrap()).time_ms, Some(9_000));
        let two = limited(&after, "two", None);
        assert_eq!(after.run_allowance(begin(&after, two).unwrap()).time_ms, Some(6_000));
    }
}

#[test]
fn k176_a_rule_bounds_the_time_that_it_lets_each_principal_take() {
    let text = "@id(\"brief\") @obligation(\"budget\") @budget(\"5000 time_ms per 1h\")
        permit(principal, action == Action::\"agent.run\", resource);
        permit(principal, action, resource) unless { action == Action::\"agent.run\" };";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let one = limited(&kernel, "one", None);
    let run = begin(&kernel, one).unwrap();
    assert_eq!(kernel.run_allowance(run).time_ms, Some(5_000));
    work(&world, &kernel, run, 3_000);
    let run = begin(&kernel, one).unwrap();
    assert_eq!(kernel.run_allowance(run).time_ms, Some(2_000));
}
