//! A breach of a limit is judged by policy, recorded with its numbers, and has the consequence that policy names.

use symbi_kernel::{Breach, Judged, Kernel, RunOutcome, State, Verdict};
use symbi_types::AgentId;

use crate::world::*;

fn breach(agent: AgentId, limit: &'static str, hard: bool) -> Breach {
    Breach { agent, run: None, limit, used: 231, bound: 256, hard, text: String::new() }
}

fn judge(kernel: &Kernel, agent: AgentId, limit: &'static str, hard: bool) -> Judged {
    kernel.report_breach(&breach(agent, limit, hard)).unwrap()
}

const RULES: &str = "
permit(principal, action, resource) unless { action == Action::\"limit.breach\" };
@id(\"memory-ends\")
forbid(principal, action == Action::\"limit.breach\", resource)
when { context.limit == \"memory_mb\" && context.used * 10 > context.bound * 9 };
@id(\"processes-hold\")
@on_violation(\"suspend\")
forbid(principal, action == Action::\"limit.breach\", resource) when { context.limit == \"pids\" };
";

#[test]
fn k67_without_a_word_of_policy_soft_limits_are_tolerated_and_hard_ones_end() {
    for mut world in [World::with(None), World::open_to_all(), World::with(Some(policies(RULES, &[])))] {
        let kernel = world.kernel();
        let Ok((one, _)) =
            kernel.create_agent(symbi_kernel::Principal::Host, std::sync::Arc::new(spec("one")))
        else {
            panic!("every set lets the host make agents");
        };
        let soft = judge(&kernel, one, "output_bytes", false);
        assert_eq!((soft.verdict, soft.moves.is_empty()), (Verdict::Tolerated, true), "K67");
        assert_eq!(judge(&kernel, one, "output_bytes", true).verdict, Verdict::Ended, "K66");
        kernel.close().unwrap();
    }
}

#[test]
fn k65_every_breach_stands_in_the_trail_with_its_numbers_and_its_rules() {
    let mut world = World::with(Some(policies(RULES, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    let begun = run(&kernel, one);
    let text = "File \"zanzibar.py\", line 7".to_owned();
    let seen = Breach { run: Some(begun.run), text, ..breach(one, "memory_mb", false) };
    let judged = kernel.report_breach(&seen).unwrap();
    assert_eq!(judged.verdict, Verdict::Ended);
    kernel.close().unwrap();
    let records = world.of_type("limit.breach");
    let [record] = &records[..] else { panic!("K65: {records:?}") };
    let found = details(record);
    assert_eq!(Some(record.seq), judged.seq, "K65");
    assert_eq!((found["limit"].as_str(), found["hard"].as_bool()), (Some("memory_mb"), Some(false)), "K65");
    assert_eq!((found["used"].as_u64(), found["bound"].as_u64()), (Some(231), Some(256)), "K65");
    assert_eq!((found["verdict"].as_str(), found["rules"][0].as_str()), (Some("ended"), Some("memory-ends")));
    assert!(found["sealed"].as_str().is_some_and(|sealed| !sealed.contains("zanzibar")), "sealed");
}

#[test]
fn a_forbid_with_a_consequence_holds_the_agent_until_it_is_let_go_on() {
    let mut world = World::with(Some(policies(RULES, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    let begun = run(&kernel, one);
    let judged = judge(&kernel, one, "pids", false);
    assert_eq!((judged.verdict, &judged.moves.suspend[..]), (Verdict::Suspended, &[begun.run][..]));
    assert_eq!(kernel.agent_state(one), Some(State::Suspended));
    assert_eq!(judge(&kernel, one, "pids", false).verdict, Verdict::Suspended, "it is held, and stays so");
    let moved = kernel.resume_agent(OPERATOR, one).unwrap();
    assert_eq!((&moved.moves.resume[..], kernel.agent_state(one)), (&[begun.run][..], Some(State::Running)));
    kernel.close().unwrap();
    let held = world.of_type("brake").iter().any(|one| details(one)["cause"] == "resource_constraint");
    assert!(held, "the cause stands in the trail");
}

#[test]
fn k66_after_a_hard_limit_the_agent_can_be_held_and_its_next_run_waits() {
    let mut world = World::with(Some(policies(RULES, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    let begun = run(&kernel, one);
    assert_eq!(judge(&kernel, one, "pids", true).verdict, Verdict::Suspended, "K66");
    let outcome = RunOutcome::Failed { kind: "sandbox.limit".to_owned(), text: String::new() };
    kernel.end_run(begun.run, &outcome).unwrap();
    let next = run(&kernel, one);
    assert!(!next.moves.start.contains(&next.run), "K66: held");
    let moved = kernel.resume_agent(OPERATOR, one).unwrap();
    assert_eq!(moved.moves.start, [next.run]);
}

#[test]
fn k122_a_rule_may_end_the_agent_and_not_only_its_task() {
    let text = "permit(principal, action, resource);
        @id(\"bomb\") @on_violation(\"terminate\")
        forbid(principal, action == Action::\"limit.breach\", resource) when { context.limit == \"pids\" };";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let (soft, hard, other) = (agent(&kernel, "soft"), agent(&kernel, "hard"), agent(&kernel, "other"));
    run(&kernel, soft);
    let ending = run(&kernel, hard);
    assert_eq!(judge(&kernel, soft, "pids", false).verdict, Verdict::Ended);
    assert_eq!(judge(&kernel, hard, "pids", true).verdict, Verdict::Ended);
    assert_eq!(judge(&kernel, other, "memory_mb", true).verdict, Verdict::Ended);
    let kind = "sandbox.limit".to_owned();
    kernel.end_run(ending.run, &RunOutcome::Failed { kind, text: String::new() }).unwrap();
    let next = run(&kernel, hard);
    assert!(!next.moves.start.contains(&next.run), "K122: nothing more of it begins");
    assert_eq!(kernel.take_condemned(), [soft, hard], "K122: its host ends it, told once");
    assert_eq!(kernel.take_condemned(), []);
    kernel.close().unwrap();
    let said: Vec<_> =
        world.of_type("limit.breach").iter().map(|one| details(one)["consequence"].clone()).collect();
    assert_eq!(
        said,
        [serde_json::json!("terminate"), serde_json::json!("terminate"), serde_json::Value::Null]
    );
}

#[test]
fn k65_where_the_trail_cannot_be_written_what_is_near_a_limit_is_ended() {
    let mut world = World::open_to_all().on_disk();
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    kernel.close().unwrap();
    let judged = judge(&kernel, one, "memory_mb", false);
    assert_eq!((judged.verdict, judged.seq), (Verdict::Ended, None), "K65");
}
