"""Questions to a trail from Python: filters, pages, the index, records as they come."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from symbi import AuditLog
from symbi.audit import AuditEvent, AuditStream, Gap
from symbi.errors import ChainBrokenError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _fill(directory: Path, count: int = 40) -> AuditLog:
    log = AuditLog.open(directory, "a")
    log.append_many(
        [
            (
                "tool.called" if number % 3 else "tool.refused",
                f"agent-{number % 4}",
                {"number": number, "rules": [f"rule-{number % 5}"], "resource": 'Tool::"x"'},
                f"s{number % 7}",
            )
            for number in range(count)
        ]
    )
    return log


def _numbers(events: object) -> list[int]:
    return [event.details["number"] for event in events]  # type: ignore[attr-defined]


def test_filters_hold_together_with_and_without_the_index(tmp_path: Path) -> None:
    with _fill(tmp_path / "trail") as log:
        wanted = [number for number in range(40) if number % 4 == 1 and number % 5 == 3]
        log.reindex()
        for index in (True, False):
            found = log.query(agent_id="agent-1", rule="rule-3", index=index)
            assert _numbers(found) == wanted
            newest = log.query(agent_id="agent-1", rule="rule-3", newest_first=True, index=index)
            assert _numbers(newest) == wanted[::-1]
        assert _numbers(log.query(subject="s2", event_type="tool.*", limit=2)) == [2, 9]
        assert _numbers(log.query(resource='Tool::"x"', limit=1)) == [0]
        assert log.query(event_id=found[0].event_id) == [found[0]]


def test_aq1_pages_neither_overlap_nor_leave_out_what_is_written_meanwhile(tmp_path: Path) -> None:
    with _fill(tmp_path / "trail") as log:
        for newest_first in (False, True):
            seen: list[int] = []
            after = None
            while True:
                page = log.page(agent_id="agent-2", limit=3, newest_first=newest_first, after=after)
                seen += [event.seq for event in page.events]
                log.append("tool.called", "agent-2", {"number": -1})  # behind what the newest first has shown
                after = page.next
                if after is None or len(seen) > 60:
                    break
            assert seen == sorted(set(seen), reverse=newest_first)
            everything = {event.seq for event in log.query(agent_id="agent-2", limit=10)}
            assert everything <= set(seen)
            if newest_first:
                break


def test_aq2_a_cursor_of_one_query_is_refused_by_another(tmp_path: Path) -> None:
    with _fill(tmp_path / "trail") as log:
        cursor = log.page(agent_id="agent-2", limit=3).next
        assert cursor is not None
        assert len(log.page(agent_id="agent-2", limit=5, after=cursor).events) == 5, "the size may change"
        with pytest.raises(InputError, match="another query"):
            log.page(agent_id="agent-3", limit=3, after=cursor)
        with pytest.raises(InputError, match="no cursor"):
            log.page(after="7")
        with pytest.raises(InputError, match="no filter `colour`"):
            log.query(colour="red")  # type: ignore[call-arg]


def test_a_record_is_found_by_its_number(tmp_path: Path) -> None:
    with _fill(tmp_path / "trail") as log:
        for seq in (0, 1, 7, 41):
            event = log.at(seq)
            assert event is not None
            assert event.seq == seq
        assert log.at(42) is None
        assert [event.seq for event in log.before(9, 2, agent_id="agent-0")] == [6, 2]


def test_ix3_a_damaged_index_is_told_and_made_again(tmp_path: Path) -> None:
    with _fill(tmp_path / "trail") as log:
        log.reindex()
        unit = tmp_path / "trail" / "index" / "000000000000.unit"
        data = bytearray(unit.read_bytes())
        data[300] ^= 1
        unit.write_bytes(data)
    with AuditLog.open(tmp_path / "trail") as log:
        page = log.page(agent_id="agent-1")
        assert page.passed_over == 1
        assert _numbers(page.events) == list(range(1, 40, 4))
        assert log.reindex().records >= 42
        assert log.page(agent_id="agent-1").passed_over == 0
        log.verify()  # the index is none of the trail's


def test_ix1_a_record_that_was_changed_is_not_answered(tmp_path: Path) -> None:
    with _fill(tmp_path / "trail") as log:
        log.reindex()
    segment = tmp_path / "trail" / "000000000000.jsonl"
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"number":13,', b'"number":31,'))
    with AuditLog.open(tmp_path / "trail") as log, pytest.raises(ChainBrokenError) as broken:
        log.query(agent_id="agent-1")
    assert broken.value.seq == 15


def test_as1_a_stream_hands_out_every_record_once_and_in_order(tmp_path: Path) -> None:
    async def follow(log: AuditLog) -> list[int]:
        seen: list[int] = []
        async with aclosing(aiter(log.stream(from_seq=2, event_type="tool.*"))) as stream:  # type: ignore[type-var]
            async for event in stream:
                assert isinstance(event, AuditEvent)
                seen.append(event.details["number"])
                if len(seen) in (40, 42):
                    await asyncio.to_thread(log.append, "tool.called", "late", {"number": len(seen)})
                    await asyncio.to_thread(log.append, "note", "late", {"number": -1})
                    await asyncio.to_thread(log.append, "tool.called", "late", {"number": len(seen) + 1})
                if len(seen) == 44:
                    break
        return seen

    with _fill(tmp_path / "trail") as log:
        assert asyncio.run(asyncio.wait_for(follow(log), 20)) == list(range(44))


def test_as3_the_loop_is_not_kept_busy_by_a_stream_whose_consumer_is(tmp_path: Path) -> None:
    turns, called = 300, 0

    async def follow(log: AuditLog) -> int:
        loop = asyncio.get_running_loop()
        add_reader = loop.add_reader

        def counted(fd: int, callback: Callable[[], object]) -> None:
            def count() -> None:
                nonlocal called
                called += 1
                callback()

            add_reader(fd, count)

        loop.add_reader = counted  # type: ignore[assignment, method-assign]
        async with aclosing(aiter(log.stream(from_seq=2))) as stream:  # type: ignore[type-var]
            async for event in stream:
                assert isinstance(event, AuditEvent)
                if event.details["number"] == 1:
                    return called
                log.append("note", "late", {"number": 1})  # the directory changes while the consumer is busy
                for _ in range(turns):
                    await asyncio.sleep(0)
        raise AssertionError("a stream has no end")

    with AuditLog.open(tmp_path / "trail", "a") as log:
        log.append("note", "early", {"number": 0})
        assert 0 < asyncio.run(asyncio.wait_for(follow(log), 20)) < turns // 5, "once for each change"


def test_as1_who_is_too_slow_is_told_exactly_what_is_missing_and_finds_it_in_the_log(tmp_path: Path) -> None:
    with _fill(tmp_path / "trail") as log:
        log.close()  # so that `head` names all
        stream = log.stream(from_seq=2, behind_max=10)
        given = stream.take()
        assert given[0] == Gap(2, 37)
        missed = given[0]
        assert isinstance(missed, Gap)
        rest = [event.seq for event in given[1:] if isinstance(event, AuditEvent)]
        assert rest == list(range(37, 42))
        assert stream.take() == []
        caught_up = [event.seq for event in log.tail(missed.first) if event.seq < missed.end]
        assert [*caught_up, *rest] == list(range(2, 42))


def test_as2_a_stream_begins_now_and_goes_on_where_another_stopped(tmp_path: Path) -> None:
    def next_of(stream: AuditStream) -> dict[str, int]:
        event = next(event for event in stream.follow() if isinstance(event, AuditEvent))
        return event.details

    with _fill(tmp_path / "trail") as log:
        stream = log.stream()
        log.append("note", "x", {"number": 1})
        assert next_of(stream) == {"number": 1}
        log.append("note", "x", {"number": 2})
        later = AuditLog.open(tmp_path / "trail").stream(from_seq=stream.next_seq)
        assert next_of(later) == {"number": 2}
