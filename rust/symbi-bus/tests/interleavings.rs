//! The bus under every order that shuttle tries: senders, readers, whoever closes, revokes or exchanges keys meanwhile,
//! and the crew.
//!
//! `cargo nextest run -p symbi-bus --features interleavings --test interleavings`; `SYMBI_LONG=1` for a hundred times as many.
//! Orders are drawn at random and by priorities (PCT, which finds every fault that needs few switches with a known chance).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::HashSet;
use std::sync::Arc;

use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;
use symbi_bus::{
    Bus, BusError, BusOptions, ContentType, Crew, Deliveries, DeliveryOptions, Finished, Known, Outgoing,
    Publication, Refusal, Share, Topic,
};
use symbi_crypto::{Provider, SigningKey};
use symbi_testkit::{FakeClock, SeededEntropy};
use symbi_types::{AgentId, LabelSet, MessageId};

const NOW: u64 = FakeClock::START_US;
const ORDERS: usize = 150;
/// Switches that a fault may need to be found.
const DEPTH: usize = 3;

fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
    let orders = if std::env::var_os("SYMBI_LONG").is_some() { 100 * ORDERS } else { ORDERS };
    shuttle::check_random(model.clone(), orders);
    shuttle::check_pct(model, orders, DEPTH);
}

/// A bell, as the embedding event loop has one: what rang before somebody listens is not lost.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    waiting: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.waiting.notify_all();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.waiting.wait(rung).unwrap();
        }
        *rung = false;
    }
}

struct Town {
    bus: Bus,
    bell: Arc<Bell>,
    agents: [AgentId; 3],
}

fn town(depth: usize) -> Arc<Town> {
    town_of(depth, 1)
}

fn town_of(depth: usize, workers: usize) -> Arc<Town> {
    let entropy = Arc::new(SeededEntropy::new(7));
    let options = BusOptions { mailbox_depth_max: depth, workers, ..BusOptions::default() };
    let bus = Bus::new(options, entropy.clone(), Provider::AwsLc);
    let agents = [(); 3].map(|()| AgentId::random(&*entropy));
    agents.iter().for_each(|agent| bus.register(*agent).unwrap());
    let bell = Arc::new(Bell::default());
    let rings = Arc::clone(&bell);
    bus.on_ready(Arc::new(move |_| rings.ring()));
    Arc::new(Town { bus, bell, agents })
}

impl Town {
    fn send(&self, from: usize, to: usize) -> Result<MessageId, BusError> {
        let outgoing = Outgoing {
            sender: self.agents[from],
            recipient: self.agents[to],
            id: None,
            payload: b"x",
            content_type: ContentType::Bytes,
            labels: &LabelSet::default(),
            in_reply_to: None,
            expects_reply: false,
            lifetime_us: None,
        };
        self.bus.seal_and_deliver(&outgoing, NOW).map(|sent| sent.id)
    }

    /// Everything that is there now.
    fn take(&self, agent: usize) -> (Vec<MessageId>, Vec<Refusal>) {
        let received = self.bus.receive_many(self.agents[agent], 9, NOW).unwrap();
        let opened = received.opened.iter().map(|one| one.message.id()).collect();
        (opened, received.refused.iter().map(|one| one.reason).collect())
    }
}

#[test]
fn a_reader_that_sleeps_until_the_bell_misses_nothing_and_gets_nothing_twice() {
    check(|| {
        let town = town(9);
        let senders: Vec<_> = [0, 1]
            .map(|sender| {
                let town = Arc::clone(&town);
                thread::spawn(move || [town.send(sender, 2).unwrap(), town.send(sender, 2).unwrap()])
            })
            .into();
        let mut received = Vec::new();
        while received.len() < 4 {
            town.bell.wait(); // a bell that was missed hangs here, and shuttle calls it a deadlock
            loop {
                let (opened, refused) = town.take(2);
                assert!(refused.is_empty());
                if opened.is_empty() {
                    break;
                }
                received.extend(opened);
            }
        }
        let sent: Vec<MessageId> = senders.into_iter().flat_map(|one| one.join().unwrap()).collect();
        assert_eq!(received.iter().collect::<HashSet<_>>(), sent.iter().collect::<HashSet<_>>());
        assert_eq!(received.len(), 4, "B2");
        for pair in sent.chunks(2) {
            let place = |id| received.iter().position(|other| other == id).unwrap();
            assert!(place(&pair[0]) < place(&pair[1]), "in the order of their sender");
        }
    });
}

