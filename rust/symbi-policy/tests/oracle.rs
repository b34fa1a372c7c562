//! D1 to D5 against Cedar's own authorizer, which evaluates every policy: random sets, random entities, random requests.
//!
//! The oracle is the facade crate `cedar-policy`, used as its documentation says, over the full set. Before our own rule
//! for errors the same candidates must answer exactly as it does: decision, determining and erring policies (D8). With
//! our rule, where it skips an erring `forbid`, we must deny; everywhere else both must be the same.
//! `SYMBI_LONG=1` runs a million triples of set, entities and request.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; tables are its own"
)]

mod common;

use std::collections::{BTreeSet, HashMap};

use cedar_policy as oracle;
use common::{Dice, cases};
use symbi_policy::{
    Decision, Engine, Entity, Link, Reason, Request, RuleEffect, Schema, Source, Store, Uid, Value,
};

const USERS: [&str; 4] = ["User::\"0\"", "User::\"1\"", "User::\"2\"", "Admin::\"0\""];
const GROUPS: [&str; 3] = ["Group::\"0\"", "Group::\"1\"", "Group::\"2\""];
const THINGS: [&str; 4] = ["Thing::\"0\"", "Thing::\"1\"", "Page::\"0\"", "Thing::\"absent\""];
const FOLDERS: [&str; 3] = ["Folder::\"0\"", "Folder::\"1\"", "Folder::\"2\""];
const ACTIONS: [&str; 4] = ["Action::\"read\"", "Action::\"write\"", "Action::\"send\"", "Action::\"edit\""];
const REQUESTS_PER_SET: usize = 25;

/// Entities as both sides take them.
struct World {
    json: serde_json::Value,
    /// Direct parents, by uid.
    parents: HashMap<String, Vec<String>>,
}

impl World {
    /// Everything above `parents`, themselves included: what an entity that only a request knows must name.
    fn above(&self, parents: &[String]) -> BTreeSet<String> {
        let (mut all, mut next) = (BTreeSet::new(), parents.to_vec());
        while let Some(one) = next.pop() {
            next.extend(self.parents.get(&one).into_iter().flatten().cloned());
            all.insert(one);
        }
        all
    }
}

fn uid_json(text: &str) -> serde_json::Value {
    let (kind, id) = text.split_once("::").unwrap();
    serde_json::json!({"type": kind, "id": id.trim_matches('"')})
}

fn world(dice: &mut Dice) -> World {
    let mut entities = Vec::new();
    let mut named: HashMap<String, Vec<String>> = HashMap::new();
    let mut add = |dice: &mut Dice, uid: &str, parents: &[&str], rich: bool| {
        let parents: Vec<_> = parents.iter().filter(|_| dice.once_in(2)).collect();
        named.insert(uid.to_owned(), parents.iter().map(|one| (**one).to_owned()).collect());
        let parents: Vec<_> = parents.into_iter().map(|one| uid_json(one)).collect();
        let (mut attrs, mut tags) = (serde_json::Map::new(), serde_json::Map::new());
        if rich {
            attrs.insert("level".into(), (dice.below(4)).into());
            if dice.once_in(2) {
                attrs.insert("tags".into(), serde_json::json!([dice.pick(&["red", "blue"])]));
            }
            if dice.once_in(3) {
                attrs.insert("owner".into(), serde_json::json!({"__entity": uid_json(dice.pick(&USERS))}));
            }
            if dice.once_in(2) {
                attrs.insert("name".into(), dice.pick(&["anna", "a*b", "böse", ""]).into());
            }
            if dice.once_in(3) {
                tags.insert("ward".into(), dice.pick(&["w1", "w2"]).into());
            }
        }
        entities.push(
            serde_json::json!({"uid": uid_json(uid), "attrs": attrs, "tags": tags, "parents": parents}),
        );
    };
    for user in USERS {
        add(dice, user, &GROUPS, true);
    }
    add(dice, GROUPS[0], &GROUPS[1..], false);
    add(dice, GROUPS[1], &GROUPS[2..], false);
    add(dice, GROUPS[2], &[], false);
    for thing in &THINGS[..3] {
        add(dice, thing, &FOLDERS, true);
    }
    add(dice, FOLDERS[0], &FOLDERS[1..], false);
    add(dice, FOLDERS[1], &FOLDERS[2..], false);
    add(dice, FOLDERS[2], &[], false);
    add(dice, ACTIONS[0], &ACTIONS[3..], false);
    add(dice, ACTIONS[1], &ACTIONS[3..], false);
    add(dice, ACTIONS[2], &[], false);
    add(dice, ACTIONS[3], &[], false);
    World { json: serde_json::Value::Array(entities), parents: named }
}

