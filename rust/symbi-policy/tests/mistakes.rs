//! What a set may not say: refused where it stands, with a stable code and the line that mends it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use symbi_policy::{CounterSpec, Diagnostic, Engine, Per, Schema, Severity, Source, parse_counters};

fn source(text: &str) -> Vec<Source> {
    vec![Source { name: "mine.cedar".into(), text: text.into() }]
}

fn refuse(text: &str) -> Vec<Diagnostic> {
    let findings = Engine::compile(Schema::Symbi, &source(text), &[]).map(|_| ()).unwrap_err();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Error), "{findings:?}");
    findings
}

fn counter(name: &str, action: &str) -> CounterSpec {
    CounterSpec::counting(name, action, Per::Principal, 60_000_000)
}

/// G2, T1, T2, T3: the codes below are what others may rely on.
#[test]
fn a_wrong_name_is_shown_at_its_place_with_the_nearest_that_exists() {
    for (text, code, line, column, help) in [
        (
            "permit (\n  principal,\n  action == Action::\"tool.cal\", resource);",
            "policy.unknown_action",
            3,
            13,
            "`Action::\"tool.call\"`",
        ),
        ("permit (principal is Agnet, action, resource);", "policy.unknown_entity_type", 1, 22, "`Agent`"),
        (
            "permit (principal is Agent, action, resource)\nwhen { principal.teir == 1 };",
            "policy.unknown_attribute",
            2,
            8,
            "`tier`",
        ),
        (
            "permit (principal, action == Action::\"agent.run\", resource)\nwhen { context.tier == \"batch\" };",
            "policy.optional",
            2,
            8,
            "has",
        ),
        (
            "permit (principal is Agent, action, resource) when { principal.tier == \"1\" };",
            "policy.type",
            1,
            54,
            "",
        ),
        ("permit (principal, action, resource", "policy.syntax", 1, 36, ""),
        ("@frob(\"x\") permit (principal, action, resource);", "policy.annotation", 1, 1, "accepted: `@id`"),
        (
            "@mesage(\"x\") permit (principal, action, resource);",
            "policy.annotation",
            1,
            1,
            "did you mean `@message`",
        ),
        (
            "@obligation(\"redcat\") @labels(\"a\") permit (principal, action, resource);",
            "policy.obligation",
            1,
            1,
            "`redact`",
        ),
        (
            "@obligation(\"redact\") permit (principal, action, resource);",
            "policy.obligation",
            1,
            1,
            "@labels",
        ),
        ("@labels(\"a\") permit (principal, action, resource);", "policy.obligation", 1, 1, "@obligation"),
        (
            "@obligation(\"redact\") @labels(\"PHI\") permit (principal, action, resource);",
            "policy.obligation",
            1,
            23,
            "",
        ),
        (
            "@obligation(\"redact\") @labels(\"a\") forbid (principal, action, resource);",
            "policy.obligation",
            1,
            1,
            "permit",
        ),
        (
            "@on_violation(\"suspned\") forbid (principal, action, resource);",
            "policy.on_violation",
            1,
            1,
            "`suspend`",
        ),
        (
            "@on_violation(\"suspend\") permit (principal, action, resource);",
            "policy.on_violation",
            1,
            1,
            "forbid",
        ),
        ("@id(\"a b\") permit (principal, action, resource);", "policy.annotation", 1, 1, "accepted"),
        (
            "@message(\"\\u{202e}evil\") permit (principal, action, resource);",
            "policy.annotation",
            1,
            1,
            "printable",
        ),
        ("permit (principal == ?principal, action, resource);", "policy.template", 1, 1, "@id"),
        ("permit (principal, action, resource) when { \"\u{202e}x\" == \"y\" };", "policy.bidi", 1, 45, ""),
    ] {
        let findings = refuse(text);
        let found = &findings[0];
        assert_eq!((found.code, found.line, found.column), (code, line, column), "{text}\n{findings:?}");
        assert!(found.help.as_deref().unwrap_or("").contains(help), "{text}\n{findings:?}");
        assert_eq!(found.source, "mine.cedar");
    }
}

#[test]
fn d6_every_error_of_every_source_is_reported_and_nothing_is_kept() {
    let sources = [
        Source { name: "a".into(), text: "permit (principal, action == Action::\"x\", resource);".into() },
        Source { name: "b".into(), text: "permit (principal, action, resource);".into() },
        Source { name: "c".into(), text: "nonsense".into() },
    ];
    let findings = Engine::compile(Schema::Symbi, &sources, &[]).map(|_| ()).unwrap_err();
    let places: Vec<&str> = findings.iter().map(|finding| finding.source.as_str()).collect();
    assert_eq!(places, ["a", "c"]);
}

