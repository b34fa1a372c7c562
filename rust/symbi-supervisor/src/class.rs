//! What a failure is: one table from its code to its class.
//!
//! Why: a class says what may follow. `TimeoutError` may go away by itself, `TypeError` will not.
//! Not here: what follows (`supervisor`). A code is the stable code of an error, or the name of the exception's class
//! where an agent's or a tool's own code raised it.
//!
//! Invariants
//! - SV1 every code has exactly one class; one that no rule names is `other`.
//! - SV22 what was cut off on its way may have been done: a code that says so leaves doubt, and so does every limit.
//! - SV2 `denied`, `cancelled`, `unknown_effect` and `internal` are never tried again, whatever an agent asks for.

use std::fmt;
use std::str::FromStr;

/// A class of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// It may go away by itself: a connection, a full mailbox, something that is not there just now.
    Transient,
    /// The same again would fail the same way: an input that cannot be.
    Permanent,
    /// It used more than it may: time, memory, output.
    Limit,
    /// The monitor refused.
    Denied,
    /// A mistake in the code.
    Bug,
    /// It was stopped from outside.
    Cancelled,
    /// Of an effect of it nobody knows whether it happened.
    UnknownEffect,
    /// The runtime's own fault: not the agent's.
    Internal,
    /// What no rule names, such as an exception of the agent's own.
    Other,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Transient,
        Self::Permanent,
        Self::Limit,
        Self::Denied,
        Self::Bug,
        Self::Cancelled,
        Self::UnknownEffect,
        Self::Internal,
        Self::Other,
    ];

    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::Limit => "limit",
            Self::Denied => "denied",
            Self::Bug => "bug",
            Self::Cancelled => "cancelled",
            Self::UnknownEffect => "unknown_effect",
            Self::Internal => "internal",
            Self::Other => "other",
        }
    }

    /// SV2.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Denied | Self::Cancelled | Self::UnknownEffect | Self::Internal)
    }

    /// Tried again where retries are asked for and nothing else is said.
    #[must_use]
    pub const fn is_retried(self) -> bool {
        matches!(self, Self::Transient | Self::Other)
    }

    /// Counts as a failure of the agent. What was refused or stopped says nothing against it.
    #[must_use]
    pub const fn blames_agent(self) -> bool {
        !matches!(self, Self::Denied | Self::Cancelled | Self::Internal)
    }

    /// Counts as a failure of what was called. Arguments that cannot be, and a mistake in handling them, are the
    /// caller's: the thing answered.
    #[must_use]
    pub const fn blames_dependency(self) -> bool {
        matches!(self, Self::Transient | Self::Limit | Self::UnknownEffect | Self::Other)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Class {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or(())
    }
}

use Class::{Bug, Cancelled, Denied, Internal, Limit, Permanent, Transient, UnknownEffect};

/// Every rule, sorted by code (SV1).
pub const RULES: [(&str, Class); 80] = [
    ("AssertionError", Bug),
    ("AttributeError", Bug),
    ("BlockingIOError", Transient),
    ("BrokenPipeError", Transient),
    ("CancelledError", Cancelled),
    ("ConfigError", Permanent),
    ("ConnectionAbortedError", Transient),
    ("ConnectionError", Transient),
    ("ConnectionRefusedError", Transient),
    ("ConnectionResetError", Transient),
    ("EffectUnknownError", UnknownEffect),
    ("FileExistsError", Permanent),
    ("FileNotFoundError", Permanent),
    ("ImportError", Bug),
    ("IndentationError", Bug),
    ("IndexError", Bug),
    ("InputError", Permanent),
    ("InterruptedError", Transient),
    ("IsADirectoryError", Permanent),
    ("KeyError", Bug),
    ("LogUnavailableError", Internal),
    ("MailboxFullError", Transient),
    ("MemoryError", Limit),
    ("ModuleNotFoundError", Bug),
    ("NameError", Bug),
    ("NotADirectoryError", Permanent),
    ("NotBuiltError", Permanent),
    ("NotImplementedError", Bug),
    ("PermissionError", Permanent),
    ("PermitError", Internal),
    ("PolicyDenied", Denied),
    ("ProcessLookupError", Transient),
    ("RecursionError", Bug),
    ("RuntimeClosedError", Internal),
    ("SandboxLimitError", Limit),
    ("SandboxUnavailableError", Transient),
    ("StopAsyncIteration", Bug),
    ("SymbiTimeoutError", Transient),
    ("SyntaxError", Bug),
    ("TimeoutError", Transient),
    ("TypeError", Bug),
    ("UnboundLocalError", Bug),
    ("UnicodeDecodeError", Permanent),
    ("UnicodeEncodeError", Permanent),
    ("ValueError", Permanent),
    ("ZeroDivisionError", Bug),
    ("audit.unavailable", Internal),
    ("bus.mailbox_full", Transient),
    ("bus.unknown_recipient", Permanent),
    ("config.invalid", Permanent),
    ("connections", Limit),
    ("cpu_cores", Limit),
    ("crypto.invalid", Internal),
    ("declaration", Permanent),
    ("denied", Denied),
    ("disk_io_mbps", Limit),
    ("execution_timeout_ms", Limit),
    ("input.invalid", Permanent),
    ("lifecycle.illegal", Internal),
    ("loop_block_ms", Limit),
    ("memory_mb", Limit),
    ("needs_approval", Denied),
    ("network_io_mbps", Limit),
    ("no_principal", Denied),
    ("not_built", Permanent),
    ("not_scheduled", Internal),
    ("output_bytes", Limit),
    ("over_budget", Denied),
    ("permit.invalid", Internal),
    ("pids", Limit),
    ("rate_limited", Transient),
    ("runtime.closed", Internal),
    ("sandbox.limit", Limit),
    ("sandbox.mismatch", Permanent),
    ("sandbox.unavailable", Transient),
    ("stopped", Cancelled),
    ("timeout", Limit),
    ("tool.effect_unknown", UnknownEffect),
    ("unavailable", Transient),
    ("unknown_effect", UnknownEffect),
];

/// The class of a failure with this code (SV1).
#[must_use]
pub fn classify(code: &str) -> Class {
    let at = RULES.binary_search_by(|(known, _)| (*known).cmp(code)).ok();
    at.and_then(|at| RULES.get(at)).map_or(Class::Other, |(_, class)| *class)
}

/// Whether a call that failed with this code may have been carried out all the same (SV22): its answer was cut off.
#[must_use]
pub fn leaves_doubt(code: &str) -> bool {
    const CUT_OFF: [&str; 4] =
        ["BrokenPipeError", "ConnectionAbortedError", "ConnectionError", "ConnectionResetError"];
    let late = code.ends_with("TimeoutError") || code.ends_with("Timeout");
    late || CUT_OFF.contains(&code) || matches!(classify(code), Limit | UnknownEffect)
}
