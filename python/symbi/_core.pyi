# The native core, as Python sees it. Held true by stubtest.
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, ClassVar, Literal, NoReturn, Self, TypeAlias, final

from symbi.errors import SymbiError

__all__ = [
    "Allow",
    "AllowWithConditions",
    "AuditProver",
    "AuditTail",
    "AuditWitness",
    "AuditWriter",
    "Deny",
    "DurableSend",
    "Kernel",
    "PAYLOAD_BYTES_MAX",
    "Permit",
    "Placement",
    "PolicyEngine",
    "Condition",
    "Redact",
    "Scheduler",
    "TASK_FIELDS",
    "TaskBatch",
    "VectorFilter",
    "VectorIndex",
    "__version__",
    "audit_check_consistency",
    "audit_check_proof",
    "audit_checkpoint",
    "audit_export",
    "audit_fingerprint",
    "audit_keep_cosignature",
    "audit_last",
    "audit_lines",
    "audit_query",
    "audit_read_checkpoint",
    "audit_rotate",
    "audit_sign_checkpoint",
    "audit_summary",
    "audit_verifier_keys",
    "audit_verify",
    "audit_witness_request",
    "builtin_policy",
    "canonical_address",
    "canonical_path",
    "check_policies",
    "explain_many",
    "explain_recorded",
    "guest_binary",
    "guest_digest",
    "keep_forever",
    "open_sealed",
    "policy_learn",
    "policy_set",
    "policy_what_if",
    "profile",
    "read_key",
    "starter_policies",
    "task_millicores",
    "write_key",
]

__version__: str
profile: str

# --- guest (rust/symbi-py/src/guest.rs) ---

def guest_binary() -> bytes:
    """The static program that runs inside sandboxes: an executable ELF file without any dependency."""

def guest_digest() -> str:
    """SHA-256 of that program, 64 hex digits."""

# --- scheduler (rust/symbi-py/src/scheduler.rs) ---

TASK_FIELDS: tuple[str, ...]

# `bytes`-like with the buffer protocol, `uint64` or `float64`; `Any` because 3.11 has no name for a buffer.
_Buffer: TypeAlias = Any
# (done, [(code, rows as uint64)], (first refused row, words) | None)
_Outcome: TypeAlias = tuple[int, list[tuple[str, bytearray]], tuple[int, str] | None]

def task_millicores(cores: float) -> int:
    """Thousandths of a core, as a task's cores are counted."""

@final
class Placement:
    """What to do with one task now.

    Attributes:
        kind: `start` it, let it `resume`, or `suspend` it (bring it to a standstill).
        id: The task.
        node: Where it runs; None for one that shall stand still.
        urgent: The task that it makes room for, where it shall stand still; otherwise None.
    """

    __match_args__: ClassVar[tuple[str, str, str]]
    @property
    def kind(self) -> Literal["start", "resume", "suspend"]: ...
    @property
    def id(self) -> int: ...
    @property
    def node(self) -> int | None: ...
    @property
    def urgent(self) -> int | None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class TaskBatch:
    """Checked tasks: see `symbi.TaskBatch`."""

    def __new__(cls, rows: int, columns: Sequence[_Buffer | None]) -> Self: ...
    @staticmethod
    def of_rows(rows: list[tuple[Any, ...]]) -> TaskBatch: ...
    def column(self, field: int) -> bytearray: ...
    def take(self, rows: list[int] | _Buffer) -> TaskBatch: ...
    def __len__(self) -> int: ...

