//! Where an agent's code runs.

use std::fmt;
use std::str::FromStr;

/// A sandbox tier, weakest first, so that a minimum is a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityTier {
    /// No container engine: Landlock, seccomp and rlimits. Development only.
    Degraded,
    /// Tier 1, Docker with runc: shares the host's kernel.
    Docker,
    /// Tier 2, Docker with gVisor: a kernel of its own.
    Gvisor,
}

/// A text that names no tier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a tier: accepted are `degraded`, `docker` (or `tier1`), `gvisor` (or `tier2`)")]
pub struct TierError {
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl SecurityTier {
    /// The name used in configuration, policy and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Docker => "docker",
            Self::Gvisor => "gvisor",
        }
    }

    /// 0 for degraded, 1 for Docker, 2 for gVisor: the number policies compare.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Degraded => 0,
            Self::Docker => 1,
            Self::Gvisor => 2,
        }
    }
}

impl fmt::Display for SecurityTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SecurityTier {
    type Err = TierError;
    fn from_str(text: &str) -> Result<Self, TierError> {
        match text.to_ascii_lowercase().as_str() {
            "degraded" => Ok(Self::Degraded),
            "docker" | "tier1" => Ok(Self::Docker),
            "gvisor" | "tier2" => Ok(Self::Gvisor),
            _ => Err(TierError { text: text.chars().take(64).collect() }),
        }
    }
}