fn head(dice: &mut Dice, name: &str, own: &[&str], groups: &[&str], slot: bool) -> String {
    let kind = |text: &str| text.split("::").next().unwrap().to_owned();
    match dice.below(7) {
        0 | 1 => format!("{name} == {}", dice.pick(own)),
        2 => format!("{name} in {}", dice.pick(groups)),
        3 => format!("{name} in {}", dice.pick(own)),
        4 => format!("{name} is {}", kind(dice.pick(own))),
        5 => format!("{name} is {} in {}", kind(dice.pick(own)), dice.pick(groups)),
        _ if slot => format!("{name} {} ?{name}", dice.pick(&["==", "in"])),
        _ => name.to_owned(),
    }
}

/// Conditions that are true, false, and erring, in about equal parts.
fn condition(dice: &mut Dice, depth: usize) -> String {
    match dice.below(if depth == 0 { 19 } else { 23 }) {
        0 => "context.size < 5".into(),
        1 => "context.labels.contains(\"red\")".into(),
        2 => "principal.level >= 2".into(),
        3 => "resource has tags && resource.tags.contains(\"blue\")".into(),
        4 => "resource.tags.contains(\"red\")".into(),
        5 => "principal in Group::\"1\"".into(),
        6 => "resource.owner == principal".into(),
        7 => "context.missing".into(),
        8 => "action in Action::\"edit\"".into(),
        9 => dice.pick(&["true", "false", "9223372036854775807 + context.size > 0"]).to_string(),
        10 => format!("resource.name like \"{}\"", dice.pick(&["a*", "*\\**", "b?se", "*", ""])),
        11 => format!("ip(context.address).isInRange(ip(\"{}\"))", dice.pick(&["10.0.0.0/8", "::1"])),
        12 => "decimal(context.share).lessThan(decimal(\"0.5\"))".into(),
        13 => "principal.hasTag(\"ward\") && principal.getTag(\"ward\") == \"w1\"".into(),
        14 => "resource.getTag(\"ward\") != \"w1\"".into(),
        15 => "context has deep.flag && context.deep.flag".into(),
        16 => format!("[1, 2, context.size].{}([2, 3])", dice.pick(&["containsAll", "containsAny"])),
        17 => format!("principal is {} in Group::\"2\"", dice.pick(&["User", "Admin"])),
        18 => "{size: context.size, on: resource}.on in [Folder::\"0\", principal.owner]".into(),
        19 => format!("({}) && ({})", condition(dice, depth - 1), condition(dice, depth - 1)),
        20 => format!("({}) || ({})", condition(dice, depth - 1), condition(dice, depth - 1)),
        21 => format!("!({})", condition(dice, depth - 1)),
        _ => format!(
            "if ({}) then ({}) else ({})",
            condition(dice, depth - 1),
            condition(dice, depth - 1),
            condition(dice, depth - 1)
        ),
    }
}

/// One policy, and whether it needs links.
fn policy(dice: &mut Dice) -> (String, bool, bool) {
    let effect = if dice.once_in(3) { "forbid" } else { "permit" };
    let principal = head(dice, "principal", &USERS, &GROUPS, true);
    let resource = head(dice, "resource", &THINGS, &FOLDERS, true);
    let action = match dice.below(4) {
        0 => "action".to_owned(),
        1 => format!("action == {}", dice.pick(&ACTIONS)),
        2 => format!("action in {}", dice.pick(&ACTIONS)),
        _ => format!("action in [{}, {}]", dice.pick(&ACTIONS), dice.pick(&ACTIONS)),
    };
    let body = match dice.below(4) {
        0 => String::new(),
        1 => format!(" unless {{ {} }}", condition(dice, 2)),
        _ => format!(" when {{ {} }}", condition(dice, 2)),
    };
    let text = format!("{effect} ({principal}, {action}, {resource}){body};");
    (text, principal.contains('?'), resource.contains('?'))
}

struct Case {
    engine: Engine,
    world: World,
    store: Store,
    policies: oracle::PolicySet,
    entities: oracle::Entities,
    text: String,
}

