//! The error handler behind the monitor: attempts, replays, dead tasks. Breakers and budgets are in `breakers.rs`.

use std::sync::Arc;

use symbi_kernel::{
    AgentError, AgentSpec, AttemptVerdict as Verdict, Begun, Kernel, Outcome, Principal, Priority,
    RefusalCode, Resolution, RunOutcome, Supervision, ToolCall, ToolSpec,
};
use symbi_types::{AgentId, LabelSet, RunId};

use crate::world::{
    OPEN, OPERATOR, SOON, World, act, agent, ask, at_most, call, details, policies, refusal, run, spec, take,
    tool,
};

const INPUT: &[u8] = br#"{"ticket":"the input of the task"}"#;

pub(crate) fn supervised(kernel: &Kernel, name: &str, supervision: Supervision) -> AgentId {
    let spec = AgentSpec { supervision: Some(supervision), kind: "python".to_owned(), ..spec(name) };
    kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap().0
}

pub(crate) fn thrice() -> Supervision {
    Supervision { retries: 3, ..Supervision::default() }
}

pub(crate) fn begin(kernel: &Kernel, agent: AgentId, retry_of: Option<RunId>) -> Result<Begun, AgentError> {
    kernel.begin_attempt(Principal::Host, agent, INPUT, &LabelSet::default(), Priority::NORMAL, retry_of)
}

pub(crate) fn failed(kind: &str) -> RunOutcome {
    RunOutcome::Failed { kind: kind.to_owned(), text: "what it said".to_owned() }
}

/// Ends the run as a failure that goes away by itself, which must give a retry.
pub(crate) fn fail(kernel: &Kernel, run: RunId) {
    let ended = kernel.end_run(run, &failed("TimeoutError")).unwrap();
    assert!(matches!(ended.aftermath.verdict, Verdict::Retry { .. }), "{:?}", ended.aftermath);
}

/// One whole call whose result is kept; answers what the agent gets.
fn effect(kernel: &Arc<Kernel>, by: AgentId, name: &str, result: &str) -> String {
    let permit = ask(kernel, by, name).unwrap();
    kernel.wait_durable(permit.intent_seq(), SOON).unwrap();
    if let Some(kept) = permit.replayed() {
        return String::from_utf8(kept.to_vec()).unwrap();
    }
    assert!(permit.is_journaled());
    permit.take().unwrap();
    permit.settle_with(&Outcome::Done, Some(result.as_bytes().to_vec())).unwrap();
    result.to_owned()
}

/// The bytes were taken, and then nobody knows.
fn lose(kernel: &Arc<Kernel>, by: AgentId, name: &str) {
    let permit = ask(kernel, by, name).unwrap();
    take(kernel, &permit);
    drop(permit);
}

/// An agent whose first attempt is over, after a call of which nobody knows.
fn cut_off(kernel: &Arc<Kernel>) -> (AgentId, RunId) {
    let one = supervised(kernel, "one", thrice());
    tool(kernel, "append");
    let first = begin(kernel, one, None).unwrap().run;
    lose(kernel, one, "append");
    fail(kernel, first);
    (one, first)
}

#[test]
fn an_attempt_is_a_run_of_its_own_linked_to_the_one_before() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    let first = begin(&kernel, one, None).unwrap();
    fail(&kernel, first.run);
    let second = begin(&kernel, one, Some(first.run)).unwrap();
    let ended = kernel.end_run(second.run, &RunOutcome::Done).unwrap();
    assert_eq!((ended.aftermath.verdict, ended.aftermath.attempt), (Verdict::None, 2));
    kernel.close().unwrap();
    let finished: Vec<_> = world.of_type("run.finished").iter().map(details).collect();
    assert_eq!(finished[0]["class"], "transient");
    assert_eq!(finished[0]["verdict"], "retry");
    assert_eq!(finished[0]["attempt"], 1);
    assert!(finished[0]["retry_after_ms"].as_u64().unwrap() <= 200);
    assert_eq!(finished[1].get("class"), None, "it is done");
    let begun = world.of_type("operation").into_iter().find(|one| one.run_id() == Some(second.run)).unwrap();
    assert_eq!(details(&begun)["retry_of"], first.run.to_string());
    assert_eq!(details(&begun)["attempt"], 2);
    assert!(kernel.dead_tasks().0.is_empty());
}

