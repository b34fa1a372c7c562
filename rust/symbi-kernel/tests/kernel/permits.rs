//! K15 to K17, K20, K24, K34: nothing acts without a decision and a durable record, and nothing acts twice.

use std::sync::Arc;

use symbi_kernel::{Cause, Outcome, PermitError, Principal, RefusalCode, SandboxAsk, ToolCall};
use symbi_types::{Part, SecurityTier};

use crate::world::*;

#[test]
fn k15_k24_an_act_has_its_decision_and_its_durable_intent_before_it_and_its_outcome_after() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agent = agent(&kernel, "courier");
    tool(&kernel, "outbox.send");
    let permit = ask(&kernel, agent, "outbox.send").unwrap();
    take(&kernel, &permit);
    let at_the_act = world.records();
    let intent = &at_the_act[usize::try_from(permit.intent_seq()).unwrap()];
    assert_eq!(intent.event_type, "operation.intent", "K24: on disk before the bytes are out");
    assert_eq!(intent.operation(), Some(permit.operation()));
    assert_eq!(intent.decision.as_deref(), Some("allow"));
    assert_eq!(intent.policy.as_deref(), Some(kernel.policy_digest().as_str()));
    assert_eq!(details(intent)["resource"], r#"Tool::"outbox.send""#);
    let seq = permit.settle(&Outcome::Done).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    let outcome = world.of_type("operation.outcome").remove(0);
    assert_eq!((outcome.seq, details(&outcome)["outcome"].as_str()), (seq, Some("done")));
    kernel.close().unwrap();
    world.verify();
}

#[test]
fn k16_a_permit_is_not_used_before_its_intent_is_on_disk() {
    let mut world = World::open_to_all().on_stalling_disk();
    let kernel = world.kernel();
    let agent = agent(&kernel, "courier");
    tool(&kernel, "outbox.send");
    settle_disk(&kernel, agent);
    let stalled = world.stall();
    let permit = ask(&kernel, agent, "outbox.send").unwrap();
    assert_eq!(permit.take(), Err(PermitError::NotDurable), "K16");
    drop(stalled);
    take(&kernel, &permit);
}

#[test]
fn k16_a_permit_is_used_once_and_in_time() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agent = agent(&kernel, "courier");
    tool(&kernel, "outbox.send");
    let permit = ask(&kernel, agent, "outbox.send").unwrap();
    take(&kernel, &permit);
    assert_eq!(permit.take(), Err(PermitError::Used), "K16");
    permit.settle(&Outcome::Done).unwrap();
    assert_eq!(permit.take(), Err(PermitError::Settled), "K16");
    assert_eq!(permit.settle(&Outcome::Done), Err(PermitError::Settled), "K17");

    let short = ToolCall { timeout_ms: 10, ..call("outbox.send") };
    let permit = kernel.begin_tool_call(Principal::Agent(agent), short).unwrap();
    kernel.wait_durable(permit.intent_seq(), SOON).unwrap();
    world.clock.advance_us(10_001);
    assert_eq!(permit.take(), Err(PermitError::Late), "K16");
}

#[test]
fn k16_stopping_or_holding_an_agent_revokes_what_it_was_permitted_and_did_not_use() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    tool(&kernel, "outbox.send");
    for stop in [true, false] {
        let agent = agent(&kernel, "courier");
        run(&kernel, agent);
        let permit = ask(&kernel, agent, "outbox.send").unwrap();
        let ask = SandboxAsk { tier: SecurityTier::Docker, network: false, writable: false, spec: vec![1] };
        let sandbox = kernel.begin_sandbox(Principal::Host, Some(agent), ask).unwrap();
        kernel.wait_durable(sandbox.intent_seq(), SOON).unwrap();
        if stop {
            kernel.stop_agent(OPERATOR, agent, true).unwrap();
        } else {
            kernel.suspend_agent(OPERATOR, agent, Cause::OperatorHold).unwrap();
        }
        assert_eq!(permit.take(), Err(PermitError::Revoked), "K16: stopped {stop}");
        assert_eq!(sandbox.take(), Err(PermitError::Revoked), "K16: not for it either, stopped {stop}");
    }
}

#[test]
fn k16_k26_after_the_runtime_closed_no_permit_gives_its_bytes() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agent = agent(&kernel, "courier");
    tool(&kernel, "outbox.send");
    let permit = ask(&kernel, agent, "outbox.send").unwrap();
    kernel.close().unwrap();
    assert!(kernel.durable() > permit.intent_seq(), "K26: closing brought it to disk");
    assert_eq!(permit.take(), Err(PermitError::Unavailable), "K16");
    assert_eq!(
        permit.settle(&Outcome::Failed { kind: "x".into(), text: String::new() }),
        Err(PermitError::Unrecorded)
    );
    drop(permit);
    assert_eq!(refusal(ask(&kernel, agent, "outbox.send")).code, RefusalCode::Unavailable, "K26");
    drop(kernel);
    assert_eq!(world.kernel().opened().unknown, 1, "K37: its outcome was never recorded");
}

