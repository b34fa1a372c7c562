//! Every part of the kernel, looked at for what it holds of a person.
//!
//! Why: a store that somebody adds and nobody erases would be found by the person who was promised otherwise. The kernel is
//! taken apart below without a rest: a new field does not compile until somebody has said here what it holds. Counting and
//! erasing are one walk, so that a trial says what an erasure does.
//! Not here: when this is done (`erasure`), files that no field stands for (`erasure::PLACES`).

use std::collections::BTreeMap;

use symbi_audit::Event;
use symbi_store::StoreError;
use symbi_types::Label;

use super::{Kernel, KernelError, lock};
use crate::acknowledge::Kept;
use crate::approvals::Approvals;
use crate::json::Object;
use crate::messaging::Messaging;

/// How much there was, by place.
pub(crate) type Counted = BTreeMap<&'static str, u64>;

/// What is done with what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It stays where it is.
    Counted,
    /// It goes.
    Erased,
}

impl Kernel {
    /// Looks at every place that holds something under this label, and empties it where that is asked for: then the key is
    /// destroyed already. What it finds is added to `counted`, also where it then fails.
    pub(crate) fn find_everywhere(
        &self,
        label: &Label,
        found: Found,
        counted: &mut Counted,
    ) -> Result<(), KernelError> {
        let Self {
            // What is on disk: sealed, and it stays.
            log: _,
            trail: _,
            key_directory: _,
            storage: _,
            snapshots: _,
            log_options: _,
            opened: _,
            // Keys and who they are of: done before.
            sealing: _,
            subjects: _,
            persons: _,
            deciding_on_persons: _,
            digest_key: _,
            // What may be done, and how often: names of agents and tools, and digests keyed by the person.
            policies: _,
            changing_policies: _,
            enforce: _,
            admission: _,
            counters: _,
            denials: _,
            canary: _,
            policy_problem: _,
            erring_rules: _,
            descriptions: _,
            notices: _,
            tools: _,
            // What is under way: ids, and bytes that a permit gives once, within 30 seconds.
            pending: _,
            places: _,
            shares: _,
            unknown: _,
            turns: _,
            agents_max: _,
            ready_mailboxes: _,
            late: _,
            is_late: _,
            collector: _,
            wake: _,
            closed: _,
            clock: _,
            entropy: _,
            earlier_jumps_us: _,
            // What holds something.
            agents,
            handler,
            bus,
            messaging,
            store,
            unapplied,
            approvals,
        } = self;
        let carriers: Vec<_> =
            lock(agents).carriers(label.as_str()).into_iter().map(|(agent, _)| agent).collect();
        let mut add = |place, count: u64| *counted.entry(place).or_default() += count;
        // What was recorded before the erasure is on disk with it; applied now, or it would come with the next search.
        self.apply_durable();
        // One lock at a time (K25). What can fail comes last: then nothing else is left to be done again.
        let results = match found {
            Found::Counted => lock(handler).count_results(&carriers),
            Found::Erased => lock(handler).lose_results(&carriers),
        };
        let unread = match found {
            Found::Counted => bus.count(label),
            Found::Erased => bus.discard(label),
        };
        let contents = match found {
            Found::Counted => lock(unapplied).of_label(label).len(),
            Found::Erased => lock(unapplied).forget_label(label),
        };
        add("tasks", results as u64);
        add("mailboxes", unread as u64);
        add("deliveries", self.let_go(messaging, label, found));
        add("approvals", self.withdraw(approvals, label, found));
        add("contents", contents as u64);
        let known = store.count_subject(label)?;
        let forgotten = match found {
            Found::Counted => Ok(()),
            Found::Erased => store.erase_subject(label).map(|_| ()),
        };
        if matches!(forgotten, Ok(()) | Err(StoreError::InUse)) {
            add("knowledge", known.passages);
            add("documents", known.documents);
            add("titles", known.titles);
        }
        Ok(forgotten?)
    }

    /// Messages that would be handed out again, and those that the trail keeps: recorded as dead, so that no opening finds
    /// them.
    fn let_go(&self, messaging: &Messaging, label: &Label, found: Found) -> u64 {
        let letters = lock(&messaging.letters).of_label(label);
        let goes = |kept: &Kept| kept.0.labels.contains(label.as_str());
        let discarded = match found {
            Found::Counted => lock(&messaging.deliveries).holding(goes),
            Found::Erased => lock(&messaging.deliveries).discard(goes),
        };
        let (names, seen): (Vec<_>, Vec<_>) = letters.into_iter().unzip();
        let others = discarded.into_iter().map(|(_, id)| id).filter(|id| !seen.contains(id));
        let gone: Vec<_> = names.iter().copied().chain(others).collect();
        if found == Found::Counted {
            return gone.len() as u64;
        }
        for id in &gone {
            let details = Object::new()
                .display("message", id)
                .string("reason", "erased")
                .number("attempts", 0)
                .finish();
            let _ = self.log().append(&Event::new("message.dead", &details)); // unreadable all the same
        }
        self.drop_letters(&names);
        gone.len() as u64
    }

    fn withdraw(&self, approvals: &std::sync::Mutex<Approvals>, label: &Label, found: Found) -> u64 {
        let gone = lock(approvals).of_label(label);
        if found == Found::Counted {
            return gone.len() as u64;
        }
        for id in &gone {
            let Some(one) = lock(approvals).remove(*id) else { continue };
            let details = Object::new()
                .string("action", &one.action)
                .string("resource", &one.resource)
                .string("state", "erased")
                .finish();
            let event = Event {
                agent_id: one.agent,
                run: one.run,
                op: Some(one.id),
                ..Event::new("approval.expired", &details)
            };
            let _ = self.log().append(&event);
        }
        gone.len() as u64
    }
}