@final
class Scheduler:
    """See `symbi.Scheduler`. Nodes: `(id, amounts)`, six amounts in the order of the resource vector."""

    def __new__(
        cls,
        nodes: Sequence[tuple[int, Sequence[int]]],
        *,
        strategy: str,
        headroom_percent: int,
        critical_priority: int,
        ageing_ms: int,
        batch_turn: int,
        quantum_ms: int,
        realtime_percent: int,
        preemption: bool,
        tasks_max: int,
    ) -> Self: ...
    def submit(self, task: tuple[Any, ...], now_ns: int) -> None: ...
    def submit_rows(self, rows: list[tuple[Any, ...]], now_ns: int) -> _Outcome: ...
    def submit_batch(self, batch: TaskBatch, now_ns: int) -> _Outcome: ...
    def next(self, now_ns: int) -> Placement | None: ...
    def next_rows(self, limit: int, now_ns: int) -> list[Placement]: ...
    def next_columns(self, limit: int, now_ns: int) -> tuple[bytearray, bytearray, bytearray, bytearray]: ...
    def act(self, verb: str, id: int, now_ns: int) -> None: ...
    def act_many(self, verb: str, ids: list[int] | _Buffer, now_ns: int) -> _Outcome: ...
    def cancel_agent(self, number: int, now_ns: int) -> list[int]: ...
    def inherit(self, id: int, source: int, now_ns: int) -> None: ...
    def disinherit(self, id: int, source: int, now_ns: int) -> None: ...
    def set_tenant(
        self, tenant: int, weight: int, quota: Sequence[int] | None, waiting_max: int | None, now_ns: int
    ) -> None: ...
    def add_node(self, node: tuple[int, Sequence[int]], now_ns: int) -> None: ...
    def drain_node(self, node: int, now_ns: int) -> None: ...
    def lose_node(self, node: int, now_ns: int) -> list[int]: ...
    def rebalance(self, limit: int, now_ns: int) -> list[tuple[int, int, int]]: ...
    def moved(self, id: int, node: int, now_ns: int) -> None: ...
    def why(self, id: int, now_ns: int) -> dict[str, Any] | None: ...
    def wake_at_ns(self, now_ns: int) -> int | None: ...
    def free(self, node: int, now_ns: int) -> dict[str, int] | None: ...
    def stats(self, now_ns: int) -> dict[str, Any]: ...
    def __len__(self) -> int: ...

# --- policy (rust/symbi-py/src/policy.rs) ---

@final
class Allow:
    """Go on."""

    __match_args__: ClassVar[tuple[()]]
    @property
    def allowed(self) -> Literal[True]: ...
    @property
    def determining(self) -> tuple[str, ...]: ...
    @property
    def errors(self) -> tuple[str, ...]: ...
    def require(self) -> None: ...
    def __bool__(self) -> NoReturn: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Deny:
    """Do not. `reason`: `forbidden`, `no_permit`, `forbid_failed`, `unknown_action`, `invalid_request`,
    `engine_failed`; `message`: the public message of the rule."""

    __match_args__: ClassVar[tuple[str]]
    @property
    def allowed(self) -> Literal[False]: ...
    @property
    def reason(self) -> str: ...
    @property
    def message(self) -> str | None: ...
    @property
    def determining(self) -> tuple[str, ...]: ...
    @property
    def errors(self) -> tuple[str, ...]: ...
    def require(self) -> NoReturn: ...
    def __bool__(self) -> NoReturn: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class AllowWithConditions:
    """Go on once the conditions are met; until then it is not allowed."""

    __match_args__: ClassVar[tuple[str]]
    @property
    def allowed(self) -> Literal[False]: ...
    @property
    def conditions(self) -> tuple[Redact | Condition, ...]: ...
    @property
    def determining(self) -> tuple[str, ...]: ...
    @property
    def errors(self) -> tuple[str, ...]: ...
    def require(self) -> NoReturn: ...
    def __bool__(self) -> NoReturn: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Redact:
    """Blank out the parts that carry one of the labels."""

    __match_args__: ClassVar[tuple[str]]
    @property
    def labels(self) -> frozenset[str]: ...
    @property
    def fields(self) -> frozenset[str]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Condition:
    """Another condition: its word after `@obligation`, and what it asks for."""

    __match_args__: ClassVar[tuple[str, str]]
    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> dict[str, str]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class PolicyEngine:
    """The native half of `symbi.PolicyEngine`."""

    def __new__(cls, schema: str | None, counters: str | None) -> Self: ...
    def set_entities(self, json: str) -> None: ...
    def register_policy(
        self, text: str, name: str | None, links: Sequence[tuple[str, str, str | None, str | None]]
    ) -> str: ...
    def unregister(self, name: str) -> None: ...
    def evaluate(
        self,
        principal: str | tuple[str, str],
        action: str,
        resource: str | tuple[str, str],
        context: dict[str, Any] | None,
    ) -> Allow | Deny | AllowWithConditions: ...
    def evaluate_many(
        self,
        requests: list[tuple[str | tuple[str, str], str, str | tuple[str, str], dict[str, Any] | None]],
        threads: int,
    ) -> list[Allow | Deny | AllowWithConditions]: ...
    def explain(
        self,
        principal: str | tuple[str, str],
        action: str,
        resource: str | tuple[str, str],
        context: dict[str, Any] | None,
    ) -> dict[str, Any]: ...
    @property
    def digest(self) -> str: ...
    @property
    def warnings(self) -> list[str]: ...

