//! K18, K27, K28, K43: lives of agents, and what their runs hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use symbi_kernel::{
    AgentError, AgentSpec, Cause, Kernel, Principal, Priority, RefusalCode, RunOutcome, State,
};
use symbi_types::{AgentId, LabelSet, ResourceLimits, RunId};

use crate::world::*;

fn end(kernel: &Kernel, run: RunId) -> Vec<RunId> {
    kernel.end_run(run, &RunOutcome::Done).unwrap().moves.start
}

fn transitions(world: &World) -> Vec<String> {
    world
        .records()
        .iter()
        .filter_map(|record| details(record)["transitions"].as_array().cloned())
        .flatten()
        .map(|one| one.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn k18_k28_every_transition_and_every_run_is_recorded() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    let begun = run(&kernel, one);
    assert_eq!(
        (begun.moves.start.as_slice(), kernel.agent_state(one)),
        ([begun.run].as_slice(), Some(State::Running))
    );
    end(&kernel, begun.run);
    let begun = run(&kernel, one);
    kernel.suspend_agent(OPERATOR, one, Cause::OperatorHold).unwrap();
    kernel.resume_agent(OPERATOR, one).unwrap();
    let stopped = kernel.stop_agent(OPERATOR, one, true).unwrap();
    assert_eq!(stopped.runs, [begun.run]);
    kernel.end_run(begun.run, &RunOutcome::Cancelled).unwrap();
    kernel.close().unwrap();
    assert_eq!(
        transitions(&world),
        [
            "initializing>ready",
            "ready>running",
            "running>ready",
            "running>suspended",
            "suspended>running",
            "running>suspended",
            "suspended>terminated",
            "ready>running"
        ],
        "K18"
    );
    assert_eq!(world.of_type("run.finished").len(), 2, "K28");
}

#[test]
fn k27_resources_are_held_while_a_run_runs_and_given_back_once() {
    let mut world = World::open_to_all(); // two sandboxes
    let kernel = world.kernel();
    let agents: Vec<AgentId> = (0..3).map(|at| agent(&kernel, &format!("a{at}"))).collect();
    let first = run(&kernel, agents[0]);
    let second = run(&kernel, agents[1]);
    let third = run(&kernel, agents[2]);
    assert!(third.moves.start.is_empty(), "K27: two are there");
    assert_eq!(kernel.why_run(third.run).unwrap().reason, "lacks");
    assert_eq!(end(&kernel, first.run), [third.run], "K27");
    assert!(kernel.end_run(first.run, &RunOutcome::Done).is_err(), "K27: once");
    let fourth = run(&kernel, agents[0]);
    assert!(fourth.moves.start.is_empty(), "K27: nothing was given back twice");
    assert_eq!(end(&kernel, second.run), [fourth.run]);
}

#[test]
fn k27_stopping_an_agent_that_waits_or_runs_gives_everything_back() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let agents: Vec<AgentId> = (0..4).map(|at| agent(&kernel, &format!("a{at}"))).collect();
    let runs: Vec<_> = agents.iter().map(|one| run(&kernel, *one).run).collect();
    // a0 and a1 run, a2 and a3 wait.
    let waiting = kernel.stop_agent(OPERATOR, agents[2], false).unwrap();
    assert_eq!((waiting.runs.as_slice(), waiting.terminated), ([runs[2]].as_slice(), true));
    assert!(kernel.end_run(runs[2], &RunOutcome::Cancelled).unwrap().moves.start.is_empty());
    let graceful = kernel.stop_agent(OPERATOR, agents[0], false).unwrap();
    assert!(!graceful.terminated && graceful.runs.is_empty(), "it has work");
    let forced = kernel.stop_agent(OPERATOR, agents[0], true).unwrap();
    assert_eq!(forced.runs, [runs[0]]);
    let ended = kernel.end_run(runs[0], &RunOutcome::Cancelled).unwrap();
    assert_eq!(ended.moves.start, [runs[3]], "K27");
    assert!(kernel.stop_agent(OPERATOR, agents[0], true).is_err(), "it is gone");
}

#[test]
fn k43_a_suspended_agent_starts_nothing_asks_for_nothing_and_goes_on_when_resumed() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    tool(&kernel, "t");
    let (first, second) = (run(&kernel, one).run, run(&kernel, one).run);
    kernel.suspend_agent(OPERATOR, one, Cause::OperatorHold).unwrap();
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::Suspended, "K43: held is held");
    assert!(end(&kernel, first).is_empty(), "K43");
    assert_eq!(kernel.agent_state(one), Some(State::Suspended), "K43");
    let third = run(&kernel, one);
    assert!(third.moves.start.is_empty(), "K43");
    let started = kernel.resume_agent(OPERATOR, one).unwrap().moves.start;
    assert_eq!(
        (started.as_slice(), kernel.agent_state(one)),
        ([second].as_slice(), Some(State::Running)),
        "K43"
    );
    assert!(ask(&kernel, one, "t").is_ok());
    assert_eq!(end(&kernel, second), [third.run]);
    end(&kernel, third.run);
    assert_eq!(kernel.agent_state(one), Some(State::Ready), "K18");
    assert!(kernel.resume_agent(OPERATOR, one).is_err(), "K18: it is not suspended");
}

