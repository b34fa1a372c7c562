//! K70 to K80: whose turn it is, who makes room, who is held, who is cancelled, and what policy makes of a violation.

use std::sync::Arc;

use symbi_kernel::{
    AgentError, AgentSpec, Cause, Kernel, Moves, Outcome, Payload, PermitError, Principal, Priority,
    Recipient, RefusalCode, RunOutcome, SchedulingOptions, State, Tier, Urgency,
};
use symbi_types::{AgentId, LabelSet, ResourceLimits, ResourceVector, RunId};

use crate::world::*;

/// One processor; every agent asks for all of it.
fn narrow(policies: Option<symbi_kernel::Policies>) -> World {
    let mut world = World::with(policies);
    world.capacity = ResourceVector::from_array([4_096, 1_000, 0, 0, 0, 8]);
    world.scheduling = SchedulingOptions { quantum_ms: 0, ..SchedulingOptions::default() };
    world
}

fn open() -> Option<symbi_kernel::Policies> {
    Some(policies(OPEN, &[]))
}

fn whole(kernel: &Kernel, name: &str) -> AgentId {
    let limits = ResourceLimits { cpu_millicores: Some(1_000), ..ResourceLimits::default() };
    kernel.create_agent(Principal::Host, Arc::new(AgentSpec { limits, ..spec(name) })).unwrap().0
}

fn begin(kernel: &Kernel, agent: AgentId, priority: u8) -> (RunId, Moves) {
    let begun =
        kernel.begin_run(Principal::Host, agent, b"", &LabelSet::default(), Priority(priority)).unwrap();
    (begun.run, begun.moves)
}

fn end(kernel: &Kernel, run: RunId) -> Moves {
    kernel.end_run(run, &RunOutcome::Done).unwrap().moves
}

fn found(world: &World, event_type: &str) -> Vec<serde_json::Value> {
    world.of_type(event_type).iter().map(details).collect()
}

#[test]
fn k75_a_less_urgent_run_stands_still_for_an_urgent_one_and_goes_on_after_it() {
    let mut world = narrow(open());
    let kernel = world.kernel();
    let (low, high) = (whole(&kernel, "low"), whole(&kernel, "high"));
    let (slow, moves) = begin(&kernel, low, 1);
    assert_eq!(moves.start, [slow]);
    world.clock.advance_us(1_000_000);
    let (urgent, moves) = begin(&kernel, high, 255);
    assert_eq!((moves.suspend.as_slice(), moves.start.len()), ([slow].as_slice(), 0), "K75: asked, not done");
    assert_eq!(kernel.agent_state(low), Some(State::Running), "K75: it runs until the host says otherwise");
    let moves = kernel.run_suspended(slow).unwrap();
    assert_eq!(
        (moves.start.as_slice(), kernel.agent_state(low)),
        ([urgent].as_slice(), Some(State::Suspended))
    );
    assert!(kernel.run_suspended(slow).unwrap().is_empty(), "K75: twice changes nothing");
    assert!(kernel.run_resumed(slow).is_err(), "K75: nobody told it to");
    let why = kernel.why_run(slow).unwrap();
    assert_eq!((why.state, why.reason, why.before), ("suspended", "preempted", Some(urgent)));
    let moves = end(&kernel, urgent);
    assert_eq!(moves.resume, [slow]);
    kernel.run_resumed(slow).unwrap();
    kernel.run_resumed(slow).unwrap();
    assert_eq!(kernel.agent_state(low), Some(State::Running));
    end(&kernel, slow);
    assert_eq!((kernel.agent_state(low), kernel.verify_turns()), (Some(State::Ready), Ok(())), "K27, K70");
    kernel.close().unwrap();
    let stood = found(&world, "run.suspended");
    assert_eq!(stood.len(), 1);
    assert_eq!(
        (&stood[0]["cause"], &stood[0]["urgent"]),
        (&"resource_constraint".into(), &urgent.to_string().into())
    );
    assert_eq!(stood[0]["transitions"][0], "running>suspended");
    assert_eq!(found(&world, "run.resumed")[0]["transitions"][0], "suspended>running");
}

