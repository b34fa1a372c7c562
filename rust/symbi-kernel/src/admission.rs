//! Admission: how many operations a principal may ask for, before anything is decided.
//!
//! Why: a decision and its record cost the machine something; a principal that loops must not be able to spend
//! that for all the others. The host program and operators are inside the trust boundary and are not limited.
//!
//! Invariants
//! - K3 in any span of `t` seconds an agent is admitted at most `burst + rate * t` times.

use std::collections::HashMap;

use symbi_types::AgentId;

/// The limit of each agent.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// Operations a second, in the long run.
    pub rate_per_s: u64,
    /// Operations at once after a pause.
    pub burst: u64,
}

impl Default for AdmissionLimits {
    /// 20,000 a second: several times what an agent behind a pipe can ask for, a fifth of what the log can write.
    fn default() -> Self {
        Self { rate_per_s: 20_000, burst: 20_000 }
    }
}

/// Tokens in billionths, so that refilling is integer arithmetic on nanoseconds.
const TOKEN: u64 = 1_000_000_000;

#[derive(Debug)]
struct Bucket {
    tokens: u64,
    filled_ns: u64,
}

/// One bucket an agent that has asked for something.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: AdmissionLimits,
    buckets: HashMap<AgentId, Bucket>,
}

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Self {
        Self { limits, buckets: HashMap::new() }
    }

    /// Takes one token. False: refused, nothing was taken.
    pub(crate) fn admit(&mut self, agent: AgentId, now_ns: u64) -> bool {
        let full = self.limits.burst.saturating_mul(TOKEN);
        let bucket = self.buckets.entry(agent).or_insert(Bucket { tokens: full, filled_ns: now_ns });
        let passed = now_ns.saturating_sub(bucket.filled_ns);
        bucket.tokens = bucket.tokens.saturating_add(passed.saturating_mul(self.limits.rate_per_s)).min(full);
        bucket.filled_ns = bucket.filled_ns.max(now_ns);
        if bucket.tokens < TOKEN {
            return false;
        }
        bucket.tokens -= TOKEN;
        true
    }

    /// Lets a bucket go that is full again: a new one is full too. When it will be, where it is not yet.
    pub(crate) fn tidy(&mut self, agent: AgentId, now_ns: u64) -> Option<u64> {
        let full = self.limits.burst.saturating_mul(TOKEN);
        let bucket = self.buckets.get(&agent)?;
        let lacks = full.saturating_sub(bucket.tokens);
        let full_ns = bucket.filled_ns.saturating_add(lacks.div_ceil(self.limits.rate_per_s.max(1)));
        if full_ns <= now_ns {
            self.buckets.remove(&agent);
            return None;
        }
        Some(full_ns)
    }

    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// The agent is gone.
    pub(crate) fn forget(&mut self, agent: AgentId) {
        self.buckets.remove(&agent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_types::SystemEntropy;

    #[test]
    fn k3_a_loop_is_admitted_burst_times_and_then_at_the_rate() {
        let mut admission = Admission::new(AdmissionLimits { rate_per_s: 10, burst: 5 });
        let agent = AgentId::random(&SystemEntropy);
        let at_once = (0..100).filter(|_| admission.admit(agent, 1)).count();
        assert_eq!(at_once, 5);
        let later = (0..100).filter(|_| admission.admit(agent, 1 + 2 * TOKEN)).count();
        assert_eq!(later, 5, "20 tokens came, 5 fit");
        let steady = (1..=100).filter(|step| admission.admit(agent, (2 + step) * TOKEN)).count();
        assert_eq!(steady, 100);
    }

    #[test]
    fn k3_a_bucket_is_let_go_when_that_changes_nothing() {
        let mut admission = Admission::new(AdmissionLimits { rate_per_s: 10, burst: 5 });
        let agent = AgentId::random(&SystemEntropy);
        assert!(admission.admit(agent, 0) && admission.admit(agent, 0));
        assert_eq!(admission.tidy(agent, 0), Some(2 * TOKEN / 10), "K3: two tokens are missing");
        assert_eq!((admission.tidy(agent, 2 * TOKEN / 10), admission.len()), (None, 0));
        assert_eq!(
            (0..100).filter(|_| admission.admit(agent, TOKEN)).count(),
            5,
            "K3: as it would have been"
        );
    }

    #[test]
    fn k3_one_agent_does_not_spend_the_tokens_of_another() {
        let mut admission = Admission::new(AdmissionLimits { rate_per_s: 1, burst: 1 });
        let (a, b) = (AgentId::random(&SystemEntropy), AgentId::random(&SystemEntropy));
        assert!(admission.admit(a, 0) && !admission.admit(a, 0) && admission.admit(b, 0));
    }
}
