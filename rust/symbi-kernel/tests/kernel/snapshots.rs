//! K112, K113: what an opening reads from a snapshot on is what it reads from the first record on.

use std::path::Path;
use std::sync::Arc;

use symbi_kernel::{Kernel, Outcome, Policies, Principal, Settlement, ToolCall, Word};
use symbi_policy::parse_counters;
use symbi_testkit::SeededEntropy;
use symbi_types::{AgentId, OperationId};

use crate::world::*;

fn ruled() -> Policies {
    let toml = "[counters.seen]\naction = \"tool.call\"\nper = \"principal\"\nwindow_s = 3600\nkind = \"distinct\"\n\
        of = \"call.who\"\n[budgets.spend]\naction = \"tool.call\"\nmeasure = \"cost\"\nwindow_s = 3600\nagent = 100000\n\
        [counters.sent]\naction = \"message.send\"\nper = \"global\"\nwindow_s = 3600\nkind = \"count\"\n";
    let text = format!(
        "permit(principal, action, resource) unless {{ resource == Tool::\"asked\" }};
         @obligation(\"approval\") permit(principal, action, resource == Tool::\"asked\");
         {}",
        "forbid(principal, action == Action::\"tool.call\", resource == Tool::\"show\");"
    );
    Policies { counters: parse_counters("c.counters.toml", toml).unwrap(), ..policies(&text, &[]) }
}

/// The counts as a decision sees them, unknown operations, and who waits.
fn state(kernel: &Arc<Kernel>, records: impl Fn() -> Vec<symbi_audit::Record>) -> String {
    let mut lines = Vec::new();
    for name in ["a", "b"] {
        let one = agent(kernel, name);
        tool(kernel, "show");
        assert!(ask(kernel, one, "show").is_err());
        settle_disk(kernel, one);
        let denied =
            records().into_iter().rev().find(|record| record.event_type == "operation.denied").unwrap();
        lines.push(details(&denied)["request"]["context"]["counters"].to_string());
    }
    let unknown = kernel.unknown_operations().into_iter().map(|one| (one.seq, one.at_us, one.resource));
    format!("{lines:?} {:?} {:?}", unknown.collect::<Vec<_>>(), kernel.approvals())
}

fn live(kernel: &Arc<Kernel>, seed: u64, world: &World) -> Vec<symbi_kernel::Permit> {
    let dice = SeededEntropy::new(seed);
    let below = |bound: u64| dice.below(bound);
    let agents: Vec<AgentId> = ["a", "b"].map(|name| agent(kernel, name)).into();
    for name in ["t", "asked"] {
        tool(kernel, name);
    }
    let mut held = Vec::new();
    let mut asked: Vec<OperationId> = Vec::new();
    for _ in 0..120 {
        let one = agents[usize::try_from(below(2)).unwrap()];
        world.clock.advance_us(below(4_000_000));
        match below(8) {
            0..=2 => {
                let given = ToolCall {
                    attributes: vec![("who".into(), below(9).to_string())],
                    amounts: vec![("cost".into(), below(50))],
                    ..call("t")
                };
                // Calls that nobody settles have its breaker open after a while.
                let Ok(permit) = kernel.begin_tool_call(Principal::Agent(one), given) else { continue };
                if below(3) > 0 {
                    take(kernel, &permit);
                }
                held.push(permit);
            }
            3 if held.len() > 3 => {
                let permit = held.swap_remove(usize::try_from(below(held.len() as u64)).unwrap());
                let used = Settlement { used: vec![("cost".into(), below(90))], ..Settlement::default() };
                let _ = permit.settle_as(&Outcome::Done, used);
            }
            4 if held.len() > 3 => drop(held.swap_remove(0)),
            5 => {
                let arguments = format!("{{\"n\":{}}}", below(5)).into_bytes();
                let given = ToolCall { arguments, ..call("asked") };
                match kernel.begin_tool_call(Principal::Agent(one), given) {
                    Ok(permit) => drop(permit),
                    Err(error) => asked.extend(refusal(Err::<(), _>(error)).approval),
                }
            }
            6 => {
                if let Some(id) = asked.pop() {
                    let word = if below(4) == 0 { Word::Deny } else { Word::Approve };
                    let _ = kernel.say(OPERATOR, "ann", id, &word);
                }
            }
            _ => {
                let payload = symbi_kernel::Payload::Bytes(vec![1]);
                let _ = kernel.send(one, &symbi_kernel::Recipient::Agent(one), payload, None, false);
            }
        }
    }
    settle_disk(kernel, agents[0]);
    held
}

/// Notes until there is a snapshot: the clerk works beside us.
pub fn until_snapshot(kernel: &Kernel, world: &World, at_least: usize) {
    let one = agent(kernel, "clerk");
    for _ in 0..5_000 {
        if world.of_type("state.snapshot").len() >= at_least {
            return;
        }
        settle_disk(kernel, one);
        world.clock.advance_us(100_000); // notes are admitted at a bounded rate
    }
    panic!("no snapshot");
}

/// The trail of `from` without its snapshots: in a copy, their types are not known.
fn reopened(world: &mut World, records: u64) -> (String, u64) {
    world.snapshot_records = records;
    let (kernel, image) = world.crashed();
    let (replayed, path) = (kernel.opened().replayed, image.path().to_owned());
    (state(&kernel, || world.records_of(Path::new(&path))), replayed)
}

#[test]
fn k112_a_snapshot_says_what_the_whole_trail_says() {
    for seed in 0..6 {
        let mut lives = Vec::new();
        for every in [u64::MAX, 40] {
            let mut world = World::with(Some(ruled()));
            (world.seed, world.snapshot_records) = (seed * 100, every);
            let kernel = world.kernel();
            let _held = live(&kernel, seed, &world);
            let now = world.clock.clone();
            if every != u64::MAX {
                until_snapshot(&kernel, &world, 1);
            }
            lives.push((world, kernel, now, _held));
        }
        // The same life twice, once with snapshots: ids differ, what counts does not.
        let told: Vec<(String, u64)> =
            lives.iter_mut().map(|(world, ..)| reopened(world, u64::MAX)).collect();
        let counts = |text: &str| text.split(']').next().unwrap().to_owned();
        assert_eq!(counts(&told[0].0), counts(&told[1].0), "K112, seed {seed}");
        assert!(told[1].1 < lives[1].0.records().len() as u64 / 2 + 400, "only the tail was read");
        let (plain, snapped) = (lives[0].1.approvals(), lives[1].1.approvals());
        let told = |all: &[symbi_kernel::Waiting]| {
            all.iter()
                .map(|one| (one.subject.clone(), one.state, one.votes.len(), one.asked_us))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&plain), told(&snapped));
    }
}

