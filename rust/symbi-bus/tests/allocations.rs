//! The path of a message through the bus, from the sender's bytes to the receiver's, allocates nothing once it is warm
//! (spec F8). Counted is what Rust's allocator is asked for, by this thread.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(unsafe_code, reason = "an allocator that counts, and hands everything to the system's")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{NOW, Town, labels};
use symbi_bus::{BusOptions, ContentType, Outgoing, Publication, Received, Reply, Topic};
use symbi_types::LabelSet;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator with the arguments that came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of a round, after rounds that warm everything up.
fn counted(mut round: impl FnMut()) -> usize {
    for _ in 0..20 {
        round();
    }
    let before = COUNT.get();
    for _ in 0..100 {
        round();
    }
    COUNT.get() - before
}

/// Memory for more messages than are under way at once, in the hands of whoever checks ahead too.
fn fill_pool(town: &Town, labels: &LabelSet) {
    let mut received = Received::default();
    for _ in 0..64 {
        town.bus.seal_and_deliver(&town.outgoing(0, 1, &[7; 256], labels), NOW).unwrap();
    }
    town.bus.receive_into(town.agents[1], 64, NOW, &mut received).unwrap();
    assert_eq!(received.opened.len(), 64);
}

fn options() -> BusOptions {
    BusOptions { mailbox_depth_max: 2_048, mailbox_bytes_max: 16 << 20, ..BusOptions::default() }
}

#[test]
fn the_allocator_counts() {
    assert!(100 <= counted(|| drop(std::hint::black_box(Box::new([7u8; 32])))));
}

#[test]
fn f8_a_message_signed_alone_allocates_nothing() {
    let town = Town::new(2, options());
    let labels = labels(&["phi"]);
    fill_pool(&town, &labels);
    let outgoing = town.outgoing(0, 1, &[7; 256], &labels);
    let mut received = Received::default();
    let round = || {
        for _ in 0..3 {
            town.bus.seal_and_deliver(&outgoing, NOW).unwrap();
        }
        town.bus.receive_into(town.agents[1], 10, NOW, &mut received).unwrap();
        assert_eq!(received.opened.len(), 3);
        assert_eq!(received.opened[2].payload, [7; 256]);
    };
    assert_eq!(counted(round), 0);
}

#[test]
fn f8_cw4_messages_of_a_signed_batch_allocate_nothing_though_two_threads_divide_them() {
    let town = Town::new(3, options());
    let labels = labels(&["phi"]);
    let outgoing: Vec<Outgoing<'_>> =
        (0..512).map(|at| town.outgoing(0, 1 + at % 2, &[7; 256], &labels)).collect();
    let mut received = Received::default();
    let mut results = Vec::new();
    let round = || {
        town.bus.send_batch_into(&outgoing, NOW, &mut results);
        assert!(results.iter().all(Result::is_ok));
        for agent in [1, 2] {
            town.bus.receive_into(town.agents[agent], 1_000, NOW, &mut received).unwrap();
            assert_eq!(received.opened.len(), 256);
        }
    };
    assert_eq!(counted(round), 0);
}

#[test]
fn f8_a_request_and_its_reply_allocate_nothing() {
    let town = Town::new(2, options());
    let labels = labels(&[]);
    fill_pool(&town, &labels);
    let question = Outgoing { expects_reply: true, ..town.outgoing(0, 1, &[7; 256], &labels) };
    let mut received = Received::default();
    let round = || {
        let request = town.bus.seal_and_deliver(&question, NOW).unwrap().id;
        town.bus.receive_into(town.agents[1], 10, NOW, &mut received).unwrap();
        let answer = Outgoing { in_reply_to: Some(request), ..town.outgoing(1, 0, &[8; 256], &labels) };
        town.bus.seal_and_deliver(&answer, NOW).unwrap();
        assert!(matches!(town.bus.take_reply(town.agents[0], request, NOW), Ok(Reply::Opened(_))));
    };
    assert_eq!(counted(round), 0);
}

#[test]
fn f8_a_message_on_a_topic_allocates_the_list_of_outcomes_only() {
    let town = Town::new(9, options());
    let labels = labels(&["phi"]);
    let topic: Topic = "a.b".parse().unwrap();
    let keys = town.bus.topic_keys(&topic);
    assert!(town.agents[1..].iter().all(|agent| keys.join(*agent)));
    let publication = Publication {
        sender: town.agents[0],
        topic: &topic,
        recipients: &town.agents[1..],
        id: None,
        payload: &[7; 256],
        content_type: ContentType::Bytes,
        labels: &labels,
        lifetime_us: None,
    };
    let mut received = Received::default();
    let round = || {
        town.bus.publish(&publication, NOW).unwrap();
        for agent in &town.agents[1..] {
            town.bus.receive_into(*agent, 10, NOW, &mut received).unwrap();
            assert_eq!(received.opened.len(), 1);
        }
    };
    assert_eq!(counted(round), 100, "one list for eight recipients");
}

/// The one equation over many signatures works in memory of its own: a few pieces for a group, none for a message.
#[test]
fn f8_many_messages_signed_alone_allocate_by_the_group_and_not_by_the_message() {
    let town = Town::new(2, BusOptions { workers: 1, ..options() });
    let labels = labels(&[]);
    let outgoing = town.outgoing(0, 1, &[7; 256], &labels);
    let mut received = Received::default();
    let mut round = |count: usize| {
        for _ in 0..count {
            town.bus.seal_and_deliver(&outgoing, NOW).unwrap();
        }
        town.bus.receive_into(town.agents[1], count, NOW, &mut received).unwrap();
        assert_eq!(received.opened.len(), count);
    };
    let small = counted(|| round(64));
    let large = counted(|| round(256));
    assert!(small <= 100 * 40, "{small}");
    assert!(large <= small + 100 * 20, "{large} for 256, {small} for 64");
}
