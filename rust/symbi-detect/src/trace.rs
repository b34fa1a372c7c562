//! What must stand in a text for a form to be found in it, seen in one pass.
//!
//! Why: most texts hold nothing, and thirty automata that find nothing cost a hundred times what it costs to see that
//! none of them can: a message of 256 bytes is looked through in half a microsecond instead of twenty-five.
//!
//! Invariants
//! - TR1 a form that is left out would have found nothing: its pattern cannot match without what it needs.

use std::sync::LazyLock;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, StartKind};

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
static FINDER: LazyLock<Option<DFA>> = LazyLock::new(|| {
    let mut builder = DFA::builder();
    builder.ascii_case_insensitive(true).start_kind(StartKind::Unanchored).prefilter(false).build(WORDS).ok()
});

/// Parts of a text that are gone through side by side: each step waits for the one before it, and the processor has room for
/// four such waits at once.
const PARTS: usize = 4;

/// Bytes of the longest word, which may begin in one part and end in the next.
const WORD_BYTES_MAX: usize = {
    let (mut most, mut rest) = (0, WORDS.as_slice());
    while let [word, others @ ..] = rest {
        if most < word.len() {
            most = word.len();
        }
        rest = others;
    }
    most
};

/// What a text has.
pub(crate) struct Trace {
    digits: usize,
    at: bool,
    words: Words,
}

impl Trace {
    pub(crate) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        // In pieces whose count fits a byte: the processor counts 32 at a time.
        let count = |piece: &[u8]| {
            piece.iter().fold(0u8, |digits, byte| digits.wrapping_add(u8::from(byte.is_ascii_digit())))
        };
        let digits = bytes.chunks(usize::from(u8::MAX)).map(|piece| usize::from(count(piece))).sum();
        Self { digits, at: bytes.contains(&b'@'), words: words(bytes) }
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
fn words(text: &[u8]) -> Words {
    let all = Words(u128::MAX);
    let Some(finder) = FINDER.as_ref() else { return all };
    let Ok(start) = finder.start_state(Anchored::No) else { return all };
    let mut found = 0;
    let mut look = |state: StateID| {
        if finder.is_match(state) {
            for at in 0..finder.match_len(state) {
                let word = finder.match_pattern(state, at).as_u32();
                found |= 1u128.checked_shl(word).unwrap_or(u128::MAX);
            }
        }
    };
    let step = |state: StateID, byte: u8| finder.next_state(Anchored::No, state, byte);
    let part = text.len().div_ceil(PARTS);
    let mut rest = text;
    if WORD_BYTES_MAX <= part {
        // Each part goes on into the next one for as long as a word that begins in it can reach.
        let parts: [&[u8]; PARTS] = std::array::from_fn(|at| {
            let end = text.len().min((at + 1) * part + WORD_BYTES_MAX - 1);
            text.get(at * part..end).unwrap_or_default()
        });
        let [first, second, third, fourth] = parts;
        let mut states = [start; PARTS];
        for (((one, two), three), four) in first.iter().zip(second).zip(third).zip(fourth) {
            let [a, b, c, d] = states;
            states = [step(a, *one), step(b, *two), step(c, *three), step(d, *four)];
            if states.iter().any(|state| finder.is_special(*state)) {
                states.into_iter().for_each(&mut look);
            }
        }
        // The last part is the shortest; what is left of the others goes on where it stood.
        for (mut state, part) in states.into_iter().zip(parts) {
            for byte in part.get(fourth.len()..).unwrap_or_default() {
                state = step(state, *byte);
                look(state);
            }
        }
        rest = &[];
    }
    let mut state = start;
    for byte in rest {
        state = step(state, *byte);
        look(state);
    }
    Words(found)
}

/// Without all of which none of some forms is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Union {
    words: u128,
    words_with_digits: (u128, usize),
    digits: usize,
    at: bool,
}

impl Union {
    /// Of what these forms need.
    pub(crate) fn of(all: impl IntoIterator<Item = Needs>) -> Self {
        let nothing = Self { words: 0, words_with_digits: (0, usize::MAX), digits: usize::MAX, at: false };
        all.into_iter().fold(nothing, |union, needs| match needs {
            Needs::Words(Words(words)) => Self { words: union.words | words, ..union },
            Needs::WordsAndDigits(Words(words), count) => {
                let (known, least) = union.words_with_digits;
                Self { words_with_digits: (known | words, least.min(count)), ..union }
            }
            Needs::Digits(count) => Self { digits: union.digits.min(count), ..union },
            Needs::At => Self { at: true, ..union },
        })
    }
}

impl Trace {
    /// Whether any of the forms can be found (TR1).
    pub(crate) const fn has_any(&self, union: &Union) -> bool {
        let (words, digits) = union.words_with_digits;
        self.words.0 & union.words != 0
            || (self.words.0 & words != 0 && digits <= self.digits)
            || union.digits <= self.digits
            || (self.at && union.at)
    }
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
            assert_eq!(words(text.as_bytes()), Words(plain), "TR1: {text}");
        }
        assert_eq!(words(WORDS.concat().as_bytes()), Words(u128::MAX >> (128 - WORDS.len())));
    }
    #[test]
    fn tr1_a_word_is_seen_wherever_it_stands_in_a_text_of_any_length() {
        for length in [40, 67, 68, 69, 71, 72, 73, 100, 255, 256, 257, 1_000] {
            for word in ["emergency contact", "hf_", "Social Security"] {
                for at in 0..=length - word.len() {
                    let mut text = vec![b'.'; length];
                    text[at..at + word.len()].copy_from_slice(word.as_bytes());
                    let expected = bit(&word.to_ascii_lowercase());
                    assert_eq!(words(&text), Words(expected), "TR1: {word} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn digits_and_at_signs_are_counted_in_texts_of_any_length() {
        for length in [0, 1, 254, 255, 256, 511, 1_021] {
            let text: String = (0..length).map(|at| if at % 3 == 0 { '7' } else { 'x' }).collect();
            assert_eq!(Trace::of(&text).digits, text.matches('7').count());
            assert!(!Trace::of(&text).at && Trace::of(&(text + "@")).at);
        }
        let all = Union::of([Needs::Digits(3), any_with_digits(&["tel"], 1), any(&["key"]), Needs::At]);
        for (text, may) in [("tell", false), ("tell 1", true), ("12", false), ("123", true), ("a@b", true)] {
            assert_eq!(Trace::of(text).has_any(&all), may, "{text}");
        }
    }
}
