"""The configuration as programs read it: typed, frozen, whole.

Why dataclasses beside the table: a typo in a program is found by the type checker, not at night. A test holds
both to the same keys.
Not here: settings whose part does not exist: they have no field, so nothing can read one that has no effect.

Invariants
- CM1 a `Config` that exists is possible: production without enforcement, without trail or with the degraded
  tier cannot be constructed by `load` or `with_overrides`.
- CM2 no field of it changes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from symbi.config.sources import Origin, Resolved, resolve
from symbi.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from symbi.config.tenants import TenantSettings

__all__ = [
    "AuditSettings",
    "Config",
    "LogSettings",
    "PolicySettings",
    "RuntimeSettings",
    "SchedulerSettings",
    "SecuritySettings",
    "SupervisionSettings",
]


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """`[runtime]`. `message_buffer_size` in bytes, what ends in `_ms` in milliseconds."""

    mode: Literal["production", "development"]
    max_concurrent_agents: int
    scheduler_threads: int
    message_buffer_size: int
    message_rate_per_s: int
    message_burst: int
    message_attempts: int
    message_patience_ms: int
    message_backoff_ms: int
    message_backoff_max_ms: int
    gc_interval_ms: int
    loop_block_ms: int


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """`[scheduler]`. `cpu_cores` to `sandboxes` are what this machine lends to all runs together."""

    strategy: Literal["first_fit", "best_fit", "priority"]
    headroom_percent: int
    critical_priority: int
    ageing_ms: int
    batch_turn: int
    quantum_ms: int
    realtime_percent: int
    preemption: bool
    tasks_max: int
    cpu_cores: int
    memory_mb: int
    disk_io_mbps: int
    network_io_mbps: int
    sandboxes: int
    tenants: tuple[TenantSettings, ...]

    def options(self) -> dict[str, object]:
        """What the native scheduler is set to, by its own names."""
        return {name: getattr(self, name) for name in _OPTIONS}

    def accounts(self) -> list[tuple[str, int, list[int] | None, int | None]]:
        """Name, weight, quota and most that may wait, of each tenant."""
        return [(one.name, one.weight, one.quota(), one.waiting_max) for one in self.tenants]


_OPTIONS = (
    *("strategy", "headroom_percent", "critical_priority", "ageing_ms", "batch_turn"),
    *("quantum_ms", "realtime_percent", "preemption", "tasks_max"),
)


_ORDERED = (  # the second is at least the first
    ("supervision.breaker_open_ms", "supervision.breaker_open_max_ms"),
    ("supervision.agent_retries", "supervision.runtime_retries"),
    ("runtime.message_backoff_ms", "runtime.message_backoff_max_ms"),
)


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """`[security]`."""

    default_sandbox_tier: Literal["gvisor", "docker", "degraded"]
    enforce_policies: bool
    audit_enabled: bool
    crypto_provider: Literal["aws-lc", "ring"]


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """`[policy]`. No paths: the built-in `secure-default`."""

    paths: tuple[Path, ...]
    watch: bool


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """`[audit]`. No storage: `trail` in the data directory."""

    storage: Path | None
    signing: Literal["event", "group"]
    segment_age_h: int
    retention_days: int
    snapshot_records: int
    subject_key_backups: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class SupervisionSettings:
    """`[supervision]`: circuit breakers and budgets of retries. What ends in `_ms` in milliseconds."""

    breaker_failures: int
    breaker_memory_ms: int
    breaker_open_ms: int
    breaker_open_max_ms: int
    breaker_probes: int
    agent_retries: int
    agent_refill_ms: int
    runtime_retries: int
    runtime_refill_ms: int


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`[log]`."""

    level: Literal["error", "warning", "info", "debug"]


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of one runtime. Make one with `Config.load`.

    Attributes:
        warnings: What must be said aloud, one line each; the caller says it.
        file: The file that was read, if any.
        origins: Where each setting came from, by key.
        values: Each setting by key, as `symbi config show` prints it.
    """

    runtime: RuntimeSettings
    scheduler: SchedulerSettings
    security: SecuritySettings
    policy: PolicySettings
    audit: AuditSettings
    supervision: SupervisionSettings
    log: LogSettings
    warnings: tuple[str, ...]
    file: Path | None
    origins: Mapping[str, Origin]
    values: Mapping[str, object]

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> Self:
        """Reads the settings: defaults, file, environment, command line; later wins.

        Args:
            path: A TOML file of at most 1 MiB; `None` takes the one that `SYMBI_CONFIG_PATH` names, if it
                names one. No file is looked for elsewhere.
            environ: Variables; `None` takes the process's own.
            overrides: What the command line says, by dotted key: `{"runtime.mode": "development"}`.

        Raises:
            ConfigError: an unknown key, a wrong type, an impossible value or combination, a part that does
                not exist in this version, an unreadable file. Names place, key and accepted values; further
                problems are its notes.
        """
        file = Path(path) if path is not None else None
        return cls._of(resolve(file, os.environ if environ is None else environ, overrides or {}))

    def with_overrides(self, overrides: Mapping[str, object]) -> Self:
        """The same, with `overrides` (by dotted key) as the last word. Raises like `load`."""
        resolved = resolve(None, {}, overrides)
        said = {key: origin for key, origin in resolved.origins.items() if origin.kind == "command line"}
        values = {**self.values, **{key: resolved.values[key] for key in said}}
        return self._of(Resolved(values, {**self.origins, **said}, self.warnings, self.file))

    @classmethod
    def _of(cls, resolved: Resolved) -> Self:
        """Fills the fields from the table's values; a test holds that both have the same keys."""

        def section(name: str) -> dict[str, Any]:
            prefix = f"{name}."
            return {
                key.removeprefix(prefix): value
                for key, value in resolved.values.items()
                if key.startswith(prefix)
            }

        config = cls(
            runtime=RuntimeSettings(**section("runtime")),
            scheduler=SchedulerSettings(**section("scheduler")),
            security=SecuritySettings(**section("security")),
            policy=PolicySettings(**section("policy")),
            audit=AuditSettings(**section("audit")),
            supervision=SupervisionSettings(**section("supervision")),
            log=LogSettings(**section("log")),
            warnings=resolved.warnings,
            file=resolved.file,
            origins=MappingProxyType(resolved.origins),
            values=MappingProxyType(resolved.values),
        )
        config._refuse_the_impossible()
        return config

    def _refuse_the_impossible(self) -> None:
        """What each value allows alone and all together do not (CM1)."""
        for key, larger in _ORDERED:
            low, high = self.values[key], self.values[larger]
            if isinstance(low, int) and isinstance(high, int) and high < low:
                raise ConfigError(
                    f"{self.origins[larger]}: `{larger}` is {high}, less than `{key}`, which is {low} by "
                    f"{self.origins[key]}"
                )
        if self.runtime.mode != "production":
            return
        weak = {
            "security.enforce_policies": not self.security.enforce_policies,
            "security.audit_enabled": not self.security.audit_enabled,
            "security.default_sandbox_tier": self.security.default_sandbox_tier == "degraded",
        }
        for key, refused in weak.items():
            if refused:
                value = str(self.values[key]).lower()
                raise ConfigError(
                    f"{self.origins[key]}: `{key}` must not be `{value}` in production: remove it, or set"
                    f" `runtime.mode` to `development` (it is `production` by {self.origins['runtime.mode']})"
                )
