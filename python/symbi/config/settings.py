"""Every setting, one row each: key, kind, default, variable, whether its part exists, what it does.

Why a table: parsing, errors, `symbi config show` and `docs/configuration.md` are made from it, so none of
them can know a key that another does not. When a part comes into being, its rows turn to `built=True` and get
a field in `model`.
Not here: how the rows are read (`sources`), and the typed view that programs use (`model`).

Invariants
- CS1 every key and variable of the specification has a row.
- CS2 a row whose part does not exist (`built=False`) has no value that a program could read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from symbi.config.tenants import TenantTables
from symbi.config.values import (
    Boolean,
    Choice,
    Duration,
    Kind,
    Number,
    Paths,
    PathText,
    Secret,
    Size,
    Text,
    Url,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CONFIG_PATH_VARIABLE", "OTHER_VARIABLES", "SETTINGS", "Setting", "url_places"]

CONFIG_PATH_VARIABLE = "SYMBI_CONFIG_PATH"

# Variables with our prefix that are no settings: what they are for.
OTHER_VARIABLES = {
    CONFIG_PATH_VARIABLE: "the configuration file, where `--config` names none",
    "SYMBI_TRACEBACK": "`1` prints the traceback of an error on stderr",
    "SYMBI_GUEST": "for `ci/setup-sandbox`: the static guest program, to be tried in its container",
    "SYMBI_DOCKER_CONFIG": "for `ci/setup-sandbox`: Docker's `daemon.json`, where it lies elsewhere",
    "SYMBI_KEY_PASSPHRASE": "what the key files are encrypted with; without it they are in the clear, 0600",
    "SYMBI_OPERATOR_TOKEN": "the operator's token, for what needs it besides the user id",
    "SYMBI_REQUIRE": "for the tests: a part of the machine that must be there, such as `docker,gvisor`",
    "SYMBI_LONG": "for the tests: `1` runs the long form of every bounded test",
    "SYMBI_SEED": "for the tests: the one seed of a simulation to run, or a range such as `0..100000`",
    "SYMBI_WHEEL": "for the tests: the wheel that is tried in a clean environment",
}

_PORT = Number(1, 65_535)
_TIERS = Choice(("gvisor", "docker", "degraded"), aliases=(("tier1", "docker"), ("tier2", "gvisor")))
_BACKENDS = Choice(("native", "lancedb", "qdrant"))
_PROVIDERS = Choice(("aws-lc", "ring"))


@dataclass(frozen=True, slots=True)
class Setting:
    """One row.

    Attributes:
        key: Dotted, as in a file: `security.crypto_provider`.
        kind: What it accepts.
        doc: What it does, in one sentence.
        default: Its value where nobody says otherwise; a function where the machine decides.
        default_text: How the documentation words a default that has no fixed text.
        variables: Environment variables that set it.
        built: False where this version has no such part: setting it is an error.
        common: The variable belongs to other programs too: where the part does not exist, a warning, not an
            error.
        in_file: False where only a variable exists.
        older_form: How an older form gives the values of newer keys; `None` for a form of today.
    """

    key: str
    kind: Kind
    doc: str
    default: object = None
    default_text: str = ""
    variables: tuple[str, ...] = ()
    built: bool = True
    common: bool = False
    in_file: bool = True
    older_form: Callable[[object], Mapping[str, object]] | None = None

    def default_value(self) -> object:
        """The default, with the machine asked where it decides."""
        return self.default() if callable(self.default) else self.default

    @property
    def secret(self) -> bool:
        """True where the value must never be shown."""
        return isinstance(self.kind, Secret)


def processors() -> int:
    """Processors that this process may use: the size of the native worker pool, unless said otherwise."""
    return min(SCHEDULER_THREADS_MAX, len(os.sched_getaffinity(0)))


def memory_mb() -> int:
    """What the machine has, MiB."""
    return max(64, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20)


def url_places(url: object) -> dict[str, object]:
    """What the older single address of Qdrant says in the newer keys."""
    from urllib.parse import urlsplit

    parts = urlsplit(str(url))
    places: dict[str, object] = {"context.qdrant.host": parts.hostname}
    if parts.port is not None:
        places["context.qdrant.port"] = parts.port
    return places


SCHEDULER_THREADS_MAX = 256  # more threads than any machine we run on has processors
AGENTS_MAX = 1_000_000  # 8 KiB an idle agent: 8 GB

LogLevel = Literal["error", "warning", "info", "debug"]

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "runtime.mode",
        Choice(("production", "development")),
        "`production` refuses what weakens protection; `development` allows it, loudly.",
        default="production",
        variables=("SYMBI_RUNTIME_MODE",),
    ),
    Setting(
        "runtime.max_concurrent_agents",
        Number(1, AGENTS_MAX),
        "Agents that may exist at once; one more is refused.",
        default=10_000,
    ),
    Setting(
        "runtime.scheduler_threads",
        Number(1, SCHEDULER_THREADS_MAX),
        "Threads of the native worker pool.",
        default=processors,
        default_text="the processors that the process may use",
    ),
    Setting(
        "runtime.message_buffer_size",
        Size(4 << 10, 1 << 30),
        "Bytes of messages that one mailbox holds; past it, senders wait.",
        default=1 << 20,
    ),
    Setting(
        "runtime.message_rate_per_s",
        Number(0, 1_000_000),
        "Messages that each agent may send a second in the long run; past it they are refused. 0: no limit.",
        default=0,
    ),
    Setting(
        "runtime.message_burst",
        Number(1, 1_000_000),
        "Messages that each agent may send at once after a pause, where `runtime.message_rate_per_s` limits them.",
        default=1_000,
    ),
    Setting(
        "runtime.message_attempts",
        Number(1, 100),
        "How often a message at least once is handed out before it is a dead letter.",
        default=5,
    ),
    Setting(
        "runtime.message_patience_ms",
        Duration(10, 86_400_000, "ms"),
        "How long a reader may take to acknowledge such a message before it counts as failed.",
        default=30_000,
    ),
    Setting(
        "runtime.message_backoff_ms",
        Duration(1, 86_400_000, "ms"),
        "The pause before such a message is handed out the second time; doubled with each further time.",
        default=200,
    ),
    Setting(
        "runtime.message_backoff_max_ms",
        Duration(1, 86_400_000, "ms"),
        "The longest such pause.",
        default=60_000,
    ),
    Setting(
        "runtime.gc_interval_ms",
        Duration(1, 60_000, "ms"),
        "Least pause between two steps of the collector, which works only while there is garbage.",
        default=100,
    ),
    Setting(
        "runtime.loop_block_ms",
        Duration(10, 60_000, "ms"),
        "How long an in-process agent may hold up the event loop before it is reported with its stack.",
        default=200,
    ),
    Setting(
        "scheduler.strategy",
        Choice(("first_fit", "best_fit", "priority")),
        "How a run is placed; `priority` keeps `headroom_percent` free for critical ones.",
        default="first_fit",
    ),
    Setting(
        "scheduler.headroom_percent",
        Number(0, 90),
        'With `strategy = "priority"`: the share of the machine that only critical runs may use.',
        default=10,
    ),
    Setting(
        "scheduler.critical_priority",
        Number(0, 255),
        "A run of this priority or above is critical; so is every realtime one.",
        default=224,
    ),
    Setting(
        "scheduler.ageing_ms",
        Duration(1, 86_400_000, "ms"),
        "An interactive run gains one level of priority for so much waiting.",
        default=1_000,
    ),
    Setting(
        "scheduler.batch_turn",
        Number(2, 1_000_000),
        "One start in so many is a batch run's, while one waits.",
        default=16,
    ),
    Setting(
        "scheduler.quantum_ms",
        Duration(0, 86_400_000, "ms"),
        "A run runs at least so long before it stands still for a more urgent one, each time.",
        default=20,
    ),
    Setting(
        "scheduler.realtime_percent",
        Number(0, 100),
        "The share of all cores that realtime runs may be promised.",
        default=50,
    ),
    Setting(
        "scheduler.preemption",
        Boolean(),
        "Whether a run stands still for a more urgent one.",
        default=True,
    ),
    Setting(
        "scheduler.tasks_max",
        Number(1, 1 << 24),
        "Runs that may wait and run in all; one more is refused.",
        default=1 << 20,
    ),
    Setting(
        "scheduler.cpu_cores",
        Number(1, 4_000_000),
        "Cores that all runs together may hold.",
        default=lambda: os.cpu_count() or 1,
        default_text="those of the machine",
    ),
    Setting(
        "scheduler.memory_mb",
        Number(16, (1 << 32) - 1),
        "MiB that all runs together may hold.",
        default=memory_mb,
        default_text="that of the machine",
    ),
    Setting(
        "scheduler.disk_io_mbps",
        Number(1, 1 << 20),
        "Disk bandwidth, MiB/s, that all runs together may hold.",
        default=1 << 20,
    ),
    Setting(
        "scheduler.network_io_mbps",
        Number(0, 1 << 20),
        "Network bandwidth, MiB/s, that all runs together may hold.",
        default=1 << 20,
    ),
    Setting(
        "scheduler.sandboxes",
        Number(0, 65_536),
        "Sandboxes at once.",
        default=256,
    ),
    Setting(
        "scheduler.tenants",
        TenantTables(),
        "What accounts may have: `weight` in the batch tier, `waiting_max`, and the most that all runs of one may hold"
        " of `cpu_cores`, `memory_mb`, `disk_io_mbps`, `network_io_mbps`, `sandboxes`.",
        default=(),
        default_text="none: weight 1, no limits",
    ),
    Setting(
        "security.default_sandbox_tier",
        _TIERS,
        "Tier of an agent that asks for none; its risk score may raise it, never lower it.",
        default="gvisor",
    ),
    Setting(
        "security.enforce_policies",
        Boolean(),
        "Whether a denial is enforced. False only in development.",
        default=True,
    ),
    Setting(
        "security.audit_enabled",
        Boolean(),
        "Whether the trail is written. False only in development.",
        default=True,
    ),
    Setting(
        "security.crypto_provider",
        _PROVIDERS,
        "Library that signs and seals.",
        default="aws-lc",
        variables=("SYMBI_CRYPTO_PROVIDER",),
    ),
    Setting(
        "policy.paths",
        Paths(),
        "Cedar files, and directories of them, that decide. None: the built-in `secure-default`.",
        default=(),
        default_text="none: `secure-default`",
    ),
    Setting(
        "policy.watch",
        Boolean(),
        "Whether policy files that are saved are put in force at once; those before stay where they do not compile.",
        default=False,
    ),
    Setting(
        "audit.storage",
        PathText(),
        "Directory of the trail.",
        default_text="`trail` in the data directory",
        variables=("SYMBI_AUDIT_STORAGE",),
    ),
    Setting(
        "supervision.breaker_failures",
        Number(1, 32),
        "Failures, half of an agent's last calls, after which a tool or tier is left alone for that agent.",
        default=5,
    ),
    Setting(
        "supervision.breaker_memory_ms",
        Duration(1_000, 86_400_000, "ms"),
        "How long a circuit breaker remembers an outcome that nothing follows.",
        default=60_000,
    ),
    Setting(
        "supervision.breaker_open_ms",
        Duration(1, 86_400_000, "ms"),
        "How long a breaker is open the first time; each further time twice as long.",
        default=5_000,
    ),
    Setting(
        "supervision.breaker_open_max_ms",
        Duration(1, 86_400_000, "ms"),
        "How long a breaker is open at the longest.",
        default=60_000,
    ),
    Setting(
        "supervision.breaker_probes",
        Number(1, 32),
        "Calls that must succeed, one after the other, before a breaker closes.",
        default=1,
    ),
    Setting(
        "supervision.agent_retries",
        Number(0, 100_000),
        "Retries at once of all agents of one name; 0 allows none.",
        default=10,
    ),
    Setting(
        "supervision.agent_refill_ms",
        Duration(1, 86_400_000, "ms"),
        "How long until such a name has one more.",
        default=6_000,
    ),
    Setting(
        "supervision.runtime_retries",
        Number(0, 1_000_000),
        "Retries at once of the whole runtime, half of them kept for names that have half of their own.",
        default=200,
    ),
    Setting(
        "supervision.runtime_refill_ms",
        Duration(1, 86_400_000, "ms"),
        "How long until the runtime has one more.",
        default=50,
    ),
    Setting(
        "audit.signing",
        Choice(("event", "group")),
        "What is signed of the trail: each record, or each group that goes to the disk together.",
        default="event",
    ),
    Setting(
        "audit.segment_age_h",
        Number(1, 8_760),
        "Hours after which a segment of the trail is closed and packed, though it is not full, once a record comes.",
        default=24,
    ),
    Setting(
        "audit.retention_days",
        Number(0, 36_500),
        "Days after which closed segments of the trail are pruned, unless a legal hold is in force; 0 keeps "
        "everything, less than 31 is taken as 31.",
        default=0,
    ),
    Setting(
        "audit.snapshot_records",
        Number(100, 100_000_000),
        "Records after which what an opening would read from them is written down, so that it reads less.",
        default=10_000,
    ),
    Setting(
        "audit.subject_key_backups",
        Paths(),
        "Directories that get a copy of each person's key when it is made, and lose it when the person is erased.",
        default=(),
        default_text="none",
    ),
    Setting(
        "log.level",
        Choice(("error", "warning", "info", "debug"), aliases=(("warn", "warning"),)),
        "What the log of the Python half says on stderr.",
        default="warning",
        variables=("SYMBI_LOG_LEVEL",),
    ),
    Setting(
        "log.native_filter",
        Text("a filter such as info,symbi_kernel=debug"),
        "Filter of the native core's log.",
        variables=("RUST_LOG",),
        built=False,
        common=True,
        in_file=False,
    ),
    Setting(
        "context.vector_backend",
        _BACKENDS,
        "Where vectors are kept.",
        default_text='"native"',
        variables=("SYMBIONT_VECTOR_BACKEND",),
        built=False,
    ),
    Setting(
        "context.vector_data_path",
        PathText(),
        "Directory of the vectors.",
        variables=("SYMBIONT_VECTOR_DATA_PATH",),
        built=False,
    ),
    Setting(
        "context.embedding_dimension",
        Number(1, 65_536),
        "Length of an embedding.",
        default_text="1536",
        built=False,
    ),
    Setting(
        "context.context_cache_size",
        Size(0, 1 << 44),
        "Bytes of context kept in memory.",
        default_text="1GB",
        built=False,
    ),
    Setting(
        "context.knowledge_retention_days",
        Duration(1, 36_500, "d"),
        "Days after which knowledge is removed.",
        default_text="365",
        built=False,
    ),
    Setting(
        "context.qdrant.host",
        Text("a host name"),
        'Host of Qdrant, for `vector_backend = "qdrant"`.',
        default_text='"localhost"',
        variables=("SYMBIONT_VECTOR_HOST",),
        built=False,
    ),
    Setting(
        "context.qdrant.port",
        _PORT,
        "Port of Qdrant.",
        default_text="6334",
        variables=("SYMBIONT_VECTOR_PORT",),
        built=False,
    ),
    Setting(
        "context.vector_db_url",
        Url(),
        "Older form of `context.qdrant.host` and `context.qdrant.port`.",
        variables=("QDRANT_URL",),
        built=False,
        older_form=url_places,
    ),
    Setting(
        "context.openai_api_key",
        Secret(),
        "Key of an OpenAI-compatible endpoint, for embeddings.",
        variables=("OPENAI_API_KEY",),
        built=False,
        common=True,
        in_file=False,
    ),
    Setting(
        "mcp.discovery_enabled",
        Boolean(),
        "Whether servers are discovered from the usual configuration files.",
        default_text="true",
        variables=("MCP_SERVER_DISCOVERY",),
        built=False,
    ),
    Setting(
        "mcp.tool_verification",
        Choice(("strict", "warn", "off")),
        "What happens to a tool whose schema does not verify.",
        default_text='"strict"',
        built=False,
    ),
    Setting(
        "mcp.connection_timeout_s",
        Duration(1, 3_600, "s"),
        "Time to connect to a server.",
        default_text="30",
        built=False,
    ),
    Setting(
        "mcp.max_concurrent_connections",
        Number(1, 65_536),
        "Connections to servers at once.",
        default_text="100",
        built=False,
    ),
)
