"""Rows of a change of policy while agents work, through an open runtime.

Not here: decisions (`suites.decide`), what an operation costs (`monitor`).
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import symbi
from symbi.bench.frame import BenchContext, Row, Sample

if TYPE_CHECKING:
    from pathlib import Path

_POLICIES = 1_000
_CHANGES = 6


def rows(suite: str) -> list[Row]:
    """The rows, under the name of the suite that shows them."""
    return [
        Row(
            suite,
            f"change to {_POLICIES:,} other policies: read, compiled, tried, recorded on disk, in force",
            "ms",
            "lower",
            measure=_swap,
            target=100.0,
            durability="fdatasync, awaited",
            provider="aws-lc",
        )
    ]


def _set(file: Path, mark: str) -> Path:
    rules = (
        f'@id("{mark}{number}") permit (principal == Agent::"{mark}{number}", action == Action::"tool.call", '
        f'resource == Tool::"t{number % 37}") when {{ context.bytes < 4096 }};'
        for number in range(_POLICIES)
    )
    file.write_text("\n".join(rules))
    return file


def _swap(context: BenchContext) -> Sample:
    data = context.fresh()
    sets = [_set(data / f"{mark}.cedar", mark) for mark in ("a", "b")]
    config = symbi.Config.load(environ={}, overrides={"runtime.mode": "development"})

    async def run() -> Sample:
        times = []
        async with symbi.Runtime.open(config, data=data / "data", policy=sets[0]) as runtime:
            for number in range(1, _CHANGES):
                before = runtime.kernel.policy_digest()
                begin = time.perf_counter()
                await runtime.load_policies([sets[number % 2]], by=f"operator:{os.getuid()}")
                times.append((time.perf_counter() - begin) * 1e3)
                if runtime.kernel.policy_digest() == before:
                    raise RuntimeError("the other policies are not in force")
        return Sample(sorted(times)[len(times) // 2])

    return asyncio.run(run())
