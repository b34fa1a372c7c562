//! One sliding window: how much happened within it, in 64 buckets, the oldest of which leaves as a whole.
//!
//! Why: exact sums over a million events would keep a million events; buckets keep 64 numbers, and err to the safe side.
//! Not here: whose window it is, reservations, what is written of it (`counters`).
//!
//! Invariants
//! - K6 a count is never lower than the sum of the reservations within the window; it may be higher by those of
//!   the window's oldest 64th.
//! - K100 different values are counted exactly up to `VALUES_MAX`; past it the count is above every cap.

use std::collections::{HashMap, VecDeque};

/// Buckets a window.
pub(crate) const BUCKETS: u64 = 64;
/// Different values that one window remembers.
pub(crate) const VALUES_MAX: usize = 65_536;
/// What a window of more values says: above every cap, and exact wherever a record is read.
pub(crate) const TOO_MANY: u64 = 1 << 53;

/// What an operation adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// So much.
    Amount(u64),
    /// This value, by its digest.
    Value(u64),
}

type Buckets<T> = VecDeque<(u64, T)>;

/// What happened within one window.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) bucket_us: u64,
    pub(crate) tally: Tally,
}

/// Sums of amounts, or different values.
#[derive(Clone, Debug)]
pub(crate) enum Tally {
    /// (bucket number, amount), oldest first; and their sum.
    Sums(Buckets<u64>, u64),
    /// (bucket number, how often each value), oldest first; and in how many buckets each value stands.
    Values(Buckets<HashMap<u64, u32>>, HashMap<u64, u32>),
}

/// The bucket to add to: never one before the last, so that the oldest stands in front.
fn last<T: Default>(buckets: &mut Buckets<T>, bucket: u64) -> Option<&mut (u64, T)> {
    if buckets.back().is_none_or(|(last, _)| *last < bucket) {
        buckets.push_back((bucket, T::default()));
    }
    buckets.back_mut()
}

impl Window {
    pub(crate) fn new(window_us: u64, added: Added) -> Self {
        let tally = match added {
            Added::Amount(_) => Tally::Sums(VecDeque::new(), 0),
            Added::Value(_) => Tally::Values(VecDeque::new(), HashMap::new()),
        };
        Self { bucket_us: width(window_us), tally }
    }

    pub(crate) fn counts(&self, added: Added) -> bool {
        matches!(
            (&self.tally, added),
            (Tally::Sums(..), Added::Amount(_)) | (Tally::Values(..), Added::Value(_))
        )
    }

    /// The same counts in buckets of another width, each at the youngest time it can have (K6).
    pub(crate) fn resized(&self, window_us: u64) -> Self {
        let moved = |bucket: u64| {
            let youngest_us = bucket.saturating_add(1).saturating_mul(self.bucket_us).saturating_sub(1);
            youngest_us / width(window_us)
        };
        match &self.tally {
            Tally::Sums(buckets, _) => {
                let mut fresh = Self::new(window_us, Added::Amount(0));
                for (bucket, amount) in buckets {
                    fresh.add(moved(*bucket), Added::Amount(*amount));
                }
                fresh
            }
            Tally::Values(buckets, _) => {
                let mut fresh = Self::new(window_us, Added::Value(0));
                for (bucket, values) in buckets {
                    for (value, times) in values {
                        (0..*times).for_each(|_| {
                            fresh.add(moved(*bucket), Added::Value(*value));
                        });
                    }
                }
                fresh
            }
        }
    }

    pub(crate) fn total(&self) -> u64 {
        match &self.tally {
            Tally::Sums(_, total) => *total,
            Tally::Values(_, seen) => seen.len() as u64,
        }
    }

    /// Answers the bucket it went to; none where there is no room for one more value (K100).
    pub(crate) fn add(&mut self, bucket: u64, added: Added) -> Option<u64> {
        match (&mut self.tally, added) {
            (Tally::Sums(buckets, total), Added::Amount(amount)) => {
                let (at, sum) = last(buckets, bucket)?;
                *sum = sum.saturating_add(amount);
                *total = total.saturating_add(amount);
                Some(*at)
            }
            (Tally::Values(buckets, seen), Added::Value(value)) => {
                if seen.len() >= VALUES_MAX && !seen.contains_key(&value) {
                    return None;
                }
                let (at, values) = last(buckets, bucket)?;
                let times = values.entry(value).or_insert(0);
                if *times == 0 {
                    *seen.entry(value).or_insert(0) += 1;
                }
                *times = times.saturating_add(1);
                Some(*at)
            }
            (Tally::Sums(..), Added::Value(_)) | (Tally::Values(..), Added::Amount(_)) => None,
        }
    }

    /// Adds to a bucket that others may follow: whatever else stands in the window, it is the same one.
    pub(crate) fn add_late(&mut self, bucket: u64, amount: u64, now_us: u64) {
        self.expire(now_us);
        let now = now_us / self.bucket_us;
        let bucket = if bucket < now.saturating_sub(BUCKETS) { now } else { bucket.min(now) };
        let Tally::Sums(buckets, total) = &mut self.tally else { return };
        let place = buckets.partition_point(|(at, _)| *at < bucket);
        match buckets.get_mut(place).filter(|(at, _)| *at == bucket) {
            Some((_, sum)) => *sum = sum.saturating_add(amount),
            None => buckets.insert(place, (bucket, amount)),
        }
        *total = total.saturating_add(amount);
    }

    /// K7.
    pub(crate) fn take(&mut self, bucket: u64, added: Added) {
        match (&mut self.tally, added) {
            (Tally::Sums(buckets, total), Added::Amount(amount)) => {
                if let Some((_, sum)) = buckets.iter_mut().find(|(at, _)| *at == bucket) {
                    let amount = amount.min(*sum);
                    *sum -= amount;
                    *total -= amount;
                }
            }
            (Tally::Values(buckets, seen), Added::Value(value)) => {
                let Some((_, values)) = buckets.iter_mut().find(|(at, _)| *at == bucket) else { return };
                let Some(times) = values.get_mut(&value) else { return };
                *times -= 1;
                if *times == 0 {
                    values.remove(&value);
                    forget(seen, value);
                }
            }
            (Tally::Sums(..), Added::Value(_)) | (Tally::Values(..), Added::Amount(_)) => {}
        }
    }

    pub(crate) fn expire(&mut self, now_us: u64) {
        let oldest = (now_us / self.bucket_us).saturating_sub(BUCKETS);
        match &mut self.tally {
            Tally::Sums(buckets, total) => {
                while let Some((_, amount)) = buckets.pop_front_if(|(bucket, _)| *bucket < oldest) {
                    *total -= amount;
                }
            }
            Tally::Values(buckets, seen) => {
                while let Some((_, values)) = buckets.pop_front_if(|(bucket, _)| *bucket < oldest) {
                    values.into_keys().for_each(|value| forget(seen, value));
                }
            }
        }
    }
}

fn forget(seen: &mut HashMap<u64, u32>, value: u64) {
    if let Some(times) = seen.get_mut(&value) {
        *times -= 1;
        if *times == 0 {
            seen.remove(&value);
        }
    }
}

pub(crate) fn width(window_us: u64) -> u64 {
    (window_us / BUCKETS).max(1)
}
