//! K120, K121: many agents and many runs in one call are what they would have been one by one.

use std::sync::Arc;

use proptest::prelude::*;
use symbi_kernel::{AgentError, AgentSpec, Kernel, Principal, Priority, RefusalCode, RunOutcome, State};
use symbi_policy::{CounterSpec, Per};
use symbi_types::{AgentId, LabelSet, RunId, SecurityTier};

use crate::world::*;

/// Everything, but a run past the third of a minute, and runs of agents that have read a secret.
fn few_runs() -> symbi_kernel::Policies {
    let text = "permit(principal, action, resource);
        @message(\"not now\")
        forbid(principal, action == Action::\"agent.run\", resource) when { context.counters.runs > 12 };
        forbid(principal, action == Action::\"agent.run\", resource)
        when { resource.labels.contains(\"secret\") };";
    let runs = CounterSpec::counting("runs", "agent.run", Per::Global, 60_000_000);
    policies(text, &[runs])
}

fn begin(kernel: &Kernel, agent: AgentId, labels: &LabelSet) -> Result<RunId, AgentError> {
    kernel.begin_run(Principal::Host, agent, b"{}", labels, Priority::NORMAL).map(|begun| begun.run)
}

fn code(result: &Result<RunId, AgentError>) -> Option<RefusalCode> {
    match result {
        Ok(_) => None,
        Err(AgentError::Refused(refusal)) => Some(refusal.code),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn k120_agents_that_are_made_together_are_decided_and_recorded_each_by_itself() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (ids, seq) = kernel.create_agents(Principal::Host, Arc::new(spec("one")), 100).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    assert_eq!((ids.len(), kernel.count_agents()), (100, 100));
    assert!(ids.iter().all(|id| kernel.agent_state(*id) == Some(State::Ready)));
    kernel.close().unwrap();
    let made = world.of_type("operation");
    assert_eq!(made.len(), 100, "K120");
    assert_eq!(made.last().unwrap().seq, seq);
    assert!(made.iter().zip(&ids).all(|(record, id)| record.agent() == Some(*id)), "K120: in their order");
}

#[test]
fn k120_where_one_may_not_be_none_is_made_and_nothing_stays_reserved() {
    let made = CounterSpec::counting("made", "agent.create", Per::Global, 60_000_000);
    let text = "permit(principal, action, resource);
        forbid(principal, action == Action::\"agent.create\", resource) when { context.counters.made > 5 };";
    let mut world = World::with(Some(policies(text, &[made])));
    world.agents_max = 8;
    let kernel = world.kernel();
    let make = |count| kernel.create_agents(Principal::Host, Arc::new(spec("one")), count);
    assert_eq!(refusal(make(6).map(|_| ())).code, RefusalCode::OverBudget);
    assert_eq!(kernel.count_agents(), 0, "K120");
    assert!(matches!(make(9), Err(AgentError::Invalid(_))), "more than there may be");
    make(5).unwrap(); // K120: the six that were refused stand in no window and hold no place
    assert_eq!(kernel.count_agents(), 5);
}

#[test]
fn an_agent_below_its_assessed_tier_is_recorded_as_one() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let make = |tier, assessed| {
        let spec = AgentSpec { tier, assessed, ..spec("one") };
        kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap();
    };
    make(SecurityTier::Docker, Some(SecurityTier::Gvisor));
    make(SecurityTier::Gvisor, Some(SecurityTier::Docker));
    make(SecurityTier::Docker, None);
    kernel.close().unwrap();
    let said: Vec<_> =
        world.of_type("operation").iter().map(|one| details(one)["below_assessment"].clone()).collect();
    assert_eq!(said, [serde_json::json!(true), serde_json::Value::Null, serde_json::Value::Null]);
    assert_eq!(details(&world.of_type("operation")[0])["assessed_tier"], "gvisor");
}

#[test]
fn k121_what_a_run_carries_is_seen_by_the_decision_on_the_next_of_its_agent() {
    let mut world = World::with(Some(few_runs()));
    let kernel = world.kernel();
    let (one, other) = (agent(&kernel, "one"), agent(&kernel, "other"));
    let secret = labels(&["secret"]);
    let asks: [(AgentId, &[u8]); 3] = [(one, b"{}"), (one, b"{}"), (other, b"{}")];
    let begun = kernel.begin_runs(Principal::Host, &asks, &secret, Priority::NORMAL);
    let codes: Vec<_> = begun.runs.iter().map(code).collect();
    assert_eq!(codes, [None, Some(RefusalCode::Denied), None], "K121");
}

#[test]
fn k121_where_the_trail_cannot_be_written_none_begins_and_all_are_told() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    kernel.close().unwrap();
    let asks: [(AgentId, &[u8]); 2] = [(one, b"{}"), (one, b"{}")];
    let begun = kernel.begin_runs(Principal::Host, &asks, &LabelSet::default(), Priority::NORMAL);
    assert!(begun.moves.is_empty(), "K24");
    assert!(begun.runs.iter().all(|run| code(run) == Some(RefusalCode::Unavailable)), "K121");
    kernel.verify_turns().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Two worlds, the same requests: in one call, and one after the other. The refusals, the states, the runs that start
    /// and the records are the same.
    #[test]
    fn k121_together_is_as_one_after_the_other(
        asks in prop::collection::vec(0usize..5, 1..24),
        marked in any::<bool>(),
        ends in prop::collection::vec(any::<bool>(), 24),
    ) {
        let carried = if marked { labels(&["secret"]) } else { LabelSet::default() };
        let mut seen = Vec::new();
        for together in [true, false] {
            let mut world = World::with(Some(few_runs()));
            let kernel = world.kernel();
            let agents: Vec<AgentId> = (0..4).map(|at| agent(&kernel, &format!("agent-{at}"))).collect();
            let stranger = AgentId::random(&symbi_types::SystemEntropy);
            let of = |at: usize| agents.get(at).copied().unwrap_or(stranger);
            let results: Vec<Result<RunId, AgentError>> = if together {
                let asks: Vec<(AgentId, &[u8])> = asks.iter().map(|at| (of(*at), &b"{}"[..])).collect();
                kernel.begin_runs(Principal::Host, &asks, &carried, Priority::NORMAL).runs
            } else {
                asks.iter().map(|at| begin(&kernel, of(*at), &carried)).collect()
            };
            kernel.verify_turns().map_err(TestCaseError::fail)?;
            let codes: Vec<Option<String>> = results
                .iter()
                .map(|result| result.as_ref().err().map(|error| match error {
                    AgentError::Refused(refusal) => refusal.code.as_str().to_owned(),
                    other => other.to_string(),
                }))
                .collect();
            let outcome = |done: bool| match done {
                true => RunOutcome::Done,
                false => RunOutcome::Failed { kind: "ValueError".to_owned(), text: "no".to_owned() },
            };
            let over: Vec<(RunId, RunOutcome)> = results
                .iter()
                .zip(&ends)
                .filter_map(|(result, done)| Some((*result.as_ref().ok()?, outcome(*done))))
                .collect();
            if together {
                let (seq, _) = kernel.end_runs(&over);
                prop_assert!(seq.is_some());
            } else {
                for (run, outcome) in &over {
                    kernel.end_run(*run, outcome).unwrap();
                }
            }
            kernel.verify_turns().map_err(TestCaseError::fail)?;
            let states: Vec<_> = agents.iter().map(|agent| kernel.agent_state(*agent)).collect();
            kernel.close().unwrap();
            let finished: Vec<_> =
                world.of_type("run.finished").iter().map(|one| details(one)["outcome"].clone()).collect();
            let begun = world.of_type("operation").iter().filter(|one| one.run_id().is_some()).count();
            seen.push((codes, states, finished, begun));
        }
        prop_assert_eq!(&seen[0], &seen[1]);
    }
}
