//! What a runtime leaves behind is let go, a bounded amount at a time, and an idle one has nothing to do.

use symbi_kernel::{Collected, Kernel, Live, Payload, Principal, Recipient};
use symbi_types::AgentId;

use crate::world::*;

const HOUR_US: u64 = 3_600_000_000;

fn send(kernel: &Kernel, from: AgentId, to: AgentId) {
    kernel.send(from, &Recipient::Agent(to), Payload::Bytes(b"x".to_vec()), None, false).unwrap();
}

/// Collects as the embedding loop does, until nothing is due now; all that was done.
fn collect(world: &World, kernel: &Kernel) -> Collected {
    let mut all = Collected::default();
    for _ in 0..100_000 {
        if kernel.collect_due_ns().is_none_or(|due| kernel.monotonic_ns() < due) {
            return all;
        }
        let records = kernel.durable() + kernel.records_waiting() as u64;
        kernel.wait_durable(records - 1, SOON).unwrap(); // the disk does not know of the clock that stands still
        let done = kernel.collect(64);
        assert!(done.units <= 64 + 64 + 1_024, "K60: {done:?}");
        all.agents += done.agents;
        all.messages += done.messages;
        all.requests += done.requests;
        all.sessions += done.sessions;
        all.denials += done.denials;
    }
    panic!("K63: it never ends: {:?} at {}", kernel.live(), world.records().len());
}

/// Lets time pass until nothing is due any more; all that was done.
fn settle(world: &World, kernel: &Kernel) -> Collected {
    let mut all = Collected::default();
    for _ in 0..10_000 {
        let Some(due) = kernel.collect_due_ns() else { return all };
        world.clock.advance_us(due.saturating_sub(kernel.monotonic_ns()) / 1_000 + 1);
        let done = collect(world, kernel);
        all.messages += done.messages;
        all.sessions += done.sessions;
        all.requests += done.requests;
        all.denials += done.denials;
    }
    panic!("K63: it never ends: {:?}", kernel.live());
}

#[test]
fn k63_a_fresh_runtime_and_one_with_idle_agents_have_nothing_to_do() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    for name in 0..100 {
        agent(&kernel, &name.to_string());
    }
    assert_eq!(kernel.collect_due_ns(), None, "K63");
    assert_eq!(kernel.live(), Live { agents: 100, ..Live::default() });
}

#[test]
fn k63_after_work_everything_is_let_go_and_then_nothing_is_due() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agents: Vec<AgentId> = (0..20).map(|name| agent(&kernel, &name.to_string())).collect();
    tool(&kernel, "t");
    for pair in agents.windows(2) {
        let [from, to] = pair else { unreachable!() };
        act(&kernel, *from, "t");
        kernel.note(*from, "note").unwrap();
        send(&kernel, *from, *to);
    }
    for one in &agents {
        kernel.receive_many(*one, 9).unwrap();
    }
    let busy = kernel.live();
    assert!(busy.buckets == 20 - 1 && busy.sessions == 20 - 1 && busy.listed == 20, "{busy:?}");
    settle(&world, &kernel);
    let keys = Live { agents: 20, mailboxes: 20 - 1, sessions: 20 - 1, listed: 20 - 1, ..Live::default() };
    assert_eq!(kernel.live(), keys, "K63: keys of agents that live are kept");
    for one in agents {
        kernel.stop_agent(Principal::Host, one, true).unwrap();
    }
    settle(&world, &kernel);
    assert_eq!(kernel.live(), Live::default(), "K63");
}

#[test]
fn k61_k62_an_expired_message_gives_its_place_away_and_its_number_stands_in_the_trail() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    for _ in 0..64 {
        send(&kernel, from, to);
    }
    let full = kernel.send(from, &Recipient::Agent(to), Payload::Bytes(vec![1]), None, false);
    assert!(full.is_err(), "the mailbox holds 64");
    world.clock.advance_us(HOUR_US - 1);
    collect(&world, &kernel);
    assert_eq!(kernel.live().messages, 64, "K61: what can still be read stays");
    assert_eq!(settle(&world, &kernel).messages, 64);
    send(&kernel, from, to);
    assert_eq!(kernel.receive_many(to, 99).unwrap().len(), 1);
    kernel.close().unwrap();
    let numbers: Vec<_> = world
        .of_type("message.expired")
        .iter()
        .map(|one| details(one)["messages"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers.iter().sum::<u64>(), 64, "K62: {numbers:?}");
}

