//! K115, K116: what a tool returns is read; labels come off by a declassification alone; and each sink sees them.

use std::sync::Arc;

use symbi_kernel::{
    AgentSpec, Kernel, Outcome, Payload, PermitError, Principal, Priority, Recipient, RefusalCode,
    SandboxAsk, Settlement, Word,
};
use symbi_types::{AgentId, LabelSet, SecurityTier};

use crate::world::*;

fn returning(kernel: &Arc<Kernel>, by: AgentId, text: &str, names: &[&str]) -> Result<u64, PermitError> {
    let permit = ask(kernel, by, "t").unwrap();
    take(kernel, &permit);
    let settlement =
        Settlement { returned: text.as_bytes().to_vec(), labels: labels(names), ..Settlement::default() };
    permit.settle_as(&Outcome::Done, settlement)
}

#[test]
fn k115_what_a_tool_returns_is_read_with_what_it_declares_and_what_is_found() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    returning(&kernel, one, "{\"x\":\"nothing\"}", &[]).unwrap();
    assert!(kernel.agent_labels(one).is_empty());
    let escaped: String = "jane@clinic.example".bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let seq = returning(&kernel, one, &format!("{{\"x\":[\"{escaped}\"]}}"), &["phi"]).unwrap();
    assert!(
        kernel.agent_labels(one).contains("personal") && kernel.agent_labels(one).contains("phi"),
        "K115"
    );
    kernel.wait_durable(seq, SOON).unwrap();
    let outcome = world.of_type("operation.outcome").pop().unwrap();
    assert_eq!(outcome.labels, ["personal", "phi"]);
}

#[test]
fn k115_what_would_be_too_many_labels_is_not_handed_over() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    let many: Vec<String> = (0..65).map(|at| format!("l{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(returning(&kernel, one, "x", &many).unwrap_err(), PermitError::TooManyLabels, "K115");
    assert!(kernel.agent_labels(one).is_empty());
}

fn phi(kernel: &Kernel, name: &str) -> AgentId {
    let spec = AgentSpec { labels: labels(&["phi", "x"]), ..spec(name) };
    kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap().0
}

#[test]
fn k116_a_label_comes_off_by_a_declassification_that_policy_permits_and_by_nothing_else() {
    let text = "permit(principal, action, resource) unless { action == Action::\"label.declassify\" };
        permit(principal is Host, action == Action::\"label.declassify\", resource)
        when { !context.labels.contains(\"x\") };";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let one = phi(&kernel, "one");
    assert_eq!(
        refusal(kernel.declassify(Principal::Agent(one), one, &labels(&["phi"]))).code,
        RefusalCode::Denied,
        "K116: not by itself"
    );
    assert!(kernel.declassify(Principal::Host, one, &labels(&["x"])).is_err(), "K116: not this one");
    assert!(kernel.declassify(Principal::Host, one, &labels(&["absent"])).is_err());
    let seq = kernel.declassify(Principal::Host, one, &labels(&["phi", "absent"])).unwrap();
    assert_eq!(kernel.agent_labels(one), labels(&["x"]));
    kernel.wait_durable(seq, SOON).unwrap();
    let record = world.records().into_iter().find(|record| record.seq == seq).unwrap();
    assert_eq!(details(&record)["declassified"][0], "phi");
}

#[test]
fn k116_a_declassification_may_need_a_person() {
    let text = "permit(principal, action, resource) unless { action == Action::\"label.declassify\" };
        @obligation(\"approval\") permit(principal, action == Action::\"label.declassify\", resource);";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let one = phi(&kernel, "one");
    let id = refusal(kernel.declassify(Principal::Agent(one), one, &labels(&["phi"]))).approval.unwrap();
    kernel.say(OPERATOR, "ann", id, &Word::Approve).unwrap();
    assert!(kernel.declassify(Principal::Agent(one), one, &labels(&["x"])).is_err(), "approved was another");
    kernel.declassify(Principal::Agent(one), one, &labels(&["phi"])).unwrap();
    assert_eq!(kernel.agent_labels(one), labels(&["x"]));
}

/// Each sink, with a policy that lets everything through there but `phi`, and an agent that has read it.
#[test]
fn k12_policies_see_what_an_agent_has_read_at_every_sink() {
    for action in [
        "tool.call",
        "message.send",
        "data.write",
        "sandbox.start",
        "agent.run",
        "agent.create",
        "data.search",
    ] {
        let subject = if action == "data.search" { "principal.labels" } else { "context.labels" };
        let guard = if action == "data.search" { "principal is Agent && " } else { "" };
        let text = format!(
            "{OPEN}\nforbid(principal, action == Action::\"{action}\", resource) when {{ {guard}{subject}.contains(\"phi\") }};"
        );
        // What makes the agent is itself a sink: there, it is given its label by a tool.
        let mut world = World::with(Some(policies(&text, &[])));
        let kernel = world.kernel();
        tool(&kernel, "t");
        let (clean, marked, other) =
            (agent(&kernel, "clean"), agent(&kernel, "marked"), agent(&kernel, "other"));
        if action == "tool.call" {
            kernel.send(clean, &Recipient::Agent(marked), Payload::Bytes(vec![1]), None, false).unwrap();
        }
        returning(&kernel, marked, "x", &["phi"]).unwrap();
        let passes = |by: AgentId| match action {
            "tool.call" => ask(&kernel, by, "t").is_ok(),
            "message.send" => {
                let payload = Payload::Bytes(vec![1]);
                kernel.send(by, &Recipient::Agent(other), payload, None, false).is_ok()
            }
            "data.write" => kernel.write_document(by, "title", "words", &[]).is_ok(),
            "data.search" => kernel.search(by, "words", 3).is_ok(),
            "sandbox.start" => {
                let ask =
                    SandboxAsk { tier: SecurityTier::Docker, network: true, writable: false, spec: vec![] };
                kernel.begin_sandbox(Principal::Host, Some(by), ask).is_ok()
            }
            "agent.run" => {
                let by = Principal::Agent(by);
                kernel.begin_run(by, other, b"x", &LabelSet::default(), Priority::NORMAL).is_ok()
            }
            _ => kernel.create_agent(Principal::Agent(by), Arc::new(spec("child"))).is_ok(),
        };
        assert!(passes(clean), "{action}");
        assert!(!passes(marked), "K12: {action}");
    }
}
