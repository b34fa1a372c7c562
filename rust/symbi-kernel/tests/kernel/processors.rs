//! K176, K240: budgets of the processor time of runs: reserved before, settled by what their host has read.

use std::sync::Arc;

use symbi_kernel::{AgentError, AgentSpec, Kernel, Principal, Priority, RefusalCode, RunOutcome};
use symbi_policy::parse_counters;
use symbi_types::{AgentId, LabelSet, ResourceLimits, ResourceVector, RunId};

use crate::world::*;

fn counted(text: &str) -> World {
    let mut world = World::with(Some(policies(OPEN, &parse_counters("cpu", text).unwrap())));
    world.capacity = ResourceVector::from_array([4_096, 8_000, 1_000, 1_000, 0, 8]);
    world
}

fn budget(caps: &str) -> World {
    counted(&format!("[budgets.work]\naction = \"agent.run\"\nmeasure = \"cpu_ms\"\nwindow_s = 3600\n{caps}"))
}

fn limited(kernel: &Kernel, name: &str, limits: ResourceLimits) -> AgentId {
    kernel.create_agent(Principal::Host, Arc::new(AgentSpec { limits, ..spec(name) })).unwrap().0
}

fn free(kernel: &Kernel, name: &str) -> AgentId {
    limited(kernel, name, ResourceLimits::default())
}

fn begin(kernel: &Kernel, agent: AgentId) -> Result<RunId, AgentError> {
    kernel
        .begin_run(Principal::Host, agent, b"", &LabelSet::default(), Priority::NORMAL)
        .map(|begun| begun.run)
}

fn left(kernel: &Kernel, run: RunId) -> Option<u64> {
    kernel.run_allowance(run).cpu_ms
}

fn work(world: &World, kernel: &Kernel, run: RunId, cpu_ms: u64) {
    world.clock.advance_us(60_000_000); // on the clock it may take as long as it likes
    kernel.run_used_cpu(run, cpu_ms);
    kernel.end_run(run, &RunOutcome::Done).unwrap();
}

#[test]
fn k176_a_run_may_take_what_is_left_of_each_level_and_gives_back_what_its_host_did_not_read() {
    let mut world = budget("run = 4000\nagent = 10000\ntenant = 12000");
    let kernel = world.kernel();
    let (one, two) = (free(&kernel, "one"), free(&kernel, "two"));
    for used in [1_500, 3_500, 3_500] {
        let run = begin(&kernel, one).unwrap();
        assert_eq!(left(&kernel, run), Some(4_000), "of the run");
        assert_eq!(kernel.run_allowance(run).time_ms, None, "the clock is not what is bounded");
        work(&world, &kernel, run, used);
    }
    let run = begin(&kernel, one).unwrap();
    assert_eq!(left(&kernel, run), Some(1_500), "of the agent: 10,000 less 8,500");
    kernel.run_used_cpu(run, 1_600);
    kernel.run_used_cpu(run, 900); // of two readings the greater: processor time does not go back
    kernel.end_run(run, &RunOutcome::Done).unwrap();
    let refused = refusal(begin(&kernel, one));
    assert_eq!(refused.code, RefusalCode::OverBudget);
    assert!(refused.message.contains("work_agent"), "{refused}");
    assert_eq!(left(&kernel, begin(&kernel, two).unwrap()), Some(1_900), "of the tenant: 12,000 less 10,100");
}

#[test]
fn k176_an_agents_own_limits_are_what_its_run_reserves_so_that_others_run_beside_it() {
    let mut world = budget("tenant = 10000");
    let kernel = world.kernel();
    let limits = ResourceLimits {
        execution_timeout_ms: Some(2_000),
        cpu_millicores: Some(1_500),
        ..ResourceLimits::default()
    };
    let agents: Vec<AgentId> = (0..4).map(|at| limited(&kernel, &format!("a{at}"), limits.clone())).collect();
    let runs: Vec<RunId> = agents[..3].iter().map(|agent| begin(&kernel, *agent).unwrap()).collect();
    assert!(runs.iter().all(|run| left(&kernel, *run) == Some(3_000)), "two seconds of one core and a half");
    assert_eq!(left(&kernel, begin(&kernel, agents[3]).unwrap()), Some(1_000));
    assert_eq!(refusal(begin(&kernel, free(&kernel, "open"))).code, RefusalCode::OverBudget);
}

#[test]
fn k240_of_an_agent_in_the_hosts_process_nothing_can_be_read_and_it_is_refused() {
    let rule = "@id(\"r\") @obligation(\"budget\") @budget(\"5 cpu_ms per 1h\")
        permit(principal, action == Action::\"agent.run\", resource);
        permit(principal, action, resource) unless { action == Action::\"agent.run\" };";
    let worlds = [
        budget("agent = 1000"),
        counted(
            "[counters.cpu]\naction = \"agent.run\"\nper = \"principal\"\nwindow_s = 60\nkind = \"sum\"\nof = \"cpu_ms\"",
        ),
        World::with(Some(policies(rule, &[]))),
    ];
    for mut world in worlds {
        let kernel = world.kernel();
        let spec = AgentSpec { in_process: true, ..spec("inside") };
        let inside = kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap().0;
        let before = kernel.count_rows();
        let refused = refusal(begin(&kernel, inside));
        assert_eq!(refused.code, RefusalCode::Denied, "{refused}");
        assert_eq!(kernel.count_rows(), before, "K21");
        assert!(begin(&kernel, free(&kernel, "outside")).is_ok());
    }
    let mut world = budget("agent = 1000\nresource = \"outside\"");
    let kernel = world.kernel();
    let inside = AgentSpec { in_process: true, ..spec("inside") };
    let inside = kernel.create_agent(Principal::Host, Arc::new(inside)).unwrap().0;
    assert!(begin(&kernel, inside).is_ok(), "a budget of others is not in its way");
}

#[test]
fn k240_what_nobody_has_read_of_a_run_that_worked_stays_taken() {
    let mut world = budget("agent = 10000\nrun = 4000");
    let kernel = world.kernel();
    let one = free(&kernel, "one");
    let run = begin(&kernel, one).unwrap();
    kernel.end_run(run, &RunOutcome::Done).unwrap();
    let (run, waits) = (begin(&kernel, one).unwrap(), begin(&kernel, one).unwrap());
    assert_eq!((left(&kernel, run), left(&kernel, waits)), (Some(4_000), Some(2_000)), "4,000 are unknown");
    kernel.end_run(waits, &RunOutcome::Cancelled).unwrap();
    work(&world, &kernel, run, 0);
    assert_eq!(
        left(&kernel, begin(&kernel, one).unwrap()),
        Some(4_000),
        "what has not begun has used nothing"
    );
}

#[test]
fn k176_after_a_crash_what_processors_were_used_is_known() {
    for snapshot_records in [symbi_kernel::SNAPSHOT_RECORDS, 4] {
        let mut world = budget("agent = 10000\nrun = 4000");
        world.snapshot_records = snapshot_records;
        let kernel = world.kernel();
        let (one, two) = (free(&kernel, "one"), free(&kernel, "two"));
        let run = begin(&kernel, one).unwrap();
        work(&world, &kernel, run, 1_000);
        begin(&kernel, two).unwrap();
        settle_disk(&kernel, one);
        let before = kernel.count_rows();
        let finished = details(world.of_type("run.finished").first().unwrap());
        assert_eq!(finished["used"]["cpu_ms"], 1_000);
        let (after, _image) = world.crashed();
        assert_eq!(after.count_rows(), before);
    }
}
