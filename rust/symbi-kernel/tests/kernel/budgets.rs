//! K100, K102, K103: budgets of calls, amounts, time and different values, on every level, across crashes.

use std::sync::Arc;

use symbi_kernel::{
    AgentError, AgentSpec, Kernel, Outcome, Permit, Policies, Principal, Refusal, RefusalCode, Settlement,
    ToolCall,
};
use symbi_policy::{Per, parse_counters};
use symbi_types::AgentId;

use crate::world::*;

fn declared(text: &str, toml: &str) -> Policies {
    Policies { counters: parse_counters("test.counters.toml", toml).unwrap(), ..policies(text, &[]) }
}

fn budget(keys: &str) -> String {
    format!("[budgets.spend]\naction = \"tool.call\"\nmeasure = \"cost\"\nwindow_s = 60\n{keys}\n")
}

fn costing(kernel: &Arc<Kernel>, by: AgentId, cost: u64) -> Result<Permit, AgentError> {
    let amounts = vec![("cost".to_owned(), cost)];
    kernel.begin_tool_call(Principal::Agent(by), ToolCall { amounts, ..call("t") })
}

fn spend(kernel: &Arc<Kernel>, by: AgentId, estimate: u64, used: u64) {
    let permit = costing(kernel, by, estimate).unwrap();
    take(kernel, &permit);
    let settlement = Settlement { used: vec![("cost".to_owned(), used)], ..Settlement::default() };
    let seq = permit.settle_as(&Outcome::Done, settlement).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
}

fn spent(refused: Result<Permit, AgentError>) -> Refusal {
    let refused = refusal(refused);
    assert_eq!(refused.code, RefusalCode::OverBudget, "{refused}");
    refused
}

#[test]
fn k102_each_level_of_a_budget_holds_and_says_which_it_is() {
    let mut world = World::with(Some(declared(OPEN, &budget("run = 10\nagent = 25\ntenant = 30"))));
    let kernel = world.kernel();
    tool(&kernel, "t");
    let (one, other) = (agent(&kernel, "one"), agent(&kernel, "other"));
    for expected in ["spend_run", "spend_run", "spend_agent"] {
        let begun = run(&kernel, one);
        while let Ok(permit) = costing(&kernel, one, 5) {
            take(&kernel, &permit);
            permit.settle(&Outcome::Done).unwrap();
        }
        assert!(spent(costing(&kernel, one, 5)).message.contains(expected), "K102: {expected}");
        kernel.end_run(begun.run, &symbi_kernel::RunOutcome::Done).unwrap();
    }
    spend(&kernel, other, 5, 5);
    assert!(spent(costing(&kernel, other, 5)).message.contains("spend_tenant"), "K102");
    let spec = AgentSpec { tenant: "others".into(), ..spec("third") };
    let third = kernel.create_agent(Principal::Host, Arc::new(spec)).unwrap().0;
    spend(&kernel, third, 5, 5);
    world.clock.advance_us(61_000_000);
    spend(&kernel, other, 5, 5); // the window is over, and what a run has spent is its own
}

#[test]
fn k103_an_estimate_gives_way_to_what_was_spent_and_so_it_stays_after_a_crash() {
    let mut world = World::with(Some(declared(OPEN, &budget("agent = 100"))));
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    let flying = costing(&kernel, one, 80).unwrap();
    spent(costing(&kernel, one, 30)); // what is in flight counts
    take(&kernel, &flying);
    let used = Settlement { used: vec![("cost".into(), 10)], ..Settlement::default() };
    flying.settle_as(&Outcome::Done, used).unwrap();
    spend(&kernel, one, 30, 75); // more than was expected: 85 in all
    spent(costing(&kernel, one, 16));
    let lost = costing(&kernel, one, 5).unwrap(); // 90, and nobody will know
    take(&kernel, &lost);
    let (after, _image) = world.crashed();
    tool(&after, "t");
    let again = agent(&after, "one");
    spent(costing(&after, again, 11));
    spend(&after, again, 10, 10);
    spent(costing(&after, again, 0)); // nothing is left, and what it will cost is not known
}

#[test]
fn k102_time_is_taken_from_the_act_to_its_outcome() {
    let toml =
        "[budgets.work]\naction = \"tool.call\"\nmeasure = \"time_ms\"\nwindow_s = 600\nagent = 1000\n";
    let mut world = World::with(Some(declared(OPEN, toml)));
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    for _ in 0..2 {
        let permit = ask(&kernel, one, "t").unwrap();
        world.clock.advance_us(5_000_000); // before the act it costs nothing
        take(&kernel, &permit);
        world.clock.advance_us(500_000);
        permit.settle(&Outcome::Done).unwrap();
    }
    spent(ask(&kernel, one, "t"));
}

