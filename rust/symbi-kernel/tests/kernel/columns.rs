//! Many messages at once, and what a call fills: K190 to K192, K151 and K168 over large batches.

use symbi_kernel::{
    AgentError, Body, Kernel, MessageError, Parcel, Payload, Recipient, SENT_AT_ONCE_MAX, Signing,
};
use symbi_policy::{CounterSpec, Per};
use symbi_types::AgentId;

use crate::world::*;

fn text(text: &str) -> Payload {
    Payload::Bytes(text.as_bytes().to_vec())
}

fn parcel(to: &[AgentId], says: &[String]) -> Parcel {
    let mut parcel = Parcel::with_capacity(says.len());
    for (at, one) in says.iter().enumerate() {
        let place = parcel.recipient(Recipient::Agent(to[at % to.len()]));
        parcel.add_bytes(place, one.as_bytes());
    }
    parcel
}

fn read(kernel: &Kernel, agent: AgentId) -> Vec<String> {
    let mail = kernel.receive_mail(agent, agent, 10_000).unwrap();
    let says = mail.iter().map(|item| match &item.body {
        Body::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Body::Parts(parts) => parts.iter().map(|part| part.text.clone()).collect(),
    });
    says.collect()
}

#[test]
fn k190_a_mailbox_that_is_filled_is_told_to_the_caller_who_asks_or_by_the_bell_and_never_by_both() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let send = || kernel.send_with(from, &Recipient::Agent(to), text("x"), &Default::default());
    assert_eq!(kernel.here(send).unwrap().1, [to], "K190");
    assert!(kernel.drain().is_empty(), "K190: told once");
    assert!(kernel.here(send).unwrap().1.is_empty(), "it was not empty");
    read(&kernel, to);
    send().unwrap();
    assert_eq!(kernel.drain(), [to], "K190: nobody asked, so the bell rings");
    read(&kernel, to);
    let failed = kernel.here(|| {
        send()?;
        Err::<(), MessageError>(symbi_kernel::AgentError::Absent("nothing").into())
    });
    assert!(failed.is_err());
    assert_eq!(kernel.drain(), [to], "K190: the call failed, and the message is there");
}

#[test]
fn k190_a_call_that_panics_leaves_no_ear_behind() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let panicking =
        std::panic::AssertUnwindSafe(|| kernel.here(|| -> Result<(), MessageError> { panic!("no") }));
    assert!(std::panic::catch_unwind(panicking).is_err());
    kernel.send(from, &Recipient::Agent(to), text("x"), None, false).unwrap();
    assert_eq!(kernel.drain(), [to], "K190");
}

#[test]
fn k191_two_of_one_name_are_seen_together_as_they_are_now() {
    let rules = r#"permit(principal, action, resource);
        forbid(principal, action == Action::"message.send", resource) when { resource.labels.contains("phi") };"#;
    let mut world = World::with(Some(policies(rules, &[])));
    let kernel = world.kernel();
    let (one, other, source) = (agent(&kernel, "twin"), agent(&kernel, "twin"), agent(&kernel, "source"));
    let send = || kernel.send(one, &Recipient::Agent(other), text("x"), None, false);
    send().unwrap();
    send().unwrap();
    let part = symbi_types::Part { text: "y".to_owned(), labels: labels(&["phi"]), source: None };
    kernel.send(source, &Recipient::Agent(other), Payload::Parts(vec![part]), None, false).unwrap();
    send().unwrap();
    read(&kernel, other);
    assert!(send().is_err(), "K191: it carries `phi` since it read that");
}

#[test]
fn k168_k192_a_large_batch_of_any_kinds_arrives_in_order_and_each_message_is_looked_through() {
    let rules = r#"permit(principal, action, resource);
        forbid(principal, action == Action::"message.send", resource == Agent::"shut")
        when { context.labels.contains("secret") };"#;
    for signing in [Signing::Batch, Signing::Each] {
        let mut world =
            World { mailbox_depth_max: 2_048, signers: 3, ..World::with(Some(policies(rules, &[]))) };
        let kernel = world.kernel();
        let names = ["from", "near", "far", "shut"];
        let [from, near, far, shut] = names.map(|name| agent(&kernel, name));
        let says: Vec<String> = (0..900).map(|at| format!("{at:04}{}", ".".repeat(at % 7))).collect();
        let sent = kernel.send_parcel(from, parcel(&[near, far, near], &says), signing).unwrap();
        assert!(sent.len() == 900 && sent.iter().all(Result::is_ok));
        let of = |places: &[usize]| -> Vec<String> {
            let mine = |(at, _): &(usize, &String)| places.contains(&(at % 3));
            says.iter().enumerate().filter(mine).map(|(_, one)| one.clone()).collect()
        };
        assert_eq!(read(&kernel, near), of(&[0, 2]), "K192");
        assert_eq!(read(&kernel, far), of(&[1]), "K192");
        // One secret among hundreds of alike messages is found, and none of them goes.
        let mut says: Vec<String> = (0..300).map(|at| format!("{at:04} {}", "x".repeat(35))).collect();
        kernel.send_parcel(from, parcel(&[shut], &says), signing).unwrap();
        assert_eq!(read(&kernel, shut), says);
        says[217] = "password = 'hunter2-tango-hunter2-tango'".to_owned();
        assert_eq!(says[217].len(), says[0].len());
        assert!(kernel.send_parcel(from, parcel(&[shut], &says), signing).is_err(), "K168");
        assert!(read(&kernel, shut).is_empty(), "K168");
    }
}

#[test]
fn k21_of_a_parcel_that_cannot_be_recorded_only_what_stands_in_the_trail_stays_counted() {
    // One message is let through by so many rules that its record would be too long, and is refused for it.
    let rule = |at| {
        let scope = r#"principal,action==Action::"message.send",resource==Agent::"far""#;
        format!("@id(\"{at:064}\")permit({scope});\n")
    };
    let rules: String = (0..4_200).map(rule).collect();
    let text = format!(
        "permit(principal, action, resource); {rules}
        forbid(principal, action == Action::\"message.send\", resource) when {{ context.counters.sent > 5 }};"
    );
    let sent = CounterSpec::counting("sent", "message.send", Per::Global, 60_000_000);
    for signing in [Signing::Batch, Signing::Each] {
        let mut world = World::with(Some(policies(&text, std::slice::from_ref(&sent))));
        let kernel = world.kernel();
        let [from, near, far] = ["from", "near", "far"].map(|name| agent(&kernel, name));
        let says: Vec<String> = (0..4).map(|at| format!("message {at}")).collect();
        let refused = kernel.send_parcel(from, parcel(&[near, far, near, near], &says), signing).unwrap_err();
        assert!(matches!(refused, MessageError::Agent(AgentError::Refused(_))), "{refused}");
        assert!(read(&kernel, near).is_empty() && read(&kernel, far).is_empty(), "nothing was delivered");
        let send = || kernel.send(from, &Recipient::Agent(near), self::text("x"), None, false);
        let more = (0..10).take_while(|_| send().is_ok()).count();
        assert_eq!(more, 4, "K21: one of five was recorded, and three are given back");
    }
}

#[test]
fn k193_a_parcel_has_a_bound() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let says = vec![String::new(); SENT_AT_ONCE_MAX + 1];
    let refused = kernel.send_parcel(from, parcel(&[to], &says), Signing::Batch).unwrap_err();
    assert!(matches!(refused, MessageError::Agent(AgentError::Invalid(_))), "K193: {refused}");
    assert!(read(&kernel, to).is_empty());
}