#[test]
fn k112_what_stood_in_memory_is_what_is_read_from_a_snapshot() {
    let mut world = World::with(Some(ruled()));
    world.snapshot_records = 30;
    let kernel = world.kernel();
    let held = live(&kernel, 77, &world);
    until_snapshot(&kernel, &world, 2);
    let before = kernel.approvals();
    let flying = kernel.operations_in_flight();
    let (after, _image) = world.crashed();
    assert_eq!(after.approvals(), before, "K112");
    assert_eq!(after.unknown_operations().len(), flying + kernel.unknown_operations().len(), "K112");
    let all = world.records().len() as u64;
    assert!(after.opened().replayed < all, "{} of {all}", after.opened().replayed);
    drop(held);
}

#[test]
fn k113_what_stands_between_the_records_of_a_snapshot_counts_once() {
    let mut world = World::with(Some(at_most(3, symbi_policy::Per::Principal))).on_disk();
    world.snapshot_records = 20;
    let kernel = world.kernel();
    let one = agent(&kernel, "one");
    tool(&kernel, "t");
    (0..2).for_each(|_| act(&kernel, one, "t"));
    until_snapshot(&kernel, &world, 1);
    kernel.close().unwrap();
    let types: Vec<String> = world.records().into_iter().map(|record| record.event_type).collect();
    let whole = types.iter().rposition(|name| name == "state.snapshot").unwrap();
    assert!(types.iter().take(whole).any(|name| name == "state.part"), "{types:?}");
    world.verify();
    let again = world.kernel();
    let one = agent(&again, "one");
    tool(&again, "t");
    act(&again, one, "t");
    assert!(ask(&again, one, "t").is_err(), "counted across it");
}
