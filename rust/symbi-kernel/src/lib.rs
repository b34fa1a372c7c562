//! The reference monitor: everything that has an effect passes here.
//!
//! Why: an operation is `(principal, action, resource, context)`. It is admitted, its cost is reserved, it is
//! decided, its intent is recorded, it acts, its outcome is recorded. One crate composes log, policy, agents, bus,
//! knowledge and scheduler, so that no caller can leave out a step.
//! Not here: Python, sandboxes, tools. They act on what a permit yields.
//!
//! Read `monitor` first, then `permit`, then `kernel`. Invariants are numbered K1 and up across the crate.

mod acknowledge;
mod action;
mod admission;
mod agent_keys;
mod agents;
mod approvals;
mod approving;
mod brakes;
mod breach;
mod buried;
mod calls;
mod canary;
mod cancellation;
mod collect;
mod content;
mod counters;
mod dataflow;
mod dead_letters;
mod decided;
mod denials;
mod described;
mod durable;
mod durable_topics;
mod effects;
mod encoding;
mod ends;
mod erasure;
mod exit;
mod flight;
mod here;
mod inheritance;
mod journal;
mod json;
mod kernel;
mod keys;
mod knowledge;
mod mail;
mod message_key;
mod messages;
mod messaging;
mod monitor;
mod moves;
mod obligations;
mod operators;
mod own_persons;
mod permit;
mod pool;
mod preemption;
mod principal;
mod publish;
mod receiving;
mod recovery;
mod refusal;
mod registry;
mod rehearsal;
mod runs;
mod sealed;
mod sending_many;
mod share;
mod snapshot;
mod stop;
mod subjects;
mod supervise;
mod suspension;
mod tenants;
mod traffic;
mod trail;
mod turns;
mod violation;
mod wake;
mod wanted;
mod whatif;
mod why;
mod window;

pub use action::{ACTIONS, Action, Class};
pub use admission::AdmissionLimits;
/// Where `wanted` takes its atomics from; its test has others.
mod atomics {
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
}

pub use agent_keys::{AgentKey, KeyChangeError, KeyExchange};
pub use agents::AgentError;
pub use approvals::{ApprovalState, Vote, Waiting, Word};
pub use breach::{Breach, Judged, LIMITS, Verdict};
pub use canary::Flip;
pub use collect::{Collected, Live};
pub use dead_letters::DeadLetter;
pub use durable::{DURABLE_BYTES_MAX, Durable, DurableSend};
pub use durable_topics::{DurablePublication, DurablePublish};
pub use effects::{SandboxAsk, ToolCall, ToolSpec};
pub use ends::{Ended, RunOutcome};
pub use erasure::{Erasure, Hold, HoldChange, PLACES, PlaceOf};
pub use exit::{PARTS_MAX, PAYLOAD_BYTES_MAX, Payload};
pub use flight::IN_FLIGHT_MAX;
pub use kernel::{KeepingOptions, Kernel, KernelError, KernelOptions, Opened, Policies};
pub use keys::{KeyError, read_key, write_key};
pub use knowledge::{Answer, Citation, KnowledgeError, Passage};
pub use mail::{Body, Item, Mail, Received};
pub use messages::{Guarantee, MessageError, Recipient, SendOptions, Sent};
pub use messaging::MessagingOptions;
pub use monitor::PERMIT_MS;
pub use monitor::counting::Allowance;
pub use moves::Moves;
pub use obligations::Notice;
pub use operators::{Changed, OperatorError, Resolution};
pub use own_persons::{OwnPersons, OwnPersonsError};
pub use permit::{Outcome, Permit, PermitError, Settlement};
pub use principal::Principal;
pub use publish::{Published, SUBSCRIPTIONS_OF_AGENT_MAX};
pub use recovery::Unknown;
pub use refusal::{Refusal, RefusalCode};
pub use registry::{AgentSpec, AgentView};
pub use rehearsal::Rehearsed;
pub use runs::{Begun, BegunMany, Urgency};
pub use sealed::{open_sealed, pseudonym_in};
pub use sending_many::{Parcel, SENT_AT_ONCE_MAX, Signing};
pub use snapshot::SNAPSHOT_RECORDS;
pub use stop::Stopped;
pub use subjects::{Opened as OpenedSeal, SUBJECT_BYTES_MAX, SubjectError};
pub use supervise::Aftermath;
pub use suspension::Moved;
pub use symbi_bus::{BusError, Certificate, DeliveryOptions};
pub use symbi_scheduler::{
    Cause, Counts, Options as SchedulingOptions, Priority, Share, State, Strategy, Tier, Totals,
};
pub use symbi_supervisor::{
    CircuitOptions, Class as ErrorClass, DeadTask, DependencyView, Jitter, Options as SupervisorOptions,
    Reason, Size as BudgetSize, Supervision, SupervisionError, Verdict as AttemptVerdict,
};
pub use symbi_types::MessageId;
pub use tenants::TENANT_DEFAULT;
pub use whatif::{
    Cause as FlipCause, Flip as ReplayedFlip, Learned, Replay, ReplayError, Replayed, Undecidable, learn,
    what_if,
};
pub use why::Standing;
