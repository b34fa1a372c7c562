//! K12, K13, K14, K19, K44: what a payload carries is found where it leaves, whatever anybody said before.

use std::sync::Arc;

use symbi_kernel::{
    AgentSpec, Kernel, MessageError, Payload, Permit, Principal, Priority, Recipient, RefusalCode,
    SandboxAsk, SendOptions, ToolCall,
};
use symbi_types::{AgentId, LabelSet, Part, PartSource, SecurityTier};

use crate::world::*;

const REDACT: &str = "permit(principal is Host, action, resource);
permit(principal, action == Action::\"data.write\", resource);
permit(principal, action in [Action::\"data.search\", Action::\"data.read\"], resource);
@id(\"clean\") permit(principal, action in [Action::\"tool.call\", Action::\"message.send\"], resource)
unless { context.labels.contains(\"personal\") || context.labels.contains(\"secret\") };
@id(\"redacted\") @obligation(\"redact\") @labels(\"personal\")
permit(principal, action in [Action::\"tool.call\", Action::\"message.send\"], resource)
when { context.labels.contains(\"personal\") };
forbid(principal, action in [Action::\"tool.call\", Action::\"message.send\"], resource)
when { context.labels.contains(\"secret\") };";

fn redacting() -> World {
    World::with(Some(policies(REDACT, &[])))
}

fn part(text: &str, names: &[&str]) -> Part {
    Part { text: text.to_owned(), labels: labels(names), source: None }
}

fn call_with(
    kernel: &Arc<Kernel>,
    by: AgentId,
    parts: Vec<Part>,
) -> Result<Permit, symbi_kernel::AgentError> {
    kernel.begin_tool_call(Principal::Agent(by), ToolCall { tool: "t".into(), parts, ..ToolCall::default() })
}

fn texts(kernel: &Kernel, permit: &Permit) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_slice(&take(kernel, permit)).unwrap();
    value["parts"].as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect()
}

/// A document of `text` that `reader` may read, and the number of its only passage.
fn document(kernel: &Kernel, writer: AgentId, text: &str, readers: &[&str]) -> i64 {
    let readers: Vec<String> = readers.iter().map(|one| (*one).to_owned()).collect();
    let (content, _) = kernel.ingest(writer, "a title", vec![passage(text)]).unwrap();
    let (_, seq) = kernel.store_document(writer, &content, &readers).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    kernel.drain();
    let word = text.split(' ').next().unwrap();
    kernel.search(writer, word, 10).unwrap().0[0].chunk
}

fn quote(text: &str, whole: &str, chunk: i64) -> Part {
    let start = whole.find(text).unwrap_or(0);
    Part { source: Some(PartSource { chunk, start, end: start + text.len() }), ..part(text, &[]) }
}

/// An agent that has read something personal.
fn marked(kernel: &Kernel, name: &str) -> AgentId {
    let spec = AgentSpec { labels: labels(&["personal"]), ..spec(name) };
    kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap().0
}

#[test]
fn k14_the_words_go_and_the_rest_stays_where_a_detector_found_them() {
    let mut world = redacting();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    tool(&kernel, "t");
    let permit =
        call_with(&kernel, one, vec![part("open at 8", &[]), part("mail jane@clinic.example now", &[])])
            .unwrap();
    let texts = texts(&kernel, &permit);
    assert_eq!(texts[0], "open at 8");
    assert!(!texts[1].contains("jane@") && texts[1].ends_with(" now"), "K14: {texts:?}");
    assert!(permit.labels().is_empty(), "K14");
}

#[test]
fn k14_what_is_personal_by_origin_goes_whole_and_a_decoy_saves_nothing() {
    let mut world = redacting();
    let kernel = world.kernel();
    let reader = marked(&kernel, "reader");
    tool(&kernel, "t");
    for text in ["she is well", "she is well, decoy@clinic.example"] {
        let permit = call_with(&kernel, reader, vec![part(text, &[])]).unwrap();
        assert_eq!(texts(&kernel, &permit), ["[redacted:personal]"], "K14");
    }
    let permit = call_with(&kernel, reader, vec![part("declared", &["personal"])]).unwrap();
    assert_eq!(texts(&kernel, &permit), ["[redacted:personal]"], "K14");
}

#[test]
fn k14_k34_opaque_bytes_under_an_obligation_are_refused() {
    let mut world = redacting();
    let kernel = world.kernel();
    let (one, to) = (agent(&kernel, "a"), agent(&kernel, "b"));
    tool(&kernel, "t");
    let arguments = br#"{"to":"jane@clinic.example"}"#.to_vec();
    let answer = kernel.begin_tool_call(Principal::Agent(one), ToolCall { arguments, ..call("t") });
    assert_eq!(refusal(answer).code, RefusalCode::Denied, "K34");
    let bytes = Payload::Bytes(b"jane@clinic.example".to_vec());
    assert!(kernel.send(one, &Recipient::Agent(to), bytes, None, false).is_err(), "K34");
    assert!(kernel.receive_many(to, 1).unwrap().is_empty());
    let parts = Payload::Parts(vec![part("jane@clinic.example", &[])]);
    kernel.send(one, &Recipient::Agent(to), parts, None, false).unwrap();
    let received = kernel.receive_many(to, 1).unwrap().remove(0);
    assert!(received.labels.is_empty() && kernel.agent_labels(to).is_empty(), "redacted, it carries nothing");
}

#[test]
fn k14_k34_k104_what_is_published_is_redacted_like_what_is_sent_or_refused() {
    let rules = REDACT
        .replace("Action::\"message.send\"]", "Action::\"message.send\", Action::\"message.publish\"]")
        + "permit(principal, action == Action::\"message.subscribe\", resource);";
    let mut world = World::with(Some(policies(&rules, &[])));
    let kernel = world.kernel();
    let (one, to) = (agent(&kernel, "a"), agent(&kernel, "b"));
    let (heard, _) = kernel.subscribe(to, "news.*").unwrap();
    let publish = |payload| kernel.publish(one, "news.x", payload, &SendOptions::default(), None);
    let opaque = publish(Payload::Bytes(b"jane@clinic.example is well".to_vec()));
    let Err(MessageError::Agent(symbi_kernel::AgentError::Refused(refused))) = opaque else { panic!("K34") };
    assert_eq!(refused.code, RefusalCode::Denied, "K34");
    assert!(kernel.receive_many(heard, 9).unwrap().is_empty());
    publish(Payload::Parts(vec![part("call jane@clinic.example", &[]), part("on Monday", &[])])).unwrap();
    let received = kernel.receive_many(heard, 9).unwrap().remove(0);
    let Payload::Parts(parts) = &received.payload else { panic!("parts") };
    assert!(!parts[0].text.contains("jane") && parts[0].text.contains("[redacted"), "K14: {}", parts[0].text);
    assert_eq!(parts[1].text, "on Monday");
    assert!(received.labels.is_empty() && kernel.agent_labels(to).is_empty(), "redacted, it carries nothing");
    kernel.close().unwrap();
    let published =
        world.of_type("operation").into_iter().filter(|record| record.details.contains("message.publish"));
    assert_eq!(published.map(|record| record.decision.unwrap()).collect::<Vec<_>>(), ["redact"], "K104");
}

#[test]
fn k44_json_escapes_hide_nothing_from_the_detectors() {
    let mut world = redacting();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    tool(&kernel, "t");
    let key = "AKIAIOSFODNN7ABCDEFG";
    assert!(!symbi_detect::labels(key).is_empty(), "the detector knows it");
    let escaped: String = key.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    for arguments in [
        format!("{{\"x\":\"{key}\"}}"),
        format!("{{\"x\":\"{escaped}\"}}"),
        format!("{{\"{escaped}\":1}}"),
        format!("{{\"x\":[[{{\"y\":\"a\\n{escaped}\"}}]]}}"),
        format!("{{\"x\":\"a\\n{key}\"}}"),
    ] {
        let given = ToolCall { arguments: arguments.clone().into_bytes(), ..call("t") };
        assert!(kernel.begin_tool_call(Principal::Agent(one), given).is_err(), "K44: {arguments}");
    }
}

#[test]
fn k13_only_what_stands_there_and_may_be_read_keeps_its_chunks_labels() {
    let mut world = redacting();
    let kernel = world.kernel();
    let (writer, reader, stranger) =
        (agent(&kernel, "writer"), marked(&kernel, "reader"), marked(&kernel, "stranger"));
    tool(&kernel, "t");
    let whole = "opening hours are eight to five";
    let chunk = document(&kernel, writer, whole, &["reader"]);
    let try_it = |by, part| texts(&kernel, &call_with(&kernel, by, vec![part]).unwrap()).remove(0);
    assert_eq!(try_it(reader, quote("eight to five", whole, chunk)), "eight to five", "K13");
    let redacted = "[redacted:personal]";
    assert_eq!(try_it(stranger, quote("eight to five", whole, chunk)), redacted, "K13: may not read it");
    assert_eq!(try_it(reader, quote("eight to six", whole, chunk)), redacted, "K13: it does not stand there");
    assert_eq!(try_it(reader, quote("eight to five", whole, chunk + 1)), redacted, "K13: no such passage");
    let far = PartSource { chunk, start: usize::MAX, end: usize::MAX };
    assert_eq!(try_it(reader, Part { source: Some(far), ..part("", &["personal"]) }), redacted);
    let back = PartSource { chunk, start: 9, end: 3 };
    assert_eq!(try_it(reader, Part { source: Some(back), ..part("x", &[]) }), redacted);
}

#[test]
fn k13_a_decoy_in_what_an_agent_wrote_does_not_wash_what_it_had_read() {
    // It read something personal, writes "she is well" beside an address, and another agent quotes the first sentence:
    // the address explains the label, and the sentence would be free of it.
    let mut world = redacting();
    let kernel = world.kernel();
    let (author, quoter) = (marked(&kernel, "author"), agent(&kernel, "quoter"));
    tool(&kernel, "t");
    let whole = "anna is well. decoy@clinic.example";
    let chunk = document(&kernel, author, whole, &["quoter"]);
    let permit = call_with(&kernel, quoter, vec![quote("anna is well.", whole, chunk)]).unwrap();
    assert_eq!(texts(&kernel, &permit), ["[redacted:personal]"], "K13");
}

#[test]
fn k19_what_an_agent_brings_in_carries_what_it_had_read() {
    let mut world = redacting();
    let kernel = world.kernel();
    let (author, reader) = (marked(&kernel, "author"), agent(&kernel, "reader"));
    document(&kernel, author, "harmless words", &["reader"]);
    let (answer, _) = kernel.search(reader, "harmless", 1).unwrap();
    assert!(answer[0].part.labels.contains("personal"), "K12");
    assert!(kernel.agent_labels(reader).contains("personal"), "K41");
}

#[test]
fn k19_an_agent_that_starts_or_makes_another_passes_its_labels_on() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (parent, other) = (marked(&kernel, "parent"), agent(&kernel, "other"));
    kernel
        .begin_run(Principal::Agent(parent), other, b"she is well", &LabelSet::default(), Priority::NORMAL)
        .unwrap();
    assert!(kernel.agent_labels(other).contains("personal"), "K19");
    let (child, _) = kernel.create_agent(Principal::Agent(parent), Arc::new(spec("child"))).unwrap();
    assert!(kernel.agent_labels(child).contains("personal"), "K19");
}

#[test]
fn k12_a_sandbox_is_asked_for_with_the_labels_of_its_agent() {
    let rule = format!(
        "{OPEN}\nforbid(principal, action == Action::\"sandbox.start\", resource) when {{ resource.network && context.labels.contains(\"personal\") }};"
    );
    let mut world = World::with(Some(policies(&rule, &[])));
    let kernel = world.kernel();
    let (clean, reader) = (agent(&kernel, "clean"), marked(&kernel, "reader"));
    let ask = SandboxAsk { tier: SecurityTier::Docker, network: true, writable: false, spec: vec![] };
    assert!(kernel.begin_sandbox(Principal::Host, Some(clean), ask.clone()).is_ok());
    assert!(kernel.begin_sandbox(Principal::Host, Some(reader), ask).is_err(), "K12");
}

#[test]
fn k12_declared_labels_only_add() {
    let mut world = redacting();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    tool(&kernel, "t");
    let permit = call_with(&kernel, one, vec![part("plain", &["phi", "x"])]).unwrap();
    take(&kernel, &permit);
    assert_eq!(permit.labels(), &labels(&["phi", "x"]), "K12");
    assert!(
        call_with(&kernel, one, vec![part("AKIAIOSFODNN7ABCDEFG", &["harmless"])]).is_err(),
        "K12: found all the same"
    );
    let many: Vec<String> = (0..65).map(|at| format!("l{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(call_with(&kernel, one, vec![part("x", &many)]).is_err(), "bounded");
}