#[test]
fn k75_a_run_that_ends_or_is_stopped_while_it_comes_to_a_standstill_gives_everything_back_once() {
    for (stop, reported) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = narrow(open());
        let kernel = world.kernel();
        let (low, high) = (whole(&kernel, "low"), whole(&kernel, "high"));
        let (slow, _) = begin(&kernel, low, 1);
        world.clock.advance_us(1_000_000);
        let (urgent, moves) = begin(&kernel, high, 255);
        assert_eq!(moves.suspend, [slow]);
        if reported {
            assert_eq!(kernel.run_suspended(slow).unwrap().start, [urgent]);
        }
        if stop {
            assert_eq!(kernel.stop_agent(OPERATOR, low, true).unwrap().runs, [slow]);
        }
        let moves = end(&kernel, slow);
        assert_eq!(moves.start.contains(&urgent), !reported, "K27");
        assert_eq!(kernel.agent_state(low), if stop { None } else { Some(State::Ready) }, "K18");
        assert!(kernel.run_suspended(slow).is_err(), "it is over");
        end(&kernel, urgent);
        assert_eq!(kernel.resources().allocated, ResourceVector::default(), "K27");
        kernel.verify_turns().unwrap();
    }
}

#[test]
fn k76_a_hold_outlasts_the_resources_and_the_last_one_to_go_lets_the_agent_go_on() {
    let mut world = narrow(open());
    let kernel = world.kernel();
    let (low, high) = (whole(&kernel, "low"), whole(&kernel, "high"));
    tool(&kernel, "t");
    let (slow, _) = begin(&kernel, low, 1);
    world.clock.advance_us(1_000_000);
    let (urgent, _) = begin(&kernel, high, 255);
    kernel.run_suspended(slow).unwrap();
    let held = kernel.suspend_agent(OPERATOR, low, Cause::OperatorHold).unwrap();
    assert!(held.moves.is_empty(), "it stands still already");
    assert!(end(&kernel, urgent).resume.is_empty(), "K76: held");
    assert_eq!(kernel.why_agent(low).unwrap().reason, "operator_hold");
    assert_eq!(refusal(ask(&kernel, low, "t")).code, RefusalCode::Suspended, "K43");
    let moves = kernel.resume_agent(OPERATOR, low).unwrap().moves;
    assert_eq!(
        (moves.resume.as_slice(), kernel.agent_state(low)),
        ([slow].as_slice(), Some(State::Suspended))
    );
    kernel.run_resumed(slow).unwrap();
    assert_eq!(kernel.agent_state(low), Some(State::Running), "K76");
    // Let go before the host had done it: it need not.
    assert_eq!(kernel.suspend_agent(OPERATOR, low, Cause::OperatorHold).unwrap().moves.suspend, [slow]);
    assert_eq!(kernel.resume_agent(OPERATOR, low).unwrap().moves.resume, [slow]);
    assert_eq!(kernel.run_suspended(slow).unwrap().resume, [slow], "K75: nobody wants it any more");
    end(&kernel, slow);
    kernel.verify_turns().unwrap();
}

#[test]
fn k77_k78_after_a_cancellation_nothing_of_the_run_begins_and_what_was_under_way_is_unknown() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    tool(&kernel, "t");
    let begun = run(&kernel, one);
    let (acting, armed) = (ask(&kernel, one, "t").unwrap(), ask(&kernel, one, "t").unwrap());
    take(&kernel, &acting);
    kernel.wait_durable(armed.intent_seq(), SOON).unwrap();
    kernel.cancel_run(OPERATOR, begun.run).unwrap();
    kernel.cancel_run(OPERATOR, begun.run).unwrap();
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::Cancelled, "K77");
    assert_eq!(armed.take(), Err(PermitError::Revoked), "K77");
    let to = Recipient::Agent(one);
    assert!(kernel.send(one, &to, Payload::Bytes(vec![1]), None, false).is_err(), "K77");
    let unknown: Vec<_> = kernel.unknown_operations().iter().map(|one| one.operation).collect();
    assert_eq!(unknown, [acting.operation()], "K78");
    kernel.end_run(begun.run, &RunOutcome::Cancelled).unwrap();
    acting.settle(&Outcome::Done).unwrap();
    assert!(kernel.unknown_operations().is_empty(), "K78: what its adapter says later settles it");
    drop(armed);
    let next = run(&kernel, one);
    assert!(ask(&kernel, one, "t").is_ok(), "K77: of that run alone");
    end(&kernel, next.run);
    kernel.close().unwrap();
    let outcomes: Vec<String> = found(&world, "operation.outcome")
        .iter()
        .map(|one| one["outcome"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(outcomes, ["unknown", "done", "released", "released"], "K78");
    let again = world.kernel();
    assert!(again.unknown_operations().is_empty(), "K37, K78");
}

#[test]
fn k77_whoever_takes_a_permit_while_its_run_is_cancelled_is_before_or_after_it() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    tool(&kernel, "t");
    for _ in 0..40 {
        let one = agent(&kernel, "a");
        let begun = run(&kernel, one);
        let permits: Vec<_> = (0..4).map(|_| ask(&kernel, one, "t").unwrap()).collect();
        kernel.wait_durable(permits[3].intent_seq(), SOON).unwrap();
        let start = Arc::new(std::sync::Barrier::new(2));
        let (other, gate) = (Arc::clone(&kernel), Arc::clone(&start));
        let canceller = std::thread::spawn(move || {
            gate.wait();
            other.cancel_run(OPERATOR, begun.run).unwrap();
        });
        start.wait();
        let taken = permits.iter().filter(|permit| permit.take().is_ok()).count();
        canceller.join().unwrap();
        let unknown = kernel.unknown_operations().len();
        assert_eq!(unknown, taken, "K77, K78: given before it, or not at all");
        for permit in &permits {
            let _ = permit.settle(&Outcome::Done);
        }
        kernel.end_run(begun.run, &RunOutcome::Cancelled).unwrap();
        kernel.stop_agent(OPERATOR, one, true).unwrap();
        assert!(kernel.unknown_operations().is_empty(), "K78");
    }
}

