//! Ours beside Cedar's evaluator.

use super::*;
use crate::compile::Source;
use crate::engine::Engine;
use crate::entity::Uid;
use crate::evaluate::{cedar_request, visit};
use crate::schema::Schema;

/// What is answered here on a request that has everything.
const PLAIN: [&str; 34] = [
    "context.size < 5",
    "context.size >= principal.level",
    "context.name == \"anna\"",
    "context.name == 1",
    "context.name like \"a*a\"",
    "context.flag",
    "!context.flag && context.size != 2",
    "if context.flag then context.size > 1 else principal.level > 1",
    "context.labels.contains(\"red\")",
    "context.labels.contains(3)",
    "[\"red\", \"blue\", \"green\"].containsAll(context.labels)",
    "context.labels.containsAny([\"red\", \"x\"])",
    "context.labels.isEmpty()",
    "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].contains(context.size)",
    "[\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\", \"anna\"].contains(context.name)",
    "principal.groups.contains(\"red\")",
    "principal.groups == context.prepared",
    "context.prepared.contains(principal)",
    "principal in Group::\"1\"",
    "principal in [Group::\"2\", Group::\"0\"]",
    "principal.friend in Group::\"1\"",
    "principal.friend == resource",
    "principal.friend has level",
    "principal is User",
    "principal is Admin || resource == Thing::\"0\"",
    "action == Action::\"read\"",
    "principal has level",
    "principal has nothing.at.all",
    "context has deep.flag && context.deep.flag",
    "context has deep.other.flag",
    "context.deep.size == 3",
    "principal.hasTag(\"ward\") && principal.getTag(\"ward\") == \"w1\"",
    "resource.hasTag(context.name)",
    "false && context.missing",
];
/// What is left to Cedar, or errs.
const OTHERS: [&str; 16] = [
    "context.missing",
    "context.size",
    "context.name < 3",
    "context.size + 1 > 3",
    "context.name in Group::\"1\"",
    "principal in [Group::\"1\", 3]",
    "principal in context.labels",
    "context.labels.contains([\"red\"])",
    "context.labels == [\"red\"]",
    "context.flag.at",
    "context.flag has at",
    "principal.getTag(\"none\") == \"x\"",
    "ip(\"10.0.0.1\").isLoopback()",
    "resource.level > 1",
    "Thing::\"unknown\".level == 1",
    "context.name.contains(\"a\")",
];

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(3) == 0 {
            let at = self.below(PLAIN.len() + OTHERS.len());
            return (*PLAIN.get(at).unwrap_or_else(|| &OTHERS[at - PLAIN.len()])).to_owned();
        }
        let (one, other) = (self.condition(depth - 1), self.condition(depth - 1));
        match self.below(4) {
            0 => format!("(({one}) && ({other}))"),
            1 => format!("(({one}) || ({other}))"),
            2 => format!("(!({one}))"),
            _ => format!("(if ({one}) then ({other}) else ({}))", self.condition(depth - 1)),
        }
    }
}

fn compiled(conditions: &[String]) -> Engine {
    let policy =
        |condition: &String| format!("permit (principal, action, resource) when {{ {condition} }};\n");
    let sources: Vec<Source> = conditions
        .chunks(200)
        .enumerate()
        .map(|(at, some)| Source { name: format!("{at:06}"), text: some.iter().map(policy).collect() })
        .collect();
    Engine::compile(Schema::Unchecked, &sources, &[]).unwrap()
}

fn people(level: i64) -> [Entity; 2] {
    let uid = |text: &str| Uid::parse(text).unwrap();
    let attributes = [
        ("level", Value::Long(level)),
        ("groups", Value::strings(["red", "blue"])),
        ("friend", Value::Entity(uid("Thing::\"0\""))),
    ];
    let groups = [uid("Group::\"0\""), uid("Group::\"1\"")];
    let user = Entity::with_tags("User", "0", attributes, groups, [("ward", Value::String("w1".into()))]);
    let thing =
        Entity::with_tags("Thing", "0", [("name", Value::Bool(true))], [], [("anna", Value::Long(1))]);
    [user.unwrap(), thing.unwrap()]
}

