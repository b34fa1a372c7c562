//! 128-bit identifiers, one type per thing that is identified.
//!
//! Invariants
//! - I1 the text form is the lower-case hyphenated UUID of RFC 9562, version 4, and nothing else parses.

use std::fmt;
use std::str::FromStr;

use crate::Entropy;

/// A text that is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a lower-case UUID of version 4")]
pub struct IdError {
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl IdError {
    fn new(text: &str) -> Self {
        Self { text: text.chars().take(64).collect() }
    }
}

/// Sets the version and variant bits of RFC 9562, section 5.4.
fn random_uuid(entropy: &dyn Entropy) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    entropy.fill(&mut bytes);
    let value = u128::from_be_bytes(bytes);
    let value = (value & !(0xf << 76)) | (0x4 << 76);
    let value = (value & !(0x3 << 62)) | (0x2 << 62);
    value.to_be_bytes()
}

fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = u128::from_be_bytes(*bytes);
    write!(
        f,
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        value >> 96,
        (value >> 80) & 0xffff,
        (value >> 64) & 0xffff,
        (value >> 48) & 0xffff,
        value & 0xffff_ffff_ffff
    )
}

fn parse_uuid(text: &str) -> Result<[u8; 16], IdError> {
    let refuse = || IdError::new(text);
    if text.len() != 36 {
        return Err(refuse());
    }
    let mut value: u128 = 0;
    for (at, byte) in text.bytes().enumerate() {
        let digit = match (at, byte) {
            (8 | 13 | 18 | 23, b'-') => continue,
            (8 | 13 | 18 | 23, _) => return Err(refuse()),
            (_, b'0'..=b'9') => byte - b'0',
            (_, b'a'..=b'f') => byte - b'a' + 10,
            _ => return Err(refuse()),
        };
        value = (value << 4) | u128::from(digit);
    }
    if !is_version_4(value) {
        return Err(refuse());
    }
    Ok(value.to_be_bytes())
}

const fn is_version_4(value: u128) -> bool {
    (value >> 76) & 0xf == 4 && (value >> 62) & 0x3 == 2
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Before every id of this kind, and after: the ends of a range, never given to anything.
            pub const MIN: Self = Self([0; 16]);
            /// See `MIN`.
            pub const MAX: Self = Self([u8::MAX; 16]);

            /// A fresh random id.
            #[must_use]
            pub fn random(entropy: &dyn Entropy) -> Self {
                Self(random_uuid(entropy))
            }

            /// The id of these 16 bytes, big-endian; `None` where they are not a version 4 UUID (I1).
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
                if is_version_4(u128::from_be_bytes(bytes)) { Some(Self(bytes)) } else { None }
            }

            /// The 16 bytes, big-endian.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(text).map(Self)
            }
        }
    };
}

id!(
    /// One agent, from creation to termination.
    AgentId
);
id!(
    /// One operation: a request that passed, or was refused at, the monitor.
    OperationId
);
id!(
    /// One decision, as the principal is told it: random, so that it says nothing about the order of others.
    DecisionId
);
id!(
    /// One record of the log.
    EventId
);
id!(
    /// One run of an agent: a task from its start to its outcome.
    RunId
);
id!(
    /// One document of the knowledge base.
    DocumentId
);
id!(
    /// One message of the bus.
    MessageId
);
id!(
    /// One opening of the runtime: monotonic times are comparable only within it.
    BootId
);

/// The identity of a log: 16 random bytes, bound into every link of its chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    /// A fresh random log id.
    #[must_use]
    pub fn random(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0u8; 16];
        entropy.fill(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    #[test]
    fn i1_a_random_id_round_trips_through_its_text() {
        for _ in 0..1_000 {
            let id = AgentId::random(&SystemEntropy);
            assert_eq!(id.to_string().parse::<AgentId>().unwrap(), id);
            assert_eq!(AgentId::from_bytes(*id.as_bytes()), Some(id));
        }
        assert_eq!(AgentId::from_bytes([0; 16]), None);
    }

    #[test]
    fn i1_other_spellings_of_the_same_id_are_refused() {
        let text = AgentId::random(&SystemEntropy).to_string();
        let bare = text.replace('-', "");
        for wrong in [text.to_uppercase(), bare, format!("{{{text}}}"), format!("{text} "), String::new()] {
            if wrong != text {
                assert!(wrong.parse::<AgentId>().is_err(), "{wrong}");
            }
        }
        assert!("00000000-0000-0000-0000-000000000000".parse::<AgentId>().is_err());
    }
}
