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
mod agents;
mod approvals;
mod approving;
mod brakes;
mod breach;
mod calls;
mod canary;
mod cancellation;
mod collect;
mod dataflow;
mod decided;
mod denials;
mod described;
mod durable;
mod effects;
mod encoding;
mod ends;
mod exit;
mod flight;
mod inheritance;
mod journal;
mod json;
mod kernel;
mod keys;
mod knowledge;
mod messages;
mod messaging;
mod monitor;
mod moves;
mod obligations;
mod operators;
mod permit;
mod pool;
mod preemption;
mod principal;
mod publish;
mod recovery;
mod refusal;
mod registry;
mod runs;
mod sealed;
mod sending_many;
mod share;
mod snapshot;
mod stop;
mod supervise;
mod suspension;
mod tenants;
mod traffic;
mod turns;
mod violation;
mod wake;
mod whatif;
mod why;
mod window;

pub use acknowledge::DeadLetter;
pub use action::{ACTIONS, Action, Class};
pub use admission::AdmissionLimits;
pub use agents::AgentError;
pub use approvals::{ApprovalState, Vote, Waiting, Word};
pub use breach::{Breach, Judged, LIMITS, Verdict};
pub use canary::Flip;
pub use collect::{Collected, Live};
pub use durable::{DURABLE_BYTES_MAX, Durable, DurableSend};
pub use effects::{SandboxAsk, ToolCall, ToolSpec};
pub use ends::{Ended, RunOutcome};
pub use exit::{PARTS_MAX, PAYLOAD_BYTES_MAX, Payload};
pub use flight::IN_FLIGHT_MAX;
pub use kernel::{Kernel, KernelError, KernelOptions, Opened, Policies};
pub use keys::{KeyError, read_key, write_key};
pub use knowledge::{Answer, Citation, KnowledgeError, Passage};
pub use messages::{Guarantee, MessageError, Received, Recipient, SendOptions, Sent};
pub use messaging::MessagingOptions;
pub use monitor::PERMIT_MS;
pub use moves::Moves;
pub use obligations::Notice;
pub use operators::{Changed, OperatorError, Resolution};
pub use permit::{Outcome, Permit, PermitError, Settlement};
pub use principal::Principal;
pub use publish::{Published, SUBSCRIPTIONS_OF_AGENT_MAX};
pub use recovery::Unknown;
pub use refusal::{Refusal, RefusalCode};
pub use registry::{AgentSpec, AgentView};
pub use runs::{Begun, BegunMany, Urgency};
pub use sealed::open_sealed;
pub use sending_many::{SENT_AT_ONCE_MAX, Signing};
pub use snapshot::SNAPSHOT_RECORDS;
pub use stop::Stopped;
pub use supervise::Aftermath;
pub use suspension::Moved;
pub use symbi_bus::{BusError, DeliveryOptions};
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
