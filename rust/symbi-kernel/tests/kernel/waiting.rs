//! K104, K105, K109, K175: every operation that may wait for persons does, and goes on with what they agreed to.

use std::sync::Arc;

use serde_json::Value as Json;
use symbi_kernel::{
    AgentError, Guarantee, Kernel, KnowledgeError, MessageError, OperatorError, Payload, Permit, Policies,
    Principal, Priority, Recipient, Refusal, RefusalCode, RunOutcome, SandboxAsk, SendOptions, Signing, Word,
};
use symbi_types::{AgentId, LabelSet, OperationId, Part, SecurityTier};

use crate::world::*;

const SECOND: Principal = Principal::Operator(1001);

/// Everything is allowed, and `actions` need a person.
fn asking(actions: &str) -> Policies {
    let text = format!(
        "@id(\"ask\") @obligation(\"approval\") permit(principal, action in [{actions}], resource);
         @id(\"rest\") permit(principal, action, resource) unless {{ action in [{actions}] }};"
    );
    policies(&text, &[])
}

fn action(name: &str) -> String {
    format!("Action::\"{name}\"")
}

/// The refusal of one operation, whatever it is; none where it happened.
trait Refusing {
    fn refused(self) -> Option<Refusal>;
}

fn of_agent(error: AgentError) -> Refusal {
    match error {
        AgentError::Refused(refusal) => refusal,
        other => panic!("not a refusal: {other}"),
    }
}

impl<T> Refusing for Result<T, AgentError> {
    fn refused(self) -> Option<Refusal> {
        self.err().map(of_agent)
    }
}

impl<T> Refusing for Result<T, MessageError> {
    fn refused(self) -> Option<Refusal> {
        self.err().map(|error| match error {
            MessageError::Agent(error) => of_agent(error),
            MessageError::Bus(other) => panic!("not a refusal: {other}"),
        })
    }
}

impl<T> Refusing for Result<T, KnowledgeError> {
    fn refused(self) -> Option<Refusal> {
        self.err().map(|error| match error {
            KnowledgeError::Agent(error) => of_agent(error),
            other => panic!("not a refusal: {other}"),
        })
    }
}

impl<T> Refusing for Result<T, OperatorError> {
    fn refused(self) -> Option<Refusal> {
        self.err().map(|error| match error {
            OperatorError::Agent(error) => of_agent(error),
            other => panic!("not a refusal: {other}"),
        })
    }
}

fn waits(answer: impl Refusing) -> OperationId {
    let refused = answer.refused().unwrap(); // it happened, and nobody had agreed
    assert_eq!(refused.code, RefusalCode::NeedsApproval, "{refused}");
    refused.approval.unwrap()
}

fn agree(kernel: &Kernel, id: OperationId) {
    kernel.say(SECOND, "ann", id, &Word::Approve).unwrap();
}

fn shown(kernel: &Kernel, id: OperationId) -> Json {
    serde_json::from_slice(&kernel.approval_arguments(id).unwrap()).unwrap()
}

fn text(words: &str) -> Payload {
    Payload::Bytes(words.as_bytes().to_vec())
}

fn send(kernel: &Kernel, from: AgentId, words: &str) -> Result<symbi_kernel::Sent, MessageError> {
    kernel.send_with(from, &Recipient::Named("to".into()), text(words), &SendOptions::default())
}

fn run_of(kernel: &Kernel, agent: AgentId, input: &[u8]) -> Result<symbi_kernel::Begun, AgentError> {
    kernel.begin_run(Principal::Host, agent, input, &LabelSet::default(), Priority::NORMAL)
}

fn other_set() -> Policies {
    policies("permit(principal is Host, action, resource);", &[])
}

/// One operation of each kind; `from` asks where an agent does.
type Operation = (&'static str, fn(&Kernel, AgentId) -> Option<Refusal>);

const OPERATIONS: [Operation; 8] = [
    ("message.send", |kernel, from| send(kernel, from, "hello").refused()),
    ("message.publish", |kernel, from| {
        kernel.publish(from, "news", text("hello"), &SendOptions::default(), None).refused()
    }),
    ("data.write", |kernel, from| {
        let readers = ["to".to_owned()];
        // Twice, where the inbox needs a person as well as the document.
        kernel.write_document(from, "title", "words of mine", &readers).refused()
    }),
    ("agent.create", |kernel, _| kernel.create_agents(Principal::Host, Arc::new(spec("new")), 3).refused()),
    ("agent.run", |kernel, from| run_of(kernel, from, b"{\"n\":1}").refused()),
    ("policy.change", |kernel, _| kernel.load_policies(OPERATOR, &other_set()).refused()),
    ("label.declassify", |kernel, from| {
        kernel.declassify(Principal::Host, from, &labels(&["phi"])).refused()
    }),
    ("data.search", |kernel, from| kernel.search(from, "words", 3).refused()),
];

struct Stage {
    world: World,
    kernel: Arc<Kernel>,
    from: AgentId,
}

/// `from`, which has read something, and `to`.
fn two(kernel: &Kernel) -> AgentId {
    let from = agent(kernel, "from");
    agent(kernel, "to");
    let begun = kernel.begin_run(Principal::Host, from, b"", &labels(&["phi"]), Priority::NORMAL).unwrap();
    kernel.end_run(begun.run, &RunOutcome::Done).unwrap();
    from
}

/// Two agents, which were there before persons were asked about anything.
fn stage(actions: &str) -> Stage {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let from = two(&kernel);
    kernel.load_policies(OPERATOR, &asking(actions)).unwrap();
    world.policies = Some(asking(actions));
    Stage { world, kernel, from }
}

#[test]
fn k104_each_operation_waits_for_a_person_happens_once_and_names_the_approval() {
    for (name, operation) in OPERATIONS {
        let Stage { world, kernel, from } = stage(&action(name));
        let mut used = Vec::new();
        // A document is brought in, then made: each is an operation.
        while let Some(refused) = operation(&kernel, from) {
            assert_eq!(refused.code, RefusalCode::NeedsApproval, "{name}: {refused}");
            let id = refused.approval.unwrap();
            assert_eq!(
                operation(&kernel, from).unwrap().approval,
                Some(id),
                "{name}: who asks again waits for it"
            );
            let waiting = kernel.approval(id).unwrap();
            assert_eq!(waiting.action, name);
            assert!(waiting.rules.contains(&"ask".to_owned()), "{name}: {:?}", waiting.rules);
            agree(&kernel, id);
            used.push(id);
            assert!(used.len() <= 2, "{name}");
        }
        assert_eq!(used.len(), if name == "data.write" { 2 } else { 1 }, "{name}");
        settle_disk(&kernel, from);
        let records: Vec<Json> = world.of_type("operation").iter().map(details).collect();
        for id in &used {
            let named = records.iter().filter(|one| one["approval"] == id.to_string()).count();
            assert_eq!(named, 1, "{name}: K105");
        }
        assert!(kernel.approvals().is_empty(), "{name}: they are used");
    }
}

/// The sandbox of an agent's instance, as its host specifies it.
fn house(kernel: &Arc<Kernel>, of: AgentId, program: &str) -> Result<Permit, AgentError> {
    let spec = serde_json::json!({ "agent": of.to_string(), "argv": [program], "instance": of.to_string() });
    let spec = spec.to_string().into_bytes();
    let ask = SandboxAsk { tier: SecurityTier::Docker, network: false, writable: false, spec };
    kernel.begin_sandbox(Principal::Host, Some(of), ask)
}

#[test]
fn k105_a_sandbox_is_agreed_to_for_its_agents_name_once_and_with_this_specification() {
    let Stage { world, kernel, from } = stage(&action("sandbox.start"));
    let id = waits(house(&kernel, from, "a"));
    let waiting = kernel.approval(id).unwrap();
    assert_eq!(waiting.resource, "Sandbox::\"from\"");
    assert_eq!(shown(&kernel, id)["argv"], serde_json::json!(["a"]), "a person reads all of it");
    let changed = kernel.say(SECOND, "ann", id, &Word::Modify(b"{\"argv\":[\"b\"]}".to_vec()));
    assert!(changed.is_err(), "it is approved or denied as it is");
    agree(&kernel, id);
    assert_ne!(waits(house(&kernel, from, "b")), id, "another specification");
    let permit = house(&kernel, from, "a").unwrap();
    assert!(!take(&kernel, &permit).is_empty());
    assert_ne!(waits(house(&kernel, from, "a")), id, "once");
    settle_disk(&kernel, from);
    let intents: Vec<Json> = world.of_type("operation.intent").iter().map(details).collect();
    assert_eq!(intents.iter().filter(|one| one["approval"] == id.to_string()).count(), 1, "K105");
}

#[test]
fn k105_a_sandbox_finds_its_approval_after_a_crash_though_its_agent_is_another_instance() {
    let Stage { mut world, kernel, from } = stage(&action("sandbox.start"));
    let id = waits(house(&kernel, from, "a"));
    settle_disk(&kernel, from);
    let (after, _image) = world.crashed();
    let again = two(&after);
    assert_eq!(waits(house(&after, again, "a")), id, "it waits still");
    agree(&after, id);
    assert!(house(&after, again, "a").is_ok());
}

#[test]
fn k109_a_no_is_a_no_for_each_operation() {
    for (name, operation) in OPERATIONS {
        let Stage { kernel, from, .. } = stage(&action(name));
        let id = operation(&kernel, from).unwrap().approval.unwrap();
        kernel.say(SECOND, "ann", id, &Word::Deny).unwrap();
        let refused = operation(&kernel, from).unwrap();
        assert_eq!((refused.code, refused.approval), (RefusalCode::Denied, Some(id)), "{name}");
    }
}

#[test]
fn k105_each_operation_finds_its_approval_after_a_crash() {
    for (name, operation) in OPERATIONS {
        let Stage { mut world, kernel, from } = stage(&action(name));
        let id = operation(&kernel, from).unwrap().approval.unwrap();
        settle_disk(&kernel, from);
        // The agents of the next opening are made before persons are asked about anything.
        world.policies = Some(policies(OPEN, &[]));
        let (after, _image) = world.crashed();
        let again = two(&after);
        after.load_policies(OPERATOR, &asking(&action(name))).unwrap();
        assert_eq!(operation(&after, again).unwrap().approval, Some(id), "{name}: it waits still");
        agree(&after, id);
        let next = operation(&after, again);
        assert!(next.is_none_or(|refused| refused.approval != Some(id)), "{name}: it was agreed to");
    }
}

#[test]
fn k105_what_was_agreed_to_is_this_content_and_no_other() {
    let Stage { kernel, from, .. } = stage(&[action("message.send"), action("agent.run")].join(","));
    let id = waits(send(&kernel, from, "hello"));
    agree(&kernel, id);
    assert_ne!(waits(send(&kernel, from, "hullo")), id);
    let named = Recipient::Named("from".into());
    assert_ne!(
        waits(kernel.send_with(from, &named, text("hello"), &SendOptions::default())),
        id,
        "to another"
    );
    let parts = vec![Part { text: "hello".into(), labels: LabelSet::default(), source: None }];
    let to = Recipient::Named("to".into());
    let as_parts = Payload::Parts(parts);
    assert_ne!(waits(kernel.send_with(from, &to, as_parts, &SendOptions::default())), id, "in parts");
    assert!(send(&kernel, from, "hello").is_ok());
    let run = waits(run_of(&kernel, from, b"{\"n\":1}"));
    agree(&kernel, run);
    assert_ne!(waits(run_of(&kernel, from, b"{\"n\":2}")), run);
    assert!(run_of(&kernel, from, b"{\"n\":1}").is_ok());
}

#[test]
fn k105_labels_that_grow_while_it_waits_do_not_lose_the_approval() {
    let Stage { kernel, from, .. } = stage(&action("message.send"));
    let parts = || {
        let part = |text: &str| Part { text: text.to_owned(), labels: LabelSet::default(), source: None };
        Payload::Parts(vec![part("one"), part("two")])
    };
    let to = Recipient::Named("to".into());
    let id = waits(kernel.send_with(from, &to, parts(), &SendOptions::default()));
    agree(&kernel, id);
    kernel.begin_run(Principal::Host, from, b"", &labels(&["secret"]), Priority::NORMAL).unwrap();
    assert!(kernel.agent_labels(from).contains("secret"));
    assert!(kernel.send_with(from, &to, parts(), &SendOptions::default()).is_ok());
}

#[test]
fn k108_a_person_changes_a_message_an_input_and_who_reads() {
    let all = ["message.send", "agent.run", "data.write"].map(action).join(",");
    let Stage { kernel, from, .. } = stage(&all);
    let change = |id, wanted: &str| kernel.say(SECOND, "ann", id, &Word::Modify(wanted.as_bytes().to_vec()));

    let id = waits(send(&kernel, from, "all of it"));
    assert_eq!(shown(&kernel, id), serde_json::json!({"text": "all of it"}));
    assert!(change(id, r#"{"body":"x"}"#).is_err());
    change(id, r#"{"text":"a part of it"}"#).unwrap();
    assert_eq!(waits(send(&kernel, from, "all of it")), id, "K108: that was not agreed to");
    assert!(send(&kernel, from, "a part of it").is_ok());

    let id = waits(run_of(&kernel, from, b"{\"n\":1}"));
    change(id, r#"{"n":2}"#).unwrap();
    assert_eq!(waits(run_of(&kernel, from, b"{\"n\":1}")), id);
    assert!(run_of(&kernel, from, &kernel.approval_arguments(id).unwrap()).is_ok());

    let write = |readers: &[&str]| {
        let readers: Vec<String> = readers.iter().map(|name| (*name).to_owned()).collect();
        kernel.write_document(from, "title", "words", &readers)
    };
    agree(&kernel, waits(write(&["to", "eve"])));
    let id = waits(write(&["to", "eve"]));
    assert_eq!(shown(&kernel, id)["readers"], serde_json::json!(["to", "eve"]));
    assert_eq!(shown(&kernel, id)["passages"], serde_json::json!(["words"]));
    change(id, r#"{"readers":["to"]}"#).unwrap();
    assert_eq!(waits(write(&["to", "eve"])), id, "K108");
    assert!(write(&["to"]).is_ok());
}

#[test]
fn k106_an_operators_change_of_policy_needs_another_operator() {
    let Stage { world, kernel, from } = stage(&action("policy.change"));
    let before = kernel.policy_digest();
    let id = waits(kernel.load_policies(OPERATOR, &other_set()));
    assert!(kernel.say(OPERATOR, "ann", id, &Word::Approve).is_err(), "K106: whoever asked");
    assert_eq!(shown(&kernel, id)["sources"][0]["text"], "permit(principal is Host, action, resource);");
    assert_ne!(waits(kernel.load_policies(OPERATOR, &policies(OPEN, &[]))), id, "another set");
    assert_eq!(kernel.policy_digest(), before);
    agree(&kernel, id);
    kernel.load_policies(OPERATOR, &other_set()).unwrap();
    assert_ne!(kernel.policy_digest(), before);
    let changed = details(world.of_type("operation").last().unwrap());
    assert_eq!(changed["approval"], id.to_string());
    // The set that is in force now asks nobody, and whoever locked himself out can open again.
    kernel.load_policies(OPERATOR, &policies(OPEN, &[])).unwrap();
    settle_disk(&kernel, from);
}

#[test]
fn what_does_not_compile_asks_nobody() {
    let Stage { kernel, .. } = stage(&action("policy.change"));
    let answer = kernel.load_policies(OPERATOR, &policies("permit(", &[]));
    assert!(answer.is_err());
    assert!(kernel.approvals().is_empty());
}

#[test]
fn k120_persons_who_agree_to_three_agents_agree_to_each_of_them_and_to_three() {
    let Stage { kernel, .. } = stage(&action("agent.create"));
    let make = |count| kernel.create_agents(Principal::Host, Arc::new(spec("new")), count);
    let id = waits(make(3));
    assert_eq!((shown(&kernel, id)["count"].as_u64(), kernel.approvals().len()), (Some(3), 1));
    agree(&kernel, id);
    assert_ne!(waits(make(2)), id);
    assert_eq!(make(3).unwrap().0.len(), 3);
    assert_ne!(waits(make(3)), id);
}

#[test]
fn k157_persons_who_agree_to_a_publication_agree_to_each_way_it_goes() {
    let Stage { kernel, from, .. } = stage(&["message.publish", "message.send"].map(action).join(","));
    let (mailbox, _) = kernel.subscribe(from, "news").unwrap();
    let publish = || kernel.publish(from, "news", text("hello"), &SendOptions::default(), None);
    let id = waits(publish());
    agree(&kernel, id);
    publish().unwrap();
    assert_eq!(kernel.receive_many(mailbox, 10).unwrap().len(), 1);
    assert!(kernel.approvals().is_empty(), "nobody is asked about a way");
}

#[test]
fn k105_an_approval_of_what_did_not_happen_is_there_again() {
    let Stage { kernel, from, .. } = stage(&action("message.send"));
    let to = Recipient::Named("to".into());
    let rows = || vec![(to.clone(), text("one")), (to.clone(), text("two")), (to.clone(), text("one"))];
    let mut asked = Vec::new();
    let sent = loop {
        match kernel.send_many(from, rows(), Signing::Batch) {
            Ok(sent) => break sent,
            answer => {
                let id = waits(answer);
                agree(&kernel, id);
                asked.push(id);
                assert!(asked.len() <= 3, "each is asked about once: {asked:?}");
            }
        }
    };
    assert_eq!((sent.len(), asked.len()), (3, 3), "two that are alike are two");
    assert!(kernel.approvals().is_empty());
}

#[test]
fn a_message_that_is_to_survive_waits_too() {
    let Stage { kernel, from, .. } = stage(&action("message.send"));
    let options = SendOptions { guarantee: Guarantee::AtLeastOnce, ..SendOptions::default() };
    let begin = || kernel.begin_durable(from, &Recipient::Named("to".into()), text("hello"), &options);
    let id = waits(begin().map(drop));
    agree(&kernel, id);
    assert!(begin().is_ok());
    assert_ne!(waits(begin().map(drop)), id, "once");
}

#[test]
fn what_is_too_large_to_be_shown_is_refused() {
    let Stage { kernel, from, .. } = stage(&action("message.send"));
    let refused = send(&kernel, from, &"a".repeat(200_000)).refused().unwrap();
    assert_eq!(refused.code, RefusalCode::Denied);
    assert!(kernel.approvals().is_empty());
}