#[test]
fn k93_an_attempt_follows_only_a_verdict_to_retry_once_for_the_same_input() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (one, other) = (supervised(&kernel, "one", thrice()), supervised(&kernel, "other", thrice()));
    let plain = agent(&kernel, "plain");
    let first = begin(&kernel, one, None).unwrap().run;
    assert!(begin(&kernel, one, Some(first)).is_err(), "it has not failed yet");
    fail(&kernel, first);
    assert!(begin(&kernel, other, Some(first)).is_err(), "another agent's task");
    assert!(begin(&kernel, plain, Some(first)).is_err(), "an agent that asked for nothing");
    let changed = kernel.begin_attempt(
        Principal::Host,
        one,
        b"{}",
        &LabelSet::default(),
        Priority::NORMAL,
        Some(first),
    );
    assert!(changed.is_err(), "another input");
    let second = begin(&kernel, one, Some(first)).unwrap().run;
    assert!(begin(&kernel, one, Some(first)).is_err(), "twice");
    assert!(begin(&kernel, one, Some(second)).is_err(), "it has not failed yet");
    kernel.end_run(second, &RunOutcome::Done).unwrap();
    assert!(begin(&kernel, one, Some(second)).is_err(), "the task is over");
}

#[test]
fn k96_a_retry_never_repeats_an_effect_that_was_recorded_as_done() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    tool(&kernel, "append");
    let first = begin(&kernel, one, None).unwrap().run;
    assert_eq!(effect(&kernel, one, "append", "line 1"), "line 1");
    fail(&kernel, first);
    let second = begin(&kernel, one, Some(first)).unwrap().run;
    assert_eq!(effect(&kernel, one, "append", "never"), "line 1", "the recorded result");
    assert_eq!(effect(&kernel, one, "append", "line 2"), "line 2", "a second equal call is a second effect");
    fail(&kernel, second);
    let third = begin(&kernel, one, Some(second)).unwrap().run;
    let permit = ask(&kernel, one, "append").unwrap();
    assert!(permit.take().is_err() && permit.settle(&Outcome::Done).is_err(), "nothing can be done with it");
    drop(permit);
    assert_eq!(effect(&kernel, one, "append", "never"), "line 2");
    kernel.end_run(third, &RunOutcome::Done).unwrap();
    kernel.close().unwrap();
    assert_eq!(world.of_type("operation.intent").len(), 2);
    let outcomes = world.of_type("operation.outcome");
    assert!(outcomes.iter().all(|outcome| details(outcome)["outcome"] == "done"), "none is unknown");
    let replayed = world.of_type("operation.replayed");
    assert_eq!(replayed.len(), 3);
    assert_eq!(replayed[0].operation(), outcomes[0].operation());
    assert_eq!(replayed[0].run_id(), Some(second));
    world.verify();
}

#[test]
fn k96_policy_decides_on_a_replay_again_and_its_counters_do_not_count_it_twice() {
    let mut world = World::with(Some(at_most(1, symbi_policy::Per::Principal)));
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    tool(&kernel, "append");
    let first = begin(&kernel, one, None).unwrap().run;
    effect(&kernel, one, "append", "line");
    fail(&kernel, first);
    let second = begin(&kernel, one, Some(first)).unwrap().run;
    assert_eq!(effect(&kernel, one, "append", "never"), "line", "one call a minute, and it was this one");
    assert_eq!(refusal(ask(&kernel, one, "append")).code, RefusalCode::OverBudget, "a second is a second");
    fail(&kernel, second);
    let forbidden =
        policies(&format!("{OPEN}\nforbid(principal, action == Action::\"tool.call\", resource);"), &[]);
    kernel.load_policies(Principal::Operator(1000), &forbidden).unwrap();
    begin(&kernel, one, Some(second)).unwrap();
    assert_eq!(refusal(ask(&kernel, one, "append")).code, RefusalCode::Denied, "now it is forbidden");
}

