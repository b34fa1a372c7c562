//! Text from anywhere: refused with a place or accepted, and nothing else. `SYMBI_LONG=1` takes 2,000,000 policies (a quarter of an hour)
//! and 4,000,000 counters and requests.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; tables are its own"
)]

mod common;

use common::{Dice, cases};
use symbi_policy::{
    Engine, Entity, RecordedRequest, Request, Schema, Severity, Source, Uid, builtin, parse_counters,
};

const TOKENS: [&str; 64] = [
    "permit",
    "forbid",
    "(",
    ")",
    "principal",
    "action",
    "resource",
    "context",
    ",",
    ";",
    "when",
    "unless",
    "{",
    "}",
    "==",
    "!=",
    "<",
    "<=",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    ".",
    "in",
    "is",
    "has",
    "like",
    "if",
    "then",
    "else",
    "Agent",
    "::",
    "\"triage\"",
    "Action::\"tool.call\"",
    "Tool",
    "?principal",
    "?resource",
    "[",
    "]",
    "true",
    "1",
    "9223372036854775807",
    "\"",
    "\\",
    "@id(\"x\")",
    "@obligation(\"redact\")",
    "@labels(\"a\")",
    "@message(\"m\")",
    "labels",
    "contains",
    "containsAll",
    "\"\\u{202e}\"",
    "\u{202e}",
    "p\u{0430}ypal",
    "ip",
    "decimal",
    "//",
    "\n",
    "\u{0}",
    "é",
    "__cedar",
    "'",
];

fn text(dice: &mut Dice) -> String {
    match dice.below(4) {
        // Words in any order.
        0 => (0..dice.below(60)).map(|_| format!("{} ", TOKENS[dice.below(TOKENS.len())])).collect(),
        // A good set with one thing wrong.
        1 => {
            let good = [builtin::DEMO, builtin::SECURE_DEFAULT, builtin::OPERATOR][dice.below(3)];
            let mut bytes = good.as_bytes().to_vec();
            for _ in 0..=dice.below(4) {
                let at = dice.below(bytes.len());
                match dice.below(3) {
                    0 => bytes[at] = u8::try_from(dice.below(128)).unwrap(),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"(){}[]\"\\;&|!"[dice.below(12)]),
                }
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
        // One thing very often.
        2 => TOKENS[dice.below(TOKENS.len())].repeat(dice.below(400)),
        _ => (0..dice.below(200))
            .filter_map(|_| char::from_u32(u32::try_from(dice.below(0x3000)).unwrap()))
            .collect(),
    }
}

#[test]
fn no_text_of_a_policy_does_more_than_be_refused_with_its_place() {
    let mut accepted = 0;
    for seed in 0..cases(3_000, 2_000_000) {
        let mut dice = Dice::new(seed);
        let text = text(&mut dice);
        let schema = if dice.once_in(2) { Schema::Symbi } else { Schema::Unchecked };
        let source = Source { name: "x.cedar".into(), text: text.clone() };
        match Engine::compile(schema, &[source], &[]) {
            Ok(engine) => {
                accepted += 1;
                let agent = Entity::bare(Uid::new("Agent", "a").unwrap());
                let _ = engine.evaluate(&Request::new(&agent, "tool.call", &agent));
            }
            Err(found) => {
                assert!(!found.is_empty(), "{text:?}");
                for one in found {
                    assert_eq!(one.severity, Severity::Error);
                    assert!(
                        one.line >= 1 && one.column >= 1 && one.line <= text.lines().count() + 1,
                        "{text:?}"
                    );
                }
            }
        }
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn no_text_of_counters_or_of_a_recorded_request_does_more_than_be_refused() {
    const PIECES: [&str; 24] = [
        "[counters.x]",
        "\n",
        "action",
        "=",
        "\"tool.call\"",
        "per",
        "\"principal\"",
        "window_s",
        "60",
        "kind",
        "\"count\"",
        "[",
        "]",
        "{",
        "}",
        ",",
        "1e400",
        "\"\\ud800\"",
        "'",
        "-",
        "0x",
        "\u{0}",
        "a.b",
        "#",
    ];
    const JSON: [&str; 22] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"principal\"",
        "\"type\"",
        "\"id\"",
        "\"Agent\"",
        "\"a\"",
        "\"action\"",
        "\"resource\"",
        "\"context\"",
        "\"__entity\"",
        "\"__extn\"",
        "\"fn\"",
        "\"ip\"",
        "\"arg\"",
        "null",
        "1.5",
        "18446744073709551615",
    ];
    for seed in 0..cases(20_000, 4_000_000) {
        let mut dice = Dice::new(seed);
        let toml: String = (0..dice.below(30)).map(|_| PIECES[dice.below(PIECES.len())]).collect();
        let _ = parse_counters("x.counters.toml", &toml);
        let json: String = (0..dice.below(40)).map(|_| JSON[dice.below(JSON.len())]).collect();
        if let Ok(json) = serde_json::from_str(&json) {
            let _ = RecordedRequest::from_json(&json);
        }
    }
    let deep = format!("{{\"principal\":{}1{}}}", "{\"a\":".repeat(120), "}".repeat(120));
    if let Ok(json) = serde_json::from_str(&deep) {
        assert!(RecordedRequest::from_json(&json).is_err());
    }
}

#[test]
fn a_huge_set_is_compiled_and_one_rule_more_than_the_limit_is_refused() {
    let policy = |number: usize| format!("permit (principal == Agent::\"{number}\", action, resource);\n");
    let sources = |count: usize| -> Vec<Source> {
        let numbers: Vec<usize> = (0..count).collect();
        let text = |part: &[usize]| part.iter().map(|number| policy(*number)).collect::<String>();
        let parts = numbers.chunks(5_000).enumerate();
        parts.map(|(at, part)| Source { name: format!("{at}"), text: text(part) }).collect()
    };
    let most = symbi_policy::POLICIES_MAX;
    let engine = Engine::compile(Schema::Unchecked, &sources(most), &[]).unwrap();
    assert_eq!(engine.rules().count(), most);
    let found = Engine::compile(Schema::Unchecked, &sources(most + 1), &[]).unwrap_err();
    assert_eq!(found[0].code, "policy.limit");
}

/// Names that look like others are pointed out; text that reads otherwise than it runs is refused.
#[test]
fn look_alikes_in_identifiers_are_warned_of_and_hidden_directions_refused() {
    let compile =
        |text: &str| Engine::compile(Schema::Symbi, &[Source { name: "x".into(), text: text.into() }], &[]);
    for text in [
        "permit (principal == Agent::\"p\u{0430}ypal\", action, resource);",
        "permit (principal, action, resource) when { principal has \"l\u{0430}bels\" };",
        "permit (principal == Agent::\"s\u{0441}out\", action, resource);",
    ] {
        let engine = compile(text).unwrap();
        assert!(
            engine.warnings().iter().any(|one| one.code == "policy.confusable"),
            "{text}: {:?}",
            engine.warnings()
        );
    }
    for hidden in ["\u{202e}", "\u{2066}", "\u{202a}"] {
        let text = format!("permit (principal == Agent::\"a{hidden}b\", action, resource);");
        let found = compile(&text).unwrap_err();
        assert!(found.iter().any(|one| one.code == "policy.bidi"), "{hidden:?} {found:?}");
    }
}