def check_policies(
    sources: Sequence[tuple[str, str, str]],
) -> list[tuple[bool, str, int, int, str, str, str | None]]:
    """Findings of policies and counters that are loaded together: error?, source, line, column, code,
    message, help. Each source: `cedar` or `counters`, name, text."""

def policy_set(
    sources: list[tuple[str, str]] | None, counters: list[tuple[str, str]] = ...
) -> tuple[str, list[tuple[str, str, int, str, str | None]]]:
    """Digest and rules (id, source, line, effect, message) of a set; of `secure-default` for None."""

def explain_recorded(
    request: str, sources: list[tuple[str, str]] | None, counters: list[tuple[str, str]] = ...
) -> dict[str, Any]:
    """A recorded request decided again: the fields of `symbi.policy.Explanation`."""

def explain_many(
    requests: Sequence[str], sources: list[tuple[str, str]] | None, counters: list[tuple[str, str]]
) -> list[tuple[str | None, dict[str, Any]]]:
    """Requests decided under one set: what does not fit the schema, and the fields of an `Explanation`."""

def canonical_path(text: str) -> str:
    """A path in its one spelling: relative, without `.`, `..` or empty parts."""

def canonical_address(text: str) -> tuple[str, str, str]:
    """An address in its one spelling, `host:port`; how far it reaches; `text` with it in place."""

def starter_policies() -> list[str]:
    """Names of the starter policies."""

_Verified: TypeAlias = tuple[int, str, str]
# Of a flip: number, microseconds, principal, action, resource, was, now, cause, rule.
_Flip: TypeAlias = tuple[int, int, str, str, str, str, str, str, str | None]
_Counts: TypeAlias = list[tuple[str, int]]

def policy_what_if(
    data: str | PathLike[str],
    trail: str | PathLike[str],
    sources: list[tuple[str, str]] | None,
    counters: list[tuple[str, str]],
    between: tuple[int | None, int | None] = ...,
    key: str | None = ...,
    checkpoint: str | None = ...,
    threads: int = ...,
    passphrase: bytes | None = ...,
) -> tuple[_Verified, int, list[_Flip], int, _Counts]:
    """A trail's operations decided again under a set: (records, head, level), how many, those that fall
    differently, how many those are, what could not be decided."""

def policy_learn(
    data: str | PathLike[str],
    trail: str | PathLike[str],
    between: tuple[int | None, int | None] = ...,
    key: str | None = ...,
    checkpoint: str | None = ...,
    threads: int = ...,
    passphrase: bytes | None = ...,
) -> tuple[_Verified, str, int, int, _Counts]:
    """Policies proposed from a trail: (records, head, level), Cedar, rules, operations, what was not read."""

def keep_forever(thing: object) -> None:
    """Keeps an object until the process is gone: what a forked child must not finalise."""

def open_sealed(data: str | PathLike[str], sealed: str, passphrase: bytes | None = None) -> bytes:
    """What stands in a sealed field of a trail, by the keys of its data directory; writes nothing."""

def read_key(path: str | PathLike[str], passphrase: bytes | None = None) -> bytes:
    """The secret in a key file: PKCS#8, encrypted or not, or 32 raw bytes."""

def write_key(path: str | PathLike[str], key: bytes, passphrase: bytes | None = None) -> None:
    """Writes a key file: PKCS#8, encrypted where there is a passphrase."""

