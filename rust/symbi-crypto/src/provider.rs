//! Which implementation signs and seals. Both speak the same algorithms; their outputs are interchangeable.

use std::fmt;
use std::str::FromStr;

/// An implementation of Ed25519 signing and AES-256-GCM. Hashes and key agreement are always aws-lc's: `ring` offers
/// no X25519 key that is used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provider {
    /// AWS libcrypto, the default.
    #[default]
    AwsLc,
    /// ring.
    Ring,
}

/// A text that names no provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a provider of cryptography: `aws-lc` or `ring`")]
pub struct ProviderError {
    /// What was given, cut to 32 characters.
    pub text: String,
}

impl FromStr for Provider {
    type Err = ProviderError;
    fn from_str(text: &str) -> Result<Self, ProviderError> {
        match text {
            "aws-lc" => Ok(Self::AwsLc),
            "ring" => Ok(Self::Ring),
            _ => Err(ProviderError { text: text.chars().take(32).collect() }),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwsLc => "aws-lc",
            Self::Ring => "ring",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_named_by_its_text_and_by_nothing_else() {
        for provider in [Provider::AwsLc, Provider::Ring] {
            assert_eq!(provider.to_string().parse::<Provider>().unwrap(), provider);
        }
        assert!("openssl".parse::<Provider>().unwrap_err().to_string().contains("`ring`"));
    }
}
