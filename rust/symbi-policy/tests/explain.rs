//! "Why?" is answered with the rule, its place, the clause, its values, and what would allow it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use symbi_policy::{Engine, Entity, Explanation, Request, Schema, Source, Uid, Value, builtin, vocabulary};

fn ask(text: &str, action: &str, resource: &Entity, bytes: i64, labels: &[&str]) -> Explanation {
    let sources = [Source { name: "mine.cedar".into(), text: text.into() }];
    let engine = Engine::compile(Schema::Symbi, &sources, &[])
        .unwrap_or_else(|found| panic!("{}", symbi_policy::render(&found)));
    let host = vocabulary::host().unwrap();
    let request = Request::new(&host, action, resource)
        .with("labels", Value::strings(labels))
        .with("bytes", Value::Long(bytes));
    let decision = engine.evaluate(&request);
    engine.explain(&request, &decision)
}

fn tool() -> Entity {
    Entity::bare(Uid::parse("Tool::\"t\"").unwrap())
}

const BOTH: &str = "@id(\"small\")\npermit (principal, action == Action::\"tool.call\", resource)\n\
    when { context.bytes < 10 && context.labels.contains(\"clean\") };\n\
    @id(\"secret\")\nforbid (principal, action, resource) when { context.labels.contains(\"secret\") };";

#[test]
fn the_nearest_permit_is_named_with_the_clause_that_failed_and_its_value() {
    let told = ask(BOTH, "tool.call", &tool(), 12, &["clean"]);
    assert_eq!(told.decision, "deny");
    assert_eq!(
        (told.rule.as_deref(), told.source.as_deref(), told.line),
        (Some("small"), Some("mine.cedar"), Some(1))
    );
    assert_eq!(told.clause.as_deref(), Some("context.bytes < 10"));
    assert_eq!(told.values, [("context.bytes".to_owned(), "12".to_owned())]);
    assert_eq!(
        told.change_that_would_allow.as_deref(),
        Some("it would be allowed if `context.bytes < 10` held")
    );
}

#[test]
fn x1_two_things_in_the_way_are_not_called_one_change() {
    let told = ask(BOTH, "tool.call", &tool(), 12, &[]);
    assert_eq!(told.rule.as_deref(), Some("small"));
    assert_eq!(told.change_that_would_allow, None);
}

#[test]
fn a_forbid_is_named_and_so_is_the_clause_without_which_it_would_pass() {
    let told = ask(BOTH, "tool.call", &tool(), 1, &["clean", "secret"]);
    assert_eq!((told.rule.as_deref(), told.line), (Some("secret"), Some(4)));
    let change = told.change_that_would_allow.unwrap();
    assert_eq!(change, "it would be allowed if `context.labels.contains(\"secret\")` did not hold");
    let told = ask(BOTH, "tool.call", &tool(), 99, &["secret"]);
    assert_eq!(told.change_that_would_allow, None, "no permit would let it pass either");
}

#[test]
fn a_permit_for_somebody_else_is_near_when_its_head_alone_is_in_the_way() {
    let text =
        "@id(\"ana\") permit (principal == Agent::\"ana\", action == Action::\"tool.call\", resource);";
    let told = ask(text, "tool.call", &tool(), 1, &[]);
    assert_eq!(told.clause.as_deref(), Some("principal == Agent::\"ana\""));
    let change = told.change_that_would_allow.unwrap();
    assert_eq!(change, "it would be allowed if the rule said `principal == Host::\"host\"` in its head");
    let told = ask(text, "message.publish", &Entity::bare(Uid::parse("Topic::\"x\"").unwrap()), 1, &[]);
    assert_eq!(
        (told.rule, told.change_that_would_allow),
        (None, None),
        "a rule for another action is not near"
    );
}

#[test]
fn an_unless_is_shown_negated_and_an_allow_names_its_rule() {
    let text = "@id(\"open\") permit (principal, action, resource) unless { context.bytes > 5 || context.labels.contains(\"x\") };";
    let told = ask(text, "tool.call", &tool(), 6, &[]);
    assert_eq!(told.clause.as_deref(), Some("!(context.bytes > 5)"));
    let told = ask(text, "tool.call", &tool(), 5, &[]);
    assert_eq!((told.decision.as_str(), told.rule.as_deref()), ("allow", Some("open")));
}

#[test]
fn a_forbid_that_erred_says_why() {
    let sources = [Source {
        name: "m".into(),
        text: "@id(\"bad\") forbid (principal, action, resource) when { context.gone };".into(),
    }];
    let engine = Engine::compile(Schema::Unchecked, &sources, &[]).unwrap();
    let tool = tool();
    let request = Request::new(&tool, "x", &tool);
    let told = engine.explain(&request, &engine.evaluate(&request));
    assert!(told.summary.contains("`bad`") && told.summary.contains("gone"), "{told:?}");
    assert_eq!(told.values, [("context.gone".to_owned(), "absent".to_owned())]);
}

#[test]
fn every_builtin_denial_of_the_demo_explains_itself() {
    let engine = Engine::compile(Schema::Symbi, &builtin::demo(), &[]).unwrap();
    let courier = Entity::bare(Uid::parse("Agent::\"courier\"").unwrap());
    let outbox = Entity::bare(Uid::parse("Tool::\"outbox.send\"").unwrap());
    let request =
        Request::new(&courier, "tool.call", &outbox).with("labels", Value::strings(["secret", "personal"]));
    let told = engine.explain(&request, &engine.evaluate(&request));
    assert_eq!(told.rule.as_deref(), Some("no-secret-leaves"));
    assert!(told.change_that_would_allow.is_some(), "{told:?}");
}
