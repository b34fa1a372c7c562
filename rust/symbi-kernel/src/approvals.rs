//! Operations that wait for persons: what is asked, who has agreed, until when.
//!
//! Why: "ask a person first" must survive a restart, must not be answered by who asked, and what the person saw must be what
//! happens. So an approval is bound to a digest of the very operation, counts once, and everything about it is in the log.
//! Not here: asking and agreeing (`approving`), what is written of them (`written`), which operations wait (policy).
//!
//! Invariants
//! - K105 an approval lets one operation through, once: of the same principal, action, resource and arguments.
//! - K106 persons are counted once each, and never who asked.
//! - K107 what is denied stays denied, and what has expired is worth nothing.
//! - K108 whoever changes the arguments begins the count anew: nobody has agreed to what he did not see.

mod written;

use std::collections::{BTreeSet, HashMap};

use symbi_types::{AgentId, Label, LabelSet, OperationId, RunId};

/// Operations of one principal that wait at once.
pub(crate) const WAITING_OF_ONE_MAX: usize = 64;
/// Those of all.
pub(crate) const WAITING_MAX: usize = 4_096;

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// For persons.
    Waiting,
    /// It may happen, once.
    Approved,
    /// A person said no.
    Denied,
}

impl ApprovalState {
    /// Stable text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

/// A person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The operator, `operator:<uid>`.
    pub operator: String,
    /// The name of the token that was shown.
    pub name: String,
    /// When, microseconds since the epoch.
    pub at_us: u64,
}

/// One operation that waits, or waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its id: what `symbi approvals approve` takes.
    pub id: OperationId,
    /// Its record.
    pub seq: u64,
    /// What is to be done.
    pub action: String,
    /// Whose doing: an agent's id, `host`, `operator:<uid>`.
    pub principal: String,
    /// The principal as policies name it.
    pub subject: String,
    /// To what.
    pub resource: String,
    /// The agent it is filed under.
    pub agent: Option<AgentId>,
    /// The run.
    pub run: Option<RunId>,
    /// The rules that ask for a person.
    pub rules: Vec<String>,
    /// What it carries.
    pub labels: LabelSet,
    /// When it was asked, microseconds since the epoch.
    pub asked_us: u64,
    /// Until when it waits.
    pub expires_us: u64,
    /// How many persons must agree.
    pub count: u32,
    /// Who may; empty: any operator.
    pub approvers: BTreeSet<String>,
    /// Who has.
    pub votes: Vec<Vote>,
    /// Where it stands.
    pub state: ApprovalState,
    /// The arguments were changed by a person.
    pub modified: bool,
    /// Digest of what it is bound to, hex.
    pub(crate) binding: String,
    /// The arguments, sealed.
    pub(crate) sealed: String,
}

/// What became of a look for an approval.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is approved, and used now (K105).
    Used(Box<Waiting>),
    /// It is approved with other arguments: only those may be used (K108).
    Changed(OperationId),
    /// It waits already.
    Waits(OperationId),
    /// A person said no.
    Denied(OperationId),
    /// Nobody was asked.
    Nothing,
}

impl Found {
    /// Of several: what is denied comes before what waits.
    const fn weight(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Waits(_) => 1,
            Self::Changed(_) => 2,
            Self::Denied(_) => 3,
            Self::Used(_) => 4,
        }
    }
}

/// Why a person's word does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoVote {
    Absent,
    Decided,
    Requester,
    NotNamed,
    Again,
    Unchangeable,
}

/// A person's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Yes.
    Approve,
    /// No.
    Deny,
    /// Yes, with these arguments: a JSON object.
    Modify(Vec<u8>),
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Approvals {
    waiting: HashMap<OperationId, Waiting>,
    /// By what they are bound to: several, where the same was asked for while one was being used.
    bound: HashMap<String, Vec<OperationId>>,
}

impl Approvals {
    /// Looks for an approval of exactly this, and uses it (K105).
    pub(crate) fn look(&mut self, binding: &str, now_us: u64) -> Found {
        let ids = self.bound.get(binding).cloned().unwrap_or_default();
        let mut found = Found::Nothing;
        for id in ids {
            let Some(one) = self.waiting.get(&id) else { continue };
            if one.expires_us <= now_us {
                self.remove(id); // K107
                continue;
            }
            let fresh = match one.state {
                ApprovalState::Waiting => Found::Waits(id),
                ApprovalState::Denied => Found::Denied(id),
                ApprovalState::Approved if one.binding != binding => Found::Changed(id),
                ApprovalState::Approved => match self.remove(id) {
                    Some(used) => return Found::Used(Box::new(used)),
                    None => continue,
                },
            };
            if found.weight() < fresh.weight() {
                found = fresh;
            }
        }
        found
    }

    /// What it was to let through did not happen: it is there again (K105).
    pub(crate) fn put_back(&mut self, one: Waiting) {
        self.insert(one);
    }

