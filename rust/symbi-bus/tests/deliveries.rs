//! At least once, against a plain model: what was accepted is finished once, or dead, or still to come.

use std::collections::HashMap;

use proptest::prelude::*;
use symbi_bus::{DeadReason, Deliveries, DeliveryOptions, Finished, Known};
use symbi_types::{AgentId, MessageId, SystemEntropy};

const OPTIONS: DeliveryOptions = DeliveryOptions {
    attempts_max: 3,
    patience_us: 100,
    backoff_us: 10,
    backoff_us_max: 25,
    unfinished_max: 4,
    remembered_max: 1_000,
    dead_max: 1_000,
};
const LIFE_US: u64 = 10_000;

fn ids(count: usize) -> (AgentId, Vec<MessageId>) {
    let id = |_| MessageId::random(&SystemEntropy);
    (AgentId::random(&SystemEntropy), (0..count).map(id).collect())
}

#[test]
fn al3_a_message_comes_again_after_pauses_that_double_and_is_dead_in_the_end() {
    let (mailbox, ids) = ids(1);
    let mut deliveries = Deliveries::new(OPTIONS);
    assert_eq!(deliveries.expect(mailbox, ids[0], LIFE_US, 0), Known::Fresh);
    assert_eq!(deliveries.hand_out(mailbox, ids[0], "x", 0), Some(1));
    assert_eq!(deliveries.fail(mailbox, ids[0], 0), Some(10), "AL3");
    assert!(deliveries.again(mailbox, 9, 9).is_empty(), "AL3");
    assert_eq!(deliveries.pass(10, 9).ready, [mailbox]);
    assert_eq!(deliveries.again(mailbox, 9, 10), [(ids[0], 2, "x")]);
    assert_eq!(deliveries.next_us(), Some(110));
    assert!(deliveries.pass(110, 9).ready.is_empty(), "AL3: it took too long, and pauses");
    assert_eq!(deliveries.pass(130, 9).ready, [mailbox], "AL3: twice as long");
    assert_eq!(deliveries.again(mailbox, 9, 130), [(ids[0], 3, "x")]);
    let passed = deliveries.pass(230, 9);
    assert_eq!((passed.dead.len(), passed.dead[0].reason), (1, DeadReason::Attempts), "AL3");
    assert_eq!(passed.dead[0].content, Some("x"));
    assert_eq!(deliveries.dead().0, passed.dead);
    assert_eq!(deliveries.next_us(), None);
}

#[test]
fn al2_what_is_finished_is_finished_once_and_does_not_come_again() {
    let (mailbox, ids) = ids(1);
    let mut deliveries = Deliveries::new(OPTIONS);
    deliveries.expect(mailbox, ids[0], LIFE_US, 0);
    assert_eq!(deliveries.finish(mailbox, ids[0], 0), Finished::Unknown, "nobody has it yet");
    deliveries.hand_out(mailbox, ids[0], (), 0);
    deliveries.fail(mailbox, ids[0], 0);
    assert_eq!(deliveries.finish(mailbox, ids[0], 5), Finished::Now, "late is not too late");
    assert_eq!(deliveries.finish(mailbox, ids[0], 5), Finished::Before, "AL2");
    assert!(deliveries.pass(50, 9).ready.is_empty() && deliveries.again(mailbox, 9, 50).is_empty(), "AL2");
    assert_eq!(deliveries.expect(mailbox, ids[0], LIFE_US, 50), Known::Finished, "AL2: sent a second time");
}

#[test]
fn al4_dead_letters_are_bounded_and_those_let_go_are_counted() {
    let (mailbox, ids) = ids(5);
    let mut deliveries = Deliveries::<()>::new(DeliveryOptions { dead_max: 2, ..OPTIONS });
    for id in &ids {
        deliveries.expect(mailbox, *id, 1, 0);
    }
    assert_eq!(deliveries.pass(1, 99).dead.len(), 5);
    let (dead, let_go) = deliveries.dead();
    assert_eq!((dead.len(), let_go), (2, 3), "AL4");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize),
    Receive,
    Finish(usize),
    Fail(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12usize).prop_map(Step::Send),
        4 => Just(Step::Receive),
        3 => (0..12usize).prop_map(Step::Finish),
        2 => (0..12usize).prop_map(Step::Fail),
        3 => (1..400u64).prop_map(Step::Pass),
    ]
}

