//! What must stand in a text for a form to be found in it, seen in one pass.
//!
//! Why: most texts hold nothing, and thirty automata that find nothing cost a hundred times what it costs to see that
//! none of them can: a message of 256 bytes is looked through in half a microsecond instead of twenty-five.
//!
//! Invariants
//! - TR1 a form that is left out would have found nothing: its pattern cannot match without what it needs.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

/// Without which a form finds nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs {
    /// One of these words; found in any.
    Words(Words),
    /// One of these words, and so many decimal digits.
    WordsAndDigits(Words, usize),
    /// So many decimal digits.
    Digits(usize),
    /// An `@`.
    At,
}

/// Some of [`WORDS`], a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words(u128);

/// One of these words, in lower case. One that nobody looks for does not compile.
pub(crate) const fn any(words: &[&str]) -> Needs {
    Needs::Words(set_of(words))
}

/// As [`any`], and so many digits: of a number that a word names.
pub(crate) const fn any_with_digits(words: &[&str], digits: usize) -> Needs {
    Needs::WordsAndDigits(set_of(words), digits)
}

const fn set_of(words: &[&str]) -> Words {
    let (mut set, mut rest) = (0, words);
    while let [word, others @ ..] = rest {
        set |= bit(word);
        rest = others;
    }
    Words(set)
}

const fn bit(word: &str) -> u128 {
    let (mut bit, mut rest) = (1u128, WORDS.as_slice());
    while let [known, others @ ..] = rest {
        if is_same(known.as_bytes(), word.as_bytes()) {
            return bit;
        }
        bit <<= 1;
        rest = others;
    }
    assert!(WORDS.is_empty(), "TR1: a form needs a word that is not looked for");
    0
}

const fn is_same(mut left: &[u8], mut right: &[u8]) -> bool {
    while let ([one, left_rest @ ..], [other, right_rest @ ..]) = (left, right) {
        if *one != *other {
            return false;
        }
        (left, right) = (left_rest, right_rest);
    }
    left.is_empty() && right.is_empty()
}

/// All words that any form needs.
const WORDS: [&str; 79] = [
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

/// One automaton for all words, so that a text is gone through once, whichever of them stand in it.
static FINDER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let mut builder = AhoCorasick::builder();
    builder.ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(WORDS).ok()
});

/// What a text has.
pub(crate) struct Trace {
    digits: usize,
    at: bool,
    words: Words,
}

impl Trace {
    pub(crate) fn of(text: &str) -> Self {
        let (mut digits, mut at) = (0, false);
        for byte in text.bytes() {
            digits += usize::from(byte.is_ascii_digit());
            at |= byte == b'@';
        }
        Self { digits, at, words: words(text) }
    }

    /// Of a text that has everything.
    #[cfg(test)]
    pub(crate) fn all() -> Self {
        Self { digits: usize::MAX, at: true, words: Words(u128::MAX) }
    }

    /// TR1.
    pub(crate) const fn has(&self, needs: Needs) -> bool {
        match needs {
            Needs::Words(Words(words)) => self.words.0 & words != 0,
            Needs::WordsAndDigits(Words(words), count) => self.words.0 & words != 0 && count <= self.digits,
            Needs::Digits(count) => count <= self.digits,
            Needs::At => self.at,
        }
    }
}

/// The words that stand in a text, however they overlap; all of them without the automaton, so that nothing is left out.
fn words(text: &str) -> Words {
    let finder = FINDER.as_ref().and_then(|finder| finder.try_find_overlapping_iter(text).ok());
    let Some(found) = finder else { return Words(u128::MAX) };
    Words(found.fold(0, |set, one| set | 1u128.checked_shl(one.pattern().as_u32()).unwrap_or(u128::MAX)))
}

#[cfg(test)]
pub(crate) fn compiled() -> bool {
    FINDER.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tr1_a_text_has_exactly_the_words_that_stand_in_it_in_any_case_and_however_they_overlap() {
        for text in [
            "",
            "hotel",
            "PassPhrase: tokenkey",
            "medicare",
            "_PASSWD",
            "ssnhsk-",
            "nothing else",
            "\u{e9}tel",
        ] {
            let lower = text.to_ascii_lowercase();
            let plain =
                WORDS.iter().filter(|word| lower.contains(**word)).fold(0, |set, word| set | bit(word));
            assert_eq!(words(text), Words(plain), "TR1: {text}");
        }
        assert_eq!(words(&WORDS.concat()), Words(u128::MAX >> (128 - WORDS.len())));
    }
}