#[test]
fn b4_b7_what_was_taken_is_read_or_named_unread_when_the_mailbox_closes_and_never_lost() {
    check(|| {
        let town = town(2);
        let senders = [0, 1].map(|sender| {
            let town = Arc::clone(&town);
            thread::spawn(move || [town.send(sender, 2), town.send(sender, 2)])
        });
        let reader = {
            let town = Arc::clone(&town);
            thread::spawn(move || match town.bus.receive_many(town.agents[2], 9, NOW) {
                Ok(received) => {
                    assert!(received.refused.is_empty(), "B7: {:?}", received.refused);
                    received.opened.iter().map(|one| one.message.id()).collect()
                }
                Err(error) => {
                    assert_eq!(error.code(), "bus.unknown_agent");
                    Vec::new()
                }
            })
        };
        let unread = town.bus.unregister(town.agents[2]).unwrap();
        let mut reached: Vec<MessageId> = reader.join().unwrap();
        reached.extend(unread.iter().map(symbi_bus::SecureMessage::id));
        let mut taken = Vec::new();
        for sent in senders.into_iter().flat_map(|one| one.join().unwrap()) {
            match sent {
                Ok(id) => taken.push(id),
                Err(error) => {
                    assert!(["bus.unknown_agent", "bus.mailbox_full"].contains(&error.code()), "{error}")
                }
            }
        }
        reached.sort_unstable();
        taken.sort_unstable();
        assert_eq!(reached, taken, "B4");
    });
}

#[test]
fn au1_nothing_of_a_revoked_key_is_handed_out_once_the_revocation_is_answered() {
    check(|| {
        let town = town(9);
        let sender = {
            let town = Arc::clone(&town);
            thread::spawn(move || {
                let _ = town.send(0, 2); // before, or refused
                let _ = town.send(0, 2);
            })
        };
        town.bus.revoke(town.agents[0], NOW).unwrap();
        let (opened, _) = town.take(2);
        assert!(opened.is_empty(), "AU1: read after the answer");
        sender.join().unwrap();
        let (opened, refused) = town.take(2);
        assert!(opened.is_empty() && refused.iter().all(|reason| *reason == Refusal::Revoked), "AU1");
    });
}

#[test]
fn au4_whoever_needs_a_certificate_while_the_key_is_exchanged_ends_with_one_of_the_new() {
    check(|| {
        let town = town(9);
        let others = [0, 1].map(|agent| {
            let town = Arc::clone(&town);
            thread::spawn(move || {
                town.send(agent, 2).unwrap();
            })
        });
        let next = SigningKey::from_seed(Provider::AwsLc, &[9; 32]);
        town.bus.rotate_authority(next.clone(), NOW).unwrap();
        others.into_iter().for_each(|one| one.join().unwrap());
        for (certificate, is_revoked) in town.bus.certificates() {
            assert_eq!((certificate.issuer, is_revoked), (next.key_id(), false), "AU4");
        }
        let (opened, refused) = town.take(2);
        assert_eq!((opened.len(), refused.len()), (2, 0), "nothing on its way is lost");
    });
}

#[test]
fn tk1_whoever_has_left_a_topic_opens_nothing_that_is_published_after() {
    check(|| {
        let town = town(9);
        let topic: Topic = "orders".parse().unwrap();
        let keys = town.bus.topic_keys(&topic);
        keys.join(town.agents[1]);
        keys.join(town.agents[2]);
        let publisher = {
            let (town, topic) = (Arc::clone(&town), topic.clone());
            thread::spawn(move || {
                let publication = Publication {
                    sender: town.agents[0],
                    topic: &topic,
                    recipients: &town.agents[1..],
                    id: None,
                    payload: b"x",
                    content_type: ContentType::Bytes,
                    labels: &LabelSet::default(),
                    lifetime_us: None,
                };
                for _ in 0..2 {
                    town.bus.publish(&publication, NOW).unwrap();
                }
            })
        };
        keys.leave(town.agents[2]);
        let (opened, _) = town.take(2);
        assert!(opened.is_empty(), "TK1: it had left");
        publisher.join().unwrap();
        let (opened, refused) = town.take(2);
        assert!(
            opened.is_empty() && refused.iter().all(|reason| *reason == Refusal::NotMember),
            "TK1: {refused:?}"
        );
        assert_eq!(town.take(1).0.len(), 2, "who stayed has all");
    });
}

