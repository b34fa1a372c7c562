//! K20, K23, K26, K29: a disk that is full or failing stops every effect and no brake.

use std::sync::Arc;

use symbi_kernel::{AgentError, Kernel, Outcome, PermitError, RefusalCode, RunOutcome};
use symbi_testkit::Fault;
use symbi_types::AgentId;

use crate::world::*;

fn until_dead(kernel: &Kernel) {
    while kernel.log_problem().is_none() {
        std::thread::yield_now();
    }
}

/// Everything is refused; the brakes act, at once, and come into the trail late.
fn everything_but_brakes_stops(world: &mut World, kernel: &Arc<Kernel>, running: AgentId, idle: AgentId) {
    until_dead(kernel);
    assert_eq!(refusal(ask(kernel, idle, "t")).code, RefusalCode::Unavailable, "K20");
    let created = kernel.create_agent(symbi_kernel::Principal::Host, Arc::new(spec("c")));
    assert_eq!(refusal(created).code, RefusalCode::Unavailable, "K20");
    assert!(kernel.note(idle, "x").is_err() && kernel.search(idle, "x", 1).is_err(), "K20");
    assert!(kernel.load_policies(OPERATOR, &policies(OPEN, &[])).is_err(), "K20");
    let stopped = kernel.stop_agent(OPERATOR, running, true).unwrap();
    assert!(stopped.terminated && stopped.seq.is_none(), "K23: it acts, and is not recorded yet");
    let ended = kernel.end_run(stopped.runs[0], &RunOutcome::Cancelled).unwrap();
    assert_eq!(ended.seq, None);
    kernel.stop_agent(OPERATOR, idle, false).unwrap();
    assert_eq!(kernel.count_agents(), 0, "K23");
    world.disk().heal();
    let _ = kernel.close();
    let late: Vec<_> = world.of_type("brake").iter().map(details).filter(|one| one["late"] == true).collect();
    assert_eq!(late.len(), 2, "K29");
    assert!(late.iter().all(|one| one["action"] == "agent.stop" && one["at_us"].is_u64()), "K29");
    world.verify();
}

fn two_agents(world: &mut World) -> (Arc<Kernel>, AgentId, AgentId) {
    let kernel = world.kernel();
    let (running, idle) = (agent(&kernel, "a"), agent(&kernel, "b"));
    tool(&kernel, "t");
    run(&kernel, running);
    settle_disk(&kernel, idle);
    (kernel, running, idle)
}

#[test]
fn k20_k23_k29_a_full_disk_stops_effects_and_no_brake() {
    let mut world = World::open_to_all().on_disk();
    let (kernel, running, idle) = two_agents(&mut world);
    world.disk().set_capacity_bytes(world.disk().used_bytes());
    let _ = kernel.note(idle, &"x".repeat(4_000));
    everything_but_brakes_stops(&mut world, &kernel, running, idle);
}

#[test]
fn k20_k23_k29_a_failing_disk_stops_effects_and_no_brake_whichever_call_fails() {
    // The calls of one group commit: a write, a sync, `head`. Each in turn fails once, or for good.
    for nth in 1..=4 {
        for fault in [Fault::Error, Fault::Gone] {
            let mut world = World::open_to_all().on_disk();
            let (kernel, running, idle) = two_agents(&mut world);
            world.clock.advance_us(2_000_000); // `head` is due for its sync
            world.disk().fail(nth, fault);
            while kernel.log_problem().is_none() {
                if kernel
                    .note(idle, "x")
                    .and_then(|seq| kernel.wait_durable(seq, SOON).map_err(|_| AgentError::Absent("disk")))
                    .is_err()
                {
                    break;
                }
            }
            everything_but_brakes_stops(&mut world, &kernel, running, idle);
        }
    }
}

#[test]
fn k16_k17_an_act_under_way_when_the_disk_fails_is_unknown_and_one_not_begun_does_not_begin() {
    let mut world = World::open_to_all().on_disk();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    tool(&kernel, "t");
    let (begun, waiting) = (ask(&kernel, one, "t").unwrap(), ask(&kernel, one, "t").unwrap());
    kernel.wait_durable(waiting.intent_seq(), SOON).unwrap();
    begun.take().unwrap();
    world.disk().fail(1, Fault::Gone);
    let _ = kernel.note(one, "x");
    until_dead(&kernel);
    assert_eq!(waiting.take(), Err(PermitError::Unavailable), "K16: what cannot be recorded may not happen");
    assert_eq!(begun.settle(&Outcome::Done), Err(PermitError::Unrecorded), "K17");
    drop(waiting);
    let _ = kernel.close();
    drop(kernel);
    world.disk().heal();
    let kernel = world.kernel();
    assert_eq!(kernel.opened().unknown, 2, "K37");
    let operations: Vec<_> = kernel.unknown_operations().iter().map(|one| one.operation).collect();
    assert!(operations.contains(&begun.operation()));
}

#[test]
fn k29_a_disk_that_is_still_full_at_the_close_gets_the_brakes_at_the_next_one() {
    let mut world = World::open_to_all().on_disk();
    let (kernel, running, idle) = two_agents(&mut world);
    world.disk().fail(1, Fault::Gone);
    let _ = kernel.note(idle, "x");
    until_dead(&kernel);
    kernel.stop_agent(OPERATOR, running, true).unwrap();
    let _ = kernel.close();
    world.disk().heal();
    kernel.close().unwrap();
    let late: Vec<_> = world.of_type("brake").iter().map(details).collect();
    assert_eq!((late.len(), &late[0]["late"]), (1, &serde_json::Value::Bool(true)), "K29");
}