    /// Whether one more of this principal may wait.
    pub(crate) fn has_room(&self, subject: &str) -> bool {
        let waits = |one: &&Waiting| one.subject == subject && one.state == ApprovalState::Waiting;
        self.waiting.len() < WAITING_MAX && self.waiting.values().filter(waits).count() < WAITING_OF_ONE_MAX
    }

    pub(crate) fn insert(&mut self, one: Waiting) {
        self.bind(&one.binding, one.id);
        self.waiting.insert(one.id, one);
    }

    fn bind(&mut self, binding: &str, id: OperationId) {
        let ids = self.bound.entry(binding.to_owned()).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }

    pub(crate) fn remove(&mut self, id: OperationId) -> Option<Waiting> {
        let one = self.waiting.remove(&id)?;
        if let Some(ids) = self.bound.get_mut(&one.binding) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.bound.remove(&one.binding);
            }
        }
        Some(one)
    }

    pub(crate) fn get(&self, id: OperationId) -> Option<&Waiting> {
        self.waiting.get(&id)
    }

    /// Whether this person's word would count (K106, K107).
    pub(crate) fn may_vote(&self, id: OperationId, vote: &Vote) -> Result<&Waiting, NoVote> {
        let one = self.waiting.get(&id).ok_or(NoVote::Absent)?;
        if one.expires_us <= vote.at_us {
            return Err(NoVote::Absent);
        }
        if one.state != ApprovalState::Waiting {
            return Err(NoVote::Decided);
        }
        if one.principal == vote.operator {
            return Err(NoVote::Requester);
        }
        let named = [&vote.name, &vote.operator].into_iter().any(|name| one.approvers.contains(name));
        if !one.approvers.is_empty() && !named {
            return Err(NoVote::NotNamed);
        }
        if one.votes.iter().any(|earlier| earlier.name == vote.name) {
            return Err(NoVote::Again);
        }
        Ok(one)
    }

    /// Counts a word that [`Approvals::may_vote`] let pass. `changed`: the digest and the sealed text of other arguments.
    pub(crate) fn vote(
        &mut self,
        id: OperationId,
        vote: Vote,
        deny: bool,
        changed: Option<(String, String)>,
    ) -> Option<ApprovalState> {
        let one = self.waiting.get_mut(&id)?;
        if let Some((binding, sealed)) = changed {
            one.votes.clear(); // K108
            one.modified = true;
            one.sealed = sealed;
            // Who asks again with what was asked first finds it by that too.
            one.binding.clone_from(&binding);
            self.bind(&binding, id);
        }
        let one = self.waiting.get_mut(&id)?;
        one.votes.push(vote);
        one.state = match () {
            () if deny => ApprovalState::Denied,
            () if one.votes.len() >= one.count as usize => ApprovalState::Approved,
            () => ApprovalState::Waiting,
        };
        Some(one.state)
    }

    /// Those that wait no more, because their time is over; each once.
    pub(crate) fn expire(&mut self, now_us: u64) -> Vec<Waiting> {
        let over = self.waiting.values().filter(|one| one.expires_us <= now_us);
        let ids: Vec<OperationId> = over.map(|one| one.id).collect();
        let gone: Vec<Waiting> = ids.into_iter().filter_map(|id| self.remove(id)).collect();
        self.bound.retain(|_, ids| {
            ids.retain(|id| self.waiting.contains_key(id));
            !ids.is_empty()
        });
        gone
    }

    /// Those that carry this label.
    pub(crate) fn of_label(&self, label: &Label) -> Vec<OperationId> {
        let carry = self.waiting.values().filter(|one| one.labels.contains(label.as_str()));
        carry.map(|one| one.id).collect()
    }

    /// All, oldest first.
    pub(crate) fn list(&self) -> Vec<Waiting> {
        let mut all: Vec<Waiting> = self.waiting.values().cloned().collect();
        all.sort_by_key(|one| one.seq);
        all
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use symbi_types::SystemEntropy;

    fn one(count: u32, approvers: &[&str]) -> Waiting {
        Waiting {
            id: OperationId::random(&SystemEntropy),
            seq: 3,
            action: "tool.call".into(),
            principal: "operator:7".into(),
            subject: "Agent::\"a\"".into(),
            resource: "Tool::\"t\"".into(),
            agent: Some(AgentId::random(&SystemEntropy)),
            run: None,
            rules: vec!["ask".into()],
            labels: std::iter::once("phi".parse().unwrap()).collect(),
            asked_us: 10,
            expires_us: 100,
            count,
            approvers: approvers.iter().map(|name| (*name).to_owned()).collect(),
            votes: Vec::new(),
            state: ApprovalState::Waiting,
            modified: false,
            binding: "b".into(),
            sealed: "s".into(),
        }
    }

    fn by(name: &str) -> Vote {
        Vote { operator: "operator:1".into(), name: name.into(), at_us: 20 }
    }

    #[test]
    fn k105_an_approval_is_used_once() {
        let mut all = Approvals::default();
        let waiting = one(1, &[]);
        let id = waiting.id;
        all.insert(waiting);
        assert_eq!(all.look("b", 20), Found::Waits(id));
        assert_eq!(all.look("c", 20), Found::Nothing, "of nothing else");
        assert_eq!(all.vote(id, by("ann"), false, None), Some(ApprovalState::Approved));
        let Found::Used(used) = all.look("b", 20) else { panic!("it is approved") };
        assert_eq!(used.id, id);
        assert_eq!(all.look("b", 20), Found::Nothing, "K105");
        all.put_back(*used);
        assert!(matches!(all.look("b", 20), Found::Used(again) if again.id == id), "it did not happen");
    }

    #[test]
    fn k105_of_several_that_are_bound_alike_each_lets_one_through_and_a_no_counts() {
        let mut all = Approvals::default();
        let (first, second, third) = (one(1, &[]), one(1, &[]), one(1, &[]));
        let ids = [first.id, second.id, third.id];
        [first, second, third].into_iter().for_each(|one| all.insert(one));
        for id in &ids[..2] {
            all.vote(*id, by("ann"), false, None);
        }
        let mut used = Vec::new();
        for _ in 0..2 {
            let Found::Used(one) = all.look("b", 20) else { panic!("two are approved") };
            used.push(one.id);
        }
        assert_eq!(used, ids[..2]);
        assert_eq!(all.look("b", 20), Found::Waits(ids[2]));
        all.vote(ids[2], by("ann"), true, None);
        assert_eq!(all.look("b", 20), Found::Denied(ids[2]));
    }

    #[test]
    fn k106_persons_count_once_and_never_who_asked() {
        let mut all = Approvals::default();
        let waiting = one(2, &["ann", "bob", "cid"]);
        let id = waiting.id;
        all.insert(waiting);
        let own = Vote { operator: "operator:7".into(), ..by("ann") };
        assert_eq!(all.may_vote(id, &own).unwrap_err(), NoVote::Requester);
        assert_eq!(all.may_vote(id, &by("eve")).unwrap_err(), NoVote::NotNamed);
        assert!(all.may_vote(id, &by("ann")).is_ok());
        assert_eq!(all.vote(id, by("ann"), false, None), Some(ApprovalState::Waiting));
        assert_eq!(all.may_vote(id, &by("ann")).unwrap_err(), NoVote::Again);
        assert_eq!(all.vote(id, by("bob"), false, None), Some(ApprovalState::Approved));
        assert_eq!(all.may_vote(id, &by("cid")).unwrap_err(), NoVote::Decided);
    }

    #[test]
    fn k107_what_is_denied_stays_so_and_what_has_expired_is_gone() {
        let mut all = Approvals::default();
        let (denied, late) = (one(1, &[]), Waiting { binding: "late".into(), ..one(1, &[]) });
        let ids = (denied.id, late.id);
        all.insert(denied);
        all.insert(late);
        assert_eq!(all.vote(ids.0, by("ann"), true, None), Some(ApprovalState::Denied));
        assert_eq!(all.look("b", 20), Found::Denied(ids.0));
        assert_eq!(all.vote(ids.1, by("ann"), false, None), Some(ApprovalState::Approved));
        assert_eq!(all.look("late", 100), Found::Nothing, "K107");
        let at = Vote { at_us: 100, ..by("ann") };
        assert_eq!(all.may_vote(ids.0, &at).unwrap_err(), NoVote::Absent);
        assert_eq!(all.expire(100).len(), 1);
        assert_eq!(all.len(), 0);
    }

    #[test]
    fn k108_other_arguments_begin_the_count_anew_and_are_found_by_both() {
        let mut all = Approvals::default();
        let waiting = one(2, &[]);
        let id = waiting.id;
        all.insert(waiting);
        all.vote(id, by("ann"), false, None);
        let changed = Some(("other".to_owned(), "t".to_owned()));
        assert_eq!(all.vote(id, by("bob"), false, changed), Some(ApprovalState::Waiting), "K108");
        assert!(all.may_vote(id, &by("ann")).is_ok(), "K108: she has not seen these");
        assert_eq!(all.look("b", 20), Found::Waits(id));
        assert_eq!(all.look("other", 20), Found::Waits(id));
        let mut again = Approvals::default();
        all.rows().iter().for_each(|row| again.load(row).unwrap());
        assert_eq!(again.list(), all.list(), "as a snapshot tells it");
        assert_eq!(again.look("b", 20), Found::Waits(id));
        all.vote(id, by("cid"), false, None);
        assert_eq!(
            all.look("b", 20),
            Found::Changed(id),
            "K108: what was asked first is not what was approved"
        );
        assert!(matches!(all.look("other", 20), Found::Used(used) if used.id == id));
    }
}
