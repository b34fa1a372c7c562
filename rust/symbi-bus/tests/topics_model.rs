//! A topic's keys against a plain model of who may open what, over random histories of joining, leaving and publishing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::{BTreeSet, VecDeque};

use common::{NOW, Town};
use proptest::prelude::*;
use symbi_bus::{BusOptions, ContentType, Publication, Refusal, Topic};
use symbi_types::LabelSet;

const AGENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Leave(usize),
    Publish(usize),
    Read(usize, usize),
    Rotate(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let agent = || 0..AGENTS;
    prop_oneof![
        3 => agent().prop_map(Step::Join),
        2 => agent().prop_map(Step::Leave),
        5 => agent().prop_map(Step::Publish),
        4 => (agent(), 1..4usize).prop_map(|(agent, limit)| Step::Read(agent, limit)),
        1 => agent().prop_map(Step::Rotate),
    ]
}

/// Who may open what was sealed in an epoch, and whether anything was.
#[derive(Default)]
struct Epoch {
    members: BTreeSet<usize>,
    used: bool,
}

struct Model {
    epochs: Vec<Epoch>,
    mailboxes: [VecDeque<(usize, u64)>; AGENTS], // epoch and payload
}

impl Model {
    fn current(&mut self) -> &mut Epoch {
        self.epochs.last_mut().unwrap()
    }

    fn leave(&mut self, agent: usize) -> bool {
        if !self.current().members.contains(&agent) {
            return false;
        }
        for epoch in &mut self.epochs {
            epoch.members.remove(&agent);
        }
        if self.current().used {
            let members = self.current().members.clone();
            self.epochs.push(Epoch { members, used: false });
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn tk1_a_member_opens_what_was_sealed_while_it_could_and_nobody_else_does(
        steps in proptest::collection::vec(step(), 1..80),
        per_key in 1..6u64,
    ) {
        let town = Town::new(AGENTS, BusOptions { messages_per_key_max: per_key, ..BusOptions::default() });
        let topic: Topic = "a.b".parse().unwrap();
        let keys = town.bus.topic_keys(&topic);
        let none = LabelSet::default();
        let mut model = Model { epochs: vec![Epoch::default()], mailboxes: Default::default() };
        for (number, step) in (0u64..).zip(steps) {
            match step {
                Step::Join(agent) => {
                    prop_assert_eq!(keys.join(town.agents[agent]), model.current().members.insert(agent));
                }
                Step::Leave(agent) => {
                    prop_assert_eq!(keys.leave(town.agents[agent]), model.leave(agent));
                }
                Step::Publish(sender) => {
                    let publication = Publication {
                        sender: town.agents[sender],
                        topic: &topic,
                        recipients: &town.agents,
                        id: None,
                        payload: &number.to_be_bytes(),
                        content_type: ContentType::Bytes,
                        labels: &none,
                        lifetime_us: None,
                    };
                    prop_assert!(town.bus.publish(&publication, NOW).unwrap().laid.iter().all(Result::is_ok));
                    model.current().used = true;
                    let epoch = model.epochs.len() - 1;
                    for mailbox in &mut model.mailboxes {
                        mailbox.push_back((epoch, number));
                    }
                }
                Step::Read(agent, limit) => {
                    let received = town.bus.receive_many(town.agents[agent], limit, NOW).unwrap();
                    let (mut opened, mut refused) = (Vec::new(), 0);
                    for _ in 0..limit.min(model.mailboxes[agent].len()) {
                        let (epoch, number) = model.mailboxes[agent].pop_front().unwrap();
                        let is_member = |epoch: &Epoch| epoch.members.contains(&agent);
                        if is_member(&model.epochs[epoch]) && is_member(model.epochs.last().unwrap()) {
                            opened.push(number.to_be_bytes().to_vec());
                        } else {
                            refused += 1;
                        }
                    }
                    let found: Vec<Vec<u8>> =
                        received.opened.iter().map(|opened| opened.payload.to_vec()).collect();
                    prop_assert_eq!(found, opened);
                    prop_assert_eq!(received.refused.len(), refused);
                    prop_assert!(received.refused.iter().all(|one| one.reason == Refusal::NotMember));
                }
                Step::Rotate(agent) => {
                    town.bus.rotate(town.agents[agent], NOW).unwrap();
                }
            }
        }
        for agent in &town.agents {
            town.bus.receive_many(*agent, usize::MAX, NOW).unwrap();
        }
        prop_assert_eq!(keys.epochs_kept(), 1, "TK2: nothing is under way");
    }
}
