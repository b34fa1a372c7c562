"""Every exception symbi raises on purpose.

SymbiError
├── ConfigError                  a setting that cannot be applied; names file, key, accepted values (also ValueError)
├── InputError                   an argument that cannot be right (also ValueError)
├── NotBuiltError                asked for a part that does not exist in this version
├── PolicyError                  could not decide, or a policy does not compile; treat as deny
├── PolicyDenied                 the monitor refused (decision_id)
├── AuditError
│   ├── ChainBrokenError         the log does not verify (seq)
│   ├── TruncatedError           the log ends before its head (seq)
│   ├── LogLockedError           another process has the log open
│   └── LogUnavailableError      the log cannot write: every effect is refused until it is reopened
├── ErasedError                  the person that it belongs to was erased
├── CryptoError                  a signature, a seal or a key that does not hold
├── BusError
│   ├── MailboxFullError
│   └── UnknownRecipientError
├── SchedulerError               a scheduler of one's own: a node, a tenant, an option
│   ├── ColumnError              a task's field that cannot be right (column, row; also InputError)
│   └── TaskRefusedError         what is asked of a task, or of some of a batch, is refused (done, refused)
│       └── SchedulerFullError   back-pressure: submit the refused rows again later
├── LifecycleError               a transition that is not in the table
├── SandboxError
│   ├── SandboxUnavailableError  the tier that was asked for is not here
│   ├── SandboxLimitError        the sandbox hit a limit (limit)
│   └── SandboxEscapeError       what runs is not what was asked for
├── KnowledgeError
├── VectorIndexError             an index of vectors: it cannot be changed, written or given memory
│   ├── DimensionError           vectors of another length (also ValueError)
│   ├── VectorValueError         NaN, infinity, or zero where a direction is needed (also ValueError)
│   ├── DuplicateIdError         an id that is there already, or stands twice (also ValueError)
│   ├── VectorFileError          a file that is damaged, or no index of ours
│   └── VectorIndexLockedError   another writer has the index open
├── ToolError
│   └── EffectUnknownError       an earlier attempt's effect is unknown, so it is not repeated
├── AgentError                   the agent's own code failed
├── PermitError                  a permit used twice, too late, or not for these bytes
├── RuntimeClosedError           the runtime is not open
└── SymbiTimeoutError            also a TimeoutError

Why here, in Python: the classes have docs and attributes and exist without the binary; the native core imports them.
`code` is stable across releases; the text is not. `ci/tidy.py` checks that the native table covers every class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

__all__ = [
    "AgentError",
    "AuditError",
    "BusError",
    "ChainBrokenError",
    "ColumnError",
    "ConfigError",
    "CryptoError",
    "DimensionError",
    "DuplicateIdError",
    "EffectUnknownError",
    "ErasedError",
    "InputError",
    "KnowledgeError",
    "LifecycleError",
    "LogLockedError",
    "LogUnavailableError",
    "MailboxFullError",
    "NotBuiltError",
    "PermitError",
    "PolicyDenied",
    "PolicyError",
    "RuntimeClosedError",
    "SandboxError",
    "SandboxEscapeError",
    "SandboxLimitError",
    "SandboxUnavailableError",
    "SchedulerError",
    "SchedulerFullError",
    "SymbiError",
    "SymbiTimeoutError",
    "TaskRefusedError",
    "ToolError",
    "TruncatedError",
    "UnknownRecipientError",
    "VectorFileError",
    "VectorIndexError",
    "VectorIndexLockedError",
    "VectorValueError",
]


class SymbiError(Exception):
    """The root. Catch it to catch all that symbi raises on purpose."""

    code: str = "symbi"


class ConfigError(SymbiError, ValueError):
    """A setting that cannot be applied. The text names the file, the key and the accepted values."""

    code = "config.invalid"


class InputError(SymbiError, ValueError):
    """An argument that cannot be right."""

    code = "input.invalid"


class NotBuiltError(SymbiError):
    """Asked for a part that this version does not have. Never silently ignored."""

    code = "not_built"


class PolicyError(SymbiError):
    """Could not decide, or a policy does not compile. Treat as deny."""

    code = "policy.invalid"


class PolicyDenied(SymbiError):  # noqa: N818 - a refusal, by its fixed public name
    """The monitor refused.

    Attributes:
        code: one of `denied`, `needs_approval`, `over_budget`, `rate_limited`, `unavailable`,
            `suspended` (the agent is), `cancelled` (its run is), `no_principal`.
        decision_id: what an operator passes to `symbi explain`; empty where there was nothing to decide.
        seq: the record of the refusal, to be on disk before the refusal leaves the runtime; None without one.
        approval: the operation that waits for a person, or that a person has denied; what `symbi approvals show` takes.
    """

    code = "denied"

    def __init__(
        self,
        message: str,
        *,
        code: str = "denied",
        decision_id: str = "",
        seq: int | None = None,
        approval: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.decision_id = decision_id
        self.seq = seq
        self.approval = approval
        if approval and code == "needs_approval":
            self.add_note(f"approve it: `symbi approvals approve {approval}`")
        if decision_id:
            self.add_note(f"why: `symbi explain {decision_id}`")


class AuditError(SymbiError):
    """The log."""

    code = "audit"


class ChainBrokenError(AuditError):
    """The log does not verify. `seq` is the first record that fails (0-based)."""

    code = "audit.chain_broken"

    def __init__(self, message: str, seq: int) -> None:
        super().__init__(message)
        self.seq = seq


class TruncatedError(ChainBrokenError):
    """The log ends before the record that its head, or a checkpoint, names."""

    code = "audit.truncated"


class LogLockedError(AuditError):
    """Another process has this log open for writing."""

    code = "audit.locked"


class LogUnavailableError(AuditError):
    """The log cannot write: every effect is refused until it is reopened."""

    code = "audit.unavailable"


class CryptoError(SymbiError):
    """A signature, a seal or a key that does not hold."""

    code = "crypto.invalid"


class ErasedError(SymbiError):
    """What was sealed belongs to a person who was erased: its key is gone, and nobody can read it."""

    code = "data.erased"


class BusError(SymbiError):
    """Messages."""

    code = "bus"


class MailboxFullError(BusError):
    """A mailbox has no room, and had none for as long as the sender would wait. Nothing was sent.

    Attributes:
        mailbox: The id of the mailbox.
    """

    code = "bus.mailbox_full"

    def __init__(self, message: str, *, mailbox: str = "") -> None:
        super().__init__(message)
        self.mailbox = mailbox


class UnknownRecipientError(BusError):
    """No such recipient, or none that this sender may know of."""

    code = "bus.unknown_recipient"


class SchedulerError(SymbiError):
    """A scheduler of one's own. `code` says what: `scheduler.option`, `scheduler.unknown_node`, …"""

    code = "scheduler"

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        if code:
            self.code = code


