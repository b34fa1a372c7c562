//! The trail's plain bytes hold no argument, note, error text, title, passage or question.

use symbi_kernel::{Outcome, Payload, Principal, Priority, Recipient, RunOutcome, ToolCall};
use symbi_types::Part;

use crate::knowledge::stands_in_files;
use crate::world::*;

const CANARY: &str = "zanzibar-canary-7341";

#[test]
fn k34_a_canary_given_in_every_place_stands_nowhere_in_the_trail() {
    let rule = format!(
        "{OPEN}\nforbid(principal, action == Action::\"tool.call\", resource == Tool::\"forbidden\");"
    );
    let mut world = World::with(Some(policies(&rule, &[])));
    let kernel = world.kernel();
    let (one, two) = (agent(&kernel, "a"), agent(&kernel, "b"));
    tool(&kernel, "t");
    tool(&kernel, "forbidden");
    let arguments = format!("{{\"x\":\"{CANARY}\",\"{CANARY}\":1}}").into_bytes();
    let attributes = vec![("who".to_owned(), CANARY.to_owned())];
    let part = Part { text: CANARY.to_owned(), labels: labels(&[]), source: None };
    for name in ["t", "forbidden"] {
        let given = ToolCall {
            amounts: Vec::new(),
            tool: name.to_owned(),
            arguments: arguments.clone(),
            parts: vec![part.clone()],
            attributes: attributes.clone(),
            timeout_ms: 0,
        };
        let Ok(permit) = kernel.begin_tool_call(Principal::Agent(one), given) else { continue };
        take(&kernel, &permit);
        permit
            .settle(&Outcome::Failed { kind: format!("Error: {CANARY}"), text: CANARY.to_owned() })
            .unwrap();
    }
    kernel.note(one, CANARY).unwrap();
    let begun =
        kernel.begin_run(Principal::Host, one, CANARY.as_bytes(), &labels(&[]), Priority::NORMAL).unwrap();
    let outcome = RunOutcome::Failed { kind: format!("{CANARY} with blanks"), text: CANARY.to_owned() };
    kernel.end_run(begun.run, &outcome).unwrap();
    kernel
        .send(one, &Recipient::Agent(two), Payload::Bytes(CANARY.as_bytes().to_vec()), None, false)
        .unwrap();
    kernel.write_document(one, CANARY, CANARY, &[CANARY.to_owned()]).unwrap();
    kernel.search(one, CANARY, 3).unwrap();
    kernel.answer(one, CANARY, 3).unwrap();
    let ask = symbi_kernel::SandboxAsk {
        tier: symbi_types::SecurityTier::Docker,
        network: false,
        writable: false,
        spec: CANARY.as_bytes().to_vec(),
    };
    drop(kernel.begin_sandbox(Principal::Host, Some(one), ask).unwrap());
    kernel.close().unwrap();
    assert_eq!(stands_in_files(&world.data().join("trail"), CANARY), None);
    let sealed = world
        .records()
        .iter()
        .filter_map(|record| details(record)["sealed"].as_str().and_then(|sealed| kernel.unseal(sealed)))
        .filter(|plain| String::from_utf8_lossy(plain).contains(CANARY))
        .count();
    assert!(sealed >= 5, "and the operator can read {sealed} of them");
}

#[test]
fn k10_no_key_stands_in_the_trail_or_in_the_state() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    agent(&kernel, "a");
    kernel.close().unwrap();
    for name in ["signing.key", "master.key"] {
        let key = std::fs::read(world.data().join("keys").join(name)).unwrap();
        for file in ["state.db", "trail/head"] {
            let bytes = std::fs::read(world.data().join(file)).unwrap();
            assert!(!bytes.windows(key.len()).any(|window| window == key), "{name} in {file}");
        }
    }
}
