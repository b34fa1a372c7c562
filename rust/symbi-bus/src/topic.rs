//! The name of a topic.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::patterns::{TopicError, check_topic};

/// A topic such as `clinic.alerts.icu`: words of `a-z`, `A-Z`, `0-9`, `_`, `-`, joined by dots, 1 to 255 characters.
/// Cheap to clone. Wildcards are no topic: what is published goes to one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The topic's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Topic {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        check_topic(text).map(|()| Self(text.into()))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_joined_by_dots_are_a_topic() {
        for good in ["a", "a.b", "data_processing.completed", "A-1.b_2", &"a".repeat(255)] {
            assert_eq!(good.parse::<Topic>().unwrap().as_str(), good);
        }
        for wrong in ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", "é", "a\0", &"a".repeat(256)] {
            assert!(wrong.parse::<Topic>().is_err(), "{wrong}");
        }
    }
}
