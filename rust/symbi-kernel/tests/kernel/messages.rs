//! K30, K31: who sent it is what the channel says, and who reads it has read it.

use symbi_kernel::{MessageError, Payload, Principal, Recipient, RefusalCode};
use symbi_types::Part;

use crate::world::*;

fn text(text: &str) -> Payload {
    Payload::Bytes(text.as_bytes().to_vec())
}

fn part(text: &str, names: &[&str]) -> Part {
    Part { text: text.to_owned(), labels: labels(names), source: None }
}

fn denied(error: MessageError) -> symbi_kernel::Refusal {
    match error {
        MessageError::Agent(error) => refusal::<()>(Err(error)),
        MessageError::Bus(error) => panic!("{error}"),
    }
}

#[test]
fn k30_k31_a_message_names_its_true_sender_and_raises_its_readers_labels() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let parts = Payload::Parts(vec![part("one", &["phi"]), part("mail jane@clinic.example", &[])]);
    kernel.send(from, &Recipient::Named("to".into()), parts, None, false).unwrap();
    assert!(kernel.agent_labels(to).is_empty(), "K31: delivered is not read");
    let received = kernel.receive_many(to, 10).unwrap().remove(0);
    assert_eq!((received.sender, received.sender_name.as_str()), (from, "from"), "K30");
    assert_eq!(kernel.agent_labels(to), labels(&["phi", "personal"]), "K31");
    let reply = kernel.send(to, &Recipient::Agent(from), text("thanks"), Some(received.id), false);
    reply.unwrap();
    kernel.receive_many(from, 10).unwrap();
    assert_eq!(
        kernel.agent_labels(from),
        labels(&["phi", "personal"]),
        "K19: what it writes carries what it read"
    );
}

#[test]
fn k31_an_answer_raises_labels_as_any_message_does() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (asks, answers) = (agent(&kernel, "asks"), agent(&kernel, "answers"));
    let (request, _) = kernel.send(asks, &Recipient::Agent(answers), text("?"), None, true).unwrap();
    assert!(kernel.take_reply(asks, request).unwrap().is_none());
    kernel.receive_many(answers, 1).unwrap();
    let reply = Payload::Parts(vec![part("!", &["secret-ish"])]);
    kernel.send(answers, &Recipient::Agent(asks), reply, Some(request), false).unwrap();
    assert!(kernel.take_reply(asks, request).unwrap().is_some());
    assert!(kernel.agent_labels(asks).contains("secret-ish"), "K31");
}

#[test]
fn k32_an_agent_that_was_stopped_is_absent_and_so_is_its_mailbox() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    kernel.stop_agent(OPERATOR, to, true).unwrap();
    for recipient in [Recipient::Agent(to), Recipient::Named("to".into())] {
        let error = kernel.send(from, &recipient, text("x"), None, false).unwrap_err();
        assert_eq!(denied(error).code, RefusalCode::Denied, "K32");
    }
    assert!(kernel.receive_many(to, 1).is_err());
    kernel.stop_agent(OPERATOR, from, true).unwrap();
    assert!(
        kernel.send(from, &Recipient::Agent(from), text("x"), None, false).is_err(),
        "K30: the dead do not write"
    );
}

#[test]
fn k30_an_agent_may_write_to_itself_and_to_another_instance_of_its_name() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (one, two) = (agent(&kernel, "same"), agent(&kernel, "same"));
    kernel.send(one, &Recipient::Agent(one), text("to me"), None, false).unwrap();
    kernel.send(one, &Recipient::Agent(two), text("to you"), None, false).unwrap();
    assert_eq!(kernel.receive_many(one, 9).unwrap().len(), 1);
    assert_eq!(kernel.receive_many(two, 9).unwrap().len(), 1);
}

#[test]
fn k12_two_instances_of_one_name_are_judged_by_the_labels_of_both() {
    let rule = format!(
        "{OPEN}\nforbid(principal, action == Action::\"message.send\", resource) when {{ resource.labels.contains(\"phi\") }};"
    );
    let mut world = World::with(Some(policies(&rule, &[])));
    let kernel = world.kernel();
    let clean = agent(&kernel, "same");
    let marked = std::sync::Arc::new(symbi_kernel::AgentSpec { labels: labels(&["phi"]), ..spec("same") });
    let (marked, _) = kernel.create_agent(Principal::Host, marked).unwrap();
    assert!(kernel.send(clean, &Recipient::Agent(marked), text("x"), None, false).is_err());
    assert!(kernel.send(marked, &Recipient::Agent(clean), text("x"), None, false).is_err());
}

#[test]
fn k19_made_up_labels_cannot_grow_a_reader_past_its_bound() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (hostile, victim) = (agent(&kernel, "hostile"), agent(&kernel, "victim"));
    for round in 0..40 {
        let names: Vec<String> = (0..60).map(|at| format!("junk{round}-{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let payload = Payload::Parts(vec![part("x", &names)]);
        let _ = kernel.send(hostile, &Recipient::Agent(victim), payload, None, false);
        if round % 3 == 2 {
            kernel.receive_many(victim, 9).unwrap();
        }
    }
    assert!(kernel.agent_labels(victim).len() <= 64, "K19: {}", kernel.agent_labels(victim).len());
    tool(&kernel, "t");
    act(&kernel, victim, "t");
    kernel.send(victim, &Recipient::Agent(victim), text("x"), None, false).unwrap();
}