/// What the model knows of a message.
#[derive(Default)]
struct Truth {
    sent: bool,
    given: u32,
    finished: u32,
    dead: u32,
    ends_us: u64,
}

proptest! {
    /// AL1 to AL4 over random histories: a mailbox is a list, time is a number.
    #[test]
    fn al1_everything_accepted_is_finished_once_or_dead_once_or_still_to_come(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (mailbox, ids) = ids(12);
        let mut deliveries = Deliveries::new(OPTIONS);
        let mut queue: Vec<MessageId> = Vec::new();
        let mut truth: HashMap<MessageId, Truth> = HashMap::new();
        let mut now = 0;
        let look = |deliveries: &mut Deliveries<MessageId>, queue: &mut Vec<MessageId>,
                        truth: &mut HashMap<MessageId, Truth>, now: u64| -> Result<(), TestCaseError> {
            for (id, attempt, content) in deliveries.again(mailbox, 99, now) {
                let one = truth.get_mut(&id).unwrap();
                one.given += 1;
                prop_assert!(one.finished == 0 && one.dead == 0 && content == id, "AL2");
                prop_assert!(one.given == attempt && attempt <= OPTIONS.attempts_max, "AL3");
            }
            let count = deliveries.room(mailbox).min(queue.len());
            for id in queue.drain(..count) {
                if deliveries.hand_out(mailbox, id, id, now).is_some() {
                    truth.get_mut(&id).unwrap().given += 1;
                }
            }
            Ok(())
        };
        for step in steps {
            match step {
                Step::Send(at) => {
                    let id = ids[at];
                    let one = truth.entry(id).or_default();
                    match deliveries.expect(mailbox, id, now + LIFE_US, now) {
                        Known::Fresh => {
                            // Beyond its end an id is forgotten, and may be another message's.
                            prop_assert!(one.finished == 0 || one.ends_us < now, "AL2");
                            *one = Truth { sent: true, ends_us: now + LIFE_US, ..Truth::default() };
                            queue.push(id);
                        }
                        Known::Underway => prop_assert!(one.sent && one.finished == 0 && one.dead == 0, "AL1"),
                        Known::Finished => prop_assert!(one.finished == 1 && now <= one.ends_us, "AL2"),
                    }
                }
                Step::Receive => look(&mut deliveries, &mut queue, &mut truth, now)?,
                Step::Finish(at) => match deliveries.finish(mailbox, ids[at], now) {
                    Finished::Now => truth.get_mut(&ids[at]).unwrap().finished += 1,
                    Finished::Before => prop_assert_eq!(truth[&ids[at]].finished, 1),
                    Finished::Unknown => {}
                },
                Step::Fail(at) => { deliveries.fail(mailbox, ids[at], now); }
                Step::Pass(by) => {
                    now += by;
                    for dead in deliveries.pass(now, 99).dead {
                        truth.get_mut(&dead.id).unwrap().dead += 1;
                        queue.retain(|id| *id != dead.id);
                    }
                }
            }
            prop_assert!(truth.values().all(|one| one.finished + one.dead <= 1), "AL1");
        }
        // Nothing is left when time passes and nobody finishes anything any more.
        for _ in 0..40 {
            now += 1_000;
            look(&mut deliveries, &mut queue, &mut truth, now)?;
            for dead in deliveries.pass(now, 99).dead {
                truth.get_mut(&dead.id).unwrap().dead += 1;
                queue.retain(|id| *id != dead.id);
            }
        }
        prop_assert!(truth.values().all(|one| !one.sent || one.finished + one.dead == 1), "AL1");
        prop_assert_eq!(deliveries.next_us(), None, "AL1");
    }
}
