//! The bus against plain queues, over random histories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::{BTreeMap, VecDeque};

use common::{NOW, Town};
use proptest::prelude::*;
use symbi_bus::{BusError, BusOptions, Reply};
use symbi_types::MessageId;

const AGENTS: usize = 4;
const DEPTH: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Send { from: usize, to: usize },
    Ask { from: usize, to: usize },
    Answer { at: usize, from: usize },
    Read { agent: usize, limit: usize },
    TakeReply { at: usize },
    Forget { at: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let agent = || 0..AGENTS;
    prop_oneof![
        5 => (agent(), agent()).prop_map(|(from, to)| Step::Send { from, to }),
        3 => (agent(), agent()).prop_map(|(from, to)| Step::Ask { from, to }),
        4 => (0..20usize, agent()).prop_map(|(at, from)| Step::Answer { at, from }),
        3 => (agent(), 0..7usize).prop_map(|(agent, limit)| Step::Read { agent, limit }),
        3 => (0..20usize).prop_map(|at| Step::TakeReply { at }),
        1 => (0..20usize).prop_map(|at| Step::Forget { at }),
    ]
}

/// A request: who asked whom, whether it still waits, and the answer that came.
struct Request {
    id: MessageId,
    asker: usize,
    asked: usize,
    waits: bool,
    answer: Option<Vec<u8>>,
}

#[derive(Default)]
struct Model {
    queues: BTreeMap<usize, VecDeque<Vec<u8>>>,
    requests: Vec<Request>,
}

impl Model {
    fn queue(&mut self, agent: usize) -> &mut VecDeque<Vec<u8>> {
        self.queues.entry(agent).or_default()
    }

    fn push(&mut self, to: usize, payload: &[u8]) -> bool {
        let room = self.queue(to).len() < DEPTH;
        if room {
            self.queue(to).push_back(payload.to_vec());
        }
        room
    }
}

fn sent<T>(answer: &Result<T, BusError>, room: bool) {
    match answer {
        Ok(_) => assert!(room, "B5"),
        Err(error) => assert!(!room && matches!(error, BusError::MailboxFull { .. }), "{error}"),
    }
}

fn apply(town: &Town, model: &mut Model, step: Step, payload: &[u8]) {
    match step {
        Step::Send { from, to } => sent(&town.send(from, to, payload), model.push(to, payload)),
        Step::Ask { from, to } => {
            let waiting =
                model.requests.iter().filter(|request| request.waits && request.asker == from).count();
            let answer = town.ask(from, to, payload);
            if waiting == DEPTH {
                assert!(matches!(answer, Err(BusError::TooManyRequests { .. })));
                return;
            }
            sent(&answer, model.push(to, payload));
            if let Ok(id) = answer {
                model.requests.push(Request { id, asker: from, asked: to, waits: true, answer: None });
            }
        }
        Step::Answer { at, from } => {
            let Some(request) = model.requests.get_mut(at) else { return };
            let (id, asker) = (request.id, request.asker);
            let in_place = request.waits && request.asked == from && request.answer.is_none();
            if in_place {
                request.answer = Some(payload.to_vec());
            }
            let room = in_place || model.push(asker, payload);
            sent(&town.answer(from, asker, id, payload), room);
        }
        Step::Read { agent, limit } => {
            let received = town.bus.receive_many(town.agents[agent], limit, NOW).unwrap();
            assert_eq!(received.refused, []);
            let payloads: Vec<Vec<u8>> =
                received.opened.into_iter().map(|opened| opened.payload.to_vec()).collect();
            let queue = model.queue(agent);
            let wanted: Vec<Vec<u8>> = queue.drain(..limit.min(queue.len())).collect();
            assert_eq!(payloads, wanted);
        }
        Step::TakeReply { at } => {
            let Some(request) = model.requests.get_mut(at) else { return };
            let answer = town.bus.take_reply(town.agents[request.asker], request.id, NOW);
            match (request.waits, request.answer.take()) {
                (false, _) => assert_eq!(answer, Err(BusError::NoSuchRequest { request: request.id })),
                (true, None) => assert_eq!(answer, Ok(Reply::Pending)),
                (true, Some(payload)) => {
                    assert!(matches!(answer, Ok(Reply::Opened(opened)) if opened.payload == payload));
                    request.waits = false;
                }
            }
        }
        Step::Forget { at } => {
            let Some(request) = model.requests.get_mut(at) else { return };
            let lost = town.bus.forget_reply(town.agents[request.asker], request.id).unwrap();
            assert_eq!(lost.is_some(), request.waits && request.answer.is_some());
            request.waits = false;
            request.answer = None;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_same_history_gives_the_same_answers_as_plain_queues(
        steps in proptest::collection::vec(step(), 1..120),
        per_key in 5..40u64,
    ) {
        let options = BusOptions { mailbox_depth_max: DEPTH, messages_per_key_max: per_key, ..BusOptions::default() };
        let town = Town::new(AGENTS, options);
        let mut model = Model::default();
        for (number, step) in steps.into_iter().enumerate() {
            apply(&town, &mut model, step, &number.to_be_bytes());
            for agent in 0..AGENTS {
                assert_eq!(town.bus.unread(town.agents[agent]).unwrap().0, model.queue(agent).len());
            }
        }
    }
}
