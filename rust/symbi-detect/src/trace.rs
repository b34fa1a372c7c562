//! What must stand in a text for a form to be found in it, seen in one pass.
//!
//! Why: most texts hold nothing, and thirty automata that find nothing cost a hundred times what it costs to see that
//! none of them can: a message of 256 bytes is looked through in half a microsecond instead of twenty-five.
//!
//! Invariants
//! - TR1 a form that is left out would have found nothing: its pattern cannot match without what it needs.

use std::sync::LazyLock;

use regex::Regex;

use crate::forms::regex;

/// Without which a form finds nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs {
    /// One of these, in lower case; found in any.
    Words(&'static [&'static str]),
    /// So many decimal digits.
    Digits(usize),
    /// An `@`.
    At,
}

/// All words that any form needs. A test holds it to the forms.
pub(crate) const WORDS: [&str; 79] = [
    "-----begin",
    "://",
    "_auth",
    "_dsn",
    "_pass",
    "_pw",
    "address",
    "aiza",
    "akia",
    "asia",
    "authorization",
    "beneficiary",
    "birth",
    "born",
    "case",
    "cell",
    "chart",
    "credential",
    "d.o.b",
    "diagnosis",
    "dob",
    "driver",
    "emergency contact",
    "employee",
    "eyj",
    "fax",
    "geb",
    "gho_",
    "ghp_",
    "ghr_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "guardian",
    "hf_",
    "hooks.slack.com",
    "hospital",
    "insurance",
    "insured",
    "key",
    "medicaid",
    "medical",
    "medicare",
    "member",
    "mobile",
    "mrn",
    "naissance",
    "name",
    "national",
    "next of kin",
    "nhs",
    "npm_",
    "passcode",
    "passphrase",
    "passport",
    "passw",
    "patient",
    "personalausweis",
    "phone",
    "policy holder",
    "pwd",
    "pypi-age",
    "recovery",
    "rk_",
    "secret",
    "sg.",
    "sk-",
    "sk_",
    "social security",
    "ssn",
    "steuer",
    "subscriber",
    "tax",
    "tel",
    "token",
    "xapp-",
    "xox",
    "ya29.",
];

static ANY_WORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words: Vec<String> = WORDS.iter().map(|word| regex::escape(word)).collect();
    regex(&format!("(?i){}", words.join("|")))
});

/// What a text has.
pub(crate) struct Trace {
    digits: usize,
    at: bool,
    /// The text in lower case, where any word stands in it.
    lower: Option<String>,
}

impl Trace {
    pub(crate) fn of(text: &str) -> Self {
        let (mut digits, mut at) = (0, false);
        for byte in text.bytes() {
            digits += usize::from(byte.is_ascii_digit());
            at |= byte == b'@';
        }
        // Without the automaton nothing is left out.
        let worded = ANY_WORD.as_ref().is_none_or(|any| any.is_match(text));
        Self { digits, at, lower: worded.then(|| text.to_ascii_lowercase()) }
    }

    /// Of a text that has everything.
    #[cfg(test)]
    pub(crate) fn all(text: &str) -> Self {
        Self {
            digits: usize::MAX,
            at: true,
            lower: Some(format!("{}{}", text.to_lowercase(), WORDS.concat())),
        }
    }

    /// TR1.
    pub(crate) fn has(&self, needs: Needs) -> bool {
        match needs {
            Needs::Words(words) => {
                self.lower.as_ref().is_some_and(|lower| words.iter().any(|word| lower.contains(word)))
            }
            Needs::Digits(count) => count <= self.digits,
            Needs::At => self.at,
        }
    }
}

#[cfg(test)]
pub(crate) fn compiled() -> bool {
    ANY_WORD.is_some()
}