#[test]
fn al1_al2_a_delivery_is_finished_once_and_never_handed_out_after_however_acknowledging_races_with_time() {
    check(|| {
        let entropy = SeededEntropy::new(3);
        let (mailbox, id) = (AgentId::random(&entropy), MessageId::random(&entropy));
        let options =
            DeliveryOptions { patience_us: 10, backoff_us: 1, attempts_max: 3, ..DeliveryOptions::default() };
        let held = Arc::new(Mutex::new(Deliveries::new(options)));
        assert_eq!(held.lock().unwrap().expect(mailbox, id, NOW + 1_000_000, NOW), Known::Fresh);
        assert_eq!(held.lock().unwrap().hand_out(mailbox, id, "x", NOW), Some(1));
        let finishers = [(); 2].map(|()| {
            let held = Arc::clone(&held);
            thread::spawn(move || held.lock().unwrap().finish(mailbox, id, NOW + 20))
        });
        let clock = {
            let held = Arc::clone(&held);
            thread::spawn(move || {
                let mut handed = Vec::new();
                for step in 1..=4 {
                    let passed = held.lock().unwrap().pass(NOW + step * 20, 9);
                    assert!(passed.dead.is_empty() || step > 2);
                    for (_, attempt, _) in held.lock().unwrap().again(mailbox, 9, NOW + step * 20) {
                        handed.push(attempt);
                    }
                }
                handed
            })
        };
        let handed = clock.join().unwrap();
        let ended = finishers.map(|one| one.join().unwrap());
        let now = ended.iter().filter(|one| **one == Finished::Now).count();
        let (left, dead) = held.lock().unwrap().counts();
        assert_eq!((now + dead, left), (1, 0), "AL1: finished or dead, once: {ended:?} {handed:?}");
        assert!(handed.windows(2).all(|pair| pair[0] + 1 == pair[1]), "each attempt once: {handed:?}");
        assert!(held.lock().unwrap().again(mailbox, 9, NOW + 10_000).is_empty(), "AL2");
    });
}

/// Work that others can come between.
struct Count {
    of: (usize, usize),
    times: usize,
}

impl Share for Count {
    fn work(&mut self) {
        thread::yield_now();
        self.times += 1;
    }
}

#[test]
fn cw1_cw2_each_share_is_done_once_and_comes_back_to_who_gave_it_and_no_thread_outlives_the_crew() {
    check(|| {
        let crew = Arc::new(Crew::new(3));
        let givers = [0, 1].map(|giver| {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                for round in 1..=2 {
                    let share = |at| Some(Box::new(Count { of: (giver, at), times: 0 }));
                    let mut shares: Vec<Option<Box<Count>>> = (0..=round).map(share).collect();
                    crew.divide(&mut shares);
                    for (at, share) in shares.iter().enumerate() {
                        let share = share.as_ref().expect("CW1: it comes back");
                        assert_eq!((share.of, share.times), ((giver, at), 1), "CW1");
                    }
                }
            })
        });
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        drop(crew); // a thread that slept on would be a deadlock to shuttle
    });
}

#[test]
fn ah1_ah2_ah3_whoever_checks_first_the_reader_has_each_message_once_and_no_thread_outlives_the_bus() {
    check(|| {
        let town = town_of(9, 2);
        let sender = {
            let town = Arc::clone(&town);
            thread::spawn(move || [(); 3].map(|()| town.send(0, 2).unwrap()))
        };
        let mut received = Vec::new();
        while received.len() < 3 {
            town.bell.wait();
            let (opened, refused) = town.take(2);
            assert!(refused.is_empty(), "AH1: {refused:?}");
            received.extend(opened);
        }
        assert_eq!(received, sender.join().unwrap(), "AH2");
        assert_eq!(town.take(2), (Vec::new(), Vec::new()));
    });
}