fn request<'a>([user, thing]: &'a [Entity; 2], dice: &mut Dice) -> Request<'a> {
    let text = |text: &str| Value::String(text.to_owned());
    let small = i64::try_from(dice.below(6)).unwrap();
    let labels = [vec![], vec![text("red")], vec![text("red"), text("blue"), text("red")]];
    let deep = vec![("flag".to_owned(), Value::Bool(small > 2)), ("size".to_owned(), Value::Long(small))];
    Request::new(user, "read", thing)
        .with("size", Value::Long(small))
        .with("name", text(["anna", "böse", ""][dice.below(3)]))
        .with("flag", Value::Bool(dice.below(2) == 0))
        .with("labels", Value::Set(labels[dice.below(3)].clone()))
        .with("prepared", Value::Set(vec![text("blue"), text("red")]).prepare())
        .with("deep", Value::Record(deep))
}

/// Ours beside Cedar's evaluator.
fn compare(engine: &Engine, request: &Request<'_>, store: Option<&Store>) -> Vec<Option<bool>> {
    let action = Entity::bare(Uid::new("Action", request.action).unwrap());
    let sight = Sight::of(request, &action, store).unwrap();
    visit(request, cedar_request(request, &action), &action, store, |scene| {
        let rules = engine.layers.iter().flat_map(|layer| &layer.rules);
        rules
            .map(|rule| {
                let Some(condition) = &rule.condition else { return Some(true) };
                let ours = rule.direct.as_ref().and_then(|direct| direct.holds(&sight));
                let theirs = scene.truth(condition, &rule.slots);
                if let Some(known) = ours {
                    assert_eq!(Ok(known), theirs, "DE1 {condition} {request:?}");
                }
                ours
            })
            .collect()
    })
    .unwrap()
}

#[test]
fn de1_what_is_answered_in_place_is_what_cedars_evaluator_answers() {
    let long = std::env::var_os("SYMBI_LONG").is_some();
    for seed in 0..if long { 400 } else { 2 } {
        let mut dice = Dice(seed);
        let conditions: Vec<String> = (0..1_000).map(|_| dice.condition(3)).collect();
        let engine = compiled(&conditions);
        let mut answered = 0;
        for level in 0..4 {
            let people = people(level);
            let store = Store::new(people.iter().cloned()).unwrap();
            let known = [store.get(people[0].uid()), store.get(people[1].uid())];
            answered += compare(&engine, &request(&people, &mut dice), None).iter().flatten().count();
            answered += compare(&engine, &request(&known, &mut dice), Some(&store)).iter().flatten().count();
        }
        assert!(answered > 2_000, "most of eight thousand are answered, not {answered}");
    }
}

#[test]
fn de1_plain_conditions_are_answered_in_place_and_what_errs_never_is() {
    let all = |conditions: &[&str]| conditions.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let people = people(2);
    let request = request(&people, &mut Dice(7));
    for (condition, answer) in PLAIN.iter().zip(compare(&compiled(&all(&PLAIN)), &request, None)) {
        assert!(answer.is_some(), "{condition}");
    }
    for (condition, answer) in OTHERS.iter().zip(compare(&compiled(&all(&OTHERS)), &request, None)) {
        assert_eq!(answer, None, "{condition}");
    }
}

#[test]
fn de1_entities_that_disagree_are_not_looked_at() {
    let [[user, _], [other, _]] = [people(1), people(2)];
    let action = Entity::bare(Uid::new("Action", "read").unwrap());
    let request = Request::new(&user, "read", &other);
    assert!(Sight::of(&request, &action, None).is_none());
    let store = Store::new([other.clone()]).unwrap();
    let alone = Request::new(&user, "read", &action);
    assert!(Sight::of(&alone, &action, Some(&store)).is_none());
    assert!(Sight::of(&alone, &action, None).is_some());
}

#[test]
fn de2_deep_conditions_and_large_sets_are_left_to_cedar() {
    let deep = format!("{}context.flag{}", "!(".repeat(60), ")".repeat(60));
    let deeper = format!("{}context.flag{}", "!!(".repeat(40), ")".repeat(40));
    let engine = compiled(&[deep, deeper, "context.many.containsAll(context.many)".to_owned()]);
    let [user, thing] = people(1);
    let many = Value::Set((0..5_000).map(Value::Long).collect());
    let request = Request::new(&user, "read", &thing).with("flag", Value::Bool(true)).with("many", many);
    let answers = compare(&engine, &request, None);
    assert_eq!(answers[2], None);
    assert_eq!(answers[1], None, "eighty levels");
    assert_eq!(answers[0], Some(true));
}
