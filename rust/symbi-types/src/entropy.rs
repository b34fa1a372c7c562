//! Randomness, injected, so that a seed reproduces a whole run.

/// A source of random bytes fit for keys, unless it is a test's.
pub trait Entropy: Send + Sync {
    /// Fills `buffer`. Cannot fail: a machine without randomness must stop, not go on with less.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's generator (`getrandom(2)`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::panic, reason = "no randomness means no keys: nothing may go on")]
    fn fill(&self, buffer: &mut [u8]) {
        if let Err(error) = getrandom::fill(buffer) {
            panic!("the operating system gave no randomness: {error}");
        }
    }
}
