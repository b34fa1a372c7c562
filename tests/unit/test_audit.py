"""An application's own log, from Python: what goes in comes out, what cannot be recorded is refused."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.audit import check_consistency, key_path, rotate
from symbi.errors import (
    AuditError,
    ChainBrokenError,
    CryptoError,
    InputError,
    LogLockedError,
    LogUnavailableError,
    TruncatedError,
)

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT = "000000000000.jsonl"


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return tmp_path / "trail"


def fill(trail: Path, count: int = 5) -> symbi.AuditLog:
    with symbi.AuditLog.open(trail, "a") as log:
        log.append_many([("test.event", "agent-1", {"number": number}) for number in range(count)])
    return log


def test_what_was_appended_is_what_is_read(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        details = {"text": 'é "\\\n😀', "float": 1.5, "none": None, "list": [1, True, {"a": -(2**53)}]}
        event = log.append("tool.called", "agent-1", details, subject="p-1")
        assert event.seq == 2  # after log.created and log.opened
        assert event.details == details
        assert log.query(event_type="tool.called") == [event]
        assert abs(datetime.now(UTC) - event.timestamp) < timedelta(minutes=1)
    assert log.verify().records == 3


def test_rows_and_columns_give_the_same_records(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        rows = log.append_many([("a.b", f"agent-{n}", {"n": n}, f"p-{n}") for n in range(3)])
        columns = log.append_many(
            {
                "event_type": "a.b",
                "agent_id": [f"agent-{n}" for n in range(3)],
                "details": ['{"n":0}', '{"n":1}', '{"n":2}'],
                "subject": ["p-0", "p-1", "p-2"],
            }
        )
        assert (rows, columns) == (range(2, 5), range(5, 8))
        assert log.append_many([]) == range(0)
        assert log.durable == 8
        assert log.status == "healthy"
    found = log.query(event_type="a.b")
    same = [(event.agent_id, event.details, event.subjects) for event in found]
    assert same[:3] == same[3:]


@pytest.mark.parametrize(
    "details",
    [
        {"a": 2**53 + 1},
        {"a": float("nan")},
        {"a": "\ud800"},
        {"a": object()},
        {1: "x", "1": "y"},
        '{"a":1,"a":2}',
        '{"a":"\\ud800"}',
        "[]",
        "{",
        '{"a":1} x',
    ],
)
def test_al2_details_that_readers_would_disagree_on_are_refused_and_change_nothing(
    trail: Path, details: object
) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        with pytest.raises(InputError):
            log.append("test.event", None, details)  # type: ignore[arg-type]
        with pytest.raises(InputError):
            log.append_many([("test.event", None, {}), ("test.event", None, details)])
        assert log.append("test.event", None, {}).seq == 2


@pytest.mark.parametrize(
    "event_type", ["", "log.created", "key.rotated", "clock.anomaly", "a b", "x" * 65, 7]
)
def test_types_that_are_the_logs_own_or_no_names_are_refused(trail: Path, event_type: str) -> None:
    with symbi.AuditLog.open(trail, "a") as log, pytest.raises(InputError):
        log.append(event_type, None, {})


def test_names_are_bounded(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        for arguments in ({"agent_id": "x" * 257}, {"agent_id": "a", "subject": ""}):
            with pytest.raises(InputError):
                log.append("test.event", details={}, **arguments)  # type: ignore[arg-type]


def test_personal_values_need_a_person_and_are_json(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        for personal, subject in (
            ({"name": "x"}, None),
            ({}, "ann"),
            ("text", "ann"),
            ({"name": object()}, "ann"),
            ({"name": float("nan")}, "ann"),
            ({"name": "\ud800"}, "ann"),
            ({"name": "x"}, " ann"),
            ({"name": "x"}, 7),
        ):
            with pytest.raises(InputError):
                log.append("test.event", None, {}, subject=subject, personal=personal)  # type: ignore[arg-type]
        assert log.durable == 2, "nothing was recorded"


def test_pf1_a_proof_made_beside_the_writer_convinces_whoever_has_the_fingerprint(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        event = log.append("test.event", "a", {"n": 1})
        kept = log.checkpoint()
        log.append_many([("test.event", "a", {"n": n}) for n in range(300)])
        proof = log.prove(event)
        assert kept.size == 3
        assert proof.check(log.fingerprint).level == "authentic"
        later = log.prove(200)
        assert (later.check().event.seq, later.check().event.details) == (200, {"n": 197})
        with pytest.raises(CryptoError):
            later.check("0" * 32)
        assert log.prove(event, against=kept).check().checkpoint == kept
        with pytest.raises(InputError):
            log.prove(200, against=kept)
    reader = symbi.AuditLog.open(trail)
    assert reader.verify(checkpoint=kept).complete_to == 3
    new, hashes = reader.prove_consistency(kept)
    check_consistency(kept, new, hashes)
    with pytest.raises(CryptoError):
        check_consistency(kept, new, hashes[1:])
    assert reader.checkpoint() == new
    with pytest.raises(InputError):
        reader.verify(checkpoint="no checkpoint")


def test_a_proof_is_smaller_than_2_kb_whatever_the_size_of_the_trail(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        log.append_many([("test.event", "a", {"n": n}) for n in range(5_000)])
        proof = log.prove(2_500)
    hashes = [line for line in proof.text.splitlines() if len(line) == 44]
    assert 14 <= len(hashes) <= 15, "thirteen, the root and the origin"
    per_hash = 45
    assert len(proof.text) + (20 - 13) * per_hash <= 2_048, "at a million records there are twenty"


def test_al1_the_key_lies_beside_the_trail_and_is_nobody_elses(trail: Path) -> None:
    fill(trail)
    path = key_path(trail)
    assert path == trail.with_name("trail.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [name for name in path.parent.iterdir() if name.name.startswith(".")]
    path.chmod(0o644)
    with pytest.raises(CryptoError, match="read by others"):
        symbi.AuditLog.open(trail, "a")
    path.chmod(0o600)
    path.write_text("0" * 64 + "\n")
    with pytest.raises(CryptoError, match="is signed with key"):
        symbi.AuditLog.open(trail, "a")
    path.unlink()
    with pytest.raises(CryptoError, match="missing"):
        symbi.AuditLog.open(trail, "a")
    assert symbi.AuditLog.open(trail).verify().records == 7


def test_the_levels_of_verify(trail: Path) -> None:
    log = fill(trail)
    reader = symbi.AuditLog.open(trail, "r")
    assert reader.verify().level == "consistent"
    assert reader.verify(key=log.fingerprint).level == "authentic"
    assert reader.fingerprint == log.fingerprint
    with pytest.raises(ChainBrokenError):
        reader.verify(key="0" * 32)
    with pytest.raises(InputError):
        reader.verify(key="not a fingerprint")


def test_an_edit_is_named_and_a_cut_is_called_a_cut(trail: Path) -> None:
    fill(trail)
    path = trail / SEGMENT
    good = path.read_bytes()
    path.write_bytes(good.replace(b'{"number":2}', b'{"number":3}'))
    with pytest.raises(ChainBrokenError) as caught:
        symbi.AuditLog.open(trail).verify()
    assert caught.value.seq == 4
    with pytest.raises(ChainBrokenError):
        symbi.AuditLog.open(trail, "a")
    path.write_bytes(b"".join(good.splitlines(keepends=True)[:4]))
    with pytest.raises(TruncatedError) as cut:
        symbi.AuditLog.open(trail).verify()
    assert cut.value.seq == 4


def test_a_second_writer_and_a_reader_that_writes_are_refused(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a"), pytest.raises(LogLockedError):
        symbi.AuditLog.open(trail, "a")
    with pytest.raises(LogUnavailableError):
        symbi.AuditLog.open(trail).append("test.event", None, {})
    with pytest.raises(InputError):
        symbi.AuditLog.open(trail, "w")  # type: ignore[arg-type]
    with pytest.raises(AuditError):
        symbi.AuditLog.open(trail.with_name("nothing"))


def test_a_closed_log_takes_nothing(trail: Path) -> None:
    log = fill(trail)
    assert log.status == "closed"
    log.close()
    with pytest.raises(LogUnavailableError):
        log.append("test.event", None, {})


def test_al3_a_log_from_before_a_fork_is_refused_in_the_child(
    trail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        own = os.getpid()
        monkeypatch.setattr("os.getpid", lambda: own + 1)
        with pytest.raises(LogUnavailableError, match="fork"):
            log.append("test.event", None, {})
        monkeypatch.undo()
        log.append("test.event", None, {})


def test_queries_by_time_take_texts_and_instants_with_a_zone(trail: Path) -> None:
    log = fill(trail)
    events = log.query(event_type="test.*")
    middle = events[2].timestamp
    assert log.query(since=middle, event_type="test.*", limit=1)[0].seq <= events[2].seq
    assert log.query(since=middle.isoformat()) == log.query(since=middle)
    assert log.query(until="1970-01-01T00:00:00Z") == []
    for wrong in ("yesterday", "2025-01-01T00:00:00", datetime(2025, 1, 1)):  # noqa: DTZ001
        with pytest.raises(InputError):
            log.query(since=wrong)
    with pytest.raises(InputError):
        log.query(limit=-1)


def test_a_tail_goes_on_with_what_came_since(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        tail = log.tail(2)
        assert list(tail) == []
        log.append("test.event", None, {"n": 1})
        assert [event.details for event in tail] == [{"n": 1}]
        log.append_many([("test.event", None, {"n": n}) for n in range(3_000)])
        assert len(list(tail)) == 3_000
        assert [event.seq for event in log.last(2)] == [3_001, 3_002]


def test_kr1_a_rotation_that_stops_anywhere_is_ended_by_running_it_again(trail: Path) -> None:
    fill(trail)
    first = symbi.AuditLog.open(trail).fingerprint
    old, waiting = key_path(trail), trail.with_name("trail.key.next")
    before = old.read_bytes()
    seq, second = rotate(trail)
    assert seq is not None
    new = old.read_bytes()
    assert (new != before, waiting.exists(), stat.S_IMODE(old.stat().st_mode)) == (True, False, 0o600)
    waiting.write_bytes(new)  # as a crash leaves it: the log says so, the files were not moved yet
    waiting.chmod(0o600)
    old.write_bytes(before)
    with pytest.raises(CryptoError):
        symbi.AuditLog.open(trail, "a")
    assert rotate(trail) == (None, second)
    waiting.write_bytes(bytes(31).hex().encode() + b"07\n")  # or before the log said so
    waiting.chmod(0o600)
    third = rotate(trail)[1]
    with symbi.AuditLog.open(trail, "a") as log:
        log.append("test.event", None, {})
    found = symbi.AuditLog.open(trail).verify(key=first)
    assert (found.level, found.keys) == ("authentic", (first, second, third))
    assert symbi.AuditLog.open(trail).prove(1).check(third).level == "authentic"
