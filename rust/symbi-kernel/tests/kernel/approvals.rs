//! K105 to K110: operations that wait for persons.

use std::sync::Arc;

use symbi_kernel::{
    AgentError, ApprovalState, Kernel, OperatorError, Outcome, Permit, Policies, Principal, RefusalCode,
    ToolCall, Word,
};
use symbi_policy::Per;
use symbi_types::{AgentId, OperationId};

use crate::world::*;

fn asking(annotations: &str) -> Policies {
    let text = format!(
        "permit(principal, action, resource) unless {{ action == Action::\"tool.call\" }};
         @id(\"ask\") @obligation(\"approval\") {annotations}
         permit(principal, action == Action::\"tool.call\", resource);
         @id(\"few\") forbid(principal, action == Action::\"tool.call\", resource) when {{ context.counters.calls > 1 }};"
    );
    policies(&text, &[calls(Per::Principal)])
}

fn waits(answer: Result<Permit, AgentError>) -> OperationId {
    let refused = refusal(answer);
    assert_eq!(refused.code, RefusalCode::NeedsApproval, "{refused}");
    refused.approval.unwrap()
}

fn say(kernel: &Kernel, name: &str, id: OperationId, word: Word) -> Result<u64, OperatorError> {
    kernel.say(OPERATOR, name, id, &word)
}

fn ready(annotations: &str) -> (World, Arc<Kernel>, AgentId) {
    let mut world = World::with(Some(asking(annotations)));
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    (world, kernel, one)
}

fn with(kernel: &Arc<Kernel>, by: AgentId, arguments: &str) -> Result<Permit, AgentError> {
    let arguments = arguments.as_bytes().to_vec();
    kernel.begin_tool_call(Principal::Agent(by), ToolCall { arguments, ..call("t") })
}

#[test]
fn k109_what_waits_holds_nothing_and_what_is_approved_happens_once() {
    let (world, kernel, one) = ready("");
    let id = waits(ask(&kernel, one, "t"));
    for _ in 0..5 {
        assert_eq!(waits(ask(&kernel, one, "t")), id, "who asks again waits for the same, and holds nothing");
    }
    let waiting = kernel.approvals();
    assert_eq!((waiting.len(), waiting[0].state), (1, ApprovalState::Waiting));
    assert_eq!(waiting[0].rules, ["ask"]);
    let shown = String::from_utf8(kernel.approval_arguments(id).unwrap()).unwrap();
    assert!(shown.contains("\"n\":1"), "{shown}");
    say(&kernel, "ann", id, Word::Approve).unwrap();
    act(&kernel, one, "t");
    let intent = world.of_type("operation.intent").remove(0);
    assert_eq!(details(&intent)["approval"], id.to_string(), "K105");
    world.clock.advance_us(61_000_000);
    let second = waits(ask(&kernel, one, "t"));
    assert_ne!(second, id, "K105: once");
    assert!(!world.records().iter().any(|record| record.line.contains("\\\"n\\\":1")), "sealed");
}

#[test]
fn k105_an_approval_is_for_these_arguments_and_this_agent_alone() {
    let (_world, kernel, one) = ready("");
    let other = agent(&kernel, "other");
    let id = waits(with(&kernel, one, r#"{"to":"ann"}"#));
    say(&kernel, "p", id, Word::Approve).unwrap();
    assert_ne!(waits(with(&kernel, one, r#"{"to":"eve"}"#)), id, "K105");
    assert_ne!(waits(with(&kernel, other, r#"{"to":"ann"}"#)), id, "K105");
    assert!(with(&kernel, one, r#"{ "to" : "ann" }"#).is_ok(), "the same, otherwise spelled");
}

#[test]
fn k109_it_is_decided_again_when_it_comes_back() {
    let (world, kernel, one) = ready("");
    let id = waits(ask(&kernel, one, "t"));
    say(&kernel, "ann", id, Word::Approve).unwrap();
    kernel.load_policies(OPERATOR, &policies("permit(principal is Host, action, resource);", &[])).unwrap();
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::Denied, "K109");
    kernel.load_policies(OPERATOR, &asking("")).unwrap();
    act(&kernel, one, "t");
    assert_eq!(world.of_type("approval.requested").len(), 1);
}

#[test]
fn k110_only_an_operators_word_counts_whatever_the_policies_say() {
    let (_world, kernel, one) = ready("");
    let id = waits(ask(&kernel, one, "t"));
    for by in [Principal::Host, Principal::Agent(one)] {
        assert!(kernel.say(by, "ann", id, &Word::Approve).is_err(), "K110: {by}");
    }
    assert_eq!(waits(ask(&kernel, one, "t")), id);
}

#[test]
fn k106_whoever_asked_cannot_approve_it() {
    let (_world, kernel, _) = ready("");
    let id = waits(kernel.begin_tool_call(OPERATOR, call("t")));
    assert!(say(&kernel, "ann", id, Word::Approve).is_err(), "K106");
    kernel.say(Principal::Operator(7), "bob", id, &Word::Approve).unwrap();
    assert!(kernel.begin_tool_call(OPERATOR, call("t")).is_ok());
}

#[test]
fn k106_two_persons_are_two_and_of_those_that_are_named() {
    let (_world, kernel, one) = ready("@approvals(\"2\") @approvers(\"ann, bob, cid\")");
    let id = waits(ask(&kernel, one, "t"));
    assert!(say(&kernel, "eve", id, Word::Approve).is_err(), "K106: not named");
    say(&kernel, "ann", id, Word::Approve).unwrap();
    assert!(say(&kernel, "ann", id, Word::Approve).is_err(), "K106: again");
    assert_eq!(waits(ask(&kernel, one, "t")), id);
    say(&kernel, "bob", id, Word::Approve).unwrap();
    act(&kernel, one, "t");
}

#[test]
fn k107_a_no_holds_until_its_time_is_over_and_then_persons_may_be_asked_again() {
    let (world, kernel, one) = ready("@expires(\"1h\")");
    let id = waits(ask(&kernel, one, "t"));
    say(&kernel, "ann", id, Word::Deny).unwrap();
    let refused = refusal(ask(&kernel, one, "t"));
    assert_eq!((refused.code, refused.approval), (RefusalCode::Denied, Some(id)), "K107");
    assert!(say(&kernel, "bob", id, Word::Approve).is_err(), "K107");
    world.clock.advance_us(3_600_000_001);
    let again = waits(ask(&kernel, one, "t"));
    assert_ne!(again, id);
    world.clock.advance_us(3_600_000_001);
    assert!(say(&kernel, "ann", again, Word::Approve).is_err(), "K107: too late");
    assert!(kernel.approvals().is_empty());
    settle_disk(&kernel, one);
    assert_eq!(world.of_type("approval.expired").len(), 2);
}

#[test]
fn k107_an_approval_that_was_not_used_in_time_is_worth_nothing() {
    let (world, kernel, one) = ready("@expires(\"1h\")");
    let id = waits(ask(&kernel, one, "t"));
    say(&kernel, "ann", id, Word::Approve).unwrap();
    world.clock.advance_us(3_600_000_001);
    assert_ne!(waits(ask(&kernel, one, "t")), id, "K107");
}

#[test]
fn k108_a_person_may_change_the_arguments_and_only_those_happen() {
    let (world, kernel, one) = ready("");
    let id = waits(with(&kernel, one, r#"{"sum":900}"#));
    assert!(say(&kernel, "ann", id, Word::Modify(b"[1]".to_vec())).is_err(), "an object");
    say(&kernel, "ann", id, Word::Modify(br#"{"sum":90}"#.to_vec())).unwrap();
    assert_eq!(waits(with(&kernel, one, r#"{"sum":900}"#)), id, "K108: that was not approved");
    let whole: serde_json::Value = serde_json::from_slice(&kernel.approval_arguments(id).unwrap()).unwrap();
    let permit = with(&kernel, one, &whole["arguments"].to_string()).unwrap();
    let bytes: serde_json::Value = serde_json::from_slice(&take(&kernel, &permit)).unwrap();
    assert_eq!(bytes["arguments"]["sum"], 90);
    let said = details(&world.of_type("approval.granted")[0]);
    assert_ne!(said["before"], said["binding"], "both digests stand in the record");
}

#[test]
fn approvals_survive_a_crash_and_what_was_used_stays_used() {
    let (mut world, kernel, one) = ready("@approvals(\"2\")");
    let (waiting, used) = (waits(with(&kernel, one, r#"{"a":1}"#)), waits(with(&kernel, one, r#"{"a":2}"#)));
    say(&kernel, "ann", waiting, Word::Approve).unwrap();
    for name in ["ann", "bob"] {
        say(&kernel, name, used, Word::Approve).unwrap();
    }
    let permit = with(&kernel, one, r#"{"a":2}"#).unwrap();
    take(&kernel, &permit);
    permit.settle(&Outcome::Done).unwrap();
    settle_disk(&kernel, one);
    let before = kernel.approvals();
    world.clock.advance_us(61_000_000);
    let (after, _image) = world.crashed();
    tool(&after, "t");
    assert_eq!(after.approvals(), before);
    let again = agent(&after, "one"); // another instance, the same agent to policy
    assert_eq!(waits(with(&after, again, r#"{"a":1}"#)), waiting);
    say(&after, "bob", waiting, Word::Approve).unwrap();
    assert!(with(&after, again, r#"{"a":1}"#).is_ok());
    assert_ne!(waits(with(&after, again, r#"{"a":2}"#)), used, "K105: used before the crash");
}

#[test]
fn one_principal_cannot_fill_the_list_that_persons_look_at() {
    let (_world, kernel, one) = ready("");
    let refused =
        (0..100).map(|at| refusal(with(&kernel, one, &format!("{{\"a\":{at}}}")))).collect::<Vec<_>>();
    assert_eq!(refused.iter().filter(|one| one.code == RefusalCode::NeedsApproval).count(), 64);
    assert!(refused.iter().skip(64).all(|one| one.code == RefusalCode::RateLimited));
    let other = agent(&kernel, "other");
    waits(ask(&kernel, other, "t"));
}

#[test]
fn an_approval_of_what_nothing_binds_it_to_is_a_refusal() {
    let text = "permit(principal is Host, action, resource);
        @obligation(\"approval\") permit(principal is Agent, action == Action::\"message.subscribe\", resource);";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    assert!(kernel.subscribe(one, "news").is_err(), "K104");
    assert!(kernel.approvals().is_empty());
}
