//! Obligations: under which conditions a permit lets an operation pass.
//!
//! Why: some operations are neither right nor wrong but right *if*: if a person agrees, if the names are blanked out, if it
//! stays below a sum. The rule that permits says so, and the monitor holds it to it.
//! Not here: reading annotations (`annotation`), meeting an obligation (the kernel: what it cannot meet, it denies).
//!
//! Invariants
//! - O1 obligations of all determining permits apply together; they are merged to the stricter, in one order, and stand
//!   once.

use std::collections::BTreeSet;

use symbi_types::{LabelSet, SecurityTier};

/// A person must agree first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Approval {
    /// How many different persons.
    pub count: u32,
    /// Who may; empty: any operator. Names of operators' tokens.
    pub approvers: BTreeSet<String>,
    /// How long it waits for them, in seconds.
    pub expires_s: u64,
}

/// At most so much by one rule, for each principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget {
    /// The rule's name: what it lets through is counted together.
    pub rule: String,
    /// `calls`, `bytes`, `time_ms`, `cpu_ms`, or an amount that the tool declares.
    pub measure: String,
    /// The most within the window.
    pub cap: u64,
    /// The window, in microseconds.
    pub window_us: u64,
}

/// What the monitor must see to before the operation may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obligation {
    /// Blank out every part that carries one of these labels, and these fields of the arguments. On bytes that have
    /// neither it cannot be met: deny.
    Redact {
        /// The labels.
        labels: LabelSet,
        /// Paths into the arguments, such as `patient.name`.
        fields: BTreeSet<String>,
    },
    /// Wait for persons.
    Approval(Approval),
    /// It may happen in this sandbox tier or a stronger one.
    Tier(SecurityTier),
    /// It may only read.
    ReadOnly,
    /// It may spend so much.
    Budget(Budget),
    /// Everything about it is recorded, sealed: request, arguments, result.
    RecordFull,
    /// Tell these.
    Notify(BTreeSet<String>),
}

impl Obligation {
    /// The words after `@obligation`.
    pub const WORDS: [&'static str; 7] =
        ["redact", "approval", "tier", "read_only", "budget", "record", "notify"];

    /// Its word after `@obligation`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Redact { .. } => "redact",
            Self::Approval(_) => "approval",
            Self::Tier(_) => "tier",
            Self::ReadOnly => "read_only",
            Self::Budget(_) => "budget",
            Self::RecordFull => "record",
            Self::Notify(_) => "notify",
        }
    }

    /// What it asks for, as names and texts: for people, and for callers in other languages.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match self {
            Self::Redact { labels, fields } => {
                let labels: Vec<&str> = labels.iter().map(symbi_types::Label::as_str).collect();
                vec![("labels", labels.join(",")), ("fields", list(fields))]
            }
            Self::Approval(approval) => vec![
                ("count", approval.count.to_string()),
                ("approvers", list(&approval.approvers)),
                ("expires_s", approval.expires_s.to_string()),
            ],
            Self::Tier(tier) => vec![("tier", tier.as_str().to_owned())],
            Self::ReadOnly => Vec::new(),
            Self::Budget(budget) => vec![
                ("rule", budget.rule.clone()),
                ("measure", budget.measure.clone()),
                ("cap", budget.cap.to_string()),
                ("window_s", (budget.window_us / 1_000_000).to_string()),
            ],
            Self::RecordFull => vec![("level", "full".to_owned())],
            Self::Notify(channels) => vec![("channels", list(channels))],
        }
    }

    /// Both in one; none where they do not speak of the same.
    fn joined(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Redact { labels, fields }, Self::Redact { labels: more, fields: further }) => {
                let fields = fields.union(further).cloned().collect();
                Some(Self::Redact { labels: labels.union(more), fields })
            }
            (Self::Approval(one), Self::Approval(two)) => Some(Self::Approval(one.stricter(two))),
            (Self::Tier(one), Self::Tier(two)) => Some(Self::Tier(*one.max(two))),
            (Self::Notify(one), Self::Notify(two)) => Some(Self::Notify(one.union(two).cloned().collect())),
            (one, two) => (one == two).then(|| one.clone()),
        }
    }
}