def builtin_policy(name: str) -> str:
    """The text of `schema`, `operator`, `secure-default` or `demo`."""

# --- audit (rust/symbi-py/src/audit.rs) ---

_AuditRow = tuple[str, str | None, str, list[str]]
_AuditFields = tuple[
    tuple[int, str, int, int, str, str, str],
    tuple[str | None, str | None, str | None, str | None, str | None],
    tuple[list[str], list[str], str, str | None, str, bytes, str],
]

@final
class AuditWriter:
    """An application's log, open for writing."""

    @staticmethod
    def open(
        directory: str, seed: bytes, provider: str, signers: int | None = None
    ) -> tuple[AuditWriter, tuple[str, bool, str, int, int, str]]: ...
    def append(self, row: _AuditRow, timeout_s: float) -> tuple[int, str, int, str, bytes]: ...
    def append_many(self, rows: Sequence[_AuditRow], timeout_s: float | None = None) -> tuple[int, int]: ...
    def wait_durable(self, seq: int, timeout_s: float) -> None: ...
    def checkpoint(self) -> str: ...
    def durable(self) -> int: ...
    def status(self) -> str: ...
    def close(self) -> None: ...

@final
class AuditTail:
    """Records one after the other, as they come."""

    def __new__(cls, directory: str, from_seq: int) -> Self: ...
    def take(self, limit: int) -> list[_AuditFields]: ...

@final
class AuditProver:
    """Makes proofs against one checkpoint of a trail."""

    def __new__(cls, directory: str, checkpoint: str | None = None) -> Self: ...
    def checkpoint(self) -> str: ...
    def prove(self, seq: int, line: str | None = None) -> str: ...
    def consistency(self, old: str) -> list[bytes]: ...

@final
class AuditWitness:
    """A witness with its state."""

    def __new__(cls, directory: str, name: str, seed: bytes, logs: Sequence[str]) -> Self: ...
    def verifier_key(self) -> str: ...
    def add_checkpoint(self, request: str, time_s: int) -> tuple[int, str]: ...

def audit_witness_request(directory: str, old: int) -> str: ...
def audit_keep_cosignature(directory: str, lines: str, witness: str) -> int: ...
def audit_rotate(directory: str, old_seed: bytes, new_seed: bytes, runtime: bool) -> int: ...
def audit_fingerprint(seed: bytes) -> str: ...
def audit_verifier_keys(directory: str) -> list[str]: ...
def audit_read_checkpoint(text: str) -> tuple[str, int, str, list[str]]: ...
def audit_checkpoint(directory: str) -> str | None: ...
def audit_sign_checkpoint(directory: str, seed: bytes) -> str: ...
def audit_check_proof(text: str, key: str | None = None) -> tuple[_AuditFields, str, str]: ...
def audit_check_consistency(old: str, new: str, hashes: Sequence[bytes]) -> None: ...
def audit_export(directory: str, target: str) -> int: ...
def audit_lines(directory: str, from_seq: int, bytes_max: int) -> tuple[bytes, int]: ...
def audit_verify(
    directory: str,
    key: str | None = None,
    *,
    checkpoints: Sequence[str] = ...,
    witnesses: Sequence[str] = ...,
    since_checkpoint: bool = False,
    range: tuple[int, int] | None = None,
) -> tuple[
    tuple[int, int, int, int | None, tuple[int, int] | None],
    tuple[str, Literal["consistent", "authentic", "complete"], str, list[str], int, int],
]: ...
def audit_summary(directory: str) -> tuple[str, str, str]: ...
def audit_query(
    directory: str,
    *,
    agent_id: str | None = None,
    event_type: str | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
    op: str | None = None,
    run: str | None = None,
    decision: str | None = None,
    subject: str | None = None,
    event_id: str | None = None,
    limit: int | None = None,
) -> list[_AuditFields]: ...
def audit_last(directory: str, count: int) -> list[_AuditFields]: ...

# The kernel: one opening of a runtime. Ids are UUIDs as text; a principal is `host`, `operator:<uid>` or an agent's id.

PAYLOAD_BYTES_MAX: int

