# The native core, as Python sees it. Held true by stubtest.
from collections.abc import Sequence
from os import PathLike
from typing import Any, ClassVar, Literal, NoReturn, Self, final

__all__ = [
    "Allow",
    "AllowWithConditions",
    "AuditTail",
    "AuditWriter",
    "Deny",
    "Kernel",
    "PAYLOAD_BYTES_MAX",
    "Permit",
    "PolicyEngine",
    "Redact",
    "__version__",
    "audit_last",
    "audit_query",
    "audit_summary",
    "audit_verify",
    "builtin_policy",
    "check_policies",
    "explain_recorded",
    "guest_binary",
    "guest_digest",
    "keep_forever",
    "open_sealed",
    "policy_set",
    "profile",
]

__version__: str
profile: str

# --- guest (rust/symbi-py/src/guest.rs) ---

def guest_binary() -> bytes:
    """The static program that runs inside sandboxes: an executable ELF file without any dependency."""

def guest_digest() -> str:
    """SHA-256 of that program, 64 hex digits."""

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
    def conditions(self) -> tuple[Redact, ...]: ...
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

def keep_forever(thing: object) -> None:
    """Keeps an object until the process is gone: what a forked child must not finalise."""

def open_sealed(data: str | PathLike[str], sealed: str) -> bytes:
    """What stands in a sealed field of a trail, by the keys of its data directory; writes nothing."""

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
        directory: str, seed: bytes, provider: str
    ) -> tuple[AuditWriter, tuple[str, bool, str, int, int, str]]: ...
    def append(self, row: _AuditRow, timeout_s: float) -> tuple[int, str, int, str, bytes]: ...
    def append_many(self, rows: Sequence[_AuditRow], timeout_s: float | None = None) -> tuple[int, int]: ...
    def wait_durable(self, seq: int, timeout_s: float) -> None: ...
    def durable(self) -> int: ...
    def status(self) -> str: ...
    def close(self) -> None: ...

@final
class AuditTail:
    """Records one after the other, as they come."""

    def __new__(cls, directory: str, from_seq: int) -> Self: ...
    def take(self, limit: int) -> list[_AuditFields]: ...

def audit_verify(
    directory: str, key: str | None = None
) -> tuple[int, str, Literal["consistent", "authentic"], str, list[str], int, int]: ...
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
    limit: int | None = None,
) -> list[_AuditFields]: ...
def audit_last(directory: str, count: int) -> list[_AuditFields]: ...

# The kernel: one opening of a runtime. Ids are UUIDs as text; a principal is `host`, `operator:<uid>` or an agent's id.

PAYLOAD_BYTES_MAX: int

_Part = tuple[str, list[str], tuple[int, int, int] | None]
_Payload = bytes | list[_Part]
_Row = tuple[str, str, str, _Payload, list[str], int, str | None]
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
    def settle(self, outcome: str, kind: str = ..., text: str = ...) -> int: ...

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
        agents_max: int = 10000,
        mailbox_depth_max: int = 1024,
        mailbox_bytes_max: int = 1048576,
    ) -> Kernel: ...
    @property
    def opened(self) -> dict[str, Any]: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def durable(self) -> int: ...
    def want(self, seq: int) -> bool: ...
    def drain(self) -> list[str]: ...
    def log_problem(self) -> str | None: ...
    def policy_digest(self) -> str: ...
    def erring_rules(self) -> int: ...
    def policy_problems(self) -> str: ...
    def create_agent(
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
    ) -> tuple[str, int]: ...
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
    ) -> tuple[str, int, _Moves]: ...
    def end_run(
        self, run: str, outcome: str, kind: str = ..., text: str = ...
    ) -> tuple[int | None, _Moves]: ...
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
    def why(self, run_or_agent: str) -> dict[str, Any]: ...
    def agent_state(self, agent: str) -> str | None: ...
    def agent_labels(self, agent: str) -> list[str]: ...
    def list_agents(self) -> list[dict[str, Any]]: ...
    def count_agents(self) -> int: ...
    def operations_in_flight(self) -> int: ...
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
    ) -> tuple[str, int]: ...
    def send_many(
        self, sender: str, messages: list[tuple[str, _Payload]]
    ) -> tuple[list[str], int | None]: ...
    def receive_many(self, agent: str, limit: int) -> list[_Row]: ...
    def take_reply(self, agent: str, request: str) -> _Row | None: ...
    def forget_reply(self, agent: str, request: str) -> None: ...
    def register_tool(self, name: str, effects: str, risk: str) -> None: ...
    def begin_tool_call(
        self,
        by: str,
        tool: str,
        arguments: bytes,
        parts: list[_Part] = ...,
        attributes: list[tuple[str, str]] = ...,
        timeout_ms: int = 0,
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
