//! K6, K7, K21, K22, K38: counts over history hold under denial, threads, restarts, crashes and clocks that jump.

use std::sync::Arc;

use symbi_kernel::{Kernel, Outcome, Principal, Recipient, RefusalCode};
use symbi_policy::Per;
use symbi_types::AgentId;

use crate::world::*;

/// An agent, and the tool that it calls.
fn courier(kernel: &Kernel) -> AgentId {
    tool(kernel, "t");
    agent(kernel, "courier")
}

#[test]
fn k21_a_denial_gives_back_what_it_had_reserved() {
    let mut world = World::with(Some(at_most(3, Per::Principal)));
    let kernel = world.kernel();
    let agent = courier(&kernel);
    for _ in 0..3 {
        act(&kernel, agent, "t");
    }
    world.clock.advance_us(30_000_000);
    for _ in 0..50 {
        assert_eq!(refusal(ask(&kernel, agent, "t")).code, RefusalCode::OverBudget);
    }
    world.clock.advance_us(34_000_000); // the three are out of the window, and the fifty would not be
    for _ in 0..3 {
        act(&kernel, agent, "t"); // K21: fifty refusals stand in no window
    }
}

#[test]
fn k21_a_permit_that_was_not_used_gives_its_place_back_and_a_failure_does_not() {
    let mut world = World::with(Some(at_most(2, Per::Principal)));
    let kernel = world.kernel();
    let agent = courier(&kernel);
    for _ in 0..10 {
        drop(ask(&kernel, agent, "t").unwrap()); // K17: released
    }
    for _ in 0..2 {
        let permit = ask(&kernel, agent, "t").unwrap();
        take(&kernel, &permit);
        permit.settle(&Outcome::Failed { kind: "timeout".into(), text: String::new() }).unwrap();
    }
    assert_eq!(refusal(ask(&kernel, agent, "t")).code, RefusalCode::OverBudget, "it was tried, so it counts");
}

#[test]
fn k21_what_is_refused_after_the_decision_is_given_back_too() {
    // A message that is too large is allowed by policy and never sent: it must not eat everybody's budget.
    let text = format!(
        "{OPEN}\nforbid(principal, action == Action::\"message.send\", resource) when {{ context.counters.sent > 2 }};"
    );
    let sent = symbi_policy::CounterSpec {
        name: "sent".into(),
        action: "message.send".into(),
        ..calls(Per::Global)
    };
    let mut world = World::with(Some(policies(&text, &[sent])));
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "a"), agent(&kernel, "b"));
    let send = |bytes: usize| {
        let payload = symbi_kernel::Payload::Bytes(vec![b'x'; bytes]);
        kernel.send(from, &Recipient::Agent(to), payload, None, false)
    };
    for _ in 0..10 {
        assert!(send((1 << 20) + 1).is_err());
        assert!(
            kernel
                .send(
                    from,
                    &Recipient::Named("nobody".into()),
                    symbi_kernel::Payload::Bytes(vec![1]),
                    None,
                    false
                )
                .is_err()
        );
    }
    assert!(send(10).is_ok() && send(10).is_ok(), "K21");
    assert!(send(10).is_err());
}

#[test]
fn k22_the_record_holds_the_counts_that_were_seen() {
    let mut world = World::with(Some(at_most(2, Per::Global)));
    let kernel = world.kernel();
    let agent = courier(&kernel);
    act(&kernel, agent, "t");
    act(&kernel, agent, "t");
    assert!(ask(&kernel, agent, "t").is_err());
    settle_disk(&kernel, agent);
    let seen: Vec<u64> = world
        .of_type("operation.intent")
        .iter()
        .map(|one| details(one)["counters"]["calls"].as_u64().unwrap())
        .collect();
    assert_eq!(seen, [1, 2], "K22");
    let denied = details(&world.of_type("operation.denied")[0]);
    assert_eq!(
        denied["request"]["context"]["counters"]["calls"], 3,
        "K22: no attributes, so nothing to seal"
    );
}

#[test]
fn k6_of_many_threads_only_one_gets_the_last_one() {
    for per in [Per::Global, Per::Principal] {
        let mut world = World::with(Some(at_most(10, per)));
        let kernel = world.kernel();
        let agent = agent(&kernel, "courier");
        tool(&kernel, "t");
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let kernel = Arc::clone(&kernel);
                std::thread::spawn(move || {
                    let permits: Vec<_> = (0..25).filter_map(|_| ask(&kernel, agent, "t").ok()).collect();
                    permits.iter().for_each(|permit| drop(take(&kernel, permit)));
                    permits.len()
                })
            })
            .collect();
        let got: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(got, 10, "K6");
    }
}

#[test]
fn k38_counts_survive_a_restart_and_a_crash() {
    let mut world = World::with(Some(at_most(3, Per::Principal)));
    let kernel = world.kernel();
    let one = courier(&kernel);
    act(&kernel, one, "t");
    let lost = ask(&kernel, one, "t").unwrap();
    take(&kernel, &lost);
    let (after, image) = world.crashed();
    let again = agent(&after, "courier");
    tool(&after, "t");
    assert_eq!(after.opened().unknown, 1, "K37");
    act(&after, again, "t"); // one done, one unknown, this is the third
    assert_eq!(refusal(ask(&after, again, "t")).code, RefusalCode::OverBudget, "K38");
    let other = agent(&after, "other");
    act(&after, other, "t");
    after.close().unwrap();
    drop(after);
    let third = world.try_kernel_at(image.path()).unwrap();
    let again = agent(&third, "courier");
    tool(&third, "t");
    assert_eq!(refusal(ask(&third, again, "t")).code, RefusalCode::OverBudget, "K38");
    world.clock.advance_us(61_000_000);
    assert!(ask(&third, again, "t").is_ok(), "K38: and they end with their window");
}

