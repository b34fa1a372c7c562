"""A full disk and a clock that is set, under a real process: what is left verifies for us and for a stranger (A6, A7, A10)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import interposed
import pytest
import symbi
from symbi.audit import verify_trail

if TYPE_CHECKING:
    from pathlib import Path

_FULL = """
import os, sys
import symbi
log = symbi.AuditLog.open(sys.argv[1], "a", signing=sys.argv[2])
log.append_many([("test.event", None, {"n": n}) for n in range(10)])
try:
    os.unlink("/arm-now")
except FileNotFoundError:
    pass
promised = log.durable
try:
    for n in range(100_000):
        promised = log.append("test.event", None, {"n": n}).seq + 1
except symbi.errors.LogUnavailableError as error:
    print(promised, error, flush=True)
try:
    log.close()
except symbi.errors.LogUnavailableError:
    pass
"""

_CLOCK = """
import sys
import symbi
from pathlib import Path
clock = Path(sys.argv[2])
def note(log, text):
    clock.write_text(text)
    log.append_many([("test.event", None, {"clock": text, "n": n}) for n in range(3)])
with symbi.AuditLog.open(sys.argv[1], "a") as log:
    for text in ("+0", "+34560000", "-34560000", "=1000000000", "=1000000000", "+20"):
        note(log, text)
clock.write_text("-86400")
with symbi.AuditLog.open(sys.argv[1], "a") as log:
    note(log, "-86400")
    note(log, "+0")
"""


def _both(trail: Path) -> list[symbi.AuditEvent]:
    """What ours and the page say alike."""
    found = symbi.AuditLog.open(trail).verify()
    said = verify_trail.verify(trail)
    assert (said["records"], said["head"]) == (found.records, found.head)
    return list(symbi.AuditLog.open(trail).tail())


@pytest.mark.parametrize("signing", ["event", "group"])
@pytest.mark.parametrize("nth", [1, 7])
def test_a6_a10_on_a_full_disk_what_was_promised_verifies_for_a_stranger_and_the_end_says_why(
    tmp_path: Path, signing: str, nth: int
) -> None:
    library, trail = interposed.build(tmp_path), tmp_path / "trail"
    done = interposed.run(library, _FULL, trail, signing, FULL_AT=nth)
    assert done.returncode == 0, done.stderr
    promised, reason = done.stdout.split(" ", 1)
    assert "the disk is full" in reason
    assert not (trail / "reserve").exists(), "it was given back"
    events = _both(trail)
    assert len(events) >= int(promised)
    assert events[-1].event_type == "log.full"
    with symbi.AuditLog.open(trail, "a") as log:  # where there is room again it goes on
        log.append("test.event", None, {})
    assert (trail / "reserve").stat().st_size == 1 << 20
    _both(trail)


def test_a7_a10_a_clock_far_ahead_back_and_stuck_is_told_and_verifies_for_a_stranger(tmp_path: Path) -> None:
    library, trail, clock = interposed.build(tmp_path), tmp_path / "trail", tmp_path / "clock"
    clock.write_text("+0")
    done = interposed.run(library, _CLOCK, trail, clock, CLOCK=clock)
    assert done.returncode == 0, done.stderr
    events = _both(trail)
    times = [event.timestamp for event in events]
    assert times == sorted(times), "time never goes back"
    told = [event.details for event in events if event.event_type == "clock.anomaly"]
    assert len(told) >= 4, json.dumps(told)
    assert any(one["wall_us"] > one["expected_us"] + 34_000_000_000_000 for one in told), "far ahead"
    assert any(one["wall_us"] < one["expected_us"] - 34_000_000_000_000 for one in told), "back"
    assert any(one["wall_us"] == 1_000_000_000_000_000 for one in told), "stuck"
    noted = [event.details["clock"] for event in events if event.event_type == "test.event"]
    assert len(noted) == 24, "and nothing is lost"
