//! LN1 to LN3: a proposal compiles, allows what was seen, and nothing that was not.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use common::{Dice, cases};
use symbi_policy::vocabulary::{self, AgentFacts};
use symbi_policy::{Engine, Entity, Learner, Request, Schema, Source, Value};
use symbi_types::{LabelSet, SecurityTier};

const NAMES: [&str; 5] = ["ana", "ben \"b\"", "c\\d", "", "é\u{1f600}"];
const LABELS: [&str; 3] = ["a", "b.c", "secret"];

fn labels(dice: &mut Dice) -> LabelSet {
    LABELS.iter().filter(|_| dice.once_in(3)).map(|one| one.parse().unwrap()).collect()
}

/// Of one name there is one agent, with the same facts wherever it stands.
fn agent(name: &str) -> Entity {
    let dice = &mut Dice::new(name.bytes().map(u64::from).sum());
    let labels = labels(dice);
    vocabulary::agent(&AgentFacts {
        name,
        instance: "i",
        tier: SecurityTier::Docker,
        in_process: dice.once_in(2),
        kind: "python",
        capabilities: &[],
        tenant: "t",
        labels: &labels,
    })
    .unwrap()
}

/// Who, what for, on what, with which labels.
type Seen = (Entity, &'static str, Entity, LabelSet);

fn seen(dice: &mut Dice) -> Seen {
    let principal = match dice.below(6) {
        0 => vocabulary::host().unwrap(),
        1 => vocabulary::operator(1000).unwrap(),
        _ => {
            let name = dice.pick(&NAMES);
            agent(name)
        }
    };
    let name = dice.pick(&NAMES);
    let (action, resource) = match dice.below(8) {
        0 | 1 => ("tool.call", vocabulary::tool(name, "server", "write", "low").unwrap()),
        2 => ("message.send", agent(name)),
        3 => ("message.publish", vocabulary::named("Topic", name).unwrap()),
        4 => {
            let labels = labels(dice);
            let document = vocabulary::document(name, "knowledge", &labels, "o", &[]).unwrap();
            (dice.pick(&["data.read", "data.search"]), document)
        }
        5 => {
            let tier = dice.pick(&[SecurityTier::Docker, SecurityTier::Gvisor]);
            let (network, writable) = (dice.once_in(2), dice.once_in(2));
            ("sandbox.start", vocabulary::sandbox("random", tier, network, writable).unwrap())
        }
        6 => ("key.change", vocabulary::named("Key", name).unwrap()),
        _ => ("data.erase", vocabulary::named("Runtime", "runtime").unwrap()),
    };
    let labels = labels(dice);
    (principal, action, resource, labels)
}

fn request(seen: &Seen) -> Request<'_> {
    Request::new(&seen.0, seen.1, &seen.2)
        .with("labels", Value::labels(&seen.3))
        .with("bytes", Value::Long(1))
        .with("counters", Value::Record(vec![]))
}

fn propose(all: &[Seen]) -> String {
    let mut learner = Learner::new().unwrap();
    all.iter().for_each(|one| learner.add(&request(one)));
    let proposal = learner.propose();
    assert_eq!(proposal.requests, u64::try_from(all.len()).unwrap());
    assert_eq!(proposal.rules, proposal.text.matches("@id(").count());
    proposal.text
}

fn compile(text: &str) -> Engine {
    let engine = Engine::compile(Schema::Symbi, &[Source { name: "p".into(), text: text.into() }], &[])
        .unwrap_or_else(|found| panic!("LN1 {}\n{text}", symbi_policy::render(&found)));
    let only_of_names = |code: &str| code == "policy.confusable"; // of what agents are called
    assert!(
        engine.warnings().iter().all(|one| only_of_names(one.code)),
        "LN1 {:?}\n{text}",
        engine.warnings()
    );
    engine
}

#[test]
fn ln2_a_proposal_compiles_and_allows_all_that_was_seen_in_whatever_order() {
    for seed in 0..cases(120, 20_000) {
        let mut dice = Dice::new(seed);
        let mut all: Vec<Seen> = (0..dice.below(30)).map(|_| seen(&mut dice)).collect();
        let text = propose(&all);
        let engine = compile(&text);
        for one in &all {
            let decision = engine.evaluate(&request(one));
            assert!(decision.is_allowed(), "LN2 seed {seed} {one:?}\n{text}");
        }
        all.reverse();
        assert_eq!(propose(&all), text, "LN3 seed {seed}");
    }
}

/// Least: a request that differs in principal, tool, topic or label is refused, unless that was seen too.
#[test]
fn a_proposal_allows_no_tool_agent_or_label_that_was_not_seen() {
    for seed in 0..cases(120, 20_000) {
        let mut dice = Dice::new(seed + 77);
        let all: Vec<Seen> = (0..1 + dice.below(12)).map(|_| seen(&mut dice)).collect();
        let engine = compile(&propose(&all));
        for _ in 0..40 {
            let other = seen(&mut dice);
            if other.0.uid().type_name() != "Agent" || !["tool.call", "message.publish"].contains(&other.1) {
                continue;
            }
            let alike: Vec<&Seen> = all
                .iter()
                .filter(|one| {
                    one.0.uid() == other.0.uid() && one.1 == other.1 && one.2.uid() == other.2.uid()
                })
                .collect();
            let covered = other.3.iter().all(|label| alike.iter().any(|one| one.3.contains(label.as_str())));
            let expected = !alike.is_empty() && covered;
            let allowed = engine.evaluate(&request(&other)).is_allowed();
            assert_eq!(allowed, expected, "seed {seed} {other:?}");
        }
    }
}

/// What several were seen to do alike is one rule.
#[test]
fn what_differs_in_one_name_becomes_one_rule() {
    let all: Vec<Seen> = (0..20)
        .map(|number| {
            let tool = vocabulary::tool(&format!("t{number}"), "s", "read", "low").unwrap();
            (agent("ana"), "tool.call", tool, LabelSet::default())
        })
        .collect();
    assert_eq!(propose(&all).matches("@id(").count(), 1);
    assert!(propose(&all[..1]).contains("resource == Tool::\"t0\""));
}
