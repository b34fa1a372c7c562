"""`symbi audit erase` and `hold`: what they ask, tell, and leave."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


async def _quiet(note: str) -> str:
    return note


@pytest.fixture
def data(tmp_path: Path) -> Path:
    async def fill() -> None:
        async with symbi.Runtime.open(data=tmp_path / "d") as rt:
            agent = await rt.schedule_agent(
                symbi.AgentConfig(name="asked", function=_quiet, isolation="in_process")
            )
            await rt.run(agent, {"note": "x"}, subject=["ann", "bob"])

    asyncio.run(fill())
    return tmp_path / "d"


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


def _keys(data: Path) -> int:
    return sum(path.is_file() for path in (data / "keys" / "subjects").iterdir())


def test_cx1_nothing_is_erased_without_yes_or_a_person_who_has_typed_it(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    erase = ("audit", "erase", "--data", str(data), "--subject", "ann")
    code, out, _ = _run(capsys, *erase, "--dry-run", "--json")
    assert (code, json.loads(out)[0]["held"], _keys(data)) == (0, False, 2)
    monkeypatch.setattr(sys, "stdin", io.StringIO("ann\n"))
    code, _, err = _run(capsys, *erase)
    assert (code, _keys(data)) == (2, 2), "CX1: nobody can answer"
    assert "--yes" in err
    typed = io.StringIO("anna\n")
    monkeypatch.setattr(typed, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", typed)
    assert _run(capsys, *erase)[0] == 1
    assert _keys(data) == 2
    code, out, _ = _run(capsys, *erase, "--yes")
    assert (code, _keys(data)) == (0, 1)
    assert "is erased: its key" in out
    assert "ann" not in out, "named by pseudonym alone"
    code, _, err = _run(capsys, *erase, "--yes")
    assert code == 2
    assert "nothing is known" in err


def test_a_query_takes_the_name_and_shows_what_is_erased(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def note() -> None:
        async with symbi.Runtime.open(data=data) as rt:
            agent = await rt.schedule_agent(
                symbi.AgentConfig(name="noter", function=_quiet, isolation="in_process")
            )
            await rt.run(agent, {"note": "x"}, subject="ann")
            await rt.dispatcher.call(agent.id, "log.note", {"text": "hers"})

    asyncio.run(note())
    query = ("audit", "query", "--data", str(data), "--type", "agent.note", "--subject")
    code, out, _ = _run(capsys, *query, "ann")
    assert (code, '"sealed":"sealed"' in out) == (0, True)
    (pseudonym,) = json.loads(_run(capsys, *query, "ann", "--json")[1])[0]["subjects"]
    assert _run(capsys, "audit", "erase", "--data", str(data), "--subject", "ann", "--yes")[0] == 0
    assert '"sealed":"erased"' in _run(capsys, *query, pseudonym)[1]


def test_a_hold_is_placed_listed_refuses_and_is_ended(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold = ("audit", "hold", "--data", str(data))
    assert _run(capsys, *hold, "--subject", "ann", "--reason", "case 12")[0] == 0
    code, out, _ = _run(capsys, *hold, "--persons", "--json")
    (row,) = json.loads(out)
    assert (code, row["name"], row["reason"]) == (0, "ann", "case 12")
    code, _, err = _run(capsys, "audit", "erase", "--data", str(data), "--subject", "ann", "--yes")
    assert (code, _keys(data)) == (1, 2)
    assert "legal hold" in err
    assert _run(capsys, *hold, "--subject", "ann", "--release")[0] == 0
    assert _run(capsys, *hold, "--persons")[0] == 0
    assert _run(capsys, "audit", "erase", "--data", str(data), "--subject", "ann", "--yes")[0] == 0


def test_pe1_an_erasure_is_over_when_its_answer_comes(data: Path) -> None:
    async def erase() -> None:
        async with symbi.Runtime.open(data=data) as rt:
            (erased,) = await rt.persons.erase("bob", by="operator:0")
            assert erased.seq is not None
            assert erased.seq < rt.kernel.durable()
            assert _keys(data) == 1

    asyncio.run(erase())


def test_ak1_without_a_runtime_the_configured_policies_decide(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = tmp_path / "closed.cedar"
    closed.write_text('permit (principal, action, resource) unless { action == Action::"data.erase" };')
    config = tmp_path / "closed.toml"
    config.write_text(f'[policy]\npaths = ["{closed}"]\n')
    hold = ("audit", "hold", "--data", str(data), "--reason", "case 12")
    assert _run(capsys, *hold, "--config", str(config))[0] == 1
    assert _run(capsys, *hold)[0] == 0
