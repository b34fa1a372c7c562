//! Decisions of many requests, each different one once.
//!
//! Why: a batch of a hundred thousand requests has a handful of different answers; holding, moving and showing each of them
//! a hundred thousand times would cost as much as deciding.
//!
//! Invariants
//! - DD1 the decision in a place is equal to the one that was put there.

use std::sync::Arc;

use crate::decision::{Decision, Rule};
use crate::index::ByKey;

/// See the module.
#[derive(Debug, Default)]
pub struct Decided {
    distinct: Vec<Decision>,
    places: Vec<u32>,
    known: ByKey<u32>,
}

impl Decided {
    /// Puts a decision behind the others.
    pub fn push(&mut self, decision: Decision) {
        let key = key(&decision);
        let known = key.and_then(|key| self.known.get(&key)).copied();
        let same = known.filter(|&at| self.at(at).is_some_and(|known| alike(known, &decision)));
        let place = same.unwrap_or_else(|| {
            // A batch has fewer requests than this counts to: its memory ends long before.
            let fresh = u32::try_from(self.distinct.len()).unwrap_or(u32::MAX);
            self.distinct.push(decision);
            self.known.extend(key.map(|key| (key, fresh)));
            fresh
        });
        self.places.push(place);
    }

    fn at(&self, place: u32) -> Option<&Decision> {
        self.distinct.get(usize::try_from(place).ok()?)
    }

    /// The different ones, and for each request, in order, which it is.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Decision>, Vec<u32>) {
        (self.distinct, self.places)
    }
}

/// None for those that tell more than their rules: each stands for itself.
fn key(decision: &Decision) -> Option<u64> {
    if !decision.errors.is_empty() || decision.detail.is_some() {
        return None;
    }
    let place = |rule: &Arc<Rule>| Arc::as_ptr(rule).addr() as u64;
    let of_reason = decision.reason.map_or(0, |reason| 1 + reason as u64);
    Some(decision.determining.iter().map(place).fold(of_reason, |key, place| key.rotate_left(5) ^ place))
}

fn alike(one: &Decision, other: &Decision) -> bool {
    let same = |(one, other): (&Arc<Rule>, &Arc<Rule>)| Arc::ptr_eq(one, other);
    one.effect == other.effect
        && one.reason == other.reason
        && one.determining.len() == other.determining.len()
        && one.determining.iter().zip(&other.determining).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{Effect, Failure, Reason, RuleEffect};

    fn rule(id: &str) -> Arc<Rule> {
        Arc::new(Rule {
            id: id.to_owned(),
            source: "s".into(),
            line: 1,
            column: 1,
            effect: RuleEffect::Permit,
            message: None,
            obligations: Vec::new(),
            consequence: None,
        })
    }

    #[test]
    fn dd1_each_place_has_the_decision_that_was_put_there() {
        let rules = [rule("a"), rule("b")];
        let failure = |rule: &Arc<Rule>| Failure { rule: Arc::clone(rule), message: "m".to_owned() };
        let allow = |determining: Vec<Arc<Rule>>| Decision {
            effect: Effect::Allow,
            determining,
            errors: Vec::new(),
            reason: None,
            detail: None,
        };
        let denied = |reason, errors| Decision::denied(reason, Vec::new(), errors);
        let kinds = [
            allow(vec![Arc::clone(&rules[0])]),
            allow(vec![Arc::clone(&rules[1])]),
            allow(rules.to_vec()),
            allow(vec![Arc::clone(&rules[1]), Arc::clone(&rules[0])]),
            denied(Reason::NoPermit, Vec::new()),
            denied(Reason::UnknownAction, Vec::new()),
            denied(Reason::NoPermit, vec![failure(&rules[0])]),
            denied(Reason::NoPermit, vec![failure(&rules[1])]),
            Decision { detail: Some("why".to_owned()), ..denied(Reason::InvalidRequest, Vec::new()) },
        ];
        let mut decided = Decided::default();
        let put: Vec<&Decision> = (0..500).map(|at| &kinds[at * at * 7 % kinds.len()]).collect();
        put.iter().for_each(|decision| decided.push((*decision).clone()));
        let (distinct, places) = decided.into_parts();
        assert_eq!(places.len(), put.len());
        for (place, decision) in places.iter().zip(put) {
            assert_eq!(&distinct[*place as usize], decision, "DD1");
        }
    }

    #[test]
    fn what_is_the_same_is_kept_once() {
        let rule = rule("a");
        let mut decided = Decided::default();
        for _ in 0..1_000 {
            decided.push(Decision::denied(Reason::Forbidden, vec![Arc::clone(&rule)], Vec::new()));
        }
        assert_eq!(decided.into_parts().0.len(), 1);
    }
}
