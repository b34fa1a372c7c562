//! Every action there is, and how the monitor treats it.
//!
//! Why: whether an operation must be on disk before it acts, and whether it may be denied at all, is a property
//! of the action, decided here once and not by a caller.
//! Not here: who may do it (policy), and what doing it means (the part that acts).
//!
//! Invariants
//! - K1 an action that is not in the table does not exist: it is refused before anything is looked up.
//! - K2 a brake is never denied, and no action that adds anything is a brake.

/// When the record of an operation must be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The intent is on disk before the act, the outcome after it.
    External,
    /// One record, in the log's ordered buffer before the act.
    Internal,
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Action {
    /// The name that policies and the log use.
    pub name: &'static str,
    /// When its record must be on disk.
    pub class: Class,
    /// It only reduces: acts at once, is never denied, and is recorded when the log can write (K2).
    pub brake: bool,
}

const fn external(name: &'static str) -> Action {
    Action { name, class: Class::External, brake: false }
}

const fn internal(name: &'static str) -> Action {
    Action { name, class: Class::Internal, brake: false }
}

const fn brake(name: &'static str) -> Action {
    Action { name, class: Class::Internal, brake: true }
}

/// All actions (K1).
pub const ACTIONS: [Action; 22] = [
    internal("agent.create"),
    internal("agent.run"),
    internal("agent.resume"),
    brake("agent.suspend"),
    brake("agent.stop"),
    brake("run.cancel"),
    internal("message.send"),
    internal("message.publish"),
    internal("message.subscribe"),
    internal("message.read"),
    internal("limit.breach"),
    external("tool.call"),
    internal("data.read"),
    internal("data.write"),
    internal("data.search"),
    external("sandbox.start"),
    external("operation.approve"),
    external("operation.resolve"),
    external("policy.change"),
    external("key.change"),
    external("data.erase"),
    internal("label.declassify"),
];

/// The row of `name`.
#[must_use]
pub fn action(name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_an_unknown_action_has_no_row() {
        assert_eq!(action("agent.fly"), None);
    }

    #[test]
    fn k2_only_what_stops_suspends_or_cancels_is_a_brake() {
        let brakes: Vec<_> = ACTIONS.iter().filter(|action| action.brake).map(|action| action.name).collect();
        assert_eq!(brakes, ["agent.suspend", "agent.stop", "run.cancel"]);
    }

    #[test]
    fn every_name_stands_once() {
        for row in &ACTIONS {
            assert_eq!(ACTIONS.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
        }
    }
}
