//! Whether a request fits the schema, quickly.
//!
//! Why: Cedar's own check turns the context into an expression first, which costs more than the decision. Ours walks
//! value and type side by side; it says yes, or it does not know, and then Cedar is asked.
//!
//! Invariants
//! - F1 what fits here fits for Cedar. The reverse need not hold.

use cedar_policy_core::ast::{EntityType, EntityUID, Literal, Value, ValueKind};
use cedar_policy_core::validator::types::{BoolType, OpenTag, Type};
use cedar_policy_core::validator::{ValidatorEntityTypeKind, ValidatorSchema};

use crate::request::Request;
use crate::value::Value as Given;

/// What an action of a schema takes, looked up once.
#[derive(Debug)]
pub(crate) struct Shape {
    principals: Vec<EntityType>,
    resources: Vec<EntityType>,
    context: Type,
}

impl Shape {
    /// None where only Cedar can say.
    pub(crate) fn of(schema: &ValidatorSchema, action: &EntityUID) -> Option<Self> {
        let declared = schema.get_action_id(action).filter(|declared| !declared.is_external())?;
        let plain = |kind: &&EntityType| {
            let kind = schema.get_entity_type(kind).map(|found| &found.kind);
            matches!(kind, Some(ValidatorEntityTypeKind::Standard(_))) // an enumerated type also restricts the id
        };
        Some(Self {
            principals: declared.applies_to_principals().filter(plain).cloned().collect(),
            resources: declared.applies_to_resources().filter(plain).cloned().collect(),
            context: declared.context_type()?.clone(),
        })
    }

    /// F1: true is certain, false is "ask Cedar".
    pub(crate) fn surely_fits(&self, request: &Request<'_>) -> bool {
        self.principals.contains(request.principal.uid().cedar().entity_type())
            && self.resources.contains(request.resource.uid().cedar().entity_type())
            && pairs_fit(&request.context, &self.context)
    }
}

/// Of two values under one name the later holds; here both must fit.
fn pairs_fit<N: AsRef<str>>(pairs: &[(N, Given)], wanted: &Type) -> bool {
    let Type::Record { attrs, open_attributes } = wanted else { return false };
    let known = pairs.iter().all(|(name, value)| match attrs.get_attr(name.as_ref()) {
        Some(attribute) => given_fits(value, &attribute.attr_type),
        None => *open_attributes == OpenTag::OpenAttributes,
    });
    let there = |wanted: &str| pairs.iter().any(|(name, _)| name.as_ref() == wanted);
    known && attrs.iter().all(|(name, attribute)| !attribute.is_required || there(name))
}

fn given_fits(value: &Given, wanted: &Type) -> bool {
    match (value, wanted) {
        (Given::Bool(_), Type::Bool(BoolType::AnyBool))
        | (Given::Long(_), Type::Long)
        | (Given::String(_), Type::String) => true,
        (Given::Set(members), Type::Set { element_type: Some(element) }) => {
            members.iter().all(|member| given_fits(member, element))
        }
        (Given::Record(pairs), Type::Record { .. }) => pairs_fit(pairs, wanted),
        (Given::Prepared(prepared), _) => value_fits(&prepared.0, wanted),
        _ => false,
    }
}

fn value_fits(value: &Value, wanted: &Type) -> bool {
    match (value.value_kind(), wanted) {
        (ValueKind::Lit(Literal::Bool(_)), Type::Bool(BoolType::AnyBool))
        | (ValueKind::Lit(Literal::Long(_)), Type::Long)
        | (ValueKind::Lit(Literal::String(_)), Type::String) => true,
        (ValueKind::Set(set), Type::Set { element_type: Some(element) }) => {
            set.iter().all(|member| value_fits(member, element))
        }
        (ValueKind::Record(record), Type::Record { attrs, open_attributes }) => {
            let known = record.iter().all(|(name, value)| match attrs.get_attr(name) {
                Some(attribute) => value_fits(value, &attribute.attr_type),
                None => *open_attributes == OpenTag::OpenAttributes,
            });
            known && attrs.iter().all(|(name, attribute)| !attribute.is_required || record.contains_key(name))
        }
        // Entities may be of an enumerated type, extensions carry their own rules: Cedar knows.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy_core::ast;
    use cedar_policy_core::extensions::Extensions;

    use super::*;
    use crate::counter::{CounterSpec, Per};
    use crate::entity::{Entity, Uid};
    use crate::evaluate::cedar_request;
    use crate::schema::Schema;

    /// F1 over the product of right and wrong parts: 5 labels, 3 sizes, 4 counters, 3 extras, 4 principals, 3 resources.
    #[test]
    fn f1_what_surely_fits_fits_for_cedar_too_and_plain_requests_do() {
        let counter = CounterSpec::counting("n", "tool.call", Per::Global, 1);
        let schema = Schema::Symbi.build(&[counter]).unwrap().unwrap();
        let bare = |text: &str| Entity::bare(Uid::parse(text).unwrap());
        let action = bare("Action::\"tool.call\"");
        let labels = [
            Some(Given::strings(["a"])),
            Some(Given::Set(vec![])),
            Some(Given::Set(vec![Given::Long(1)])),
            Some(Given::String("a".into())),
            None,
        ];
        let sizes = [Some(Given::Long(1)), Some(Given::Bool(true)), None];
        let one = || ("n".to_owned(), Given::Long(1));
        let counters = [
            Some(Given::Record(vec![one()])),
            Some(Given::Record(vec![])),
            Some(Given::Record(vec![one(), ("m".into(), Given::Long(1))])),
            None,
        ];
        let call = Given::Entity(Uid::parse("Call::\"c\"").unwrap());
        let extras = [None, Some(("call", call)), Some(("lables", Given::Bool(true)))];
        let (mut sure, mut fitting) = (0, 0);
        let shape = Shape::of(&schema, action.uid().cedar()).unwrap();
        for principal in ["Agent::\"a\"", "Host::\"h\"", "Tool::\"t\"", "Nobody::\"n\""].map(bare) {
            for resource in ["Tool::\"t\"", "Topic::\"t\"", "Nobody::\"n\""].map(bare) {
                for (label, size) in
                    labels.iter().flat_map(|label| sizes.iter().map(move |size| (label, size)))
                {
                    for (counter, extra) in
                        counters.iter().flat_map(|one| extras.iter().map(move |extra| (one, extra)))
                    {
                        let mut request = Request::new(&principal, "tool.call", &resource);
                        let named = [("labels", label), ("bytes", size), ("counters", counter)];
                        for (name, value) in named {
                            request.context.extend(value.clone().map(|value| (name.into(), value)));
                        }
                        request.context.extend(extra.clone().map(|(name, value)| (name.into(), value)));
                        let built = cedar_request(&request, &action);
                        let theirs = ast::RequestSchema::validate_request(
                            &schema,
                            &built,
                            Extensions::all_available(),
                        );
                        let ours = shape.surely_fits(&request);
                        assert!(!ours || theirs.is_ok(), "F1 {request:?}");
                        let prepared = |(name, value): &(_, Given)| (Clone::clone(name), value.prepare());
                        let context = request.context.iter().map(prepared).collect();
                        let prepared = Request { context, ..request };
                        assert_eq!(shape.surely_fits(&prepared), ours, "F1, prepared {prepared:?}");
                        sure += usize::from(ours);
                        fitting += usize::from(theirs.is_ok());
                    }
                }
            }
        }
        // Two principals, two labels; Cedar also takes those with a call.
        assert_eq!((sure, fitting), (4, 8));
    }
}
