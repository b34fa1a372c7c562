//! How many failures of which class and code there were.
//!
//! Invariants
//! - SV18 the counts of all kinds add up to the failures counted; past `KINDS_MAX` kinds they go to `OTHER_KINDS` of
//!   their class, so that no agent grows the table by inventing names.

use std::collections::BTreeMap;

use crate::class::Class;

/// Most kinds counted apart.
pub const KINDS_MAX: usize = 512;
/// The code under which the rest is counted.
pub const OTHER_KINDS: &str = "(others)";
/// Longest code that is counted under its own name, in bytes.
const CODE_BYTES_MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    kinds: BTreeMap<(Class, String), u64>,
}

impl Counts {
    /// One more (SV18).
    pub fn add(&mut self, class: Class, code: &str) {
        let code = if code.len() <= CODE_BYTES_MAX { code } else { OTHER_KINDS };
        let key = (class, code.to_owned());
        let full = self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&key);
        let key = if full { (class, OTHER_KINDS.to_owned()) } else { key };
        *self.kinds.entry(key).or_default() += 1;
    }

    /// Class, code and number, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = (Class, &str, u64)> {
        self.kinds.iter().map(|((class, code), count)| (*class, code.as_str(), *count))
    }
}