_Part = tuple[str, list[str], tuple[int, int, int] | None]
_Payload = bytes | list[_Part]
_Row = tuple[str, str, str, _Payload, list[str], int, str | None, str | None, int]
_SendOptions = tuple[str | None, bool, bool, str | None, int | None]
_Supervision = tuple[int, int, int, str, list[str], list[str], int | None, int]
_Moves = tuple[list[str], list[str], list[str]]  # run ids: start, suspend, resume
_Citation = tuple[_Part, str, str, int]

@final
class Permit:
    @property
    def operation(self) -> str: ...
    @property
    def intent_seq(self) -> int: ...
    @property
    def labels(self) -> list[str]: ...
    def take(self) -> bytes: ...
    def settle(
        self,
        outcome: str,
        kind: str = ...,
        text: str = ...,
        result: bytes | None = None,
        *,
        used: list[tuple[str, int]] = ...,
        returned: bytes = ...,
        labels: list[str] = ...,
    ) -> int: ...
    @property
    def replayed(self) -> bytes | None:
        """The result of this call in an earlier attempt of its task; None: it is to be made."""
    @property
    def journaled(self) -> bool:
        """Whether `settle` keeps a result, for a retry of the task."""

@final
class DurableSend:
    @property
    def intent_seq(self) -> int: ...

