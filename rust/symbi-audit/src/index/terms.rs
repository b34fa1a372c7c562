//! What a record is found by: its terms, each a field and a value, as 48 bits of a hash.
//!
//! Why hashes: all terms have one size, and the index holds no text of anybody's. Two values with one hash cost the reading
//! of a record that is no answer, never a wrong one (IX1).

use std::borrow::Cow;

use symbi_crypto::sha256;

use crate::query::{Named, Query};
use crate::record::View;

/// A term: 48 bits.
pub(crate) type Term = u64;

/// Which field a term is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Field {
    Agent = b'a' as isize,
    Action = b'c' as isize,
    Decision = b'd' as isize,
    Event = b'e' as isize,
    DecisionId = b'i' as isize,
    Label = b'l' as isize,
    Resource = b'o' as isize,
    Operation = b'p' as isize,
    Rule = b'r' as isize,
    Subject = b's' as isize,
    Type = b't' as isize,
    Run = b'u' as isize,
}

/// The term of a value.
pub(crate) fn term(field: Field, value: &str) -> Term {
    let [a, b, c, d, e, f, ..] = sha256(&[b"symbi/index/v1\0", &[field as u8], value.as_bytes()]);
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// The fields and values by which a record is found; its type too.
pub(crate) fn each<'a>(view: &View<'a>, mut visit: impl FnMut(Field, &str)) {
    let [event, agent, run, op, decision] = view.names();
    for (field, text) in [
        (Field::Event, event),
        (Field::Agent, agent),
        (Field::Run, run),
        (Field::Operation, op),
        (Field::Decision, decision),
    ] {
        if let Some(text) = text {
            visit(field, &text);
        }
    }
    visit(Field::Type, &view.event_type);
    let (labels, subjects) = view.lists();
    labels.iter().for_each(|label| visit(Field::Label, label));
    subjects.iter().for_each(|subject| visit(Field::Subject, subject));
    let named = Named::of(view.details);
    let one = [
        (Field::Action, &named.action),
        (Field::Resource, &named.resource),
        (Field::DecisionId, &named.decision_id),
    ];
    for (field, text) in one {
        if let Some(text) = text {
            visit(field, text);
        }
    }
    named.rules.iter().for_each(|rule: &Cow<'_, str>| visit(Field::Rule, rule));
}

/// The terms that each answer of a query has. A beginning of types is not among them.
pub(crate) fn wanted(query: &Query) -> Vec<Term> {
    let exact = query.event_type.as_ref().filter(|kind| !kind.ends_with('*')).cloned();
    [
        (Field::Agent, &query.agent_id),
        (Field::Type, &exact),
        (Field::Operation, &query.op),
        (Field::Run, &query.run),
        (Field::Decision, &query.decision),
        (Field::Action, &query.action),
        (Field::Rule, &query.rule),
        (Field::Resource, &query.resource),
        (Field::DecisionId, &query.decision_id),
        (Field::Label, &query.label),
        (Field::Subject, &query.subject),
        (Field::Event, &query.event_id),
    ]
    .into_iter()
    .filter_map(|(field, value)| Some(term(field, value.as_deref()?)))
    .collect()
}
