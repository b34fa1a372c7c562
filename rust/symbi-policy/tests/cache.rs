//! CA1 to CA4: a decision from memory is the decision that would be made.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; tables are its own"
)]

mod common;

use common::{Dice, cases};
use symbi_policy::{Engine, Entity, Request, Schema, Snapshot, Source, Store, Uid, Value};

const WORLD: &str = r#"[
  {"uid": {"type": "User", "id": "0"}, "attrs": {"level": 2, "labels": ["red"]}, "parents": []},
  {"uid": {"type": "User", "id": "1"}, "attrs": {"level": 1, "labels": []}, "parents": []},
  {"uid": {"type": "Thing", "id": "0"}, "attrs": {"level": 1}, "parents": []}
]"#;
const CONDITIONS: [&str; 12] = [
    "principal.level > 1",
    "context.size < 5",
    "context.size < 5 && context.name like \"a*\"",
    "resource has level && resource.level == 1",
    "context.nested.size > 2",
    "context.missing",
    "principal == User::\"0\"",
    "context.labels.contains(\"red\")",
    "principal.labels.contains(\"red\")",
    "context.counters.n > 1",
    "context has labels",
    "datetime(\"2026-01-01\") < datetime(context.day)",
];

fn snapshot(policies: &[String], world: &str) -> (Engine, Snapshot, Store) {
    let source = || vec![Source { name: "s".into(), text: policies.join("\n") }];
    let compile = || Engine::compile(Schema::Unchecked, &source(), &[]).unwrap();
    let (engine, other) = (compile(), compile());
    let store = engine.store_from_json(world).unwrap();
    (engine, Snapshot::new(other, store.clone(), false), store)
}

/// CA1, CA2: a cached engine beside a plain one, over repeated and barely different requests.
#[test]
fn ca2_a_cached_answer_is_the_answer_of_an_engine_without_a_cache() {
    for seed in 0..cases(150, 20_000) {
        let mut dice = Dice::new(seed);
        let policies: Vec<String> = (0..=dice.below(6))
            .map(|_| {
                let effect = dice.pick(&["permit", "permit", "forbid"]);
                format!("{effect} (principal, action, resource) when {{ {} }};", dice.pick(&CONDITIONS))
            })
            .collect();
        let (plain, cached, store) = snapshot(&policies, WORLD);
        for _ in 0..200 {
            let entity = |text: &str| store.get(&Uid::parse(text).unwrap());
            let principal = entity(dice.pick(&["User::\"0\"", "User::\"1\"", "User::\"new\""]));
            let resource = entity(dice.pick(&["Thing::\"0\"", "Thing::\"new\""]));
            let small = |dice: &mut Dice| Value::Long(i64::try_from(dice.below(4)).unwrap() * 2);
            let mut request = Request::new(&principal, dice.pick(&["read", "write"]), &resource)
                .with("size", small(&mut dice))
                .with("name", Value::String(dice.pick(&["ab", "ba"]).into()))
                .with("nested", Value::Record(vec![("size".into(), small(&mut dice))]))
                .with("counters", Value::Record(vec![("n".into(), small(&mut dice))]))
                .with("day", Value::String(dice.pick(&["2025-05-05", "2026-05-05"]).into()));
            if dice.once_in(2) {
                request = request.with("labels", Value::Set(vec![Value::String("red".into())]));
            }
            let fresh = plain.evaluate_in(&request, &store);
            assert_eq!(cached.evaluate(&request), fresh, "seed {seed} {policies:?} {request:?}");
            assert_eq!(cached.evaluate(&request), fresh, "seed {seed}, a second time");
        }
    }
}

/// CA2: an equal name with other attributes is another entity.
#[test]
fn ca2_an_entity_that_changed_is_not_answered_for_by_what_it_was() {
    let policies = ["permit (principal, action, resource) when { principal.level > 1 };".to_owned()];
    let (_, cached, _) = snapshot(&policies, "[]");
    let user = |level| Entity::new("User", "x", [("level", Value::Long(level))], []).unwrap();
    let thing = Entity::bare(Uid::new("Thing", "x").unwrap());
    for level in [2, 1, 3, 0, 2] {
        let user = user(level);
        for _ in 0..3 {
            let decision = cached.evaluate(&Request::new(&user, "read", &thing));
            assert_eq!(decision.is_allowed(), level > 1, "{level}");
        }
    }
}

/// CA3: a snapshot owns its set; another set is another snapshot, and knows nothing.
#[test]
fn ca3_another_set_starts_with_nothing_remembered() {
    let policy =
        |bound: i64| [format!("permit (principal, action, resource) when {{ context.n < {bound} }};")];
    let user = Entity::bare(Uid::new("User", "x").unwrap());
    let ask = |snapshot: &Snapshot| {
        let request = Request::new(&user, "read", &user).with("n", Value::Long(5));
        snapshot.evaluate(&request).is_allowed()
    };
    let (_, before, _) = snapshot(&policy(6), "[]");
    let (_, after, _) = snapshot(&policy(4), "[]");
    for _ in 0..3 {
        assert!(ask(&before) && !ask(&after));
    }
}

/// CA4: more requests than are kept, and one too large to keep, are answered rightly.
#[test]
fn ca4_what_is_not_kept_is_decided() {
    let policies = ["permit (principal, action, resource) when { context.n < 5000 };".to_owned()];
    let (_, cached, _) = snapshot(&policies, "[]");
    let user = Entity::bare(Uid::new("User", "x").unwrap());
    let long = "x".repeat(100_000);
    for round in 0..2 {
        for n in (0..20_000).step_by(1 + round) {
            let request = Request::new(&user, "read", &user).with("n", Value::Long(n));
            assert_eq!(cached.evaluate(&request).is_allowed(), n < 5_000, "{n}");
        }
        let large = Request::new(&user, "read", &user).with("n", Value::Long(1));
        assert!(cached.evaluate(&large.with("text", Value::String(long.clone()))).is_allowed());
    }
}