#[test]
fn k97_an_effect_that_is_unknown_is_not_repeated_and_its_attempt_is_dead() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (one, first) = cut_off(&kernel);
    let second = begin(&kernel, one, Some(first)).unwrap().run;
    let unknown = kernel.unknown_operations()[0].operation;
    assert_eq!(ask(&kernel, one, "append").unwrap_err(), AgentError::EffectUnknown(unknown));
    // Its code makes light of it, and says that all went well.
    let judged = kernel.judge(second, &RunOutcome::Done).unwrap();
    assert_eq!((judged.class.unwrap().as_str(), judged.verdict), ("unknown_effect", Verdict::Dead));
    kernel.end_run(second, &RunOutcome::Done).unwrap();
    let (dead, dropped) = kernel.dead_tasks();
    assert_eq!((dead.len(), dropped), (1, 0));
    assert_eq!((dead[0].task, dead[0].run, dead[0].attempts), (first, second, 2));
    assert_eq!(kernel.unseal(&dead[0].input_sealed).unwrap(), INPUT);
    assert!(!dead[0].input_sealed.contains("ticket"), "sealed, not plain");
    kernel.close().unwrap();
    let last = details(world.of_type("run.finished").last().unwrap());
    assert_eq!(
        (&last["outcome"], &last["class"], &last["verdict"]),
        (&"failed".into(), &"unknown_effect".into(), &"dead".into())
    );
    assert_eq!(world.of_type("operation.intent").len(), 1);
}

#[test]
fn k97_a_tool_that_is_declared_idempotent_is_called_again_and_the_record_says_so() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    let word = |text: &str| text.to_owned();
    let put = ToolSpec { name: word("put"), effects: word("write"), risk: word("low"), idempotent: true };
    kernel.register_tool(&put).unwrap();
    kernel
        .register_tool(&ToolSpec { name: word("get"), effects: word("read"), idempotent: false, ..put })
        .unwrap();
    let first = begin(&kernel, one, None).unwrap().run;
    lose(&kernel, one, "put");
    lose(&kernel, one, "get");
    fail(&kernel, first);
    let second = begin(&kernel, one, Some(first)).unwrap().run;
    assert_eq!(effect(&kernel, one, "put", "put"), "put");
    assert_eq!(effect(&kernel, one, "get", "got"), "got", "reading twice is reading");
    kernel.end_run(second, &RunOutcome::Done).unwrap();
    kernel.close().unwrap();
    let intents = world.of_type("operation.intent");
    assert_eq!(details(&intents[2])["repeats"], intents[0].operation().unwrap().to_string());
    assert_eq!(details(&intents[2])["idempotent"], true);
}

#[test]
fn a_call_that_was_cut_off_is_unknown_and_one_that_failed_is_made_again() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    tool(&kernel, "append");
    tool(&kernel, "post");
    let settle = |name: &str, kind: &str| {
        let permit = ask(&kernel, one, name).unwrap();
        take(&kernel, &permit);
        permit.settle(&Outcome::Failed { kind: kind.to_owned(), text: String::new() }).unwrap();
    };
    let first = begin(&kernel, one, None).unwrap().run;
    settle("append", "ConnectionRefusedError");
    settle("post", "ReadTimeout");
    fail(&kernel, first);
    begin(&kernel, one, Some(first)).unwrap();
    assert_eq!(effect(&kernel, one, "append", "line"), "line");
    assert!(matches!(ask(&kernel, one, "post").unwrap_err(), AgentError::EffectUnknown(_)));
}

