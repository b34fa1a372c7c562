//! K200 to K204: whose key was valid when, as operations and as records.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use symbi_audit::Record;
use symbi_crypto::{Provider, PublicKey, SigningKey, VerifyingKey};
use symbi_kernel::{
    AgentError, Certificate, Guarantee, Kernel, KeyChangeError, KeyError, Payload, Principal, Recipient,
    SendOptions,
};
use symbi_types::AgentId;

use crate::world::*;

fn say(kernel: &Kernel, from: AgentId, to: AgentId, text: &str) -> Result<(), symbi_kernel::MessageError> {
    let payload = Payload::Bytes(text.as_bytes().to_vec());
    kernel.send_with(from, &Recipient::Agent(to), payload, &SendOptions::default()).map(drop)
}

fn heard(kernel: &Kernel, agent: AgentId) -> Vec<String> {
    let of = |payload: Payload| match payload {
        Payload::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
        Payload::Parts(_) => String::new(),
    };
    kernel.receive_many(agent, 99).unwrap().into_iter().map(|one| of(one.payload)).collect()
}

fn json(record: &Record) -> serde_json::Value {
    serde_json::from_str(&record.details).unwrap()
}

fn bytes(record: &Record, name: &str) -> Vec<u8> {
    STANDARD.decode(json(record)[name].as_str().unwrap()).unwrap()
}

fn seed_of_log(world: &World) -> VerifyingKey {
    let seed = symbi_kernel::read_key(&world.data().join("keys/signing.key"), None).unwrap();
    VerifyingKey::new(SigningKey::from_seed(Provider::AwsLc, &seed).public()).unwrap()
}

#[test]
fn k202_each_certificate_stands_in_the_trail_before_what_its_key_signs() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    assert!(kernel.agent_keys().is_empty(), "nobody has needed keys yet");
    say(&kernel, from, to, "x").unwrap();
    assert_eq!(heard(&kernel, to), ["x"]);
    let (fresh, _) = kernel.rotate_agent_key(OPERATOR, from).unwrap();
    let shown = kernel.agent_keys();
    assert_eq!(shown.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["from", "to"]);
    assert!(shown[0].certificate == fresh && !shown[0].is_revoked);
    kernel.close().unwrap();
    let records = world.of_type("key.certified");
    let certificates: Vec<Certificate> =
        records.iter().map(|one| Certificate::from_bytes(&bytes(one, "certificate")).unwrap()).collect();
    let of_sender: Vec<_> = certificates.iter().filter(|one| one.agent == from).collect();
    assert_eq!((certificates.len(), of_sender.len(), of_sender[1]), (3, 2, &fresh));
    let key = seed_of_log(&world);
    for certificate in &certificates {
        certificate.verify(&key, certificate.not_before_us).unwrap();
    }
    let first = records.iter().find(|one| one.agent() == Some(from)).unwrap().seq;
    let said =
        world.of_type("operation").into_iter().find(|one| one.details.contains("\"messages\"")).unwrap();
    assert!(first < said.seq, "K202");
}

#[test]
fn k203_who_is_revoked_is_silent_at_once_and_the_trail_says_since_when() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    say(&kernel, from, to, "read before").unwrap();
    assert_eq!(heard(&kernel, to), ["read before"]);
    say(&kernel, from, to, "unread").unwrap();
    let (certificate, seq) = kernel.revoke_agent_key(OPERATOR, from).unwrap();
    assert!(heard(&kernel, to).is_empty(), "K203");
    assert!(say(&kernel, from, to, "x").is_err());
    let again = kernel.revoke_agent_key(OPERATOR, from).unwrap_err();
    assert!(matches!(&again, KeyChangeError::Bus(error) if error.code() == "bus.revoked"));
    assert!(kernel.agent_keys()[0].is_revoked);
    kernel.rotate_agent_key(OPERATOR, from).unwrap();
    say(&kernel, from, to, "with other keys").unwrap();
    assert_eq!(heard(&kernel, to), ["with other keys"]);
    kernel.close().unwrap();
    let record = world.records().into_iter().find(|one| one.seq == seq).unwrap();
    let details = json(&record);
    assert_eq!(
        (details["change"].as_str(), details["action"].as_str()),
        (Some("revoke"), Some("key.change"))
    );
    assert_eq!(details["serial"], format!("{:016x}", certificate.serial));
    assert_eq!(
        (record.agent(), details["key"].as_str()),
        (Some(from), Some(&*certificate.signing.key_id().to_string()))
    );
    assert_eq!(world.of_type("message.refused").len(), 1, "the unread one");
    let said: Vec<u64> = world
        .records()
        .iter()
        .filter(|one| one.details.contains("\"messages\""))
        .map(|one| one.seq)
        .collect();
    assert_eq!(said.len(), 3);
    assert!(said[1] < seq && seq < said[2], "K203: what was sent before stands before it, read or not");
}