#[test]
fn k43_a_suspended_agent_can_be_stopped_with_all_its_runs() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    let (first, second) = (run(&kernel, one).run, run(&kernel, one).run);
    kernel.suspend_agent(OPERATOR, one, Cause::OperatorHold).unwrap();
    end(&kernel, first);
    let stopped = kernel.stop_agent(OPERATOR, one, false).unwrap();
    assert_eq!(stopped.runs, [second]);
    end(&kernel, second);
    let (next, other) = (agent(&kernel, "b"), agent(&kernel, "c"));
    assert!(!run(&kernel, next).moves.start.is_empty() && !run(&kernel, other).moves.start.is_empty(), "K27");
}

#[test]
fn k27_threads_that_begin_and_end_runs_lose_none_of_them() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let begun = Arc::new(AtomicUsize::new(0));
    let started = Arc::new(std::sync::Mutex::new(Vec::<RunId>::new()));
    let done = Arc::new(AtomicBool::new(false));
    let beginners: Vec<_> = (0..3)
        .map(|at| {
            let (kernel, begun, started) = (Arc::clone(&kernel), Arc::clone(&begun), Arc::clone(&started));
            let agents: Vec<AgentId> = (0..20).map(|n| agent(&kernel, &format!("a{at}-{n}"))).collect();
            std::thread::spawn(move || {
                for turn in 0..200 {
                    let new = run(&kernel, agents[turn % agents.len()]);
                    begun.fetch_add(1, Ordering::SeqCst);
                    started.lock().unwrap().extend(new.moves.start);
                }
            })
        })
        .collect();
    let ended = Arc::new(AtomicUsize::new(0));
    let enders: Vec<_> = (0..2)
        .map(|_| {
            let (kernel, started, ended, done) =
                (Arc::clone(&kernel), Arc::clone(&started), Arc::clone(&ended), Arc::clone(&done));
            std::thread::spawn(move || {
                loop {
                    let next = started.lock().unwrap().pop();
                    match next {
                        Some(one) => {
                            let more = end(&kernel, one);
                            started.lock().unwrap().extend(more);
                            ended.fetch_add(1, Ordering::SeqCst);
                        }
                        None if done.load(Ordering::SeqCst) => return,
                        None => std::thread::yield_now(),
                    }
                }
            })
        })
        .collect();
    beginners.into_iter().for_each(|one| one.join().unwrap());
    for _ in 0..2_000_000 {
        if ended.load(Ordering::SeqCst) == 600 {
            break;
        }
        std::thread::yield_now();
    }
    done.store(true, Ordering::SeqCst);
    enders.into_iter().for_each(|one| one.join().unwrap());
    assert_eq!((begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst)), (600, 600), "K27, K28");
}

#[test]
fn k43_stopping_while_others_begin_runs_leaves_no_run_of_the_stopped() {
    for _ in 0..50 {
        let mut world = World::open_to_all();
        let kernel = world.kernel();
        let one = agent(&kernel, "a");
        let together = Arc::new(std::sync::Barrier::new(2));
        let beginner = {
            let (kernel, together) = (Arc::clone(&kernel), Arc::clone(&together));
            std::thread::spawn(move || {
                together.wait();
                kernel.begin_run(Principal::Host, one, b"", &LabelSet::default(), Priority::NORMAL)
            })
        };
        together.wait();
        let stopped = kernel.stop_agent(OPERATOR, one, true).unwrap();
        let begun = beginner.join().unwrap();
        for run in stopped.runs {
            let _ = kernel.end_run(run, &RunOutcome::Cancelled);
        }
        if let Ok(begun) = begun {
            let _ = kernel.end_run(begun.run, &RunOutcome::Cancelled);
        }
        let (two, three) = (agent(&kernel, "b"), agent(&kernel, "c"));
        assert!(
            !run(&kernel, two).moves.start.is_empty() && !run(&kernel, three).moves.start.is_empty(),
            "K43, K27"
        );
    }
}

#[test]
fn k18_there_are_never_more_agents_than_allowed_not_even_from_many_threads() {
    let mut world = World::open_to_all();
    world.agents_max = 10;
    let kernel = world.kernel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let kernel = Arc::clone(&kernel);
            std::thread::spawn(move || {
                (0..10).filter(|_| kernel.create_agent(Principal::Host, Arc::new(spec("a"))).is_ok()).count()
            })
        })
        .collect();
    let made: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!((made, kernel.count_agents()), (10, 10));
    let one = kernel.list_agents().remove(0).id;
    kernel.stop_agent(OPERATOR, one, true).unwrap();
    agent(&kernel, "again");
}