#[test]
fn limits_hold_at_their_edge() {
    let comment = |bytes: usize| format!("//{}", "x".repeat(bytes - 2));
    assert!(Engine::compile(Schema::Symbi, &source(&comment(symbi_policy::SOURCE_BYTES_MAX)), &[]).is_ok());
    assert_eq!(refuse(&comment(symbi_policy::SOURCE_BYTES_MAX + 1))[0].code, "policy.limit");
    let many: Vec<CounterSpec> =
        (0..=symbi_policy::COUNTERS_MAX).map(|n| counter(&format!("c{n}"), "tool.call")).collect();
    assert!(Engine::compile(Schema::Symbi, &[], &many[1..]).is_ok());
    assert_eq!(Engine::compile(Schema::Symbi, &[], &many).map(|_| ()).unwrap_err()[0].code, "counters.limit");
}

/// A parser that follows every parenthesis down its own stack must say no, not end the process. This one did: a
/// policy of a thousand parentheses overflowed a thread's stack inside Cedar.
#[test]
fn h1_deep_nesting_is_refused_and_not_a_crash() {
    let rule = |body: String| source(&format!("permit (principal, action, resource) when {{ {body} }};"));
    let shapes: [fn(usize) -> String; 6] = [
        |depth| format!("{}true{}", "(".repeat(depth), ")".repeat(depth)),
        |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth)),
        |depth| format!("{}1{}", "{a: ".repeat(depth), "}".repeat(depth)),
        |depth| format!("{}true", "true && ".repeat(depth)),
        |depth| format!("context.{}z", "a.".repeat(depth)),
        |depth| format!("{}true{}", "if true then ".repeat(depth), " else true".repeat(depth)),
    ];
    for shape in shapes {
        for schema in [Schema::Unchecked, Schema::Symbi] {
            for depth in [60, 1_000, 50_000] {
                let _ = Engine::compile(schema.clone(), &rule(shape(depth)), &[]);
            }
        }
    }
    let _ = Engine::compile(Schema::Unchecked, &rule("!".repeat(50_000)), &[]);
    let schema = format!("entity A {{ a: {}Long{} }};", "Set<".repeat(50_000), ">".repeat(50_000));
    let schema = Schema::Text { name: "s".into(), text: schema };
    assert_eq!(Engine::compile(schema, &[], &[]).map(|_| ()).unwrap_err()[0].code, "schema.limit");
}

#[test]
fn t2_a_condition_that_is_not_complete_or_cannot_be_met_is_refused_where_it_stands() {
    for annotations in [
        "@obligation(\"tier\")",
        "@obligation(\"tier\") @tier(\"firecracker\")",
        "@tier(\"gvisor\")",
        "@obligation(\"budget\")",
        "@obligation(\"budget\") @budget(\"ten calls per 60s\")",
        "@obligation(\"budget\") @budget(\"10 calls per 60\")",
        "@obligation(\"budget\") @budget(\"10 calls per 99d\")",
        "@obligation(\"record\") @record(\"loud\")",
        "@obligation(\"notify\")",
        "@obligation(\"notify\") @notify(\"a b\")",
        "@obligation(\"redact\") @fields(\"\")",
        "@obligation(\"approval\") @approvals(\"0\")",
        "@obligation(\"approval\") @approvals(\"2\") @approvers(\"ann\")",
        "@obligation(\"approval\") @expires(\"soon\")",
        "@obligation(\"approval\") @expires(\"0s\")",
        "@approvers(\"ann\")",
        "@obligation(\"\")",
        "@obligation(\"redact,\") @labels(\"a\")",
    ] {
        let found = refuse(&format!("{annotations} permit (principal, action, resource);"));
        assert_eq!((found[0].code, found[0].line), ("policy.obligation", 1), "{annotations}");
    }
}

/// A rule about what nothing asks would compile and hold nobody.
#[test]
fn an_action_that_nothing_asks_is_refused_with_what_to_write_instead() {
    for (action, instead) in [
        ("net.connect", "`tool.call`"),
        ("resource.allocate", "`agent.run`"),
        ("agent.configure", "`agent.create`"),
    ] {
        let found = refuse(&format!("forbid (principal,\n  action == Action::\"{action}\", resource);"));
        assert_eq!(
            (found[0].code, found[0].line, found[0].column),
            ("policy.unknown_action", 2, 13),
            "{action}"
        );
        let help = found[0].help.as_deref().unwrap();
        assert!(help.contains(&format!("nothing asks `{action}`")) && help.contains(instead), "{help}");
        for declared in [
            format!("action = \"{action}\"\nper = \"global\"\nwindow_s = 60\nkind = \"count\"\n"),
            format!(
                "action = \"tool.call\"\nper = \"global\"\nwindow_s = 60\nkind = \"count\"\nshown_to = [\"{action}\"]\n"
            ),
        ] {
            let found =
                parse_counters("mine.counters.toml", &format!("[counters.calls]\n{declared}")).unwrap_err();
            let help = found[0].help.as_deref().unwrap();
            assert!(help.contains(&format!("nothing asks `{action}`")), "{help}");
        }
    }
}