@final
class Kernel:
    @staticmethod
    def open(
        data: str | PathLike[str],
        *,
        trail: str | PathLike[str] | None = None,
        sources: list[tuple[str, str]] | None = None,
        counters: list[tuple[str, str]] = ...,
        enforce: bool = True,
        provider: str = "aws-lc",
        signers: int = 2,
        memory_mb: int = 0,
        cpu_millicores: int = 0,
        sandboxes: int = 0,
        disk_io_mbps: int = 1048576,
        network_io_mbps: int = 1048576,
        accelerators: int = 0,
        scheduling: dict[str, Any] | None = None,
        supervision: dict[str, int] | None = None,
        tenants: list[tuple[str, int, list[int] | None, int | None]] = ...,
        agents_max: int = 10000,
        mailbox_depth_max: int = 1024,
        mailbox_bytes_max: int = 1048576,
        snapshot_records: int = ...,
        passphrase: bytes | None = None,
        message_rate: tuple[int, int] | None = None,
        delivery: tuple[int, int, int, int] | None = None,
    ) -> Kernel: ...
    @property
    def opened(self) -> dict[str, Any]: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def checkpoint(self) -> str: ...
    def durable(self) -> int: ...
    def want(self, seq: int) -> bool: ...
    def drain(self) -> tuple[list[str], list[str]]: ...
    def log_problem(self) -> str | None: ...
    def policy_digest(self) -> str: ...
    def erring_rules(self) -> int: ...
    def policy_problems(self) -> str: ...
    def policy_problem(self) -> str | None: ...
    def refuse_policies(self, problem: str) -> int | None: ...
    def change_policies(
        self,
        by: str,
        sources: list[tuple[str, str]],
        counters: list[tuple[str, str]],
        flips_max: int | None = None,
    ) -> tuple[int, int, list[dict[str, Any]]]: ...
    def approvals(self) -> list[dict[str, Any]]: ...
    def approval(self, id: str) -> dict[str, Any] | None: ...
    def approval_arguments(self, id: str) -> bytes | None: ...
    def say(self, by: str, name: str, id: str, word: str, arguments: bytes | None = None) -> int: ...
    def take_notices(self) -> tuple[list[dict[str, Any]], int]: ...
    def declassify(self, by: str, agent: str, labels: list[str]) -> int: ...
    def change_operator(self, by: str, name: str, added: bool) -> int: ...
    def create_agents(
        self,
        by: str,
        *,
        name: str,
        kind: str,
        in_process: bool,
        tier: str,
        capabilities: list[str],
        labels: list[str],
        memory_mb: int | None,
        cpu_millicores: int | None,
        disk_io_mbps: int | None,
        network_io_mbps: int | None,
        connections: int | None,
        execution_timeout_ms: int | None,
        tenant: str = "default",
        supervision: _Supervision | None = None,
        assessed: str | None = None,
        count: int = 1,
    ) -> tuple[list[str], int]: ...
    def clone_agent(self, by: str, agent: str) -> tuple[str, int]: ...
    def begin_run(
        self,
        by: str,
        agent: str,
        input: bytes,
        labels: list[str],
        priority: int,
        *,
        tier: str = "interactive",
        deadline_ms: int | None = None,
        duration_ms: int | None = None,
        retry_of: str | None = None,
    ) -> tuple[str, int, _Moves]: ...
    def begin_runs(
        self,
        by: str,
        asks: list[tuple[str, bytes]],
        labels: list[str],
        priority: int,
        *,
        tier: str = "interactive",
        deadline_ms: int | None = None,
        duration_ms: int | None = None,
    ) -> tuple[list[str | SymbiError], _Moves]: ...
    def end_runs(self, ended: list[tuple[str, str, str, str]]) -> tuple[int | None, _Moves]: ...
    def run_suspended(self, run: str) -> _Moves: ...
    def run_resumed(self, run: str) -> None: ...
    def cancel_run(self, by: str, run: str) -> tuple[int | None, _Moves]: ...
    def stop_agent(self, by: str, agent: str, force: bool) -> tuple[list[str], int | None, bool, _Moves]: ...
    def suspend_agent(
        self, by: str, agent: str, cause: str = "operator_hold"
    ) -> tuple[int | None, _Moves]: ...
    def resume_agent(self, by: str, agent: str) -> tuple[int | None, _Moves]: ...
    def wake_at_ns(self) -> int | None: ...
    def tick(self) -> _Moves: ...
    def has_untold(self) -> bool: ...
    def take_condemned(self) -> list[str]: ...
    def count_runs(self) -> dict[str, Any]: ...
    def why(self, run_or_agent: str) -> dict[str, Any]: ...
    def agent_state(self, agent: str) -> str | None: ...
    def agent_labels(self, agent: str) -> list[str]: ...
    def list_agents(self) -> list[dict[str, Any]]: ...
    def count_agents(self) -> int: ...
    def operations_in_flight(self) -> int: ...
    def report_breach(
        self,
        agent: str,
        run: str | None,
        limit: str,
        used: int,
        bound: int,
        hard: bool,
        text: str = ...,
    ) -> tuple[str, int | None, _Moves]: ...
    def collect_in_ns(self) -> int | None: ...
    def collect(self, units: int) -> dict[str, Any]: ...
    def live(self) -> dict[str, int]: ...
    def send(
        self,
        sender: str,
        recipient: str,
        payload: _Payload,
        in_reply_to: str | None = None,
        expects_reply: bool = False,
        options: _SendOptions | None = None,
    ) -> tuple[str, int | None]: ...
    def send_many(
        self, sender: str, messages: list[tuple[str, _Payload]], each: bool = False
    ) -> list[str | None]: ...
    def begin_durable(
        self, sender: str, recipient: str, payload: _Payload, options: _SendOptions
    ) -> DurableSend | None: ...
    def deliver_durable(self, begun: DurableSend) -> str: ...
    def receive_many(self, agent: str, limit: int, mailbox: str | None = None) -> list[_Row]: ...
    def subscribe(self, agent: str, pattern: str) -> tuple[str, int]: ...
    def unsubscribe(self, agent: str, mailbox: str) -> int: ...
    def publish(
        self,
        sender: str,
        topic: str,
        payload: _Payload,
        options: _SendOptions,
        only: list[str] | None = None,
    ) -> tuple[str, list[str]]: ...
    def missed(self, agent: str, mailbox: str) -> int: ...
    def fresh_message_id(self) -> str: ...
    def acknowledge(self, agent: str, mailbox: str, messages: list[str]) -> int | None: ...
    def give_back(self, agent: str, mailbox: str, message: str) -> None: ...
    def deliveries_in_us(self) -> int | None: ...
    def pass_deliveries(self) -> None: ...
    def dead_letters(self) -> tuple[list[dict[str, Any]], int]: ...
    def revive(self, by: str, message: str) -> int: ...
    def take_reply(self, agent: str, request: str) -> _Row | None: ...
    def forget_reply(self, agent: str, request: str) -> None: ...
    def register_tool(self, name: str, effects: str, risk: str, idempotent: bool = False) -> None: ...
    def judge(
        self, run: str, outcome: str, kind: str = ..., text: str = ...
    ) -> tuple[str | None, str, str, int, int] | None:
        """`(class | None, verdict, reason, attempt, after_ms)`; None where the agent is not supervised."""
    def give_up(self, run: str) -> int | None: ...
    def dead_tasks(self) -> tuple[list[dict[str, Any]], int]: ...
    def breakers(self) -> list[tuple[str, str, int, int, int]]:
        """`(dependency, state, callers, refused, wait_ms)`, by name."""
    def failures(self) -> list[tuple[str, str, int]]:
        """`(class, code, number)` of failed runs."""
    def retries_left(self, name: str) -> tuple[int, int]: ...
    def begin_tool_call(
        self,
        by: str,
        tool: str,
        arguments: bytes,
        parts: list[_Part] = ...,
        attributes: list[tuple[str, str]] = ...,
        timeout_ms: int = 0,
        amounts: list[tuple[str, int]] = ...,
    ) -> Permit: ...
    def begin_sandbox(
        self, by: str, spec: bytes, *, tier: str, network: bool, writable: bool, agent: str | None = None
    ) -> Permit: ...
    def ingest(
        self, by: str, title: str, passages: list[tuple[str | None, str | None, list[str], int, int]]
    ) -> tuple[str, int]: ...
    def store_document(self, by: str, content: str, readers: list[str]) -> tuple[str, int]: ...
    def write_document(self, by: str, title: str, text: str, readers: list[str]) -> tuple[str, int]: ...
    def search(self, by: str, text: str, limit: int) -> tuple[list[_Citation], int]: ...
    def answer(self, by: str, question: str, limit: int) -> tuple[list[_Citation], int]: ...
    def knowledge_counts(self) -> tuple[int, int, int]: ...
    def note(self, by: str, text: str) -> int: ...
    def load_policies(
        self, by: str, sources: list[tuple[str, str]], counters: list[tuple[str, str]]
    ) -> int: ...
    def unknown_operations(self) -> list[dict[str, Any]]: ...
    def resolve(self, by: str, operation: str, done: bool) -> int: ...
    def unseal(self, sealed: str) -> bytes: ...

