//! K3, K4, K5, K32, K33, K42: refusals are few, alike, and all of them recorded.

use std::sync::Arc;

use symbi_kernel::{
    AdmissionLimits, AgentError, Kernel, MessageError, Payload, Principal, Recipient, Refusal, RefusalCode,
    ToolCall,
};
use symbi_types::AgentId;

use crate::world::*;

/// Policy refuses every tool and every message.
fn closed() -> World {
    let text = "permit(principal is Host, action, resource);";
    World::with(Some(policies(text, &[])))
}

fn denials(world: &World) -> Vec<serde_json::Value> {
    world.of_type("operation.denied").iter().map(details).collect()
}

fn total(denials: &[serde_json::Value]) -> u64 {
    denials.iter().map(|one| one["count"].as_u64().unwrap()).sum()
}

#[test]
fn k4_k5_an_agent_that_loops_on_a_refused_call_makes_a_handful_of_records_that_add_up() {
    let mut world = closed();
    world.admission = AdmissionLimits { rate_per_s: 1_000_000, burst: 1_000_000 };
    let kernel = world.kernel();
    let looping = agent(&kernel, "looping");
    tool(&kernel, "t");
    let first = refusal(ask(&kernel, looping, "t"));
    for _ in 1..100_000 {
        let again = refusal(ask(&kernel, looping, "t"));
        assert_eq!(again.decision, first.decision);
    }
    kernel.close().unwrap();
    let denials = denials(&world);
    assert!(denials.len() <= 2 + 17, "K4: {}", denials.len());
    assert_eq!(total(&denials), 100_000, "K5");
}

#[test]
fn k42_an_agent_that_asks_for_ever_new_things_does_not_fill_the_disk() {
    let mut world = closed();
    world.admission = AdmissionLimits { rate_per_s: 1_000_000, burst: 1_000_000 };
    let kernel = world.kernel();
    let (looping, calm) = (agent(&kernel, "looping"), agent(&kernel, "calm"));
    for at in 0..20_000 {
        assert_eq!(refusal(ask(&kernel, looping, &format!("tool-{at}"))).code, RefusalCode::Denied);
    }
    assert_eq!(refusal(ask(&kernel, calm, "another")).code, RefusalCode::Denied);
    kernel.close().unwrap();
    let denials = denials(&world);
    assert!(denials.len() <= 64 + 2 + 15 + 1, "K42: {}", denials.len());
    assert_eq!(total(&denials), 20_001, "K5");
    let of_calm = denials.iter().filter(|one| one["resource"].as_str().unwrap().contains("another")).count();
    assert_eq!(of_calm, 1, "K42: the others' denials are still told apart");
}

#[test]
fn k3_an_agent_is_admitted_only_so_often_and_the_operator_always() {
    let mut world = World::open_to_all();
    world.admission = AdmissionLimits { rate_per_s: 10, burst: 5 };
    let kernel = world.kernel();
    let (looping, other) = (agent(&kernel, "looping"), agent(&kernel, "other"));
    tool(&kernel, "t");
    let admitted = (0..50).filter(|_| ask(&kernel, looping, "t").is_ok()).count();
    assert_eq!(admitted, 5, "K3");
    assert_eq!(refusal(ask(&kernel, looping, "t")).code, RefusalCode::RateLimited);
    assert!(ask(&kernel, other, "t").is_ok(), "K3: each for itself");
    world.clock.advance_us(1_000_000);
    assert_eq!(
        (0..50).filter(|_| ask(&kernel, looping, "t").is_ok()).count(),
        5,
        "K3: the burst is the most"
    );
    kernel.stop_agent(OPERATOR, looping, true).unwrap();
}

fn shape(refusal: &Refusal) -> (RefusalCode, String, bool) {
    (refusal.code, refusal.message.clone(), refusal.seq.is_some())
}

fn send(kernel: &Kernel, from: AgentId, to: &Recipient) -> Refusal {
    match kernel.send(from, to, Payload::Bytes(b"x".to_vec()), None, false).unwrap_err() {
        MessageError::Agent(AgentError::Refused(refusal)) => refusal,
        other => panic!("{other}"),
    }
}

/// What an agent can tell of a forbidden and an absent tool, and of such recipients, while `fault` is at work.
fn compare(world: &mut World, fault: impl Fn(&Arc<Kernel>, &World)) {
    let kernel = world.kernel();
    let (prober, _hidden) = (agent(&kernel, "prober"), agent(&kernel, "hidden"));
    tool(&kernel, "secret.there");
    fault(&kernel, world);
    for _ in 0..8 {
        let there = refusal(ask(&kernel, prober, "secret.there"));
        let nowhere = refusal(ask(&kernel, prober, "secret.nowhere"));
        assert_eq!(shape(&there), shape(&nowhere), "K33");
        let there = send(&kernel, prober, &Recipient::Named("hidden".to_owned()));
        let nowhere = send(&kernel, prober, &Recipient::Named("nobody".to_owned()));
        assert_eq!(shape(&there), shape(&nowhere), "K32");
    }
}

#[test]
fn k32_k33_absent_and_forbidden_look_alike() {
    compare(&mut closed(), |_, _| {});
}

#[test]
fn k32_k33_absent_and_forbidden_look_alike_under_a_rule_with_a_message() {
    let text = "permit(principal is Host, action, resource);
        @message(\"nothing leaves\") forbid(principal is Agent, action, resource);";
    compare(&mut World::with(Some(policies(text, &[]))), |_, _| {});
}

#[test]
fn k32_k33_absent_and_forbidden_look_alike_past_the_rate() {
    let mut world = closed();
    world.admission = AdmissionLimits { rate_per_s: 1, burst: 4 };
    // Each probe takes one, so pairs are compared only where both are on one side of the limit.
    compare(&mut world, |_, _| {});
}

#[test]
fn k32_k33_absent_and_forbidden_look_alike_when_the_log_is_dead() {
    compare(&mut closed().on_disk(), kill_log);
}

fn kill_log(kernel: &Arc<Kernel>, world: &World) {
    world.disk().fail(1, symbi_testkit::Fault::Gone);
    let _ = kernel.stop_agent(OPERATOR, agent_that_nobody_needs(kernel), true);
    while kernel.log_problem().is_none() {
        std::thread::yield_now();
    }
}

fn agent_that_nobody_needs(kernel: &Kernel) -> AgentId {
    kernel.list_agents().into_iter().find(|view| view.name == "hidden").unwrap().id
}

#[test]
fn k33_a_tool_that_was_not_registered_is_refused_whatever_policy_says() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    assert_eq!(refusal(ask(&kernel, one, "nowhere")).code, RefusalCode::Denied, "K33");
    assert_eq!(refusal(kernel.begin_tool_call(Principal::Host, call("nowhere"))).code, RefusalCode::Denied);
}

#[test]
fn k42_a_denial_cannot_hide_behind_its_size() {
    let mut world = closed();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    tool(&kernel, "t");
    let attributes = vec![("note".to_owned(), "x".repeat(400_000))];
    let denied = kernel.begin_tool_call(Principal::Agent(one), ToolCall { attributes, ..call("t") });
    let seq = refusal(denied).seq.unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    assert_eq!(denials(&world).len(), 1);
}