#[test]
fn policy_decides_who_changes_whose_keys() {
    let rules =
        format!("{OPEN}\nforbid(principal, action == Action::\"key.change\", resource == Key::\"agent/a\");");
    let mut world = World::with(Some(policies(&rules, &[])));
    let kernel = world.kernel();
    let (a, b) = (agent(&kernel, "a"), agent(&kernel, "b"));
    for refused in [kernel.rotate_agent_key(Principal::Host, a), kernel.revoke_agent_key(Principal::Host, a)]
    {
        assert!(matches!(refused, Err(KeyChangeError::Agent(AgentError::Refused(_)))));
    }
    kernel.rotate_agent_key(Principal::Host, b).unwrap();
    kernel.revoke_agent_key(Principal::Agent(b), b).unwrap();
    let absent = kernel.rotate_agent_key(OPERATOR, AgentId::random(&symbi_types::SystemEntropy));
    assert!(matches!(absent, Err(KeyChangeError::Agent(AgentError::Absent(_)))));
    kernel.revoke_agent_key(OPERATOR, a).unwrap(); // what operators may, no policy of a user's takes from them
    drop(kernel);
    let mut world = World::with(None);
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    assert!(kernel.rotate_agent_key(Principal::Host, one).is_err(), "the built-in set: operators alone");
    assert!(kernel.rotate_message_key(Principal::Host, None).is_err());
    kernel.rotate_message_key(OPERATOR, None).unwrap();
}

#[test]
fn k200_k204_the_runtimes_key_is_exchanged_by_the_word_of_both_and_stays_exchanged() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    say(&kernel, from, to, "before").unwrap();
    let first = kernel.message_key();
    let exchange = kernel.rotate_message_key(OPERATOR, None).unwrap();
    assert_eq!((exchange.before, exchange.after, exchange.renewed), (first, kernel.message_key(), 2));
    say(&kernel, from, to, "after").unwrap();
    assert_eq!(heard(&kernel, to), ["before", "after"]);
    assert!(kernel.agent_keys().iter().all(|one| one.certificate.issuer == exchange.after));
    let second = kernel.rotate_message_key(OPERATOR, Some(b"word".to_vec().into())).unwrap();
    kernel.close().unwrap();
    drop(kernel);
    assert_eq!(world.verify(), world.records().len() as u64);
    let rotated = world.of_type("key.exchanged");
    let [one, other] = rotated.as_slice() else { panic!("two exchanges") };
    assert_eq!(seed_of_log(&world).public().0.to_vec(), bytes(one, "before_public"), "first the log's");
    assert_eq!(bytes(one, "after_public"), bytes(other, "before_public"), "K204: a chain");
    for record in &rotated {
        let at = json(record)["at_us"].as_u64().unwrap().to_be_bytes();
        let [before, after] = ["before_public", "after_public"].map(|name| bytes(record, name));
        let statement = [b"symbi/message-key/v1\0".as_slice(), &before, &after, &at].concat();
        for (key, signature) in [(&before, "by_before"), (&after, "by_after")] {
            let key = PublicKey(key.as_slice().try_into().unwrap());
            assert_eq!(
                key.verify(&statement, bytes(record, signature).as_slice().try_into().unwrap()),
                Ok(())
            );
        }
    }
    // The second is under a passphrase, the others are not: an opening without it is refused, not downgraded.
    assert!(world.try_kernel_at(&world.data()).is_err(), "K200");
    let file = world.data().join("keys/messages.key");
    let seed = symbi_kernel::read_key(&file, Some(b"word")).unwrap();
    symbi_kernel::write_key(&file, &seed, None).unwrap();
    let kernel = world.kernel();
    assert_eq!(kernel.message_key(), second.after, "K200");
    kernel.close().unwrap();
    drop(kernel);
    std::fs::remove_file(&file).unwrap();
    let Err(lost) = world.try_kernel_at(&world.data()) else { panic!("K200") };
    assert!(matches!(lost, symbi_kernel::KernelError::Keys(KeyError::Lost { .. })), "K200: {lost}");
}

#[test]
fn k200_the_exchange_is_known_over_a_snapshot() {
    let mut world = World::open_to_all();
    world.snapshot_records = 10;
    let kernel = world.kernel();
    let exchange = kernel.rotate_message_key(OPERATOR, None).unwrap();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    for _ in 0..60 {
        let options = SendOptions { guarantee: Guarantee::AtLeastOnce, ..SendOptions::default() };
        let payload = Payload::Bytes(b"x".to_vec());
        let id = kernel.send_with(from, &Recipient::Agent(to), payload, &options).unwrap().id;
        kernel.receive_many(to, 9).unwrap();
        let seq = kernel.acknowledge(to, to, &[id]).unwrap().unwrap();
        kernel.wait_durable(seq, SOON).unwrap();
    }
    kernel.close().unwrap();
    drop(kernel);
    let kernel = world.kernel();
    assert!(kernel.opened().replayed < kernel.opened().records, "from a snapshot on");
    assert_eq!(kernel.message_key(), exchange.after);
}

#[test]
fn k201_a_kill_at_any_moment_of_an_exchange_leaves_one_key_in_force() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let keys = world.data().join("keys");
    let before = kernel.message_key();
    let exchange = kernel.rotate_message_key(OPERATOR, None).unwrap();
    kernel.close().unwrap();
    drop(kernel);
    // Between the record and the file's name.
    std::fs::rename(keys.join("messages.key"), keys.join("messages.next")).unwrap();
    let kernel = world.kernel();
    assert_eq!(kernel.message_key(), exchange.after);
    assert!(keys.join("messages.key").exists() && !keys.join("messages.next").exists());
    kernel.close().unwrap();
    drop(kernel);
    // Between the file and the record: nobody named it, so the old one is in force.
    std::fs::copy(keys.join("signing.key"), keys.join("messages.next")).unwrap();
    let kernel = world.kernel();
    assert_eq!((kernel.message_key(), before == exchange.after), (exchange.after, false));
}
