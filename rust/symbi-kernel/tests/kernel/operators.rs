//! K36, K37: what became of an operation after a crash is said by a person, once.

use std::sync::Arc;

use symbi_kernel::{Kernel, Principal, RefusalCode, Resolution};
use symbi_policy::Per;
use symbi_types::OperationId;

use crate::world::*;

/// A runtime that died after the bytes of one call were out. One call a minute is allowed.
fn after_a_crash(world: &mut World) -> (Arc<Kernel>, OperationId, tempfile::TempDir) {
    let kernel = world.kernel();
    let one = agent(&kernel, "courier");
    tool(&kernel, "t");
    let permit = ask(&kernel, one, "t").unwrap();
    take(&kernel, &permit);
    let operation = permit.operation();
    let (after, image) = world.crashed();
    tool(&after, "t");
    assert_eq!(after.opened().unknown, 1, "K37");
    (after, operation, image)
}

fn operators_only() -> World {
    let text =
        "permit(principal is Host, action in [Action::\"agent.create\", Action::\"agent.run\"], resource);
        permit(principal is Agent, action == Action::\"tool.call\", resource)
        when { context.counters.calls <= 1 };";
    World::with(Some(policies(text, &[calls(Per::Principal)])))
}

#[test]
fn k37_k36_an_unknown_operation_stays_reserved_until_an_operator_says_that_it_failed() {
    let mut world = operators_only();
    let (kernel, operation, _image) = after_a_crash(&mut world);
    let one = agent(&kernel, "courier");
    let unknown = kernel.unknown_operations().remove(0);
    assert_eq!((unknown.operation, unknown.action.as_str()), (operation, "tool.call"));
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget, "K37");
    for by in [Principal::Agent(one), Principal::Host] {
        assert!(kernel.resolve(by, operation, Resolution::Failed).is_err(), "K36: {by} is no operator");
    }
    let seq = kernel.resolve(OPERATOR, operation, Resolution::Failed).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    assert!(kernel.unknown_operations().is_empty());
    act(&kernel, one, "t"); // K36: its place is free again
    assert!(kernel.resolve(OPERATOR, operation, Resolution::Failed).is_err(), "K36: once");
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget, "and it freed one place only");
}

#[test]
fn k36_what_is_said_to_be_done_counts_and_stays_said_after_a_restart() {
    let mut world = operators_only();
    let (kernel, operation, image) = after_a_crash(&mut world);
    kernel.resolve(OPERATOR, operation, Resolution::Done).unwrap();
    let one = agent(&kernel, "courier");
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget, "K36");
    kernel.close().unwrap();
    drop(kernel);
    let kernel = world.try_kernel_at(image.path()).unwrap();
    assert_eq!(kernel.opened().unknown, 0, "K37");
    let resolved: Vec<_> = world
        .records_of(image.path())
        .into_iter()
        .filter(|record| record.event_type == "operation.resolved")
        .collect();
    assert_eq!(resolved.len(), 1);
    let said = details(&resolved[0]);
    assert_eq!((said["outcome"].as_str(), said["principal"].as_str()), (Some("done"), Some("operator:1000")));
    assert!(resolved[0].policy.is_some());
}

#[test]
fn k37_an_unknown_operation_outlives_any_number_of_crashes() {
    let mut world = operators_only();
    let (kernel, operation, image) = after_a_crash(&mut world);
    let second = tempfile::tempdir().unwrap();
    settle_disk(&kernel, agent(&kernel, "courier"));
    copy(image.path(), second.path());
    let again = world.try_kernel_at(second.path()).unwrap();
    assert_eq!(again.unknown_operations()[0].operation, operation, "K37");
}

#[test]
fn k36_of_two_operators_that_resolve_at_once_one_wins_and_one_place_is_freed() {
    for _ in 0..20 {
        let mut world = operators_only();
        let (kernel, operation, _image) = after_a_crash(&mut world);
        let together = Arc::new(std::sync::Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (kernel, together) = (Arc::clone(&kernel), Arc::clone(&together));
                std::thread::spawn(move || {
                    together.wait();
                    usize::from(kernel.resolve(OPERATOR, operation, Resolution::Failed).is_ok())
                })
            })
            .collect();
        let won: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(won, 1, "K36");
    }
}

#[test]
fn k37_an_operation_that_was_decided_and_never_taken_is_still_unknown_after_a_crash() {
    let mut world = operators_only();
    let kernel = world.kernel();
    let one = agent(&kernel, "courier");
    tool(&kernel, "t");
    let permit = ask(&kernel, one, "t").unwrap();
    kernel.wait_durable(permit.intent_seq(), SOON).unwrap();
    let (after, _image) = world.crashed();
    assert_eq!(
        after.unknown_operations()[0].operation,
        permit.operation(),
        "K37: nobody can know that it was not"
    );
}
