//! What a bus lets go of, and what it never does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{NOW, Town};
use symbi_bus::{BusError, BusOptions, Reply, Tidied};
use symbi_types::LabelSet;

const LIFETIME_US: u64 = 1_000;

fn town(agents: usize) -> Town {
    Town::new(agents, BusOptions { lifetime_us: LIFETIME_US, mailbox_depth_max: 4, ..BusOptions::default() })
}

#[test]
fn td1_m4_an_expired_message_gives_its_place_to_another_and_a_live_one_stays() {
    let town = town(2);
    let labels = LabelSet::default();
    for number in 0..4u8 {
        let lifetime_us = Some(if number % 2 == 0 { LIFETIME_US } else { 2 * LIFETIME_US });
        let payload = [number];
        let outgoing = symbi_bus::Outgoing { lifetime_us, ..town.outgoing(0, 1, &payload, &labels) };
        town.bus.seal_and_deliver(&outgoing, NOW).unwrap();
    }
    assert!(matches!(town.send(0, 1, b"5").unwrap_err(), BusError::MailboxFull { .. }));
    let at_its_end = town.bus.tidy(town.agents[1], NOW + LIFETIME_US, 64).unwrap();
    assert_eq!((at_its_end.messages, at_its_end.next_us), (0, Some(NOW + LIFETIME_US + 1)), "TD1: not yet");
    let after = town.bus.tidy(town.agents[1], NOW + LIFETIME_US + 1, 64).unwrap();
    assert_eq!((after.messages, after.next_us), (2, Some(NOW + 2 * LIFETIME_US + 1)));
    town.send(0, 1, b"5").unwrap();
    let read: Vec<_> = town.read(1).into_iter().flat_map(|opened| opened.payload.to_vec()).collect();
    assert_eq!(read, [1, 3, b'5'], "TD1: in order, none lost");
}

#[test]
fn td1_a_request_is_given_up_when_no_answer_can_hold_any_more_and_not_before() {
    let town = town(2);
    let request = town.ask(0, 1, b"?").unwrap();
    assert_eq!(town.bus.tidy(town.agents[0], NOW + 2 * LIFETIME_US, 64).unwrap().requests, 0, "TD1");
    assert_eq!(town.bus.take_reply(town.agents[0], request, NOW).unwrap(), Reply::Pending);
    let given_up = town.bus.tidy(town.agents[0], NOW + 2 * LIFETIME_US + 1, 64).unwrap();
    assert_eq!((given_up.requests, given_up.is_bare), (1, true));
    let nobody = town.bus.take_reply(town.agents[0], request, NOW).unwrap_err();
    assert!(matches!(nobody, BusError::NoSuchRequest { .. }));
}

#[test]
fn td1_keys_of_a_sender_that_is_gone_stay_while_something_of_it_is_unread() {
    let town = town(3);
    town.send(0, 2, b"last words").unwrap();
    town.send(1, 2, b"of the living").unwrap();
    town.bus.unregister(town.agents[0]).unwrap();
    assert_eq!(town.bus.tidy(town.agents[2], NOW, 64).unwrap().sessions, 0, "TD1");
    assert_eq!(town.read(2).len(), 2);
    assert_eq!(town.bus.counts().sessions, 2);
    assert_eq!(
        town.bus.tidy(town.agents[2], NOW, 64).unwrap().sessions,
        1,
        "the living sender keeps its key"
    );
    assert_eq!(town.bus.counts().sessions, 1);
    town.send(1, 2, b"still").unwrap();
    assert_eq!(town.read(2).len(), 1);
}

#[test]
fn td2_one_call_gives_up_so_much_and_the_next_the_rest() {
    let town = town(2);
    for _ in 0..4 {
        town.send(0, 1, b"x").unwrap();
    }
    let late = NOW + LIFETIME_US + 1;
    let given_up: Vec<usize> =
        (0..3).map(|_| town.bus.tidy(town.agents[1], late, 3).unwrap().messages).collect();
    assert_eq!(given_up, [3, 1, 0], "TD2");
}

#[test]
fn b6_an_agent_with_nothing_left_costs_what_it_did_before_it_first_spoke() {
    let town = town(2);
    assert_eq!(
        town.bus.tidy(town.agents[1], NOW, 64).unwrap(),
        Tidied { is_bare: true, ..Tidied::default() }
    );
    town.send(0, 1, b"x").unwrap();
    assert_eq!(town.read(1).len(), 1);
    town.bus.unregister(town.agents[0]).unwrap();
    assert!(town.bus.tidy(town.agents[1], NOW, 64).unwrap().is_bare, "B6");
    assert_eq!(town.bus.counts().mailboxes, 0, "B6");
    let unknown = town.bus.tidy(town.agents[0], NOW, 64).unwrap_err();
    assert!(matches!(unknown, BusError::UnknownAgent { .. }));
}