#[test]
fn k20_what_cannot_be_an_agent_is_not_one() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let limits = ResourceLimits { memory_mb: Some(1), ..ResourceLimits::default() };
    let too_much = ResourceLimits { memory_mb: Some(8_192), ..ResourceLimits::default() };
    for bad in [spec(""), spec("a\nb"), spec(&"x".repeat(129)), AgentSpec { limits, ..spec("a") }] {
        assert!(matches!(kernel.create_agent(Principal::Host, Arc::new(bad)), Err(AgentError::Invalid(_))));
    }
    let (large, _) = kernel
        .create_agent(Principal::Host, Arc::new(AgentSpec { limits: too_much, ..spec("large") }))
        .unwrap();
    let answer = kernel.begin_run(Principal::Host, large, b"", &LabelSet::default(), Priority::NORMAL);
    assert!(
        matches!(answer, Err(AgentError::Invalid(text)) if text.contains("memory")),
        "K27: it says what is lacking"
    );
    assert_eq!(kernel.agent_state(large), Some(State::Ready));
}

#[test]
fn k18_two_instances_of_one_name_live_apart_and_the_oldest_answers_to_it() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "same");
    let (two, _) = kernel.clone_agent(Principal::Host, one).unwrap();
    assert_ne!(one, two);
    kernel.begin_run(Principal::Host, two, b"", &labels(&["phi"]), Priority::NORMAL).unwrap();
    assert!(kernel.agent_labels(one).is_empty() && kernel.agent_labels(two).contains("phi"), "K19");
    let to = symbi_kernel::Recipient::Named("same".into());
    let other = agent(&kernel, "other");
    let payload = || symbi_kernel::Payload::Bytes(b"x".to_vec());
    kernel.send(other, &to, payload(), None, false).unwrap();
    assert_eq!(kernel.receive_many(one, 1).unwrap().len(), 1);
    kernel.stop_agent(OPERATOR, one, true).unwrap();
    kernel.send(other, &to, payload(), None, false).unwrap();
    assert_eq!(kernel.receive_many(two, 1).unwrap().len(), 1);
}

#[test]
fn k25_threads_that_do_everything_at_once_come_to_an_end() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    tool(&kernel, "t");
    let (answer, answered) = std::sync::mpsc::channel();
    for thread in 0..4 {
        let (kernel, answer) = (Arc::clone(&kernel), answer.clone());
        std::thread::spawn(move || {
            for turn in 0..60 {
                let (one, two) = (agent(&kernel, "same"), agent(&kernel, &format!("own{thread}")));
                let begun = run(&kernel, one);
                let payload = symbi_kernel::Payload::Bytes(vec![1]);
                let _ =
                    kernel.send(two, &symbi_kernel::Recipient::Named("same".into()), payload, None, false);
                let _ = kernel.receive_many(one, 9);
                let permit = ask(&kernel, two, "t").unwrap();
                let _ = kernel.suspend_agent(OPERATOR, one, Cause::OperatorHold);
                let _ = kernel.write_document(two, "birds", &format!("penguins {thread} {turn}"), &[]);
                let _ = kernel.search(two, "penguins", 3);
                if turn % 16 == 0 {
                    kernel.load_policies(OPERATOR, &policies(OPEN, &[])).unwrap();
                }
                let _ = kernel.resume_agent(OPERATOR, one);
                drop(permit);
                kernel.drain();
                let mut ending = vec![begun.run];
                for one in [one, two] {
                    ending.extend(kernel.stop_agent(OPERATOR, one, true).unwrap().runs);
                }
                ending.dedup();
                for run in ending {
                    let _ = kernel.end_run(run, &RunOutcome::Cancelled);
                }
            }
            answer.send(()).unwrap();
        });
    }
    for _ in 0..4 {
        answered.recv_timeout(SOON * 12).expect("K25");
    }
    assert_eq!((kernel.count_agents(), kernel.operations_in_flight()), (0, 0));
    kernel.close().unwrap();
    world.verify();
}

#[test]
fn k76_a_hold_that_comes_while_others_are_let_go_stays() {
    let mut world = World::open_to_all().on_stalling_disk();
    let kernel = world.kernel();
    let (one, idle) = (agent(&kernel, "a"), agent(&kernel, "b"));
    run(&kernel, one);
    kernel.suspend_agent(OPERATOR, one, Cause::OperatorHold).unwrap();
    settle_disk(&kernel, idle);
    let stalled = world.stall();
    std::thread::scope(|scope| {
        // Somebody else fills the buffer, so that what is decided waits there for its record.
        scope.spawn(|| (0..400).for_each(|_| drop(kernel.clone_agent(Principal::Host, idle))));
        while kernel.records_waiting() < 200 {
            std::thread::yield_now();
        }
        let let_go = scope.spawn(|| kernel.resume_agent(OPERATOR, one));
        (0..20_000).for_each(|_| std::thread::yield_now());
        kernel.suspend_agent(OPERATOR, one, Cause::PolicyViolation).unwrap();
        drop(stalled);
        let_go.join().unwrap().unwrap();
    });
    kernel.drain();
    settle_disk(&kernel, idle);
    let operations = world.of_type("operation");
    let resumed = operations.iter().map(details).find(|one| one["action"] == "agent.resume").unwrap();
    let both = resumed["cleared"].as_array().unwrap().len() == 2;
    assert_eq!(
        kernel.agent_state(one) == Some(State::Suspended),
        !both,
        "K76: what was let go is what is recorded"
    );
}
