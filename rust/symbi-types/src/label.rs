//! Labels: what kind of data this is, carried with it wherever it goes.
//!
//! Invariants
//! - L1 a label is 1 to 64 characters of `a-z`, `0-9`, `.`, `_`, `-`, and begins with a letter.
//! - L2 a set is sorted and holds each label once, so that equal sets are equal bytes.
//! - L3 a set only grows by `union`; lowering is an operation of the monitor, not of this type.
//! - L4 a person's label is `subject.` and a pseudonym of 32 hex digits: no name stands in a label.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A text that is not a label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a label: 1 to 64 of a-z, 0-9, `.`, `_`, `-`, beginning with a letter")]
pub struct LabelError {
    /// What was given, cut to 80 characters.
    pub text: String,
}

/// One label, such as `secret`, `personal` or `phi`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Label(Arc<str>);

impl Label {
    /// Most characters of a label.
    pub const CHARS_MAX: usize = 64;
    /// Credentials, keys, tokens: what opens doors.
    pub const SECRET: &'static str = "secret";
    /// Data about a person.
    pub const PERSONAL: &'static str = "personal";
    /// What stands before the pseudonym of the person whose data it is (L4).
    pub const SUBJECT: &'static str = "subject.";

    /// The label's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pseudonym of the person whose data this is; none for any other label.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.strip_prefix(Self::SUBJECT).filter(|pseudonym| is_pseudonym(pseudonym))
    }

    /// The label of a person's data; none where that is no pseudonym.
    #[must_use]
    pub fn of_subject(pseudonym: &str) -> Option<Self> {
        is_pseudonym(pseudonym).then(|| Self(format!("{}{pseudonym}", Self::SUBJECT).into()))
    }
}

/// L4.
fn is_pseudonym(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl FromStr for Label {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let body = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let good = text.len() <= Self::CHARS_MAX
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
            && text.bytes().all(body);
        if good { Ok(Self(text.into())) } else { Err(LabelError { text: text.chars().take(80).collect() }) }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Label {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A set of labels; cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct LabelSet(Arc<[Label]>);

impl LabelSet {
    /// The labels, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// How many labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a label of this text is in the set.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.0.iter().any(|label| label.as_str() == text)
    }

    /// Whether it names a person.
    #[must_use]
    pub fn has_subjects(&self) -> bool {
        self.0.iter().any(|label| label.subject().is_some())
    }

    /// Only the labels of persons.
    #[must_use]
    pub fn subjects(&self) -> Self {
        if self.has_subjects() {
            self.0.iter().filter(|label| label.subject().is_some()).cloned().collect()
        } else {
            Self::default()
        }
    }

    /// Whether every label of `other` is in this set.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|label| self.contains(label.as_str()))
    }

    /// All labels of both sets.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if self.covers(other) {
            return self.clone();
        }
        if other.covers(self) {
            return other.clone();
        }
        self.iter().chain(other.iter()).cloned().collect()
    }
}

impl FromIterator<Label> for LabelSet {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let mut labels: Vec<Label> = labels.into_iter().collect();
        labels.sort();
        labels.dedup();
        Self(labels.into()) // L2
    }
}

impl<'de> serde::Deserialize<'de> for LabelSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Label>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(labels: &[&str]) -> LabelSet {
        labels.iter().map(|label| label.parse().unwrap()).collect()
    }

    #[test]
    fn l1_only_the_plain_alphabet_is_a_label() {
        for good in ["phi", "secret", "a", "eu.gdpr-9_x"] {
            assert!(good.parse::<Label>().is_ok(), "{good}");
        }
        for wrong in ["", "PHI", "9a", "-a", "a b", "é", &"a".repeat(65)] {
            assert!(wrong.parse::<Label>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn l2_order_and_repetition_do_not_matter() {
        assert_eq!(set(&["b", "a", "b"]), set(&["a", "b"]));
    }

    #[test]
    fn l4_a_persons_label_is_a_pseudonym_and_no_name() {
        let pseudonym = "0123456789abcdef0123456789abcdef";
        let label = Label::of_subject(pseudonym).unwrap();
        assert_eq!((label.subject(), label.to_string().parse()), (Some(pseudonym), Ok(label.clone())));
        for wrong in ["jane", "", "0123456789ABCDEF0123456789ABCDEF"] {
            assert_eq!(Label::of_subject(wrong), None);
        }
        assert_eq!("subject.jane".parse::<Label>().unwrap().subject(), None);
        let all: LabelSet = [label.clone(), "phi".parse().unwrap()].into_iter().collect();
        assert!(all.has_subjects() && all.subjects().iter().eq([&label]));
    }

    #[test]
    fn l3_a_union_covers_both() {
        let both = set(&["a"]).union(&set(&["b"]));
        assert!(both.covers(&set(&["a"])) && both.covers(&set(&["b"])));
        assert_eq!(both.len(), 2);
    }
}
