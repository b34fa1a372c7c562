//! What a set may say, and what becomes of it. What it may not say is in `mistakes`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use symbi_policy::vocabulary;
use symbi_policy::{
    CounterSpec, Diagnostic, Effect, Engine, Entity, Link, Obligation, Per, Reason, RecordedRequest, Request,
    Schema, Severity, Source, Uid, Value, builtin,
};

fn source(text: &str) -> Vec<Source> {
    vec![Source { name: "mine.cedar".into(), text: text.into() }]
}

fn refuse(text: &str) -> Vec<Diagnostic> {
    let findings = Engine::compile(Schema::Symbi, &source(text), &[]).map(|_| ()).unwrap_err();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Error), "{findings:?}");
    findings
}

fn compile(text: &str, counters: &[CounterSpec]) -> Engine {
    Engine::compile(Schema::Symbi, &source(text), counters)
        .unwrap_or_else(|found| panic!("{}", symbi_policy::render(&found)))
}

fn counter(name: &str, action: &str) -> CounterSpec {
    CounterSpec::counting(name, action, Per::Principal, 60_000_000)
}

fn bare(text: &str) -> Entity {
    Entity::bare(Uid::parse(text).unwrap())
}

#[test]
fn a_rule_that_can_never_apply_is_a_warning_and_not_an_error() {
    let engine =
        compile("permit (principal is Host, action == Action::\"tool.call\", resource is Topic);", &[]);
    assert_eq!(engine.warnings()[0].code, "policy.impossible");
    assert_eq!(engine.warnings()[0].severity, Severity::Warning);
}

#[test]
fn names_of_rules_are_their_ids_or_their_places_and_stand_once() {
    let engine = compile(
        "@id(\"first\") permit (principal, action, resource);\n\npermit (principal, action, resource);",
        &[],
    );
    let ids: Vec<&str> = engine
        .rules()
        .map(|rule| rule.id.as_str())
        .filter(|id| !id.starts_with("operator") && !id.starts_with("host"))
        .collect();
    assert_eq!(ids, ["first", "mine.cedar:3"]);
    let findings = refuse(
        "@id(\"x\") permit (principal, action, resource);\n@id(\"x\") forbid (principal, action, resource);",
    );
    assert_eq!((findings[0].code, findings[0].line), ("policy.duplicate_id", 2));
    let twice = [source("")[0].clone(), source("")[0].clone()];
    let findings = Engine::compile(Schema::Symbi, &twice, &[]).map(|_| ()).unwrap_err();
    assert_eq!(findings[0].code, "policy.duplicate_source");
}

/// The deepest that is accepted is still decided, or denied by the evaluator's own guard, on a small stack.
#[test]
fn h1_the_deepest_policy_that_is_accepted_can_be_evaluated_explained_and_dropped() {
    let body = format!("{}true", "context.bytes < 10 && ".repeat(1_300));
    let engine = compile(&format!("permit (principal, action, resource) when {{ {body} }};"), &[]);
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    let answer = small
        .spawn(move || {
            let host = vocabulary::host().unwrap();
            let tool = bare("Tool::\"t\"");
            let request = Request::new(&host, "tool.call", &tool).with("bytes", Value::Long(1));
            let decision = engine.evaluate(&request);
            let told = engine.explain(&request, &decision);
            (decision.is_denied(), decision.errors.is_empty(), told.decision)
        })
        .unwrap()
        .join()
        .unwrap();
    // Either it fits (allowed), or the evaluator stopped in time and the permit was not applied.
    assert_eq!(answer.0, !answer.1, "{answer:?}");
}