class ColumnError(SchedulerError, InputError):
    """A field of a task that cannot be right. Nothing of its batch was taken.

    Attributes:
        column: The field's name.
        row: The row of the batch, from 0; None where it is the column as a whole.
    """

    code = "scheduler.column"

    def __init__(self, message: str, *, column: str, row: int | None = None) -> None:
        super().__init__(message)
        self.column = column
        self.row = row


class TaskRefusedError(SchedulerError):
    """What was asked of a task is refused; in a batch, of some tasks, and the others were done.

    Attributes:
        code: Why: `scheduler.never_fits`, `scheduler.duplicate`, `scheduler.unknown_task`, …; in a batch that of the
            first refused row.
        done: How many rows were done.
        refused: The rows that were not, by code, ascending; in a batch numpy arrays of `uint64`.
    """

    code = "scheduler.refused"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        done: int = 0,
        refused: Mapping[str, Sequence[int] | NDArray[Any]] | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.done = done
        self.refused = refused if refused is not None else {self.code: (0,)}


class SchedulerFullError(TaskRefusedError):
    """As many tasks are scheduled as may be. `done` of the batch were taken; submit the others again later."""

    code = "scheduler.full"


class LifecycleError(SymbiError):
    """A transition that is not in the table. Nothing was changed."""

    code = "lifecycle.illegal"


class SandboxError(SymbiError):
    """A sandbox could not be made, or ended badly."""

    code = "sandbox"


class SandboxUnavailableError(SandboxError):
    """The tier that was asked for is not here. The text says how to get it."""

    code = "sandbox.unavailable"


class SandboxLimitError(SandboxError):
    """The sandbox hit one of its limits.

    Attributes:
        limit: `memory_mb`, `execution_timeout_ms`, `pids`, `output_bytes`.
    """

    code = "sandbox.limit"

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class SandboxEscapeError(SandboxError):
    """What runs is not what was asked for: kernel, limits or mounts differ. The sandbox was killed."""

    code = "sandbox.mismatch"


class KnowledgeError(SymbiError):
    """The knowledge base."""

    code = "knowledge"


class VectorIndexError(SymbiError):
    """An index of vectors could not be changed, written, or given memory. The text says which."""

    code = "vectors"


class DimensionError(VectorIndexError, ValueError):
    """Vectors of another length than those of the index."""

    code = "vectors.dimension"


class VectorValueError(VectorIndexError, ValueError):
    """A vector holds NaN or infinity, or is zero where the metric needs a direction. The text names its row."""

    code = "vectors.value"


class DuplicateIdError(VectorIndexError, ValueError):
    """An id is in the index already, or stands twice in one call. Nothing was added."""

    code = "vectors.duplicate"


class VectorFileError(VectorIndexError):
    """A file of an index is damaged, or is none of ours. Nothing of it was used."""

    code = "vectors.file"


class VectorIndexLockedError(VectorIndexError):
    """Another writer has the index open. Open it with `read_only=True`, or wait."""

    code = "vectors.locked"


class ToolError(SymbiError):
    """A tool failed, or is not one."""

    code = "tool"


class EffectUnknownError(ToolError):
    """An earlier attempt of the task made this call, and nobody knows whether it happened: it is not repeated.

    The task is dead. `symbi approvals list` shows the operation; a tool that may be called twice is declared with
    `@symbi.tool(idempotent=True)`.
    """

    code = "tool.effect_unknown"


class AgentError(SymbiError):
    """The agent's own code failed. `kind` is the class of its exception."""

    code = "agent.failed"

    def __init__(self, message: str, *, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class PermitError(SymbiError):
    """A permit was used twice, after its deadline, or was never given."""

    code = "permit.invalid"


class RuntimeClosedError(SymbiError):
    """The runtime is not open."""

    code = "runtime.closed"


class SymbiTimeoutError(SymbiError, TimeoutError):
    """It took longer than was allowed."""

    code = "timeout"