# --- vectors (rust/symbi-py/src/vectors.rs) ---

# An array of uint64 or float32, C-contiguous; `collections.abc.Buffer` is younger than our oldest Python.
_Array: TypeAlias = Any

@final
class VectorFilter:
    """A set of ids that a search may return."""

    def __new__(cls, ids: _Array) -> Self: ...
    @staticmethod
    def from_roaring(data: bytes) -> VectorFilter: ...
    def to_roaring(self) -> bytes: ...
    def __len__(self) -> int: ...
    def __contains__(self, id: int, /) -> bool: ...

@final
class VectorIndex:
    """Buffers in, buffers out; see `symbi.VectorIndex`."""

    def __new__(
        cls, dimension: int, metric: str, m: int, ef_construct: int, quantization: str, seed: int
    ) -> Self: ...
    @staticmethod
    def open(path: str | PathLike[str], read_only: bool) -> VectorIndex: ...
    def save(self, path: str | PathLike[str]) -> None: ...
    def add(
        self,
        ids: _Array,
        vectors: _Array,
        replace: bool,
        threads: int,
        progress: Callable[[int, int], object] | None,
    ) -> int: ...
    def remove(self, ids: _Array) -> int: ...
    def search(
        self,
        queries: _Array,
        k: int,
        ef: int | None,
        filter: VectorFilter | None,
        threads: int,
        ids: _Array,
        distances: _Array,
    ) -> int: ...
    def ids(self, ids: _Array) -> int: ...
    def __len__(self) -> int: ...
    def __contains__(self, id: int, /) -> bool: ...
    @property
    def dimension(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def quantization(self) -> str: ...
    @property
    def memory_bytes(self) -> int: ...
    def stats(
        self,
    ) -> tuple[tuple[str, int, int, int, int], tuple[int, int, int], tuple[int, int, int, int, int]]: ...
