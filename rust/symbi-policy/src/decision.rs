//! What comes out: a decision, the rules that made it, and what could not be evaluated.
//!
//! Not here: what a permit may ask for (`obligation`).

use std::fmt;
use std::sync::Arc;

use crate::obligation::Obligation;

/// What running into a `forbid` brings about, besides the denial.
/// The later is the severer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consequence {
    /// The agent is held until policy clears it, or somebody lets it go on or ends it.
    Suspend,
    /// The agent is ended.
    Terminate,
}

impl Consequence {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Suspend, Self::Terminate];

    /// The word after `@on_violation`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Terminate => "terminate",
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Go on.
    Allow,
    /// Do not.
    Deny,
    /// Go on once these are met.
    AllowWithConditions(Vec<Obligation>),
}

impl Effect {
    /// `allow`, `deny`, or the name of the first obligation: the log's `decision`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::AllowWithConditions(obligations) => obligations.first().map_or("allow", Obligation::name),
        }
    }
}

/// Which way a rule points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleEffect {
    /// `permit`
    Permit,
    /// `forbid`
    Forbid,
}

impl fmt::Display for RuleEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
        })
    }
}

/// One policy, as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `@id`, or `source:line`.
    pub id: String,
    /// The source's name.
    pub source: Arc<str>,
    /// 1-based line of its first word.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// Which way it points.
    pub effect: RuleEffect,
    /// `@message`: constant, public, told to the agent.
    pub message: Option<String>,
    /// `@obligation`.
    pub obligations: Vec<Obligation>,
    /// `@on_violation`.
    pub consequence: Option<Consequence>,
}

/// A rule that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Why. May name values of the request: for operators, not for agents.
    pub message: String,
}

/// Why it was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A `forbid` applies.
    Forbidden,
    /// No `permit` applies.
    NoPermit,
    /// A `forbid` could not be evaluated: it counts as one that applies.
    ForbidFailed,
    /// The action is not in the schema.
    UnknownAction,
    /// The request does not fit the schema.
    InvalidRequest,
    /// The engine itself failed.
    EngineFailed,
}

impl Reason {
    /// Stable text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::NoPermit => "no_permit",
            Self::ForbidFailed => "forbid_failed",
            Self::UnknownAction => "unknown_action",
            Self::InvalidRequest => "invalid_request",
            Self::EngineFailed => "engine_failed",
        }
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub effect: Effect,
    /// The rules that made it, in order of source and place. Empty when no permit applies.
    pub determining: Vec<Arc<Rule>>,
    /// Rules that could not be evaluated.
    pub errors: Vec<Failure>,
    /// Why, when denied.
    pub reason: Option<Reason>,
    /// More about the reason, for operators: what does not fit the schema.
    pub detail: Option<String>,
}

impl Decision {
    /// The denial of a caller whose engine could not even be asked.
    #[must_use]
    pub fn engine_failed() -> Self {
        Self::denied(Reason::EngineFailed, Vec::new(), Vec::new())
    }

    pub(crate) fn denied(reason: Reason, determining: Vec<Arc<Rule>>, errors: Vec<Failure>) -> Self {
        Self { effect: Effect::Deny, determining, errors, reason: Some(reason), detail: None }
    }

    /// Allowed with nothing left to do. False while obligations are unmet.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.effect == Effect::Allow
    }

    /// Denied.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.effect == Effect::Deny
    }

    /// The first determining rule: the log's and the agent's name for the decision.
    #[must_use]
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        self.determining.first()
    }

    /// The public message of the first determining rule that has one.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.determining.iter().find_map(|rule| rule.message.as_deref())
    }

    /// What a denial brings about: the severest of what the rules that made it name.
    #[must_use]
    pub fn consequence(&self) -> Option<Consequence> {
        if self.is_denied() {
            self.determining.iter().filter_map(|rule| rule.consequence).max()
        } else {
            None
        }
    }

    /// What must be met first. Empty for [`Effect::Allow`] and [`Effect::Deny`].
    #[must_use]
    pub fn obligations(&self) -> &[Obligation] {
        match &self.effect {
            Effect::AllowWithConditions(obligations) => obligations,
            Effect::Allow | Effect::Deny => &[],
        }
    }
}
