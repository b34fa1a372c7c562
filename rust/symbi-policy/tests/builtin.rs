//! The sets that come with symbi: what holds before anybody names a policy, and what the demo shows.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use symbi_policy::vocabulary::{self, AgentFacts};
use symbi_policy::{Decision, Effect, Engine, Entity, Obligation, Request, Schema, Source, Value, builtin};
use symbi_types::{LabelSet, SecurityTier};

fn agent(name: &str, capabilities: &[&str]) -> Entity {
    let capabilities: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    vocabulary::agent(&AgentFacts {
        name,
        instance: "i",
        tier: SecurityTier::Docker,
        in_process: false,
        kind: "python",
        tenant: "default",
        capabilities: &capabilities,
        labels: &LabelSet::default(),
    })
    .unwrap()
}

fn labels(texts: &[&str]) -> LabelSet {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ask(engine: &Engine, principal: &Entity, action: &str, resource: &Entity, carried: &[&str]) -> Decision {
    let request = Request::new(principal, action, resource)
        .with("labels", Value::labels(&labels(carried)))
        .with("bytes", Value::Long(1))
        .with("counters", Value::Record(Vec::new()));
    engine.check_request(&request).unwrap();
    engine.evaluate(&request)
}

fn engine(sources: &[Source]) -> Engine {
    Engine::compile(Schema::Symbi, sources, &[])
        .unwrap_or_else(|found| panic!("{}", symbi_policy::render(&found)))
}

#[test]
fn secure_default_lets_agents_live_and_talk_and_nothing_leave() {
    let engine = engine(&builtin::secure_default());
    assert!(engine.warnings().is_empty(), "{:?}", engine.warnings());
    let host = vocabulary::host().unwrap();
    let (scout, other) = (agent("scout", &[]), agent("other", &[]));
    let writer = agent("writer", &["knowledge:write"]);
    let readers = ["*".to_owned()];
    let for_all = vocabulary::document("e", "knowledge", &LabelSet::default(), "writer", &readers).unwrap();
    let collection = vocabulary::named("Collection", "main").unwrap();
    let document =
        vocabulary::document("d1", "main", &labels(&["personal"]), "scout", &["scout".into()]).unwrap();
    let closed = vocabulary::sandbox("s1", SecurityTier::Docker, false, false).unwrap();
    let networked = vocabulary::sandbox("s2", SecurityTier::Docker, true, false).unwrap();
    let writable = vocabulary::sandbox("s3", SecurityTier::Gvisor, false, true).unwrap();
    let topic = vocabulary::named("Topic", "news").unwrap();
    let tool = vocabulary::tool("outbox.send", "outbox", "external", "high").unwrap();
    let reader_tool = vocabulary::tool("files.read", "files", "read", "low").unwrap();
    let runtime = vocabulary::named("Runtime", "this").unwrap();

    let yes = [
        (&host, "agent.create", &scout),
        (&host, "agent.run", &scout),
        (&host, "agent.stop", &scout),
        (&scout, "message.send", &other),
        (&scout, "message.publish", &topic),
        (&host, "sandbox.start", &closed),
        (&scout, "data.read", &document),
        (&scout, "data.search", &document),
        (&other, "data.read", &for_all),
        (&scout, "data.search", &collection),
        (&writer, "data.write", &collection),
        (&host, "data.write", &collection),
    ];
    for (principal, action, resource) in yes {
        let decision = ask(&engine, principal, action, resource, &[]);
        assert!(decision.is_allowed(), "{} {action} {}", principal.uid(), resource.uid());
    }
    let no = [
        (&scout, "agent.create", &other),
        (&scout, "agent.stop", &other),
        (&host, "sandbox.start", &networked),
        (&host, "sandbox.start", &writable),
        (&scout, "tool.call", &tool),
        (&host, "tool.call", &tool),
        (&scout, "tool.call", &reader_tool),
        (&other, "data.read", &document),
        (&scout, "data.write", &collection),
        (&scout, "label.declassify", &scout),
        (&host, "label.declassify", &document),
        (&host, "data.erase", &document),
        (&scout, "operation.approve", &runtime),
        (&host, "operation.approve", &runtime),
    ];
    for (principal, action, resource) in no {
        let decision = ask(&engine, principal, action, resource, &[]);
        assert!(decision.is_denied(), "{} {action} {}", principal.uid(), resource.uid());
        assert!(decision.errors.is_empty(), "{:?}", decision.errors);
    }
}

#[test]
fn the_demo_lets_clean_parts_pass_redacts_personal_ones_and_refuses_secrets() {
    let engine = engine(&builtin::demo());
    let (courier, analyst) = (agent("courier", &[]), agent("analyst", &[]));
    let outbox = vocabulary::tool("outbox.send", "outbox", "external", "high").unwrap();
    assert!(ask(&engine, &courier, "tool.call", &outbox, &[]).is_allowed());
    let redacted = ask(&engine, &courier, "tool.call", &outbox, &["personal"]);
    assert_eq!(
        redacted.effect,
        Effect::AllowWithConditions(vec![Obligation::Redact {
            labels: labels(&["personal"]),
            fields: BTreeSet::new()
        }])
    );
    assert!(!redacted.is_allowed(), "conditions are unmet");
    assert_eq!(redacted.effect.as_str(), "redact");
    for carried in [&["secret"][..], &["personal", "secret"]] {
        let refused = ask(&engine, &courier, "tool.call", &outbox, carried);
        assert!(refused.is_denied());
        assert_eq!(refused.rule().unwrap().id, "no-secret-leaves");
        assert_eq!(refused.message(), Some("secrets never leave the house"));
    }
    assert!(ask(&engine, &analyst, "tool.call", &outbox, &[]).is_denied());
}

/// D7: a set that locks everybody out can still be replaced, and what runs can still be stopped.
#[test]
fn d7_no_policy_of_a_user_takes_the_operators_controls_or_the_brakes_away() {
    let forbid = [Source { name: "mine".into(), text: "forbid (principal, action, resource);".into() }];
    for sources in [&forbid[..], &[]] {
        let engine = engine(sources);
        let operator = vocabulary::operator(1000).unwrap();
        let host = vocabulary::host().unwrap();
        let scout = agent("scout", &[]);
        let runtime = vocabulary::named("Runtime", "this").unwrap();
        let set = vocabulary::named("PolicySet", "main").unwrap();
        let key = vocabulary::named("Key", "audit").unwrap();
        for (action, resource) in [
            ("policy.change", &set),
            ("key.change", &key),
            ("operation.approve", &runtime),
            ("operation.resolve", &runtime),
            ("agent.stop", &scout),
            ("agent.suspend", &scout),
            ("agent.resume", &scout),
        ] {
            assert!(ask(&engine, &operator, action, resource, &[]).is_allowed(), "{action}");
        }
        assert!(ask(&engine, &host, "agent.stop", &scout, &[]).is_allowed());
        assert!(ask(&engine, &host, "policy.change", &set, &[]).is_denied());
        assert!(ask(&engine, &scout, "policy.change", &set, &[]).is_denied());
        assert!(ask(&engine, &operator, "label.declassify", &scout, &[]).is_denied());
    }
}

/// D9: four eyes on policies, without a way to forbid them.
#[test]
fn d9_a_set_may_ask_for_a_second_person_at_an_operators_change_of_policy_and_for_nothing_else() {
    let text = "@id(\"two\") @obligation(\"approval\") @approvals(\"2\")
        permit (principal is Operator, action, resource) when { principal == Operator::\"1000\" };
        @id(\"never\") forbid (principal, action, resource);";
    let engine = engine(&[Source { name: "mine".into(), text: text.into() }]);
    let set = vocabulary::named("PolicySet", "main").unwrap();
    let runtime = vocabulary::named("Runtime", "this").unwrap();
    let ask =
        |uid, action, resource| ask(&engine, &vocabulary::operator(uid).unwrap(), action, resource, &[]);
    let changed = ask(1000, "policy.change", &set);
    assert_eq!(changed.effect.as_str(), "approval");
    let rules: Vec<&str> = changed.determining.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(rules, ["operator-controls", "two"]);
    assert!(ask(1001, "policy.change", &set).is_allowed(), "the rule is about another");
    assert!(ask(1000, "operation.approve", &runtime).is_allowed(), "or nobody could ever agree");
}

#[test]
fn an_empty_set_denies_everything_else() {
    let engine = engine(&[]);
    let (one, two) = (agent("one", &["knowledge:write"]), agent("two", &[]));
    assert!(ask(&engine, &one, "message.send", &two, &[]).is_denied());
    assert!(ask(&engine, &vocabulary::host().unwrap(), "agent.create", &two, &[]).is_denied());
}