#[test]
fn k17_a_dropped_permit_is_released_when_it_was_not_used_and_unknown_when_it_was() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agent = agent(&kernel, "courier");
    tool(&kernel, "outbox.send");
    drop(ask(&kernel, agent, "outbox.send").unwrap());
    let permit = ask(&kernel, agent, "outbox.send").unwrap();
    let operation = permit.operation();
    take(&kernel, &permit);
    drop(permit);
    settle_disk(&kernel, agent);
    let outcomes: Vec<String> = world
        .of_type("operation.outcome")
        .iter()
        .map(|one| details(one)["outcome"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(outcomes, ["released", "unknown"], "K17");
    assert_eq!(kernel.unknown_operations()[0].operation, operation);
    assert_eq!(kernel.operations_in_flight(), 0, "K8");
}

#[test]
fn k17_what_was_never_taken_is_not_done() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agent = agent(&kernel, "courier");
    tool(&kernel, "outbox.send");
    let permit = ask(&kernel, agent, "outbox.send").unwrap();
    assert_eq!(permit.settle(&Outcome::Done), Err(PermitError::NotTaken), "K17");
    take(&kernel, &permit);
    assert!(permit.settle(&Outcome::Done).is_ok());
}

#[test]
fn k34_the_permit_carries_what_was_decided_on_and_the_log_names_the_same_bytes() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agent = agent(&kernel, "courier");
    tool(&kernel, "outbox.send");
    let part = Part { text: "hello".to_owned(), labels: labels(&["x"]), source: None };
    // Two spellings of one name: a reader that takes the first and one that takes the last must see the same.
    let arguments = br#"{"to":"a","to":"b"}"#.to_vec();
    let given = ToolCall { arguments, parts: vec![part], ..call("outbox.send") };
    let permit = kernel.begin_tool_call(Principal::Agent(agent), given).unwrap();
    let bytes = take(&kernel, &permit);
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value["arguments"], serde_json::json!({"to": "b"}), "K34");
    assert_eq!(value["parts"][0]["text"], "hello");
    assert!(permit.labels().contains("x"));
    let intent = details(&world.of_type("operation.intent")[0]);
    let sealed = kernel.unseal(intent["sealed"].as_str().unwrap()).unwrap();
    assert_eq!(sealed, bytes, "K34");
    assert_eq!(intent["arguments"].as_str().unwrap().len(), 64);
}

#[test]
fn k8_one_agent_has_only_so_many_operations_under_way_and_others_are_not_touched() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (greedy, other) = (agent(&kernel, "greedy"), agent(&kernel, "other"));
    tool(&kernel, "outbox.send");
    let held: Vec<_> =
        (0..symbi_kernel::IN_FLIGHT_MAX).map(|_| ask(&kernel, greedy, "outbox.send").unwrap()).collect();
    assert_eq!(refusal(ask(&kernel, greedy, "outbox.send")).code, RefusalCode::RateLimited, "K8");
    assert!(ask(&kernel, other, "outbox.send").is_ok());
    drop(held);
    assert!(ask(&kernel, greedy, "outbox.send").is_ok(), "K8: what ended makes room");
}

#[test]
fn k20_input_that_is_malformed_or_too_large_never_becomes_a_permit_nor_a_panic() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agent = agent(&kernel, "courier");
    tool(&kernel, "outbox.send");
    let huge = vec![b'['; 200_000];
    let deep = [huge.as_slice(), b"1"].concat();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20)).into_bytes();
    for arguments in [b"[]".to_vec(), b"{".to_vec(), b"\xff".to_vec(), b"{\"a\":1e999}".to_vec(), deep, long]
    {
        let given = ToolCall { arguments, ..call("outbox.send") };
        assert!(kernel.begin_tool_call(Principal::Agent(agent), given).is_err(), "K20");
    }
    let part = Part { text: String::new(), labels: labels(&[]), source: None };
    let given = ToolCall { parts: vec![part; symbi_kernel::PARTS_MAX + 1], ..call("outbox.send") };
    assert!(kernel.begin_tool_call(Principal::Agent(agent), given).is_err(), "K20");
    let given = ToolCall { timeout_ms: u64::MAX, ..call("outbox.send") };
    assert!(kernel.begin_tool_call(Principal::Agent(agent), given).is_ok(), "a long wish is cut");
    assert_eq!(kernel.operations_in_flight(), 0);
}

#[test]
fn k16_threads_that_share_a_permit_take_it_once() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agent = agent(&kernel, "courier");
    tool(&kernel, "outbox.send");
    let permit = Arc::new(ask(&kernel, agent, "outbox.send").unwrap());
    kernel.wait_durable(permit.intent_seq(), SOON).unwrap();
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let permit = Arc::clone(&permit);
            std::thread::spawn(move || usize::from(permit.take().is_ok()))
        })
        .collect();
    let taken: usize = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
    assert_eq!(taken, 1, "K16");
}
