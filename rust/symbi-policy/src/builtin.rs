//! The policy sets that come with symbi, as text, so that people read what holds before they name a policy.

use crate::compile::Source;

/// Who may ask, for what, on what.
pub const SCHEMA: &str = include_str!("builtin/symbi.cedarschema");
/// Decided first; users cannot forbid it. The engine adds it by itself to every set of this schema.
pub const OPERATOR: &str = include_str!("builtin/operator.cedar");
/// What holds when no policy is named.
pub const SECURE_DEFAULT: &str = include_str!("builtin/secure-default.cedar");
/// Starter policies, by name: each stands wherever the path of a policy may.
pub const STARTERS: [(&str, &str); 5] = [
    ("secure-default", SECURE_DEFAULT),
    ("hipaa-phi", include_str!("builtin/hipaa-phi.cedar")),
    ("gdpr-personal-data", include_str!("builtin/gdpr-personal-data.cedar")),
    ("sox-change-control", include_str!("builtin/sox-change-control.cedar")),
    ("mcp-tools", include_str!("builtin/mcp-tools.cedar")),
];
/// What `symbi demo` adds.
pub const DEMO: &str = include_str!("builtin/demo.cedar");

/// Names of built-in sources begin so: a rule from one is told apart from a rule of a file.
pub const PREFIX: &str = "builtin:";

pub(crate) fn operator() -> Source {
    Source { name: format!("{PREFIX}operator"), text: OPERATOR.to_owned() }
}

/// The set for a runtime that was given no policy.
#[must_use]
pub fn secure_default() -> Vec<Source> {
    vec![Source { name: format!("{PREFIX}secure-default"), text: SECURE_DEFAULT.to_owned() }]
}

/// The set of the clinic demo: secure-default and the courier's rules.
#[must_use]
pub fn demo() -> Vec<Source> {
    let mut sources = secure_default();
    sources.push(Source { name: format!("{PREFIX}demo"), text: DEMO.to_owned() });
    sources
}