#[test]
fn k92_a_task_whose_results_were_not_kept_is_not_tried_again() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    tool(&kernel, "append");
    let first = begin(&kernel, one, None).unwrap().run;
    act(&kernel, one, "append"); // settled without a result
    let ended = kernel.end_run(first, &failed("TimeoutError")).unwrap();
    assert_eq!((ended.aftermath.verdict, ended.aftermath.reason.as_str()), (Verdict::Dead, "effects"));
}

#[test]
fn k94_a_task_that_is_given_up_is_kept_and_recorded() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    let first = begin(&kernel, one, None).unwrap().run;
    assert!(kernel.give_up(first).is_err(), "it runs");
    fail(&kernel, first);
    kernel.give_up(first).unwrap();
    assert!(kernel.give_up(first).is_err(), "once");
    assert!(begin(&kernel, one, Some(first)).is_err());
    assert_eq!(kernel.dead_tasks().0[0].reason, "given_up");
    kernel.close().unwrap();
    assert_eq!(details(&world.of_type("run.given_up")[0])["verdict"], "dead");
}

#[test]
fn an_attempt_that_policy_refuses_leaves_its_task_waiting() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    let first = begin(&kernel, one, None).unwrap().run;
    fail(&kernel, first);
    let held =
        policies(&format!("{OPEN}\nforbid(principal, action == Action::\"agent.run\", resource);"), &[]);
    kernel.load_policies(Principal::Operator(1000), &held).unwrap();
    assert_eq!(refusal(begin(&kernel, one, Some(first))).code, RefusalCode::Denied);
    kernel.load_policies(Principal::Operator(1000), &policies(OPEN, &[])).unwrap();
    begin(&kernel, one, Some(first)).unwrap();
}

#[test]
fn past_its_restarts_an_agent_is_suspended_and_terminated() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let asked = Supervision { retries: 0, restarts: Some(1), ..Supervision::default() };
    let one = supervised(&kernel, "one", asked);
    let first = begin(&kernel, one, None).unwrap().run;
    assert_eq!(kernel.end_run(first, &failed("KeyError")).unwrap().aftermath.verdict, Verdict::Restart);
    let second = begin(&kernel, one, None).unwrap().run;
    assert_eq!(kernel.end_run(second, &failed("KeyError")).unwrap().aftermath.verdict, Verdict::Escalate);
    assert!(kernel.agent_state(one).unwrap().is_final());
    assert!(begin(&kernel, one, None).is_err());
    let stopped = kernel.stop_agent(Principal::Host, one, true).unwrap();
    assert!(stopped.terminated && kernel.agent_state(one).is_none());
    kernel.close().unwrap();
    let ended = world.of_type("run.finished").into_iter().find(|one| one.run_id() == Some(second)).unwrap();
    let last = details(&ended);
    let expected = ["ready>running", "running>suspended", "suspended>terminated"];
    assert_eq!(last["transitions"], serde_json::json!(expected));
}

#[test]
fn a_stop_ends_tasks_that_wait_for_their_next_attempt() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = supervised(&kernel, "one", thrice());
    let first = begin(&kernel, one, None).unwrap().run;
    fail(&kernel, first);
    assert_eq!(kernel.stop_agent(Principal::Host, one, false).unwrap().runs, [first]);
}

#[test]
fn failures_are_counted_by_class_and_kind() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    for kind in ["KeyError", "KeyError", "TimeoutError", "MyError"] {
        let begun = run(&kernel, one);
        let ended = kernel.end_run(begun.run, &failed(kind)).unwrap();
        assert_eq!(ended.aftermath.verdict, Verdict::None, "it asked for nothing");
    }
    let rows: Vec<_> =
        kernel.failures().into_iter().map(|(class, kind, count)| (class.as_str(), kind, count)).collect();
    let row = |class, kind: &str, count| (class, kind.to_owned(), count);
    assert_eq!(
        rows,
        [row("transient", "TimeoutError", 1), row("bug", "KeyError", 2), row("other", "MyError", 1)]
    );
}