fn case(dice: &mut Dice) -> Case {
    let world = world(dice);
    let mut policies = oracle::PolicySet::new();
    let (mut sources, mut links, mut text) = (Vec::new(), Vec::new(), String::new());
    for number in 0..=dice.below(12) {
        let (body, principal, resource) = policy(dice);
        let id = format!("p{number}");
        let annotated = format!("@id(\"{id}\") {body}\n");
        text.push_str(&annotated);
        sources.push(Source { name: format!("s{}", number % 3), text: annotated.clone() });
        let oracle_id = oracle::PolicyId::new(&id);
        if !principal && !resource {
            policies.add(oracle::Policy::parse(Some(oracle_id), &body).unwrap()).unwrap();
            continue;
        }
        policies.add_template(oracle::Template::parse(Some(oracle_id.clone()), &body).unwrap()).unwrap();
        for copy in 0..=dice.below(2) {
            let linked = format!("{id}-{copy}");
            let mut values = HashMap::new();
            let user = principal.then(|| dice.pick(&[USERS[0], USERS[1], GROUPS[0], GROUPS[1]]));
            let thing = resource.then(|| dice.pick(&[THINGS[0], THINGS[1], FOLDERS[0], FOLDERS[1]]));
            if let Some(user) = user {
                values.insert(oracle::SlotId::principal(), user.parse().unwrap());
            }
            if let Some(thing) = thing {
                values.insert(oracle::SlotId::resource(), thing.parse().unwrap());
            }
            policies.link(oracle_id.clone(), oracle::PolicyId::new(&linked), values).unwrap();
            links.push(Link {
                template: id.clone(),
                id: linked,
                principal: user.map(|uid| Uid::parse(uid).unwrap()),
                resource: thing.map(|uid| Uid::parse(uid).unwrap()),
            });
        }
    }
    let engine = Engine::compile_linked(Schema::Unchecked, &merged(sources), &[], &links)
        .unwrap_or_else(|found| panic!("{}\n{text}", symbi_policy::render(&found)));
    let store = engine.store_from_json(&world.json.to_string()).unwrap();
    let entities = oracle::Entities::from_json_value(world.json.clone(), None).unwrap();
    Case { engine, world, store, policies, entities, text }
}

/// One text a name.
fn merged(sources: Vec<Source>) -> Vec<Source> {
    let mut by_name: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for source in sources {
        by_name.entry(source.name).or_default().push_str(&source.text);
    }
    by_name.into_iter().map(|(name, text)| Source { name, text }).collect()
}

/// A principal that the store does not hold: only the request brings it, with everything above it.
const LOCAL: &str = "User::\"local\"";

/// The same entity for both sides.
fn local(case: &Case, dice: &mut Dice) -> (Entity, oracle::Entity) {
    let parents: Vec<String> = GROUPS.iter().filter(|_| dice.once_in(3)).map(|&one| one.to_owned()).collect();
    let above = case.world.above(&parents);
    let level = i64::try_from(dice.below(4)).unwrap();
    let ours = above.iter().map(|one| Uid::parse(one).unwrap());
    let theirs = above.iter().map(|one| one.parse().unwrap()).collect();
    let attributes = [("level".to_owned(), oracle::RestrictedExpression::new_long(level))].into();
    (
        Entity::new("User", "local", [("level", Value::Long(level))], ours).unwrap(),
        oracle::Entity::new(LOCAL.parse().unwrap(), attributes, theirs).unwrap(),
    )
}

