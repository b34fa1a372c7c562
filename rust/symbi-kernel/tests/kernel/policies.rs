//! K20, K35: what cannot be decided is denied, the brakes and the operator go on, and the last good set stays.

use symbi_kernel::{Cause, OperatorError, Policies, Principal, RefusalCode};
use symbi_types::SecurityTier;

use crate::world::*;

fn nothing_but_brakes(mut world: World) {
    let kernel = world.kernel();
    let created = kernel.create_agent(Principal::Host, std::sync::Arc::new(spec("a")));
    assert!(matches!(refusal(created).code, RefusalCode::Denied | RefusalCode::Unavailable), "K20");
    tool(&kernel, "t");
    assert!(kernel.begin_tool_call(Principal::Host, call("t")).is_err(), "K20");
    let ask = symbi_kernel::SandboxAsk {
        tier: SecurityTier::Gvisor,
        network: false,
        writable: false,
        spec: vec![],
    };
    assert!(kernel.begin_sandbox(Principal::Host, None, ask).is_err(), "K20");
    assert!(
        matches!(kernel.load_policies(Principal::Host, &policies(OPEN, &[])), Err(OperatorError::Agent(_))),
        "K20: the host is no operator"
    );
    kernel.load_policies(OPERATOR, &policies(OPEN, &[])).unwrap();
    assert!(kernel.policy_diagnostics().is_empty());
    let one = agent(&kernel, "a");
    kernel.stop_agent(OPERATOR, one, true).unwrap();
    kernel.close().unwrap();
    assert_eq!(world.verify(), world.records().len() as u64);
}

#[test]
fn k20_an_empty_policy_set_denies_and_the_operator_repairs_it() {
    nothing_but_brakes(World::with(Some(Policies::default())));
}

#[test]
fn k20_a_broken_policy_set_denies_and_the_operator_repairs_it() {
    let mut world = World::with(Some(policies("permit(principal, action", &[])));
    let kernel = world.kernel();
    assert!(!kernel.policy_diagnostics().is_empty());
    let created = kernel.create_agent(Principal::Host, std::sync::Arc::new(spec("a")));
    assert_eq!(refusal(created).code, RefusalCode::Unavailable, "K20");
    kernel.close().unwrap();
    nothing_but_brakes(World::with(Some(policies("permit(principal, action", &[]))));
}

#[test]
fn k20_a_forbid_that_errs_denies_and_a_permit_that_errs_permits_nothing() {
    let erring = "context.call.hasTag(\"a\") && context.call.getTag(\"a\") == \"x\"";
    let forbid =
        format!("{OPEN}\nforbid(principal, action == Action::\"tool.call\", resource) when {{ {erring} }};");
    let permit = format!(
        "permit(principal is Host, action, resource);\npermit(principal is Agent, action == Action::\"tool.call\", resource) when {{ {erring} }};"
    );
    for text in [forbid, permit] {
        let world = World::with(Some(policies(&text, &[])));
        let Ok(kernel) = world.try_kernel_at(&world.data()) else { panic!("it opens") };
        if !kernel.policy_diagnostics().is_empty() {
            continue; // refused at load already: nothing was let through either
        }
        tool(&kernel, "t");
        let one = agent(&kernel, "a");
        assert!(ask(&kernel, one, "t").is_err() || text.starts_with(OPEN), "K20");
        world.clock.advance_us(1);
    }
}

#[test]
fn k20_forbidding_everything_forbids_no_brake_and_no_operator() {
    let text = "permit(principal is Host, action, resource);";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    run(&kernel, one);
    kernel.load_policies(OPERATOR, &policies("forbid(principal, action, resource);", &[])).unwrap();
    kernel.suspend_agent(OPERATOR, one, Cause::OperatorHold).unwrap();
    kernel.resume_agent(OPERATOR, one).unwrap();
    kernel.stop_agent(Principal::Host, one, true).unwrap();
    kernel.load_policies(OPERATOR, &policies(OPEN, &[])).unwrap();
}