#[test]
fn an_agent_that_asked_for_nothing_keeps_no_journal() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    tool(&kernel, "append");
    let begun = run(&kernel, one);
    let permit = kernel.begin_tool_call(Principal::Agent(one), ToolCall { ..call("append") }).unwrap();
    assert!(!permit.is_journaled());
    drop(permit);
    assert!(kernel.judge(begun.run, &RunOutcome::Done).is_none());
}

#[test]
fn k98_what_is_kept_for_all_tasks_together_is_bounded() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    tool(&kernel, "large");
    let large = "x".repeat(1 << 20);
    let in_process = |number: usize| {
        let name = format!("agent {number}");
        let spec = AgentSpec { supervision: Some(thrice()), in_process: true, ..spec(&name) };
        kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap().0
    };
    let start = |number: usize| {
        let one = in_process(number);
        let run = begin(&kernel, one, None).unwrap().run;
        effect(&kernel, one, "large", &large);
        run
    };
    let runs: Vec<RunId> = (0..63).map(start).collect(); // their inputs take the rest of the 64th
    let full = start(63);
    let ended = kernel.end_run(full, &failed("TimeoutError")).unwrap();
    assert_eq!(ended.aftermath.reason.as_str(), "effects", "its result was not kept");
    kernel.end_run(runs[0], &RunOutcome::Done).unwrap();
    fail(&kernel, start(64)); // there is room again
}

#[test]
fn k123_a_call_that_a_person_says_failed_is_made_by_the_next_attempt() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (one, first) = cut_off(&kernel);
    let unknown = kernel.unknown_operations()[0].operation;
    kernel.resolve(OPERATOR, unknown, Resolution::Failed).unwrap();
    let second = begin(&kernel, one, Some(first)).unwrap().run;
    assert_eq!(effect(&kernel, one, "append", "line"), "line", "K123: it is made");
    let ended = kernel.end_run(second, &RunOutcome::Done).unwrap();
    assert_eq!(ended.aftermath.class, None, "K123");
}

#[test]
fn k123_a_call_that_a_person_says_was_done_is_answered_without_a_result_and_not_made() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (one, other) = (supervised(&kernel, "one", thrice()), supervised(&kernel, "other", thrice()));
    tool(&kernel, "append");
    tool(&kernel, "post");
    let first = begin(&kernel, one, None).unwrap().run;
    lose(&kernel, one, "append");
    let permit = ask(&kernel, one, "post").unwrap();
    take(&kernel, &permit);
    permit.settle(&Outcome::Failed { kind: "ReadTimeout".to_owned(), text: String::new() }).unwrap();
    fail(&kernel, first);
    let strange = begin(&kernel, other, None).unwrap().run;
    lose(&kernel, other, "append");
    fail(&kernel, strange);
    let unknown = kernel.unknown_operations();
    assert_eq!(unknown.len(), 3, "an answer that did not come in time is nobody's knowledge");
    for operation in unknown.iter().filter(|known| known.agent == Some(one)) {
        kernel.resolve(OPERATOR, operation.operation, Resolution::Done).unwrap();
    }
    begin(&kernel, one, Some(first)).unwrap();
    assert_eq!(effect(&kernel, one, "append", "never"), "", "K123: no result, and no call");
    assert_eq!(effect(&kernel, one, "post", "never"), "", "K123");
    begin(&kernel, other, Some(strange)).unwrap();
    let left = ask(&kernel, other, "append").unwrap_err();
    assert!(
        matches!(left, AgentError::EffectUnknown(_)),
        "what was said of one task says nothing of others: {left}"
    );
}