fn compare(case: &Case, dice: &mut Dice, seed: u64) -> &'static str {
    let (mut principal, action, resource) = (dice.pick(&USERS), dice.pick(&ACTIONS), dice.pick(&THINGS));
    let size = i64::try_from(dice.below(10)).unwrap();
    let labels = if dice.once_in(2) { vec!["red"] } else { vec![] };
    let address = dice.pick(&["10.1.2.3", "192.168.0.1", "::1", "no address"]);
    let share = dice.pick(&["0.1", "0.9", "x"]);
    let deep = dice.once_in(2);

    let prepared = |text: &str| case.store.get(&Uid::parse(text).unwrap());
    let (mut ours_principal, ours_resource) = (prepared(principal), prepared(resource));
    let mut with_local = None;
    if dice.once_in(5) {
        let (ours, theirs) = local(case, dice);
        (principal, ours_principal) = (LOCAL, ours);
        with_local = Some(case.entities.clone().add_entities([theirs], None).unwrap());
    }
    let flag = || Value::Record(vec![("flag".to_owned(), Value::Bool(size > 4))]);
    let request = Request::new(&ours_principal, action, &ours_resource)
        .with("size", Value::Long(size))
        .with("labels", Value::strings(&labels))
        .with("address", Value::String(address.to_owned()))
        .with("share", Value::String(share.to_owned()));
    let request = if deep { request.with("deep", flag()) } else { request };
    let ours = case.engine.evaluate_in(&request, &case.store);

    let mut context = serde_json::json!({"size": size, "labels": labels, "address": address, "share": share});
    if deep {
        context["deep"] = serde_json::json!({"flag": size > 4});
    }
    let asked = oracle::Request::new(
        principal.parse().unwrap(),
        action.parse().unwrap(),
        resource.parse().unwrap(),
        oracle::Context::from_json_value(context, None).unwrap(),
        None,
    )
    .unwrap();
    let entities = with_local.as_ref().unwrap_or(&case.entities);
    let theirs = oracle::Authorizer::new().is_authorized(&asked, &case.policies, entities);
    let story = || {
        format!(
            "seed {seed}: {principal} {action} {resource} {request:?}\n{}\n{}",
            case.text, case.world.json
        )
    };

    let effect = |id: &str| case.policies.policy(&oracle::PolicyId::new(id)).unwrap().effect();
    let erring: BTreeSet<String> = theirs
        .diagnostics()
        .errors()
        .map(|error| match error {
            oracle::AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
        })
        .collect();
    let erring_forbids: BTreeSet<String> =
        erring.iter().filter(|id| effect(id) == oracle::Effect::Forbid).cloned().collect();
    let reasons: BTreeSet<String> = theirs.diagnostics().reason().map(ToString::to_string).collect();
    let determining: BTreeSet<String> = ours.determining.iter().map(|rule| rule.id.clone()).collect();
    let failed: BTreeSet<String> = ours.errors.iter().map(|failure| failure.rule.id.clone()).collect();

    let plain = case.engine.as_cedar_alone(&request, &case.store).unwrap();
    let names = |rules: Vec<String>| rules.into_iter().collect::<BTreeSet<String>>();
    assert_eq!(plain.allowed, theirs.decision() == oracle::Decision::Allow, "D8 {}", story());
    assert_eq!(
        names(plain.determining.iter().map(|rule| rule.id.clone()).collect()),
        reasons,
        "D8 {}",
        story()
    );
    assert_eq!(names(plain.errors.iter().map(|one| one.rule.id.clone()).collect()), erring, "D8 {}", story());

    assert!(failed.is_subset(&erring), "{}", story());
    assert_eq!(determining.len(), ours.determining.len(), "each determining rule stands once: {}", story());
    if !erring_forbids.is_empty() {
        assert!(ours.is_denied(), "D2 {}", story());
        let true_forbids = reasons.iter().filter(|id| effect(id) == oracle::Effect::Forbid).cloned();
        assert_eq!(determining, true_forbids.chain(erring_forbids).collect(), "D2 {}", story());
        return "erring forbid";
    }
    assert_eq!(ours.is_denied(), theirs.decision() == oracle::Decision::Deny, "D4 {}", story());
    assert_eq!(determining, reasons, "D4 {}", story());
    check_reason(&ours, &story);
    if ours.reason == Some(Reason::Forbidden) {
        return "forbidden";
    }
    assert_eq!(failed, erring, "D3 {}", story());
    match (ours.is_denied(), failed.is_empty()) {
        (true, true) => "no permit",
        (true, false) => "erring permit alone",
        (false, _) => "allowed",
    }
}

fn check_reason(decision: &Decision, story: &dyn Fn() -> String) {
    let forbids = decision.determining.iter().any(|rule| rule.effect == RuleEffect::Forbid);
    let wanted = match (decision.is_denied(), forbids) {
        (false, _) => None,
        (true, true) => Some(Reason::Forbidden),
        (true, false) => Some(Reason::NoPermit),
    };
    assert_eq!(decision.reason, wanted, "{}", story());
}

#[test]
fn d4_the_indexed_decision_is_cedars_own_over_the_full_set() {
    let mut seen: HashMap<&str, u64> = HashMap::new();
    for seed in 0..cases(240, 40_000) {
        let mut dice = Dice::new(seed);
        let case = case(&mut dice);
        for _ in 0..REQUESTS_PER_SET {
            *seen.entry(compare(&case, &mut dice, seed)).or_default() += 1;
        }
    }
    // A generator that only produces one kind of answer proves nothing.
    for outcome in ["allowed", "forbidden", "no permit", "erring forbid", "erring permit alone"] {
        assert!(seen.get(outcome).copied().unwrap_or(0) > 50, "{outcome}: {seen:?}");
    }
}

