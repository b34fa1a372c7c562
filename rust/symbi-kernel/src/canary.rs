//! The canary: what other policies would have made of what was decided lately.
//!
//! Why: a change of policy that compiles can still be wrong. Before it is put in force, a sample of recent operations is
//! decided again; what falls otherwise is told, and whoever changes policies may bound how many may.
//! Not here: changing policies (`operators`), deciding a whole trail again (`symbi policy whatif`).
//!
//! Invariants
//! - K111 a sample costs the operations that are not sampled a counter's step, and no more.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use symbi_policy::{Decision, Engine, RecordedRequest};

use crate::kernel::{Kernel, lock};
use crate::monitor::{Asked, request};

/// Operations that are kept.
const KEPT: usize = 256;
/// Of those that are let through, one in so many.
const ONE_IN: u64 = 32;
/// Of the others: they are rarer, and a flood of them must not be all that there is.
const DENIED_ONE_IN: u64 = 4;
/// Flips that are told one by one.
pub(crate) const SHOWN: usize = 20;

/// Recent operations, the youngest in the place of the oldest.
#[derive(Default)]
pub(crate) struct Canary {
    seen: AtomicU64,
    ring: Mutex<(Vec<RecordedRequest>, usize)>,
}

/// A recent operation that other policies decide otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Who asked.
    pub principal: String,
    /// For what.
    pub action: String,
    /// To what.
    pub resource: String,
    /// What it was: `allow`, `deny`, or an obligation.
    pub before: &'static str,
    /// What it would be.
    pub after: &'static str,
    /// The rule that would decide.
    pub rule: Option<String>,
}

impl Canary {
    /// Whether the next operation is to be kept.
    fn wants(&self, denied: bool) -> bool {
        let one_in = if denied { DENIED_ONE_IN } else { ONE_IN };
        self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(one_in)
    }

    fn keep(&self, request: RecordedRequest) {
        let (kept, next) = &mut *lock(&self.ring);
        match kept.get_mut(*next) {
            Some(place) => *place = request,
            None => kept.push(request),
        }
        *next = (*next + 1) % KEPT;
    }
}

/// Whether both come to the same: let through or not, and under the same conditions.
fn same(before: &Decision, after: &Decision) -> bool {
    before.is_denied() == after.is_denied() && before.obligations() == after.obligations()
}

impl Kernel {
    pub(crate) fn sample(&self, asked: &Asked<'_>, counters: &[(String, u64)], decision: &Decision) {
        if self.canary.wants(decision.is_denied()) {
            self.canary.keep(request(asked, counters).to_record());
        }
    }

    /// Recent operations decided by both: how many, and those that fall otherwise.
    pub(crate) fn compare(&self, before: &Engine, after: &Engine) -> (usize, Vec<Flip>) {
        let kept = lock(&self.canary.ring).0.clone();
        let flips = kept.iter().filter_map(|one| {
            let asked = one.as_request();
            let (was, is) = (before.evaluate(&asked), after.evaluate(&asked));
            (!same(&was, &is)).then(|| Flip {
                principal: one.principal.uid().to_string(),
                action: one.action.clone(),
                resource: one.resource.uid().to_string(),
                before: was.effect.as_str(),
                after: is.effect.as_str(),
                rule: is.rule().map(|rule| rule.id.clone()),
            })
        });
        (kept.len(), flips.collect())
    }
}