#[test]
fn k26_after_the_close_everything_recorded_is_on_disk_and_nothing_more_can_be_asked_for() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    tool(&kernel, "t");
    let notes: Vec<u64> = (0..500).map(|_| kernel.note(one, "x").unwrap()).collect();
    kernel.close().unwrap();
    kernel.close().unwrap();
    assert!(kernel.durable() > *notes.last().unwrap(), "K26");
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::Unavailable, "K26");
    assert!(
        kernel
            .begin_run(symbi_kernel::Principal::Host, one, b"", &labels(&[]), symbi_kernel::Priority::NORMAL)
            .is_err()
    );
    assert_eq!(world.verify(), kernel.durable());
    assert!(kernel.stop_agent(OPERATOR, one, true).unwrap().terminated, "K23");
}

#[test]
fn k23_a_brake_does_not_wait_for_a_disk_that_stands_still() {
    let mut world = World::open_to_all().on_stalling_disk();
    let kernel = world.kernel();
    let (running, idle) = (agent(&kernel, "a"), agent(&kernel, "b"));
    let begun = run(&kernel, running);
    settle_disk(&kernel, idle);
    let stalled = world.stall();
    // Somebody else fills the buffer until he has to wait.
    let filler = {
        let kernel = Arc::clone(&kernel);
        let clone = move || kernel.clone_agent(symbi_kernel::Principal::Host, idle).is_ok();
        std::thread::spawn(move || (0..900).filter(|_| clone()).count())
    };
    while kernel.records_waiting() < 200 {
        std::thread::yield_now();
    }
    let (answer, answered) = std::sync::mpsc::channel();
    let brake = {
        let kernel = Arc::clone(&kernel);
        std::thread::spawn(move || answer.send(kernel.stop_agent(OPERATOR, running, true)))
    };
    let stopped = answered.recv_timeout(SOON);
    drop(stalled);
    let stopped = stopped.expect("K23").unwrap();
    assert_eq!((stopped.runs.as_slice(), stopped.seq), ([begun.run].as_slice(), None), "K23");
    brake.join().unwrap().unwrap();
    assert_eq!(filler.join().unwrap(), 900);
    kernel.drain();
    kernel.close().unwrap();
    let brakes: Vec<_> = world.of_type("brake").iter().map(details).collect();
    assert_eq!((brakes.len(), &brakes[0]["late"]), (1, &serde_json::Value::Bool(true)), "K29");
}

#[test]
fn k46_one_agent_that_talks_fast_leaves_the_buffer_to_the_others() {
    let mut world = World::open_to_all().on_stalling_disk();
    let kernel = world.kernel();
    let (fast, other) = (agent(&kernel, "a"), agent(&kernel, "b"));
    settle_disk(&kernel, other);
    let stalled = world.stall();
    let filler = {
        let kernel = Arc::clone(&kernel);
        std::thread::spawn(move || (0..1_000).filter(|_| kernel.note(fast, "x").is_ok()).count())
    };
    while kernel.records_waiting() < 50 {
        std::thread::yield_now();
    }
    let (answer, answered) = std::sync::mpsc::channel();
    let calm = {
        let kernel = Arc::clone(&kernel);
        std::thread::spawn(move || {
            let seen = (
                kernel.note(other, "y").is_ok(),
                kernel.clone_agent(symbi_kernel::Principal::Host, other).is_ok(),
            );
            answer.send((seen, kernel.records_waiting()))
        })
    };
    let answered = answered.recv_timeout(SOON);
    drop(stalled);
    let (seen, waiting) = answered.expect("K46: nobody waits for the fast one");
    assert_eq!(seen, (true, true));
    assert!(waiting <= 53, "K46: {waiting}");
    calm.join().unwrap().unwrap();
    assert_eq!(filler.join().unwrap(), 1_000);
    kernel.close().unwrap();
}

#[test]
fn k26_a_disk_that_fails_during_the_close_ends_it_with_an_error_and_does_not_hold_it_up() {
    // The log took no more records, so it did not think itself able to die, and the close waited for ever.
    for nth in 1..=6 {
        for fault in [Fault::Error, Fault::NoSpace, Fault::Gone] {
            let mut world = World::open_to_all().on_stalling_disk();
            let kernel = world.kernel();
            let one = agent(&kernel, "a");
            settle_disk(&kernel, one);
            let stalled = world.stall();
            let first = kernel.note(one, "x").unwrap();
            let second = kernel.note(one, "x").unwrap();
            let (done, closed) = std::sync::mpsc::channel();
            let closing = {
                let kernel = Arc::clone(&kernel);
                std::thread::spawn(move || done.send(kernel.close().is_ok()))
            };
            while kernel.log_problem().is_none() {
                std::thread::yield_now(); // until the close has begun
            }
            world.disk().fail(nth, fault);
            drop(stalled);
            let went_well = closed.recv_timeout(SOON).expect("K26: the close returns");
            closing.join().unwrap().unwrap();
            assert!(!went_well || kernel.durable() > second, "K26: {first}, call {nth}, {fault:?}");
            drop(kernel);
            world.disk().heal();
            world.verify();
        }
    }
}