/// D5: sources in another order, every policy twice, and a fresh engine: the same decision.
#[test]
fn d5_order_and_repetition_of_policies_do_not_show() {
    for seed in 0..cases(150, 5_000) {
        let mut dice = Dice::new(seed + 1_000_000);
        let world = world(&mut dice);
        let mut texts = Vec::new();
        while texts.len() < 8 {
            let (text, principal, resource) = policy(&mut dice);
            if !principal && !resource {
                texts.push(text);
            }
        }
        let sources = |texts: &[String]| -> Vec<Source> {
            texts
                .iter()
                .enumerate()
                .map(|(n, text)| Source { name: format!("s{n}"), text: text.clone() })
                .collect()
        };
        let plain = Engine::compile(Schema::Unchecked, &sources(&texts), &[]).unwrap();
        let mut reversed = sources(&texts);
        reversed.reverse();
        let reversed = Engine::compile(Schema::Unchecked, &reversed, &[]).unwrap();
        let doubled: Vec<String> = texts.iter().chain(&texts).cloned().collect();
        let doubled = Engine::compile(Schema::Unchecked, &sources(&doubled), &[]).unwrap();
        assert_eq!(plain.digest(), reversed.digest());
        assert_ne!(plain.digest(), doubled.digest());
        let store = plain.store_from_json(&world.json.to_string()).unwrap();
        for _ in 0..10 {
            let principal = store.get(&Uid::parse(dice.pick(&USERS)).unwrap());
            let resource = store.get(&Uid::parse(dice.pick(&THINGS)).unwrap());
            let request = Request::new(&principal, dice.pick(&ACTIONS), &resource)
                .with("size", Value::Long(3))
                .with("labels", Value::strings(["red"]));
            let first = plain.evaluate_in(&request, &store);
            assert_eq!(first, plain.evaluate_in(&request, &store), "seed {seed}: not even twice the same");
            assert_eq!(first, reversed.evaluate_in(&request, &store), "seed {seed}");
            let twice = doubled.evaluate_in(&request, &store);
            assert_eq!((first.effect, first.reason), (twice.effect, twice.reason), "seed {seed}");
        }
    }
}

/// D2: whatever is added as a `forbid` can only take away.
#[test]
fn d2_adding_a_forbid_never_allows_more() {
    for seed in 0..cases(200, 5_000) {
        let mut dice = Dice::new(seed + 2_000_000);
        let case = case(&mut dice);
        let forbid = format!("forbid (principal, action, resource) when {{ {} }};", condition(&mut dice, 2));
        let texts = [Source { name: "a".into(), text: case.text.clone() }];
        let Ok(before) = Engine::compile(Schema::Unchecked, &texts, &[]) else { continue }; // has templates
        let with = [texts[0].clone(), Source { name: "b".into(), text: forbid }];
        let after = Engine::compile(Schema::Unchecked, &with, &[]).unwrap();
        for _ in 0..10 {
            let principal = case.store.get(&Uid::parse(dice.pick(&USERS)).unwrap());
            let resource = case.store.get(&Uid::parse(dice.pick(&THINGS)).unwrap());
            let request =
                Request::new(&principal, dice.pick(&ACTIONS), &resource).with("size", Value::Long(3));
            let (less, more) =
                (after.evaluate_in(&request, &case.store), before.evaluate_in(&request, &case.store));
            assert!(less.is_denied() || !more.is_denied(), "seed {seed}");
        }
    }
}

/// The kernel's way, entities handed over one by one, sees what a store sees.
#[test]
fn entities_given_with_the_request_decide_like_entities_of_a_store() {
    for seed in 0..cases(100, 3_000) {
        let mut dice = Dice::new(seed + 3_000_000);
        let case = case(&mut dice);
        let all: Vec<Entity> = [&USERS[..], &GROUPS, &THINGS, &FOLDERS]
            .concat()
            .iter()
            .map(|uid| case.store.get(&Uid::parse(uid).unwrap()))
            .collect();
        for _ in 0..10 {
            let (principal, resource) = (&all[dice.below(4)], &all[7 + dice.below(4)]);
            // "send" has no ancestors, so that the action is the same without a store.
            let mut request =
                Request::new(principal, "Action::\"send\"", resource).with("size", Value::Long(3));
            let stored = case.engine.evaluate_in(&request, &case.store);
            request.entities = all.iter().collect();
            let given = case.engine.evaluate(&request);
            // Only the words of an error may differ: an entity that nobody knows "does not exist" in a store.
            let plain = |decision: Decision| {
                let failed: Vec<_> = decision.errors.into_iter().map(|failure| failure.rule).collect();
                (decision.effect, decision.determining, failed, decision.reason)
            };
            assert_eq!(plain(stored), plain(given), "seed {seed}\n{}", case.text);
        }
    }
}