#[test]
fn k35_a_set_that_does_not_compile_leaves_the_last_good_one_and_its_counts() {
    let mut world = World::with(Some(at_most(1, symbi_policy::Per::Principal)));
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    tool(&kernel, "t");
    act(&kernel, one, "t");
    let before = kernel.policy_digest();
    for text in ["permit(", "permit(principal, action == Action::\"no.such\", resource);", "\u{0}"] {
        let answer = kernel.load_policies(OPERATOR, &policies(text, &[]));
        assert!(matches!(answer, Err(OperatorError::Policies(found)) if !found.is_empty()), "K35");
    }
    assert_eq!(kernel.policy_digest(), before, "K35");
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::OverBudget, "K35");
}

#[test]
fn k35_a_change_is_on_disk_before_it_is_in_force_and_each_record_names_the_set_that_decided() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    let before = kernel.policy_digest();
    let seq = kernel
        .load_policies(OPERATOR, &policies("permit(principal is Host, action, resource);", &[]))
        .unwrap();
    assert!(kernel.durable() > seq, "K35");
    tool(&kernel, "t");
    assert!(ask(&kernel, one, "t").is_err());
    settle_disk(&kernel, one);
    let records = world.records();
    let change = &records[usize::try_from(seq).unwrap()];
    assert_eq!(change.policy.as_deref(), Some(before.as_str()), "it was decided under the old set");
    assert_eq!(details(change)["after"], kernel.policy_digest());
    let denied = &records[usize::try_from(seq).unwrap() + 1];
    assert_eq!(denied.policy.as_deref(), Some(kernel.policy_digest().as_str()));
}

#[test]
fn k35_a_change_that_cannot_be_recorded_is_no_change() {
    let mut world = World::open_to_all().on_disk();
    let kernel = world.kernel();
    let one = agent(&kernel, "a");
    settle_disk(&kernel, one);
    let before = kernel.policy_digest();
    world.disk().fail(1, symbi_testkit::Fault::Gone);
    let wider = policies("permit(principal, action, resource); permit(principal, action, resource);", &[]);
    assert!(kernel.load_policies(OPERATOR, &wider).is_err());
    assert_eq!(kernel.policy_digest(), before, "K35");
}

#[test]
fn k20_no_policy_means_agents_and_messages_and_nothing_external() {
    let mut world = World::with(None);
    let kernel = world.kernel();
    let (one, two) = (agent(&kernel, "a"), agent(&kernel, "b"));
    tool(&kernel, "t");
    let payload = symbi_kernel::Payload::Bytes(b"x".to_vec());
    assert!(kernel.send(one, &symbi_kernel::Recipient::Agent(two), payload, None, false).is_ok());
    assert_eq!(refusal(ask(&kernel, one, "t")).code, RefusalCode::Denied, "K20");
    let open =
        symbi_kernel::SandboxAsk { tier: SecurityTier::Gvisor, network: true, writable: false, spec: vec![] };
    assert!(kernel.begin_sandbox(Principal::Host, Some(one), open).is_err(), "K20");
}

#[test]
fn k35_what_would_fall_otherwise_is_counted_against_the_policies_that_are_replaced() {
    let mut world = World::open_to_all().on_stalling_disk();
    let kernel = world.kernel();
    let idle = agent(&kernel, "a"); // the first decision is always in the sample
    settle_disk(&kernel, idle);
    let closed = format!("{OPEN}\nforbid(principal, action == Action::\"agent.create\", resource);");
    let stalled = world.stall();
    let changed = std::thread::scope(|scope| {
        let closing = scope.spawn(|| kernel.load_policies(OPERATOR, &policies(&closed, &[])));
        while kernel.records_waiting() == 0 {
            std::thread::yield_now();
        }
        let opening = scope.spawn(|| kernel.change_policies(OPERATOR, &policies(OPEN, &[]), Some(0)));
        (0..20_000).for_each(|_| std::thread::yield_now());
        drop(stalled);
        closing.join().unwrap().unwrap();
        opening.join().unwrap()
    });
    let Err(OperatorError::Flips(flips)) = changed else { panic!("K35: agents may be made again") };
    assert_eq!(
        (flips[0].action.as_str(), flips[0].before, flips[0].after),
        ("agent.create", "deny", "allow")
    );
}