#[test]
fn a_counter_is_typed_belongs_to_its_action_and_is_reported_to_who_keeps_it() {
    let text = "permit (principal, action == Action::\"tool.call\", resource) when { context.counters.tool_calls <= 10 };";
    let findings = refuse(text);
    assert_eq!(findings[0].code, "policy.unknown_attribute");
    let calls =
        [counter("tool_calls", "tool.call"), counter("other", "tool.call"), counter("sent", "message.send")];
    let engine = compile(text, &calls);
    let read: Vec<&str> = engine.counters_for("tool.call").iter().map(|one| one.name.as_str()).collect();
    assert_eq!(read, ["tool_calls"], "only what a policy reads");
    assert!(engine.counters_for("message.send").is_empty());
    let near = Engine::compile(Schema::Symbi, &source(&text.replace("tool_calls", "tool_cals")), &calls)
        .map(|_| ())
        .unwrap_err();
    assert!(near[0].help.as_deref().unwrap().contains("`tool_calls`"), "{near:?}");
    let wrong_action = text.replace("tool.call\"", "message.send\"");
    assert!(Engine::compile(Schema::Symbi, &source(&wrong_action), &calls).is_err());

    let tool = vocabulary::tool("t", "s", "read", "low").unwrap();
    let host = vocabulary::host().unwrap();
    let ask = |count: i64| {
        let request = Request::new(&host, "tool.call", &tool)
            .with("labels", Value::strings([""; 0]))
            .with("bytes", Value::Long(0))
            .with(
                "counters",
                Value::Record(vec![
                    ("tool_calls".into(), Value::Long(count)),
                    ("other".into(), Value::Long(0)),
                ]),
            );
        engine.check_request(&request).unwrap();
        engine.evaluate(&request)
    };
    assert!(ask(10).is_allowed());
    assert!(ask(11).is_denied());
}

#[test]
fn w1_a_condition_that_reads_counters_in_any_way_is_seen() {
    let counters = [counter("a", "tool.call"), counter("b", "tool.call")];
    for (condition, read) in [
        ("context.counters.a < 1", &["a"][..]),
        ("context has counters.b && context.counters.b < 1", &["b"]),
        ("context.counters == context.counters", &["a", "b"]),
        ("if context.counters.a < 1 then true else context.counters.b < 1", &["a", "b"]),
        ("[1, 2].contains(context.counters.b)", &["b"]),
        ("context == context", &["a", "b"]),
        ("context.bytes < 1", &[]),
    ] {
        let text =
            format!("permit (principal, action == Action::\"tool.call\", resource) when {{ {condition} }};");
        let engine = compile(&text, &counters);
        let names: Vec<&str> = engine.counters_for("tool.call").iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, read, "{condition}");
    }
}

