//! What one agent asks for: how often it is tried again, how long between, when it is given up.
//!
//! Not here: whether a retry is granted (`budget`), what counts against the agent (`supervisor`).
//!
//! Invariants
//! - SV3 the delay before attempt n + 1 is at most `min(backoff_max, backoff · 2^(n-1))`, and never overflows.
//! - SV4 what `check` accepts, every other function works with.

use crate::class::{Class, classify};

/// Most retries of one task: past it, a person should look.
pub const RETRIES_MAX: u32 = 100;
/// Longest delay, in milliseconds: an hour. A task waits in memory for it.
pub const BACKOFF_MS_MAX: u64 = 3_600_000;
/// Most restarts within a window.
pub const RESTARTS_MAX: u32 = 1_000;
/// Longest window, in milliseconds: a day.
const WINDOW_MS_MAX: u64 = 86_400_000;
/// Most words in `retry_on` and in `never_retry`, each.
pub const WORDS_MAX: usize = 64;
/// Longest such word, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// How a delay is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Jitter {
    /// Anywhere between nothing and the whole delay: those who failed together do not come back together.
    #[default]
    Full,
    /// The whole delay, for those who must be predictable.
    None,
}

/// The supervision of one agent. The default is what `symbi.Supervision()` asks for; an agent without one is never
/// tried again and never ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervision {
    /// Retries of one task after its first attempt.
    pub retries: u32,
    /// The first delay, in milliseconds; it doubles.
    pub backoff_ms: u64,
    /// The longest delay, in milliseconds.
    pub backoff_max_ms: u64,
    /// How a delay is spread.
    pub jitter: Jitter,
    /// Codes and classes that are tried again besides `transient` and `other`.
    pub retry_on: Vec<String>,
    /// Codes and classes that are not; stronger than `retry_on`.
    pub never_retry: Vec<String>,
    /// Failed tasks within the window that restart the worker; one more ends the agent. `None`: it is never ended.
    pub restarts: Option<u32>,
    /// The window, in milliseconds.
    pub window_ms: u64,
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            retries: 3,
            backoff_ms: 200,
            backoff_max_ms: 30_000,
            jitter: Jitter::Full,
            retry_on: Vec::new(),
            never_retry: Vec::new(),
            restarts: None,
            window_ms: 60_000,
        }
    }
}

/// A supervision that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SupervisionError {
    /// A number out of its range.
    #[error("`{name}` is {low} to {high}, and is {value}")]
    Range {
        /// Which.
        name: &'static str,
        /// What was given.
        value: u64,
        /// The least.
        low: u64,
        /// The most.
        high: u64,
    },
    /// A word that may not stand there.
    #[error(
        "`{word}` is never tried again: what was refused, stopped or is unknown would only be asked for twice"
    )]
    Final {
        /// The word.
        word: String,
    },
    /// Too many words, or one that is too long.
    #[error("`{name}` has at most {WORDS_MAX} words of 1 to {WORD_BYTES_MAX} bytes")]
    Words {
        /// Which.
        name: &'static str,
    },
}

fn range(name: &'static str, value: u64, low: u64, high: u64) -> Result<(), SupervisionError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(SupervisionError::Range { name, value, low, high })
}

fn words(name: &'static str, words: &[String]) -> Result<(), SupervisionError> {
    let good = |word: &String| !word.is_empty() && word.len() <= WORD_BYTES_MAX;
    if words.len() <= WORDS_MAX && words.iter().all(good) {
        return Ok(());
    }
    Err(SupervisionError::Words { name })
}

fn class_of(word: &str) -> Class {
    word.parse().unwrap_or_else(|()| classify(word))
}

impl Supervision {
    /// Whether it can be (SV4).
    ///
    /// # Errors
    /// Says which value cannot, and what is accepted.
    pub fn check(&self) -> Result<(), SupervisionError> {
        range("retries", u64::from(self.retries), 0, u64::from(RETRIES_MAX))?;
        range("backoff_ms", self.backoff_ms, 0, BACKOFF_MS_MAX)?;
        range("backoff_max_ms", self.backoff_max_ms, self.backoff_ms, BACKOFF_MS_MAX)?;
        if let Some(restarts) = self.restarts {
            range("restarts", u64::from(restarts), 0, u64::from(RESTARTS_MAX))?;
        }
        range("window_ms", self.window_ms, 1, WINDOW_MS_MAX)?;
        words("retry_on", &self.retry_on)?;
        words("never_retry", &self.never_retry)?;
        match self.retry_on.iter().find(|word| class_of(word).is_final()) {
            Some(word) => Err(SupervisionError::Final { word: word.clone() }), // SV2
            None => Ok(()),
        }
    }

    /// Whether a failure of this class and code is worth another attempt.
    #[must_use]
    pub fn retries(&self, class: Class, code: &str) -> bool {
        let named = |words: &[String]| words.iter().any(|word| word == code || word == class.as_str());
        !class.is_final() && !named(&self.never_retry) && (class.is_retried() || named(&self.retry_on))
    }

    /// The delay after attempt `attempt` (the first is 1), in milliseconds; `random` is any number (SV3).
    ///
    /// Source: Brooker, "Exponential Backoff and Jitter", 2015: full jitter does the least work in all.
    #[must_use]
    pub fn delay_ms(&self, attempt: u32, random: u64) -> u64 {
        let doubled = 1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
        let whole = self.backoff_ms.saturating_mul(doubled).min(self.backoff_max_ms);
        match self.jitter {
            Jitter::None => whole,
            // Multiply and shift: without the bias of a remainder, and without a division by zero.
            Jitter::Full => {
                let spread = (u128::from(random) * (u128::from(whole) + 1)) >> 64;
                u64::try_from(spread).unwrap_or(whole)
            }
        }
    }
}
