//! What operators do to the trail itself, while its runtime is open (K190, K191).

use std::time::Duration;

use symbi_kernel::{KeepingOptions, OperatorError, Principal};

use crate::world::*;

const DAY_US: u64 = 86_400_000_000;

#[test]
fn k190_another_key_signs_while_the_runtime_goes_on_and_the_old_one_is_named_as_known() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    tool(&kernel, "t");
    act(&kernel, one, "t");
    let old = world.records()[0].key.clone();
    let (seq, new) = kernel.rotate_trail_key(OPERATOR, &[9; 32]).unwrap();
    assert_eq!(world.records()[usize::try_from(seq).unwrap()].event_type, "key.rotated");
    act(&kernel, one, "t");
    let said = kernel.mark_key_compromised(OPERATOR, old.parse().unwrap(), 3, "a laptop").unwrap();
    assert!(matches!(
        kernel.mark_key_compromised(OPERATOR, new, 3, "it signs now"),
        Err(OperatorError::Trail(_))
    ));
    kernel.close().unwrap();
    let records = world.records();
    assert_eq!(records[usize::try_from(said).unwrap()].key, new.to_string());
    let asked = records.iter().filter(|record| {
        record.event_type == "operation" && record.details.contains("\"action\":\"key.change\"")
    });
    assert!(asked.count() >= 2, "each was an operation");
    world.verify();
}

#[test]
fn k190_policies_decide_who_may_change_the_trail() {
    let mut world = World::with(Some(policies(
        "permit(principal, action, resource) unless { action == Action::\"key.change\" || action == Action::\"data.erase\" };",
        &[],
    )));
    let kernel = world.kernel();
    assert!(matches!(kernel.rotate_trail_key(Principal::Host, &[9; 32]), Err(OperatorError::Agent(_))));
    assert!(matches!(kernel.hold_trail(Principal::Host, true, "why"), Err(OperatorError::Agent(_))));
    kernel.close().unwrap();
    assert!(world.of_type("key.rotated").is_empty() && world.of_type("log.held").is_empty());
}

#[test]
fn k191_what_is_old_and_not_read_any_more_is_pruned_by_age_unless_it_is_held() {
    let mut world = World::open_to_all();
    world.snapshot_records = 20;
    let day = Duration::from_secs(86_400);
    world.keeping =
        KeepingOptions { retention: Some(40 * day), segment_age_max: day, ..KeepingOptions::default() };
    let lives = |world: &mut World, days: u64| {
        let kernel = world.kernel();
        let one = agent(&kernel, "one");
        tool(&kernel, "t");
        (0..30).for_each(|_| act(&kernel, one, "t"));
        kernel.close().unwrap();
        drop(kernel);
        world.clock.advance_us(days * DAY_US);
    };
    lives(&mut world, 5);
    lives(&mut world, 10);
    let kernel = world.kernel();
    kernel.hold_trail(OPERATOR, true, "case 7").unwrap();
    kernel.close().unwrap();
    drop(kernel);
    world.clock.advance_us(50 * DAY_US);
    lives(&mut world, 1);
    assert_eq!(world.records()[0].seq, 0, "held");
    let kernel = world.kernel();
    assert!(matches!(
        kernel.prune_trail(Principal::Host, u64::MAX >> 12),
        Err(OperatorError::Trail(symbi_audit::LogError::Held { .. }))
    ));
    kernel.hold_trail(OPERATOR, false, "closed").unwrap();
    let one = agent(&kernel, "one");
    tool(&kernel, "t");
    let mut pruned = false;
    for _ in 0..400 {
        act(&kernel, one, "t");
        pruned = world.data().join("trail").join("pruned").exists();
        if pruned {
            break;
        }
    }
    assert!(pruned, "by age, after a snapshot");
    kernel.close().unwrap();
    drop(kernel);
    assert!(!world.of_type("log.pruned").is_empty());
    world.verify();
    let again = world.kernel();
    let one = agent(&again, "one");
    tool(&again, "t");
    act(&again, one, "t");
}