const PUNISHING: &str = r#"permit(principal, action, resource);
@id("no-exfiltration") @on_violation("suspend") forbid(principal, action == Action::"tool.call", resource == Tool::"leak");
@id("no-sabotage") @on_violation("terminate") forbid(principal, action == Action::"tool.call", resource == Tool::"wreck");
@id("plain") forbid(principal, action == Action::"tool.call", resource == Tool::"dull");"#;

#[test]
fn k79_k80_a_violation_suspends_and_policies_that_do_not_mind_it_let_the_agent_go_on() {
    let mut world = World::with(Some(policies(PUNISHING, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    ["leak", "wreck", "dull"].into_iter().for_each(|name| tool(&kernel, name));
    let begun = run(&kernel, one);
    assert_eq!(refusal(ask(&kernel, one, "dull")).code, RefusalCode::Denied);
    assert_eq!(kernel.agent_state(one), Some(State::Running), "a plain denial is a denial");
    assert_eq!(refusal(ask(&kernel, one, "leak")).code, RefusalCode::Denied);
    assert_eq!(kernel.agent_state(one), Some(State::Suspended), "K79");
    assert!(kernel.has_untold());
    assert_eq!(kernel.tick().suspend, [begun.run]);
    kernel.run_suspended(begun.run).unwrap();
    kernel.load_policies(OPERATOR, &policies(PUNISHING, &[])).unwrap();
    assert!(kernel.tick().is_empty(), "K80: these mind it too");
    kernel.load_policies(OPERATOR, &policies(OPEN, &[])).unwrap();
    assert_eq!(kernel.tick().resume, [begun.run], "K80");
    kernel.run_resumed(begun.run).unwrap();
    assert_eq!(kernel.agent_state(one), Some(State::Running));
    // A hold of an operator is not policy's to clear.
    kernel.load_policies(OPERATOR, &policies(PUNISHING, &[])).unwrap();
    let _ = ask(&kernel, one, "leak");
    kernel.suspend_agent(OPERATOR, one, Cause::OperatorHold).unwrap();
    kernel.load_policies(OPERATOR, &policies(OPEN, &[])).unwrap();
    assert_eq!(kernel.agent_state(one), Some(State::Suspended), "K76");
    kernel.resume_agent(OPERATOR, one).unwrap();
    assert_eq!(kernel.agent_state(one), Some(State::Running), "K76");
    // The severest consequence of all.
    kernel.load_policies(OPERATOR, &policies(PUNISHING, &[])).unwrap();
    let _ = ask(&kernel, one, "wreck");
    let _ = ask(&kernel, one, "wreck");
    assert_eq!(
        (kernel.agent_state(one), kernel.take_condemned()),
        (Some(State::Suspended), vec![one]),
        "K79"
    );
    kernel.stop_agent(Principal::Host, one, true).unwrap();
    kernel.end_run(begun.run, &RunOutcome::Cancelled).unwrap();
    kernel.close().unwrap();
    let violations = found(&world, "policy.violation");
    assert_eq!(violations[0]["rule"], "no-exfiltration");
    assert_eq!(violations.last().unwrap()["consequence"], "terminate");
}

#[test]
fn k74_policy_sees_tier_priority_and_tenant_before_the_scheduler_does() {
    let text = format!(
        "{OPEN} forbid(principal, action == Action::\"agent.run\", resource) when {{ context has tier && context.tier == \"realtime\" }};
        forbid(principal, action == Action::\"agent.run\", resource) when {{ context has priority && context.priority > 200 && resource has tenant && resource.tenant != \"ops\" }};"
    );
    let mut world = World::with(Some(policies(&text, &[])));
    let kernel = world.kernel();
    let guest = agent(&kernel, "guest");
    let spec = AgentSpec { tenant: "ops".to_owned(), ..spec("ops") };
    let (ops, _) = kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap();
    let ask = |agent, urgency: Urgency| {
        kernel.begin_run(Principal::Host, agent, b"", &LabelSet::default(), urgency)
    };
    let urgent = Urgency { priority: Priority(255), ..Urgency::default() };
    let realtime = Urgency {
        tier: Tier::Realtime,
        deadline_ms: Some(1_000),
        duration_ms: Some(10),
        ..Urgency::default()
    };
    assert_eq!(refusal(ask(guest, urgent)).code, RefusalCode::Denied, "K74");
    assert_eq!(refusal(ask(ops, realtime)).code, RefusalCode::Denied, "K74");
    assert!(ask(ops, urgent).is_ok(), "K74");
    let bare = Urgency { tier: Tier::Realtime, ..Urgency::default() };
    assert!(matches!(ask(ops, bare), Err(AgentError::Invalid(text)) if text.contains("deadline_ms")));
    kernel.close().unwrap();
    let recorded =
        world.of_type("operation").iter().map(details).find(|one| one["action"] == "agent.run").unwrap();
    assert_eq!((&recorded["tier"], &recorded["tenant"]), (&"interactive".into(), &"ops".into()), "K74, K71");
}

#[test]
fn k121_a_deadline_that_is_promised_to_one_run_counts_for_the_next_in_the_same_call() {
    let mut world = narrow(open());
    world.scheduling.realtime_percent = 100;
    let kernel = world.kernel();
    let (one, two) = (whole(&kernel, "one"), whole(&kernel, "two"));
    let asks: [(AgentId, &[u8]); 2] = [(one, b""), (two, b"")];
    let urgency = Urgency {
        tier: Tier::Realtime,
        deadline_ms: Some(150),
        duration_ms: Some(100),
        ..Urgency::default()
    };
    let begun = kernel.begin_runs(Principal::Host, &asks, &LabelSet::default(), urgency);
    let refused = begun.runs.iter().filter(|run| matches!(run, Err(AgentError::Invalid(_)))).count();
    assert_eq!((begun.moves.start.len(), refused), (1, 1), "K121");
    kernel.close().unwrap();
    let runs = world.of_type("operation").iter().filter(|one| one.run_id().is_some()).count();
    assert_eq!((runs, world.of_type("run.finished").len()), (1, 0), "K121: refused before it is recorded");
}

#[test]
fn k72_k73_who_is_asked_is_as_urgent_as_who_asks_until_it_has_answered() {
    let mut world = narrow(open());
    let kernel = world.kernel();
    let asker = kernel.create_agent(Principal::Host, Arc::new(spec("asker"))).unwrap().0; // holds no processor
    let (asked, between) = (whole(&kernel, "asked"), whole(&kernel, "between"));
    let (question, _) = begin(&kernel, asker, 255);
    let (low, moves) = begin(&kernel, asked, 1);
    assert_eq!(moves.start, [low]);
    let payload = || Payload::Bytes(b"?".to_vec());
    let (request, _) = kernel.send(asker, &Recipient::Agent(asked), payload(), None, true).unwrap();
    assert_eq!(kernel.requests_open(), 1, "K72");
    world.clock.advance_us(1_000_000);
    let (middle, moves) = begin(&kernel, between, 128);
    assert!(moves.is_empty(), "K72: it does not pass who is waited for");
    kernel.send(asked, &Recipient::Agent(asker), payload(), Some(request), false).unwrap();
    assert_eq!(kernel.requests_open(), 0, "K72");
    assert_eq!(kernel.tick().suspend, [low], "K72: it is as urgent as it was");
    kernel.run_suspended(low).unwrap();
    end(&kernel, middle);
    for _ in 0..70 {
        let _ = kernel.send(asker, &Recipient::Agent(asked), payload(), None, true);
        kernel.receive_many(asked, 10).unwrap();
    }
    assert!((1..=64).contains(&kernel.requests_open()), "K73: {}", kernel.requests_open());
    end(&kernel, question);
    assert_eq!(kernel.requests_open(), 0, "K72: the end of who asked");
    end(&kernel, low);
    kernel.verify_turns().unwrap();
}

#[test]
fn k70_k27_whatever_is_said_in_whatever_order_runs_agents_and_scheduler_agree() {
    let lives = if std::env::var_os("SYMBI_LONG").is_some() { 2_000 } else { 40 };
    for seed in 1..=lives {
        let mut world = narrow(open());
        world.seed = seed * 1_000;
        let kernel = world.kernel();
        let dice = symbi_testkit::SeededEntropy::new(seed);
        let below = |bound: usize| usize::try_from(dice.below(bound as u64)).unwrap();
        let mut agents: Vec<AgentId> = (0..4).map(|at| whole(&kernel, &format!("a{at}"))).collect();
        let mut runs: Vec<RunId> = Vec::new();
        for step in 0..120 {
            let one = agents[below(agents.len())];
            let any = (!runs.is_empty()).then(|| runs[below(runs.len())]);
            match (below(14), any) {
                (0..=2, _) => runs.extend(
                    kernel
                        .begin_run(
                            Principal::Host,
                            one,
                            b"",
                            &LabelSet::default(),
                            Priority(below(256) as u8),
                        )
                        .ok()
                        .map(|begun| begun.run),
                ),
                (3..=4, Some(run)) => drop(kernel.run_suspended(run)),
                (5, Some(run)) => drop(kernel.run_resumed(run)),
                (6, Some(run)) => {
                    kernel.end_run(run, &RunOutcome::Done).unwrap();
                    runs.retain(|other| *other != run);
                }
                (7, Some(run)) => drop(kernel.cancel_run(OPERATOR, run)),
                (8, _) => drop(kernel.suspend_agent(OPERATOR, one, Cause::OperatorHold)),
                (9, _) => drop(kernel.resume_agent(OPERATOR, one)),
                (10, _) if below(4) == 0 => {
                    let stopped = kernel.stop_agent(OPERATOR, one, below(2) == 0).unwrap();
                    if stopped.terminated {
                        agents.retain(|other| *other != one);
                        agents.push(whole(&kernel, &format!("s{step}")));
                    }
                    for run in stopped.runs {
                        kernel.end_run(run, &RunOutcome::Cancelled).unwrap();
                        runs.retain(|other| *other != run);
                    }
                }
                (12, _) => {
                    let asks: Vec<(AgentId, &[u8])> =
                        (0..=below(5)).map(|_| (agents[below(agents.len())], &b""[..])).collect();
                    let begun = kernel.begin_runs(
                        Principal::Host,
                        &asks,
                        &LabelSet::default(),
                        Priority(below(256) as u8),
                    );
                    runs.extend(begun.runs.into_iter().flatten());
                }
                (13, Some(_)) => {
                    let over: Vec<(RunId, RunOutcome)> =
                        runs.drain(..below(runs.len()).min(4)).map(|run| (run, RunOutcome::Done)).collect();
                    drop(kernel.end_runs(&over));
                }
                _ => {
                    world.clock.advance_us(below(50_000) as u64);
                    drop(kernel.tick());
                }
            }
            kernel.verify_turns().unwrap_or_else(|broken| panic!("seed {seed}, step {step}: {broken}"));
        }
        for run in runs {
            kernel.end_run(run, &RunOutcome::Done).unwrap();
        }
        assert_eq!(kernel.resources().allocated, ResourceVector::default(), "K27: seed {seed}");
        assert_eq!(kernel.verify_turns(), Ok(()), "K70: seed {seed}");
    }
}

#[test]
fn k74_policy_bounds_the_resources_that_a_run_gets() {
    let text = format!(
        "{OPEN}\n@id(\"small\") forbid(principal, action == Action::\"agent.run\", resource)
        when {{ context has memory_mb && context.memory_mb > 512 }};"
    );
    let mut world = World::with(Some(policies(&text, &[])));
    let kernel = world.kernel();
    let holding = |name: &str, memory_mb| {
        let limits = ResourceLimits { memory_mb, ..ResourceLimits::default() };
        kernel.create_agent(Principal::Host, Arc::new(AgentSpec { limits, ..spec(name) })).unwrap().0
    };
    let begin = |agent| kernel.begin_run(Principal::Host, agent, b"", &LabelSet::default(), Priority::NORMAL);
    let (small, large, open) = (holding("s", Some(512)), holding("l", Some(513)), holding("o", None));
    assert!(begin(small).is_ok() && begin(open).is_ok());
    assert_eq!(refusal(begin(large)).code, RefusalCode::Denied, "K74");
    settle_disk(&kernel, small);
    let recorded = details(&world.of_type("operation").remove(3))["context"].clone();
    assert_eq!(recorded["memory_mb"], 512, "K74: and so it stands in the trail");
}
