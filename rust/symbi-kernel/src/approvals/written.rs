//! Approvals as they are written: in records, which bring them about, and in snapshots, from which they are read again.
//!
//! Not here: what an approval is worth (`approvals`), writing the records (`approving`).

use serde_json::{Value as Json, json};

use super::{ApprovalState, Approvals, Vote, Waiting};

impl Approvals {
    /// What one record of the log does to them.
    pub(crate) fn take(&mut self, record: &symbi_audit::Record, details: &Json) {
        let Some(id) = record.operation() else { return };
        let text = |key: &str| details.get(key).and_then(Json::as_str).map(str::to_owned);
        match record.event_type.as_str() {
            "approval.requested" => {
                if let Some(waiting) = Waiting::from_record(record, details) {
                    self.insert(waiting);
                }
            }
            "approval.granted" | "approval.denied" => {
                let at_us = details.get("at_us").and_then(Json::as_u64).unwrap_or(record.timestamp_us);
                let (Some(operator), Some(name)) = (text("principal"), text("name")) else { return };
                let vote = Vote { operator, name, at_us };
                let changed = text("before").and(text("binding")).zip(text("sealed"));
                if self.may_vote(id, &vote).is_ok() {
                    self.vote(id, vote, record.event_type == "approval.denied", changed);
                }
            }
            "approval.expired" => drop(self.remove(id)),
            // It was used: the record of what it let through names it.
            _ => {
                if let Some(used) = text("approval").and_then(|used| used.parse().ok()) {
                    self.remove(used);
                }
            }
        }
    }

    /// For a snapshot.
    pub(crate) fn rows(&self) -> Vec<Json> {
        let mut rows: Vec<Json> = self.waiting.values().map(Waiting::to_json).collect();
        let pairs = self.bound.iter().flat_map(|(binding, ids)| ids.iter().map(move |id| (binding, id)));
        let names =
            pairs.filter(|(binding, id)| self.waiting.get(id).is_some_and(|one| one.binding != **binding));
        rows.extend(names.map(|(binding, id)| json!({"also": binding, "id": id.to_string()})));
        rows
    }

    /// One of [`Approvals::rows`].
    pub(crate) fn load(&mut self, row: &Json) -> Option<()> {
        if let Some(also) = row.get("also").and_then(Json::as_str) {
            let id = row.get("id")?.as_str()?.parse().ok()?;
            self.bind(also, id);
        } else {
            self.insert(Waiting::from_json(row)?);
        }
        Some(())
    }
}

impl Waiting {
    fn to_json(&self) -> Json {
        let votes: Vec<Json> =
            self.votes.iter().map(|vote| json!([vote.operator, vote.name, vote.at_us])).collect();
        json!({
            "id": self.id.to_string(), "seq": self.seq, "action": self.action, "principal": self.principal,
            "subject": self.subject, "resource": self.resource, "agent": self.agent.map(|agent| agent.to_string()),
            "run": self.run.map(|run| run.to_string()), "rules": self.rules, "labels": self.labels,
            "asked_us": self.asked_us, "expires_us": self.expires_us, "count": self.count,
            "approvers": self.approvers, "votes": votes, "state": self.state.as_str(), "modified": self.modified,
            "binding": self.binding, "sealed": self.sealed,
        })
    }

    fn from_json(row: &Json) -> Option<Self> {
        let text = |key: &str| row.get(key).and_then(Json::as_str).map(str::to_owned);
        let number = |key: &str| row.get(key).and_then(Json::as_u64);
        let list = |key: &str| {
            let values = row.get(key)?.as_array()?;
            values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        };
        let vote = |vote: &Json| {
            Some(Vote {
                operator: vote.get(0)?.as_str()?.to_owned(),
                name: vote.get(1)?.as_str()?.to_owned(),
                at_us: vote.get(2)?.as_u64()?,
            })
        };
        let state = text("state")?;
        Some(Self {
            id: text("id")?.parse().ok()?,
            seq: number("seq")?,
            action: text("action")?,
            principal: text("principal")?,
            subject: text("subject")?,
            resource: text("resource")?,
            agent: text("agent").and_then(|agent| agent.parse().ok()),
            run: text("run").and_then(|run| run.parse().ok()),
            rules: list("rules")?,
            labels: serde_json::from_value(row.get("labels")?.clone()).ok()?,
            asked_us: number("asked_us")?,
            expires_us: number("expires_us")?,
            count: u32::try_from(number("count")?).ok()?,
            approvers: list("approvers")?.into_iter().collect(),
            votes: row.get("votes")?.as_array()?.iter().map(vote).collect::<Option<_>>()?,
            state: [ApprovalState::Waiting, ApprovalState::Approved, ApprovalState::Denied]
                .into_iter()
                .find(|known| known.as_str() == state)?,
            modified: row.get("modified")?.as_bool()?,
            binding: text("binding")?,
            sealed: text("sealed")?,
        })
    }

    /// What the log says of a request; the rest is told by the votes that follow.
    pub(crate) fn from_record(record: &symbi_audit::Record, details: &Json) -> Option<Self> {
        let mut row = details.clone();
        let members = row.as_object_mut()?;
        members.insert("id".to_owned(), Json::from(record.op.clone()?));
        members.insert("seq".to_owned(), Json::from(record.seq));
        members.insert("agent".to_owned(), Json::from(record.agent_id.clone()));
        members.insert("run".to_owned(), Json::from(record.run.clone()));
        members.insert("labels".to_owned(), json!(record.label_set()));
        members.insert("votes".to_owned(), json!([]));
        members.insert("state".to_owned(), Json::from(ApprovalState::Waiting.as_str()));
        members.insert("modified".to_owned(), Json::from(false));
        Self::from_json(&row)
    }
}