#[test]
fn k38_what_was_released_before_a_restart_does_not_count_after_it() {
    let mut world = World::with(Some(at_most(1, Per::Principal)));
    let kernel = world.kernel();
    let one = courier(&kernel);
    drop(ask(&kernel, one, "t").unwrap());
    kernel.close().unwrap();
    drop(kernel);
    let kernel = world.kernel();
    let one = courier(&kernel);
    act(&kernel, one, "t");
}

#[test]
fn k6_a_clock_that_jumps_forwards_moves_nothing_out_of_a_window() {
    let mut world = World::with(Some(at_most(2, Per::Principal)));
    let kernel = world.kernel();
    let one = courier(&kernel);
    act(&kernel, one, "t");
    act(&kernel, one, "t");
    let day = 86_400_000_000;
    world.clock.set_wall_us(symbi_testkit::FakeClock::START_US + 365 * day);
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget, "K6");
    settle_disk(&kernel, one);
    // A jump, and then a restart: the counts must not be younger or older for it.
    kernel.close().unwrap();
    drop(kernel);
    let kernel = world.kernel();
    let one = courier(&kernel);
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget, "K38");
    world.clock.advance_us(61_000_000);
    act(&kernel, one, "t");
}

#[test]
fn k6_a_clock_that_goes_back_gives_nobody_more() {
    let mut world = World::with(Some(at_most(2, Per::Principal)));
    let kernel = world.kernel();
    let one = courier(&kernel);
    act(&kernel, one, "t");
    act(&kernel, one, "t");
    for wall_us in [0, 1, symbi_testkit::FakeClock::START_US - 3_600_000_000] {
        world.clock.set_wall_us(wall_us);
        assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget, "K6");
    }
}

#[test]
fn k6_a_counter_declared_anew_with_another_window_keeps_what_was_counted() {
    let mut world = World::with(Some(at_most(2, Per::Principal)));
    let kernel = world.kernel();
    let one = courier(&kernel);
    let held = ask(&kernel, one, "t").unwrap();
    act(&kernel, one, "t");
    let mut hour = at_most(2, Per::Principal);
    hour.counters[0].window_us = 3_600_000_000;
    kernel.load_policies(OPERATOR, &hour).unwrap();
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget);
    drop(held); // its place was in the old window: it frees nothing that it did not take
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget, "K7");
    world.clock.advance_us(120_000_000);
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget, "K6: it is an hour now");
}

#[test]
fn k6_a_second_instance_of_a_name_does_not_start_at_zero_and_the_host_counts_as_itself() {
    let mut world = World::with(Some(at_most(1, Per::Principal)));
    let kernel = world.kernel();
    let (one, two) = (agent(&kernel, "courier"), agent(&kernel, "courier"));
    tool(&kernel, "t");
    act(&kernel, one, "t");
    assert_eq!(refusal(ask(&kernel, two, "t")).code, RefusalCode::OverBudget, "K6");
    assert!(kernel.begin_tool_call(Principal::Host, call("t")).is_ok());
}

#[test]
fn k241_a_rehearsal_says_what_would_be_decided_and_leaves_every_counter_and_the_trail_as_they_were() {
    let text = "@id(\"few\") permit(principal, action, resource) when { action != Action::\"message.send\" || context.counters.sent <= 2 };";
    let sent = |name: &str, cap| symbi_policy::CounterSpec {
        name: name.into(),
        action: "message.send".into(),
        cap,
        ..calls(Per::Principal)
    };
    let mut world = World::with(Some(policies(text, &[sent("sent", None), sent("mail_agent", Some(1))])));
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let recipient = Recipient::Agent(to);
    let rehearse = || kernel.rehearse_message(from, &recipient, 10).unwrap();
    settle_disk(&kernel, from);
    let (rows, records) = (kernel.count_rows(), world.records().len());
    for _ in 0..3 {
        let one = rehearse();
        assert_eq!(
            (one.effect.as_str(), one.paid, one.rules.as_slice()),
            ("allow", true, &["few".to_owned()][..])
        );
        assert_eq!(one.counters, [("sent".to_owned(), 1), ("mail_agent".to_owned(), 1)]);
    }
    assert_eq!(kernel.count_rows(), rows, "K241");
    kernel.send(from, &recipient, symbi_kernel::Payload::Bytes(vec![1]), None, false).unwrap();
    let spent = rehearse();
    assert_eq!((spent.effect.as_str(), spent.paid), ("allow", false), "the budget is spent");
    settle_disk(&kernel, from);
    let grown = world.records().len() - records;
    let nobody = AgentId::random(&symbi_types::SystemEntropy);
    assert!(kernel.rehearse_message(nobody, &recipient, 10).is_err());
    assert_eq!(world.records().len() - records, grown, "a rehearsal is no record");
    assert!(world.of_type("operation.denied").is_empty());
}