#[test]
fn k100_different_values_of_a_declared_attribute_are_counted_across_calls_and_crashes() {
    let toml = "[counters.patients]\naction = \"tool.call\"\nper = \"principal\"\nwindow_s = 3600\n\
        kind = \"distinct\"\nof = \"call.patient\"\n";
    let rule = format!(
        "{OPEN}\nforbid(principal, action == Action::\"tool.call\", resource) when {{ context.counters.patients > 2 }};"
    );
    let mut world = World::with(Some(declared(&rule, toml)));
    let look = |kernel: &Arc<Kernel>, by: AgentId, patient: &str| {
        let attributes = vec![("patient".to_owned(), patient.to_owned())];
        let permit = kernel.begin_tool_call(Principal::Agent(by), ToolCall { attributes, ..call("t") })?;
        take(kernel, &permit);
        let seq = permit.settle(&Outcome::Done).unwrap();
        kernel.wait_durable(seq, SOON).unwrap();
        Ok::<(), AgentError>(())
    };
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    for patient in ["ann", "bob", "ann", "bob", "ann"] {
        look(&kernel, one, patient).unwrap();
    }
    assert!(look(&kernel, one, "cid").is_err(), "K100");
    act(&kernel, one, "t"); // of no patient
    let (after, _image) = world.crashed();
    tool(&after, "t");
    let again = agent(&after, "one");
    assert!(look(&after, again, "cid").is_err(), "K103");
    look(&after, again, "bob").unwrap();
    let plain: String = world.records().into_iter().map(|record| record.line).collect();
    assert!(!plain.contains("bob"), "a value of a person stands nowhere in the clear");
}

#[test]
fn a_counter_counts_what_it_names_and_other_actions_can_look_at_it() {
    let toml = "[counters.phi_out]\naction = \"tool.call\"\nper = \"principal\"\nwindow_s = 3600\nkind = \"sum\"\n\
        of = \"bytes\"\nresource = \"mail.*\"\nlabel = \"phi\"\nshown_to = [\"message.send\"]\n";
    let rule = format!(
        "{OPEN}\nforbid(principal, action == Action::\"message.send\", resource) when {{ context.counters.phi_out > 0 }};"
    );
    let mut world = World::with(Some(declared(&rule, toml)));
    let kernel = world.kernel();
    tool(&kernel, "mail.send");
    tool(&kernel, "other.send");
    let marked = AgentSpec { labels: labels(&["phi"]), ..spec("marked") };
    let marked = kernel.create_agent(Principal::Host, Arc::new(marked)).unwrap().0;
    let (clean, to) = (agent(&kernel, "clean"), agent(&kernel, "to"));
    let send = |from: AgentId| {
        let payload = symbi_kernel::Payload::Bytes(vec![1]);
        kernel.send(from, &symbi_kernel::Recipient::Agent(to), payload, None, false)
    };
    act(&kernel, clean, "mail.send");
    act(&kernel, marked, "other.send");
    assert!(send(clean).is_ok() && send(marked).is_ok(), "another tool, and no such label");
    act(&kernel, marked, "mail.send");
    assert!(send(marked).is_err() && send(clean).is_ok());
}

#[test]
fn k102_a_rule_may_bound_what_it_lets_through_itself() {
    let text = "permit(principal is Host, action, resource);
        @id(\"few\") @obligation(\"budget\") @budget(\"3 calls per 60s\")
        permit(principal is Agent, action == Action::\"tool.call\", resource);";
    let mut world = World::with(Some(policies(text, &[])));
    let kernel = world.kernel();
    tool(&kernel, "t");
    let (one, other) = (agent(&kernel, "one"), agent(&kernel, "other"));
    (0..3).for_each(|_| act(&kernel, one, "t"));
    spent(ask(&kernel, one, "t"));
    act(&kernel, other, "t");
    let (after, _image) = world.crashed();
    tool(&after, "t");
    let again = agent(&after, "one");
    spent(ask(&after, again, "t"));
    world.clock.advance_us(61_000_000);
    act(&after, again, "t");
}

#[test]
fn a_counter_that_is_declared_again_goes_on_from_what_it_had() {
    let mut world = World::with(Some(at_most(2, Per::Principal)));
    let kernel = world.kernel();
    tool(&kernel, "t");
    let one = agent(&kernel, "one");
    (0..2).for_each(|_| act(&kernel, one, "t"));
    kernel.load_policies(OPERATOR, &policies(OPEN, &[])).unwrap();
    act(&kernel, one, "t");
    kernel.load_policies(OPERATOR, &at_most(2, Per::Principal)).unwrap();
    spent(ask(&kernel, one, "t"));
}
