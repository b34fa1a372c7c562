"""The tenants of a configuration: on whose account runs are, and what each account may have.

    [[scheduler.tenants]]
    name = "research"
    weight = 3        # of the batch tier, against the others'
    cpu_cores = 16    # what all its runs may hold at once; what is not named is not limited

Why a kind of value of its own: tenants are a list of tables, and each is checked as strictly as any other key.
Not here: what a quota means (docs/scheduling.md).

Invariants
- CT1 a table is accepted only whole: a key that is not known, a value out of its range or a name that stands twice
  refuses the setting, and says which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from symbi.config.values import RefusedError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TenantSettings", "TenantTables"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_AMOUNT_MAX = 2**32 - 1  # of any resource
_TENANTS_MAX = 9_999  # one opening knows 10,000, and `default` is there always
_RANGES = {
    "weight": (1, 1_000_000),
    "waiting_max": (1, 1 << 24),
    "cpu_cores": (0, _AMOUNT_MAX // 1_000),
    "memory_mb": (0, _AMOUNT_MAX),
    "disk_io_mbps": (0, _AMOUNT_MAX),
    "network_io_mbps": (0, _AMOUNT_MAX),
    "sandboxes": (0, _AMOUNT_MAX),
}


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """One table. What is None is not limited.

    Attributes:
        name: As agents name it, `AgentConfig(tenant=…)`: 1 to 64 of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`.
        weight: Its part of the batch tier against the weights of the others, 1 to 1,000,000.
        waiting_max: How many of its runs may wait at once.
        cpu_cores: Cores, in thousandths, that all its runs together may hold at once; so the others.
        memory_mb: MiB.
        disk_io_mbps, network_io_mbps: MiB/s.
        sandboxes: Sandboxes.
    """

    name: str
    weight: int = 1
    waiting_max: int | None = None
    cpu_cores: float | None = None
    memory_mb: int | None = None
    disk_io_mbps: int | None = None
    network_io_mbps: int | None = None
    sandboxes: int | None = None

    def __str__(self) -> str:
        said = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "name"}
        return " ".join([self.name, *(f"{key}={value}" for key, value in said.items() if value is not None)])

    def quota(self) -> list[int] | None:
        """Amounts in the order of the native core, thousandths of a core among them; None: no quota at all."""
        millicores = None if self.cpu_cores is None else round(self.cpu_cores * 1_000)
        accelerators = None  # no agent can ask for one
        amounts = (
            *(self.memory_mb, millicores, self.disk_io_mbps, self.network_io_mbps),
            *(accelerators, self.sandboxes),
        )
        if all(amount is None for amount in amounts):
            return None
        return [_AMOUNT_MAX + 1 if amount is None else amount for amount in amounts]


@dataclass(frozen=True, slots=True)
class TenantTables:
    """A list of tables, one a tenant."""

    @property
    def accepted(self) -> str:
        return 'tables such as {name = "research", weight = 3, cpu_cores = 16}, with names that differ'

    def parse(self, value: object, base: Path) -> tuple[TenantSettings, ...]:  # noqa: ARG002
        if not isinstance(value, list | tuple):
            raise RefusedError
        tenants = tuple(item if isinstance(item, TenantSettings) else _tenant(item) for item in value)
        if len(tenants) > _TENANTS_MAX:
            raise RefusedError(f"has {len(tenants)} tables, and may have {_TENANTS_MAX}")
        names: set[str] = set()
        for tenant in tenants:
            if tenant.name in names:
                raise RefusedError(f'names "{tenant.name}" twice')
            names.add(tenant.name)
        return tenants


def _tenant(table: object) -> TenantSettings:
    if not isinstance(table, dict):
        raise RefusedError
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RefusedError("has one without a `name` of 1 to 64 of a-z, A-Z, 0-9, `.`, `_`, `-`")
    for key, given in table.items():
        if key != "name":
            _check(name, str(key), given)
    return TenantSettings(**table)


def _check(name: str, key: str, given: object) -> None:
    if key not in _RANGES:
        known = ", ".join(f"`{known}`" for known in ("name", *_RANGES))
        shown = "".join(char if char.isprintable() else "?" for char in key[:64])
        raise RefusedError(f'gives "{name}" a `{shown}`; accepted are {known}')
    low, high = _RANGES[key]
    number = int | float if key == "cpu_cores" else int
    if isinstance(given, bool) or not isinstance(given, number) or not low <= given <= high:
        raise RefusedError(f'gives "{name}" a `{key}` that is not a number from {low} to {high}')
