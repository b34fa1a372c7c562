//! Retry budgets: how many retries an agent, and the whole runtime, may make.
//!
//! Why: retries multiply load exactly when there is too much of it. A bucket refills slowly, and a tenth with each task
//! that is done: so retries stay a tenth of the work, plus a trickle for those who have little.
//! Not here: which failures are worth a retry (`policy`).
//!
//! Invariants
//! - SV5 within any time t a bucket grants at most capacity + t / refill + done / 10 retries.
//! - SV6 the lower half of the runtime's bucket is kept for names that have at least half of their own: whoever has
//!   spent its own budget cannot spend what others need.
//! - SV7 a refusal takes nothing.
//!
//! Source: the token bucket as a generic cell rate, ITU-T I.371; budgets of this kind: Finagle, gRPC A6.

use std::collections::HashMap;

/// Most names with a bucket of their own. Whoever comes after them shares one.
pub const NAMES_MAX: usize = 65_536;
/// A done task gives back one part in so many of a retry.
const DONE_PER_RETRY: u64 = 10;

/// A bucket's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Most retries at once.
    pub capacity: u32,
    /// Nanoseconds for one more.
    pub refill_ns: u64,
}

/// When the bucket will be full again: all there is to know about it.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    fn available(self, size: Size, now_ns: u64) -> u64 {
        let whole = u64::from(size.capacity).saturating_mul(size.refill_ns);
        whole.saturating_sub(self.full_at_ns.saturating_sub(now_ns)) / size.refill_ns.max(1)
    }

    fn take(&mut self, size: Size, now_ns: u64) {
        self.full_at_ns = self.full_at_ns.max(now_ns).saturating_add(size.refill_ns);
    }

    fn give(&mut self, size: Size) {
        self.full_at_ns = self.full_at_ns.saturating_sub(size.refill_ns / DONE_PER_RETRY);
    }
}

/// Whose budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The agent's own.
    Agent,
    /// The runtime's.
    Runtime,
}

/// All buckets. A name is an agent's as policies know it: instances share one, so that a new instance is no new budget.
#[derive(Debug)]
pub struct Budgets {
    agent: Size,
    runtime: Size,
    whole: Bucket,
    names: HashMap<Box<str>, Bucket>,
    others: Bucket,
}

impl Budgets {
    /// Full buckets.
    #[must_use]
    pub fn new(agent: Size, runtime: Size) -> Self {
        Self { agent, runtime, whole: Bucket::default(), names: HashMap::new(), others: Bucket::default() }
    }

    fn of(&mut self, name: &str, now_ns: u64) -> &mut Bucket {
        if !self.names.contains_key(name) {
            if self.names.len() >= NAMES_MAX {
                self.names.retain(|_, bucket| bucket.full_at_ns > now_ns); // a full one is as good as none
            }
            if self.names.len() >= NAMES_MAX {
                return &mut self.others;
            }
        }
        self.names.entry(name.into()).or_default()
    }

    /// Takes one retry for `name`.
    ///
    /// # Errors
    /// Whose budget is spent (SV5, SV6); then nothing was taken (SV7).
    pub fn take(&mut self, name: &str, now_ns: u64) -> Result<(), Lack> {
        let (size, runtime) = (self.agent, self.runtime);
        let whole = self.whole.available(runtime, now_ns);
        let own = self.of(name, now_ns);
        let left = own.available(size, now_ns);
        if left == 0 {
            return Err(Lack::Agent);
        }
        let careful = left * 2 >= u64::from(size.capacity);
        if whole == 0 || (!careful && whole * 2 <= u64::from(runtime.capacity)) {
            return Err(Lack::Runtime); // SV6
        }
        own.take(size, now_ns);
        self.whole.take(runtime, now_ns);
        Ok(())
    }

    /// A task of `name` is done: it gives back a tenth of a retry.
    pub fn done(&mut self, name: &str) {
        self.whole.give(self.runtime);
        if let Some(own) = self.names.get_mut(name) {
            own.give(self.agent);
        }
    }

    /// Retries left at once: of `name`, and of the runtime.
    #[must_use]
    pub fn left(&self, name: &str, now_ns: u64) -> (u64, u64) {
        let own = self.names.get(name).copied().unwrap_or_default();
        (own.available(self.agent, now_ns), self.whole.available(self.runtime, now_ns))
    }
}
