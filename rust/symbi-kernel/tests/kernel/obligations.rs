//! K104: what a permitting rule asks for is met, or the operation is refused; and each obligation bites.

use std::sync::Arc;

use symbi_kernel::{
    AgentError, AgentSpec, Kernel, Outcome, Permit, Principal, Priority, RefusalCode, SandboxAsk, Settlement,
    ToolCall, ToolSpec,
};
use symbi_types::{AgentId, LabelSet, SecurityTier};

use crate::world::*;

/// The host may do everything but what `action` names, which an agent may under these annotations.
fn under(annotations: &str, actions: &str) -> World {
    let text = format!(
        "permit(principal is Host, action, resource);
         @id(\"ruled\") {annotations} permit(principal is Agent, action in [{actions}], resource);"
    );
    World::with(Some(policies(&text, &[])))
}

const TOOLS: &str = "Action::\"tool.call\"";

fn unmet<T: std::fmt::Debug>(answer: Result<T, AgentError>) {
    let refused = refusal(answer);
    assert_eq!(refused.code, RefusalCode::Denied);
    assert!(refused.message.contains("a condition"), "K104: {}", refused.message);
}

fn in_tier(kernel: &Kernel, name: &str, tier: SecurityTier, in_process: bool) -> AgentId {
    let spec = AgentSpec { tier, in_process, ..spec(name) };
    kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap().0
}

fn reading(kernel: &Kernel, name: &str) {
    let text = |text: &str| text.to_owned();
    let spec = ToolSpec { name: text(name), effects: text("read"), risk: text("low"), idempotent: true };
    kernel.register_tool(&spec).unwrap();
}

#[test]
fn k104_a_tier_is_held_against_where_the_agent_runs() {
    let mut world = under("@obligation(\"tier\") @tier(\"gvisor\")", TOOLS);
    let kernel = world.kernel();
    tool(&kernel, "t");
    let strong = in_tier(&kernel, "strong", SecurityTier::Gvisor, false);
    act(&kernel, strong, "t");
    for (name, tier, in_process) in [
        ("weak", SecurityTier::Docker, false),
        ("degraded", SecurityTier::Degraded, false),
        ("host", SecurityTier::Gvisor, true),
    ] {
        unmet(ask(&kernel, in_tier(&kernel, name, tier, in_process), "t"));
    }
}

#[test]
fn k104_a_tier_is_held_against_the_sandbox_that_is_asked_for_and_the_agent_that_is_made() {
    let text = "@obligation(\"tier\") @tier(\"gvisor\") permit(principal, action, resource);";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let ask = |tier| {
        let spec = SandboxAsk { tier, network: false, writable: false, spec: vec![] };
        kernel.begin_sandbox(Principal::Host, None, spec)
    };
    assert!(ask(SecurityTier::Gvisor).is_ok());
    unmet(ask(SecurityTier::Docker));
    unmet(kernel.create_agent(Principal::Host, Arc::new(spec("weak"))));
    let strong = AgentSpec { tier: SecurityTier::Gvisor, ..spec("strong") };
    let strong = kernel.create_agent(Principal::Host, Arc::new(strong)).unwrap().0;
    assert!(kernel.begin_run(Principal::Host, strong, b"", &LabelSet::default(), Priority::NORMAL).is_ok());
}

#[test]
fn k104_read_only_lets_reading_tools_and_closed_sandboxes_pass() {
    let text = "@obligation(\"read_only\") permit(principal, action, resource)
        unless { action == Action::\"agent.create\" };
        permit(principal, action == Action::\"agent.create\", resource);";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    reading(&kernel, "look");
    tool(&kernel, "change");
    act(&kernel, one, "look");
    unmet(ask(&kernel, one, "change"));
    let sandbox = |writable| {
        let spec = SandboxAsk { tier: SecurityTier::Docker, network: false, writable, spec: vec![] };
        kernel.begin_sandbox(Principal::Host, None, spec)
    };
    assert!(sandbox(false).is_ok());
    unmet(sandbox(true));
    assert!(kernel.write_document(one, "t", "words", &[]).is_err(), "K104: writing is not reading");
}

#[test]
fn k104_fields_are_blanked_out_before_the_tool_sees_them() {
    let mut world = under("@obligation(\"redact\") @fields(\"patient.name, ssn\")", TOOLS);
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    let arguments = br#"{"patient":{"name":"ann","ward":3},"ssn":"1","x":2}"#.to_vec();
    let permit = kernel.begin_tool_call(Principal::Agent(one), ToolCall { arguments, ..call("t") }).unwrap();
    let bytes: serde_json::Value = serde_json::from_slice(&take(&kernel, &permit)).unwrap();
    let gone = "[redacted]";
    let expected = serde_json::json!({"patient": {"name": gone, "ward": 3}, "ssn": gone, "x": 2});
    assert_eq!(bytes["arguments"], expected);
    let record = world.of_type("operation.intent").remove(0);
    assert_eq!(record.decision.as_deref(), Some("redact"));
    assert_eq!(details(&record)["obligations"][0], "redact");
}

#[test]
fn k104_a_redaction_where_nothing_can_be_blanked_out_is_a_refusal() {
    let text = "@obligation(\"redact\") @labels(\"phi\") permit(principal, action, resource)
        unless { action == Action::\"agent.create\" };
        permit(principal, action == Action::\"agent.create\", resource);";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    unmet(kernel.begin_run(Principal::Host, one, b"x", &LabelSet::default(), Priority::NORMAL));
    assert!(kernel.write_document(one, "t", "words", &[]).is_err(), "K104");
    assert!(kernel.search(one, "words", 3).is_err(), "K104");
    let ask = SandboxAsk { tier: SecurityTier::Docker, network: false, writable: false, spec: vec![] };
    unmet(kernel.begin_sandbox(Principal::Host, Some(one), ask));
}

#[test]
fn k104_a_full_record_holds_request_arguments_and_result_sealed() {
    let mut world = under("@obligation(\"record\") @record(\"full\")", TOOLS);
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    let big = format!("{{\"x\":\"{}\"}}", "lemon ".repeat(2_000)).into_bytes(); // more than is kept of others
    let given = ToolCall { arguments: big, ..call("t") };
    let permit: Permit = kernel.begin_tool_call(Principal::Agent(one), given).unwrap();
    assert!(permit.is_journaled(), "its result is asked for");
    take(&kernel, &permit);
    let settlement = Settlement { result: Some(b"the answer".to_vec()), ..Settlement::default() };
    let seq = permit.settle_as(&Outcome::Done, settlement).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    let open = |record: &symbi_audit::Record, key: &str| {
        let sealed = details(record)[key].as_str().unwrap().to_owned();
        String::from_utf8(kernel.unseal(&sealed).unwrap()).unwrap()
    };
    let intent = world.of_type("operation.intent").remove(0);
    assert!(open(&intent, "sealed").contains("lemon lemon"));
    assert!(open(&intent, "request_sealed").contains("\"tool.call\""));
    assert!(!intent.line.contains("lemon"), "sealed");
    assert_eq!(open(&world.of_type("operation.outcome").remove(0), "result_sealed"), "the answer");
    let huge = format!("{{\"x\":\"{}\"}}", "lemon ".repeat(20_000)).into_bytes();
    let given = ToolCall { arguments: huge, ..call("t") };
    unmet(kernel.begin_tool_call(Principal::Agent(one), given));
}

#[test]
fn k104_whom_a_rule_names_is_told_and_the_trail_says_so() {
    let mut world = under("@obligation(\"notify\") @notify(\"security, owner\")", TOOLS);
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    act(&kernel, one, "t");
    let (notices, dropped) = kernel.take_notices();
    assert_eq!((notices.len(), dropped), (1, 0));
    assert_eq!(notices[0].channels, ["owner", "security"]);
    assert_eq!((notices[0].action, notices[0].rules.as_slice()), ("tool.call", &["ruled".to_owned()][..]));
    assert_eq!(details(&world.of_type("operation.intent")[0])["notify"][1], "security");
    assert!(kernel.take_notices().0.is_empty(), "once");
    for _ in 0..1_100 {
        drop(ask(&kernel, one, "t").unwrap());
    }
    let (notices, dropped) = kernel.take_notices();
    assert_eq!((notices.len(), dropped), (1_024, 76), "bounded, and counted");
}

#[test]
fn k104_a_refusal_tells_operators_which_obligation_and_the_agent_nothing_of_it() {
    let mut world = under("@obligation(\"tier\") @tier(\"gvisor\")", TOOLS);
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    assert!(!refusal(ask(&kernel, one, "t")).message.contains("gvisor"));
    settle_disk(&kernel, one);
    let denied = details(&world.of_type("operation.denied")[0]);
    assert_eq!((denied["obligation"].as_str(), denied["rules"][0].as_str()), (Some("tier"), Some("ruled")));
}

#[test]
fn k104_a_budget_of_what_is_not_measured_is_a_refusal() {
    let text = "@obligation(\"budget\") @budget(\"10 tokens per 60s\")
        permit(principal, action == Action::\"agent.create\", resource);";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    unmet(kernel.create_agent(Principal::Host, Arc::new(spec("one"))));
}
