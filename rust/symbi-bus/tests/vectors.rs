//! Messages for others to open: `tests/data/message-v1.json`, opened and verified by docs/formats/open_message.py on
//! `cryptography` alone. `SYMBI_WRITE_VECTORS=1` writes them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::fmt::Write as _;
use std::sync::Arc;

use common::{NOW, labels};
use symbi_bus::{
    Bus, BusOptions, Certificate, ContentType, Identity, Outgoing, Publication, Refusal, SecureMessage, Topic,
};
use symbi_crypto::{AgreementKey, Provider, SigningKey};
use symbi_testkit::SeededEntropy;
use symbi_types::{AgentId, LabelSet};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn list(messages: &[SecureMessage]) -> String {
    let lines: Vec<String> = messages.iter().map(|one| format!("    \"{}\"", hex(one.as_bytes()))).collect();
    format!("[\n{}\n  ]", lines.join(",\n"))
}

fn vectors(provider: Provider) -> String {
    let entropy = Arc::new(SeededEntropy::new(42));
    let runtime = SigningKey::from_seed(provider, &[1; 32]);
    let bus = Bus::with_authority(BusOptions::default(), entropy.clone(), provider, runtime.clone()).unwrap();
    let agents: Vec<AgentId> = (0..3).map(|_| AgentId::random(&*entropy)).collect();
    let identity = |seed: u8| {
        let agreement = AgreementKey::from_seed(&[seed + 100; 32]).unwrap();
        Identity::new(SigningKey::from_seed(provider, &[seed; 32]), agreement).unwrap()
    };
    for (agent, seed) in agents.iter().zip(10..) {
        bus.register_as(*agent, identity(seed), NOW).unwrap();
    }
    let (none, some) = (LabelSet::default(), labels(&["clinic", "phi"]));
    let outgoing = |payload: &'static [u8]| Outgoing {
        sender: agents[0],
        recipient: agents[1],
        id: None,
        payload,
        content_type: ContentType::Bytes,
        labels: &none,
        in_reply_to: None,
        expects_reply: false,
        lifetime_us: None,
    };
    let read = |agent: AgentId| -> Vec<SecureMessage> {
        let received = bus.receive_many(agent, 99, NOW).unwrap();
        assert_eq!(received.refused, []);
        received.opened.into_iter().map(|opened| opened.message).collect()
    };
    let question = bus.seal_and_deliver(&outgoing(b"one"), NOW).unwrap().id;
    let second = Outgoing {
        labels: &some,
        content_type: ContentType::Text,
        in_reply_to: Some(question),
        lifetime_us: Some(1_000_000),
        ..outgoing("zwei, λ".as_bytes())
    };
    bus.seal_and_deliver(&second, NOW + 1).unwrap();
    bus.seal_and_deliver(&outgoing(b""), NOW + 2).unwrap();
    let direct = read(agents[1]);
    let batch: Vec<Outgoing<'_>> =
        [&b"b0"[..], b"b1", b"b2", b"b3", b"b4"].into_iter().map(&outgoing).collect();
    assert!(bus.send_batch(&batch, NOW + 3).iter().all(Result::is_ok));
    let batch = read(agents[1]);
    let topic: Topic = "clinic.alerts".parse().unwrap();
    let keys = bus.topic_keys(&topic);
    keys.join(agents[1]);
    keys.join(agents[2]);
    let publish = |payload| {
        let publication = Publication {
            sender: agents[0],
            topic: &topic,
            recipients: &agents[2..],
            id: None,
            payload,
            content_type: ContentType::Json,
            labels: &some,
            lifetime_us: None,
        };
        bus.publish(&publication, NOW + 4).unwrap();
    };
    publish(b"{\"bed\":7}");
    let certificates: Vec<Certificate> =
        agents.iter().map(|agent| bus.certificate(*agent, NOW).unwrap()).collect();
    let wrapped = keys.wrap_for(&certificates[2]).unwrap();
    assert_eq!(wrapped.open(provider, agents[2], &identity(12), &topic).unwrap().len(), 32);
    for (member, keys_of) in [(agents[1], 12), (agents[2], 11)] {
        assert!(wrapped.open(provider, member, &identity(keys_of), &topic).is_err());
    }
    let stranger = Certificate { agent: agents[0], ..certificates[2].clone() };
    assert_eq!(keys.wrap_for(&stranger), Err(Refusal::NotMember));
    let published = read(agents[2]);
    let shown: Vec<String> =
        certificates.iter().map(|one| format!("    \"{}\"", hex(&one.to_bytes()))).collect();
    let agreement: Vec<String> = (110u8..113).map(|seed| format!("\"{}\"", hex(&[seed; 32]))).collect();
    format!(
        "{{\n  \"runtime\": \"{}\",\n  \"now_us\": {NOW},\n  \"agreement_private\": [{}],\n  \"certificates\": [\n{}\n  ],\n  \
         \"direct\": {},\n  \"direct_payloads\": [\"one\", \"zwei, λ\", \"\"],\n  \"batch\": {},\n  \
         \"batch_payloads\": [\"b0\", \"b1\", \"b2\", \"b3\", \"b4\"],\n  \"wrapped_epoch_key\": \"{}\",\n  \"topic\": {},\n  \
         \"topic_payloads\": [\"{{\\\"bed\\\":7}}\"]\n}}\n",
        hex(&runtime.public().0),
        agreement.join(", "),
        shown.join(",\n"),
        list(&direct),
        list(&batch),
        hex(&wrapped.sealed),
        list(&published),
    )
}

#[test]
fn messages_for_others_to_open_are_the_same_from_both_providers() {
    let made = vectors(Provider::AwsLc);
    assert_eq!(made, vectors(Provider::Ring));
    let kept = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/message-v1.json");
    if std::env::var_os("SYMBI_WRITE_VECTORS").is_some() {
        std::fs::write(&kept, &made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), made);
}