#[test]
fn k61_an_agent_that_goes_on_after_a_collection_is_limited_as_if_there_had_been_none() {
    let mut world = World::open_to_all();
    world.admission = symbi_kernel::AdmissionLimits { rate_per_s: 1, burst: 4 };
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    assert_eq!((0..4).filter(|_| kernel.note(one, "n").is_ok()).count(), 4);
    world.clock.advance_us(2_000_000);
    collect(&world, &kernel);
    assert_eq!(kernel.live().buckets, 1, "K61: two of four tokens came back");
    assert_eq!((0..9).filter(|_| kernel.note(one, "n").is_ok()).count(), 2, "K61");
    settle(&world, &kernel);
    assert_eq!(kernel.live().buckets, 0);
    assert_eq!((0..9).filter(|_| kernel.note(one, "n").is_ok()).count(), 4, "K61");
}

#[test]
fn k63_repetitions_of_a_denial_are_written_when_their_window_is_over_without_anybody_asking() {
    let rule = format!("{OPEN}\nforbid(principal, action == Action::\"tool.call\", resource);");
    let mut world = World::with(Some(policies(&rule, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    tool(&kernel, "t");
    for _ in 0..7 {
        assert!(ask(&kernel, one, "t").is_err());
    }
    assert_eq!(kernel.live().denials, 1);
    assert_eq!(settle(&world, &kernel).denials, 1);
    assert_eq!(kernel.live().denials, 0);
    kernel.close().unwrap();
    let counts: Vec<_> =
        world.of_type("operation.denied").iter().map(|one| details(one)["count"].as_u64().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 7, "{counts:?}");
}

#[test]
fn k60_a_pass_over_many_agents_is_cut_into_steps_and_loses_nobody() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agents: Vec<AgentId> = (0..500).map(|name| agent(&kernel, &name.to_string())).collect();
    for one in &agents {
        kernel.note(*one, "n").unwrap();
    }
    let due = kernel.collect_due_ns().unwrap();
    world.clock.advance_us((due - kernel.monotonic_ns()) / 1_000 + 1);
    let mut steps = 0;
    loop {
        let done = kernel.collect(50);
        assert!(done.units <= 51, "K60: {done:?}");
        steps += 1;
        if !done.more {
            break;
        }
        kernel.note(agents[steps % 7], "again").unwrap(); // goes on meanwhile
    }
    assert!(steps >= 10, "K60: {steps}");
    settle(&world, &kernel);
    assert_eq!(kernel.live(), Live { agents: 500, ..Live::default() });
}

#[test]
fn k63_a_pass_of_several_steps_that_leaves_something_for_later_is_not_begun_again_at_once() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agents: Vec<AgentId> = (0..300).map(|name| agent(&kernel, &name.to_string())).collect();
    for pair in agents.windows(2) {
        let [from, to] = pair else { unreachable!() };
        send(&kernel, *from, *to); // is read within the hour, or given up after it
    }
    world.clock.advance_us(1_200_000);
    collect(&world, &kernel); // panics where it does not end
    assert!(kernel.monotonic_ns() < kernel.collect_due_ns().unwrap(), "K63");
    assert_eq!(kernel.live().messages, 299);
}

#[test]
fn k60_nothing_is_collected_while_the_log_has_no_room_for_its_record() {
    let mut world = World::open_to_all().on_stalling_disk();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    for _ in 0..10 {
        send(&kernel, from, to);
    }
    world.clock.advance_us(2 * HOUR_US);
    let stalled = world.stall();
    // Each agent fills its quarter of the buffer; a third one goes on alone and waits, as whoever adds past it does.
    let others: Vec<AgentId> = (0..4).map(|name| agent(&kernel, &name.to_string())).collect();
    std::thread::scope(|scope| {
        for one in &others {
            let kernel = &kernel;
            scope.spawn(move || assert!((0..200).all(|_| kernel.note(*one, "n").is_ok())));
        }
        while kernel.records_waiting() < 140 {
            std::thread::yield_now();
        }
        let done = kernel.collect(1_000);
        drop(stalled);
        assert_eq!((done.messages, kernel.live().messages), (0, 10), "K60");
    });
    settle(&world, &kernel);
    assert_eq!(kernel.live().messages, 0);
}