impl Approval {
    /// Nobody may: two rules name persons, and no one is named by both.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        self.approvers.contains(NOBODY)
            || (!self.approvers.is_empty() && self.approvers.len() < self.count as usize)
    }

    fn stricter(&self, other: &Self) -> Self {
        let approvers = match (self.approvers.is_empty(), other.approvers.is_empty()) {
            (true, _) => other.approvers.clone(),
            (_, true) => self.approvers.clone(),
            (false, false) => self.approvers.intersection(&other.approvers).cloned().collect(),
        };
        let named = !self.approvers.is_empty() && !other.approvers.is_empty();
        let approvers = if named && approvers.is_empty() {
            BTreeSet::from([NOBODY.to_owned()]) // empty would mean: anybody
        } else {
            approvers
        };
        let expires_s = self.expires_s.min(other.expires_s);
        Self { count: self.count.max(other.count), approvers, expires_s }
    }
}

/// Not the name of a token.
const NOBODY: &str = "(nobody)";

/// O1.
pub(crate) fn merge(obligations: impl Iterator<Item = Obligation>) -> Vec<Obligation> {
    let mut merged: Vec<Obligation> = Vec::new();
    for obligation in obligations {
        let known = merged.iter_mut().find_map(|known| {
            let joined = known.joined(&obligation)?;
            *known = joined;
            Some(())
        });
        if known.is_none() {
            merged.push(obligation);
        }
    }
    merged.sort_by_cached_key(|one| {
        let rank = Obligation::WORDS.iter().position(|word| *word == one.name());
        (rank, one.parameters())
    });
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn approval(count: u32, approvers: &[&str], expires_s: u64) -> Obligation {
        Obligation::Approval(Approval { count, approvers: names(approvers), expires_s })
    }

    fn budget(rule: &str, cap: u64) -> Obligation {
        Obligation::Budget(Budget { rule: rule.into(), measure: "calls".into(), cap, window_us: 1 })
    }

    #[test]
    fn o1_the_stricter_of_each_holds_and_budgets_of_different_rules_hold_side_by_side() {
        let both = merge(
            [
                budget("b", 1),
                Obligation::Tier(SecurityTier::Docker),
                approval(1, &["ann", "bob"], 60),
                Obligation::Notify(names(&["x"])),
                Obligation::Tier(SecurityTier::Gvisor),
                approval(2, &["bob", "cid", "ann"], 30),
                Obligation::ReadOnly,
                Obligation::ReadOnly,
                budget("a", 1),
                Obligation::Notify(names(&["y"])),
            ]
            .into_iter(),
        );
        assert_eq!(
            both,
            [
                approval(2, &["ann", "bob"], 30),
                Obligation::Tier(SecurityTier::Gvisor),
                Obligation::ReadOnly,
                budget("a", 1),
                budget("b", 1),
                Obligation::Notify(names(&["x", "y"])),
            ]
        );
    }

    #[test]
    fn o1_persons_that_nobody_shares_are_nobody_and_not_anybody() {
        let [Obligation::Approval(none)] =
            &merge([approval(1, &["ann"], 1), approval(1, &["bob"], 1)].into_iter())[..]
        else {
            panic!("one approval")
        };
        assert!(none.is_impossible());
        let two = Approval { count: 2, approvers: names(&["ann"]), expires_s: 1 };
        assert!(two.is_impossible(), "two of one");
        assert!(!Approval { count: 2, approvers: BTreeSet::new(), expires_s: 1 }.is_impossible());
    }

    proptest! {
        #[test]
        fn o1_the_order_does_not_matter_and_merging_again_changes_nothing(
            picks in proptest::collection::vec(0usize..8, 0..12),
            seed in any::<u64>(),
        ) {
            let choice = [
                budget("a", 1),
                budget("b", 2),
                approval(1, &["ann"], 9),
                approval(2, &[], 3),
                approval(1, &["bob", "ann"], 5),
                Obligation::Tier(SecurityTier::Gvisor),
                Obligation::RecordFull,
                Obligation::Notify(names(&["x"])),
            ];
            let mut given: Vec<Obligation> = picks.iter().map(|at| choice[*at].clone()).collect();
            let once = merge(given.clone().into_iter());
            prop_assert_eq!(&merge(once.clone().into_iter()), &once);
            let half = usize::try_from(seed % 13).unwrap_or(0).min(given.len());
            given.rotate_left(half);
            prop_assert_eq!(merge(given.into_iter()), once);
        }
    }
}