#[test]
fn a_linked_template_is_a_rule_of_its_own_name() {
    let text = "@id(\"may-read\") permit (principal == ?principal, action == Action::\"data.read\", resource in ?resource);";
    let uid = |text: &str| Some(Uid::parse(text).unwrap());
    let link = |principal, resource| Link {
        template: "may-read".into(),
        id: "ana-reads".into(),
        principal,
        resource,
    };
    let links = [link(uid("Agent::\"ana\""), uid("Collection::\"c\""))];
    let engine = Engine::compile_linked(Schema::Symbi, &source(text), &[], &links).unwrap();
    let document = vocabulary::document("d", "c", &Default::default(), "o", &[]).unwrap();
    let decision = engine.evaluate(&Request::new(&bare("Agent::\"ana\""), "data.read", &document));
    assert_eq!(decision.rule().unwrap().id, "ana-reads");
    assert!(engine.evaluate(&Request::new(&bare("Agent::\"bob\""), "data.read", &document)).is_denied());
    for wrong in [
        vec![link(uid("Agent::\"ana\""), None)],
        vec![Link { template: "no-such".into(), ..link(None, None) }],
        vec![],
    ] {
        assert!(Engine::compile_linked(Schema::Symbi, &source(text), &[], &wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn t4_a_denial_brings_about_what_any_forbid_that_made_it_says() {
    let text = "permit (principal, action, resource);
        forbid (principal, action == Action::\"message.send\", resource);
        @on_violation(\"suspend\")
        forbid (principal, action in [Action::\"message.send\", Action::\"data.read\"], resource)
        when { context.bytes > 1 };";
    let source = Source { name: "t.cedar".to_owned(), text: text.to_owned() };
    let engine = Engine::compile(Schema::Unchecked, &[source], &[]).unwrap();
    let entity = |kind: &str| symbi_policy::vocabulary::named(kind, "x").unwrap();
    let (host, agent) = (entity("Host"), entity("Agent"));
    let consequence = |action: &str, bytes: i64| {
        let request = Request::new(&host, action, &agent).with("bytes", Value::Long(bytes));
        engine.evaluate(&request).consequence()
    };
    assert_eq!(consequence("message.send", 1), None, "T4: denied by the one without");
    assert_eq!(consequence("message.send", 2), Some(symbi_policy::Consequence::Suspend), "T4");
    assert_eq!(consequence("data.read", 1), None, "T4: allowed");
}

#[test]
fn o1_obligations_of_all_determining_permits_apply_together() {
    let text = "permit (principal, action, resource);\n\
        @obligation(\"redact\") @labels(\"b, a\") permit (principal, action, resource);\n\
        @obligation(\"redact\") @labels(\"b,c\") permit (principal, action, resource);";
    let host = vocabulary::host().unwrap();
    let decision = compile(text, &[]).evaluate(&Request::new(&host, "tool.call", &bare("Tool::\"t\"")));
    let labels = ["a", "b", "c"].iter().map(|label| label.parse().unwrap()).collect();
    assert_eq!(
        decision.effect,
        Effect::AllowWithConditions(vec![Obligation::Redact { labels, fields: BTreeSet::new() }])
    );
}

#[test]
fn what_is_not_in_the_schema_is_denied() {
    let engine = compile("permit (principal, action, resource);", &[]);
    let (agent, tool) = (bare("Agent::\"a\""), bare("Tool::\"t\""));
    assert!(engine.evaluate(&Request::new(&agent, "tool.call", &tool)).is_allowed());
    assert!(engine.evaluate(&Request::new(&agent, "Action::\"tool.call\"", &tool)).is_allowed());
    for unknown in ["tool.fly", "", "Action::\"tool.fly\"", "::\"", "Other::Action::\"tool.call\""] {
        let decision = engine.evaluate(&Request::new(&agent, unknown, &tool));
        assert_eq!(decision.reason, Some(Reason::UnknownAction), "{unknown}");
    }
}

#[test]
fn entities_that_disagree_deny() {
    let engine = compile("permit (principal, action, resource) when { context.bytes == 1 };", &[]);
    let one = Entity::new("Agent", "a", [("tier", Value::Long(1))], []).unwrap();
    let other = Entity::new("Agent", "a", [("tier", Value::Long(2))], []).unwrap();
    let request = Request::new(&one, "message.send", &other).with("bytes", Value::Long(1));
    assert_eq!(engine.evaluate(&request).reason, Some(Reason::EngineFailed));
    assert!(
        engine.evaluate(&Request::new(&one, "message.send", &one).with("bytes", Value::Long(1))).is_allowed()
    );
}

#[test]
fn the_digest_names_everything_that_decides() {
    let base = compile("permit (principal, action, resource);", &[]);
    assert_eq!(base.digest().len(), 64);
    let counters = [counter("a", "tool.call"), counter("b", "tool.call")];
    let swapped = [counters[1].clone(), counters[0].clone()];
    let other_window = [CounterSpec { window_us: 1, ..counters[0].clone() }, counters[1].clone()];
    let text = "permit (principal, action, resource);";
    assert_eq!(compile(text, &counters).digest(), compile(text, &swapped).digest());
    let different = [
        base.digest().to_owned(),
        compile("permit (principal, action, resource) ;", &[]).digest().to_owned(),
        compile(text, &counters).digest().to_owned(),
        compile(text, &other_window).digest().to_owned(),
        Engine::compile(Schema::Unchecked, &source(text), &[]).unwrap().digest().to_owned(),
        Engine::compile(Schema::Symbi, &builtin::demo(), &[]).unwrap().digest().to_owned(),
    ];
    let unique: std::collections::BTreeSet<&String> = different.iter().collect();
    assert_eq!(unique.len(), different.len());
}

/// Q1, V1, V2.
#[test]
fn a_recorded_request_read_back_is_the_same_and_decides_the_same() {
    let call = vocabulary::call("op1", [("patient", "p1")]).unwrap();
    let host = vocabulary::host().unwrap();
    let tool = vocabulary::tool("t", "s", "read", "low").unwrap();
    let request = Request::new(&host, "tool.call", &tool)
        .with("labels", Value::strings(["b", "a"]))
        .with("bytes", Value::Long(i64::MIN))
        .with("counters", Value::Record(vec![("n".into(), Value::Long(1 << 53))]))
        .with("call", Value::Entity(call.uid().clone()))
        .with("when", Value::extension("datetime", "2026-11-21").unwrap())
        .with("from", Value::extension("ip", "10.0.0.0/8").unwrap())
        .with("flags", Value::Set(vec![Value::Bool(true), Value::String("\u{0}é".into())]))
        .entity(&call);
    let text = serde_json::to_string(&request.to_record()).unwrap();
    assert!(
        text.contains("{\"__long\":\"-9223372036854775808\"}") && text.contains(":9007199254740992"),
        "{text}"
    );
    let read: RecordedRequest = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    let rule = "permit (principal, action, resource) when { context.call.getTag(\"patient\") == \"p1\" && \
        context.bytes < 0 && context.labels.contains(\"a\") && context.from.isInRange(ip(\"10.0.0.0/8\")) && \
        context.when > datetime(\"2026-11-20\") };";
    let engine = Engine::compile(Schema::Unchecked, &source(rule), &[]).unwrap();
    assert!(engine.evaluate(&request).is_allowed());
    assert_eq!(engine.evaluate(&request), engine.evaluate(&read.as_request()));
    for wrong in ["{}", "[]", "1.5", "{\"principal\":{\"type\":\"A\",\"id\":\"b\"}}", "null"] {
        assert!(serde_json::from_str::<RecordedRequest>(wrong).is_err(), "{wrong}");
    }
    let float = text.replace("9007199254740992", "1.5");
    assert!(serde_json::from_str::<RecordedRequest>(&float).is_err(), "a float is no policy value");
}

fn obligations(annotations: &str) -> Vec<Obligation> {
    let text = format!("{annotations}\npermit (principal, action == Action::\"tool.call\", resource);");
    let engine = compile(&text, &[]);
    let rule = engine.rules().find(|rule| rule.source.as_ref() == "mine.cedar").unwrap();
    rule.obligations.clone()
}

#[test]
fn t2_every_obligation_says_what_it_asks_for() {
    use symbi_policy::{Approval, Budget};
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let all = obligations(
        "@id(\"r\") @obligation(\"redact, approval, tier, read_only, budget, record, notify\")
         @labels(\"phi\") @fields(\"patient.name, ssn\")
         @approvers(\"ann, bob\") @approvals(\"2\") @expires(\"2h\")
         @tier(\"gvisor\") @budget(\"10 calls per 1m\") @record(\"full\") @notify(\"security\")",
    );
    assert_eq!(
        all,
        [
            Obligation::Redact {
                labels: std::iter::once("phi".parse().unwrap()).collect(),
                fields: names(&["patient.name", "ssn"])
            },
            Obligation::Approval(Approval { count: 2, approvers: names(&["ann", "bob"]), expires_s: 7_200 }),
            Obligation::Tier(symbi_types::SecurityTier::Gvisor),
            Obligation::ReadOnly,
            Obligation::Budget(Budget {
                rule: "r".into(),
                measure: "calls".into(),
                cap: 10,
                window_us: 60_000_000
            }),
            Obligation::RecordFull,
            Obligation::Notify(names(&["security"])),
        ]
    );
    let plain = Approval { count: 1, approvers: BTreeSet::new(), expires_s: 86_400 };
    assert_eq!(obligations("@obligation(\"approval\")"), [Obligation::Approval(plain)]);
}

/// A large text is read in pieces; nothing of that shows: names, places, findings, decisions.
#[test]
fn a_large_text_is_read_in_pieces_and_says_the_same() {
    let policy = |number: usize| {
        format!(
            "permit (principal == Agent::\"é{number}\", action == Action::\"tool.call\", resource)\n\
             when {{ context.bytes < {number} && \"a;b\" != \"// no comment\" }};  // one; more\n"
        )
    };
    let large: String = (1..1_000).map(policy).collect();
    let engine = compile(&large, &[]);
    let places: Vec<(usize, usize)> = engine
        .rules()
        .filter(|rule| &*rule.source == "mine.cedar")
        .map(|rule| (rule.line, rule.column))
        .collect();
    assert_eq!(places, (0..999).map(|number| (1 + 2 * number, 1)).collect::<Vec<_>>());
    let with_a_mistake = large.replacen("Action::\"tool.call\"", "Action::\"tool.cal\"", 500);
    let with_a_mistake = with_a_mistake.replacen("Action::\"tool.cal\"", "Action::\"tool.call\"", 499);
    let findings = refuse(&with_a_mistake);
    assert_eq!((findings.len(), findings[0].line, findings[0].code), (1, 999, "policy.unknown_action"));
    let with_a_warning =
        format!("{large}permit (principal is Tool, action == Action::\"tool.call\", resource);");
    let warnings = compile(&with_a_warning, &[]);
    assert_eq!((warnings.warnings().len(), warnings.warnings()[0].line), (1, 1_999));
    let twice = refuse(&format!("@id(\"x\")\n{large}@id(\"x\")\npermit (principal, action, resource);"));
    assert_eq!((twice.len(), twice[0].code, twice[0].line), (1, "policy.duplicate_id", 2_000));
}
