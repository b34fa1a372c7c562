"""`symbi agents` and `symbi stop`: what they ask, what they print, how they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from symbi.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

AGENT = "9ba3d5e8-2b59-4be8-af14-58e8819d48e5"
RUN = "6f0c2f51-94a7-4c6e-8b1f-1f3f0c1f7c55"


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Types a command to a runtime that gives this answer: exit code, stdout, stderr, and what it was asked."""

    def typing(answer: Any, *arguments: str) -> tuple[int, str, str, dict[str, Any]]:
        asked: dict[str, Any] = {}

        def ask(_data: object, request: dict[str, Any]) -> Any:
            asked.update(request)
            return answer

        monkeypatch.setattr("symbi.control.ask", ask)
        try:
            code = main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err, asked

    return typing


def row(**more: Any) -> dict[str, Any]:
    return {"id": AGENT, "name": "triage", **more}


def test_ca2_one_agent_that_cannot_be_acted_on_is_a_finding_and_the_others_are_told(type_: Any) -> None:
    refused = row(error={"class": "LifecycleError", "code": "lifecycle.illegal", "message": "it is ready"})
    code, out, err, asked = type_([row(standing=True), refused], "agents", "suspend", "triage")
    assert asked == {"command": "agents.suspend", "agent": "triage"}
    assert (code, out.count("stands still")) == (1, 1)
    assert "lifecycle.illegal: it is ready" in err
    code, out, _, _ = type_([refused], "agents", "resume", AGENT, "--json")
    assert (code, json.loads(out)) == (1, [refused])


def test_one_that_does_not_stand_yet_is_told_from_one_that_does(type_: Any) -> None:
    code, out, _, _ = type_([row(standing=False)], "agents", "suspend", "triage")
    assert (code, "is asked to stand still" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        ((), {"force": False, "grace_s": 30.0}),
        (("--grace", "2.5"), {"force": False, "grace_s": 2.5}),
        (("--force",), {"force": True}),
    ],
)
def test_a_stop_has_a_grace_unless_it_is_forced(
    type_: Any, arguments: tuple[str, ...], request_: dict[str, Any]
) -> None:
    code, out, _, asked = type_([row(terminated=False)], "agents", "stop", "triage", *arguments)
    assert (code, asked) == (0, {"command": "agents.stop", "agent": "triage", **request_})
    assert "ends with its task" in out
    _, out, _, _ = type_([row(terminated=True)], "agents", "stop", "triage", *arguments)
    assert out == f"triage {AGENT}: terminated\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("agents", "stop", "x", "--grace", "soon"),
        ("agents", "stop", "x", "--grace", "1", "--force"),
        ("agents", "show"),
        ("agents", "why"),
        ("agents",),
        ("stop",),
    ],
)
def test_wrong_use_ends_with_two(type_: Any, arguments: tuple[str, ...]) -> None:
    code, out, err, asked = type_([], *arguments)
    assert (code, out, asked) == (2, "", {})
    assert "--help" in err


def test_why_prints_the_sentence(type_: Any) -> None:
    code, out, _, asked = type_(
        [row(state="running", reason="running", text="it runs")], "agents", "why", AGENT
    )
    assert (code, out) == (0, f"triage {AGENT}: it runs\n")
    assert asked["command"] == "agents.why"


def test_a_list_shows_what_there_is_and_no_empty_columns(type_: Any) -> None:
    agent = row(state="ready", kind="python", isolation="sandbox", tier="gvisor", labels=["phi"], run=None)
    code, out, err, _ = type_([agent], "agents", "list")
    head, _, line = out.splitlines()
    assert head.split() == ["name", "state", "kind", "isolation", "tier", "labels", "id"]
    assert line.split() == ["triage", "ready", "python", "sandbox", "gvisor", "phi", AGENT]
    assert (code, err) == (0, "1 agent\n")
    assert type_([], "agents", "list")[:3] == (0, "", "0 agents\n")


def test_show_puts_one_agent_on_a_page(type_: Any) -> None:
    agent = row(
        state="suspended",
        kind="python",
        isolation="sandbox",
        tier="docker",
        tenant="ward\x1b[2J",
        labels=["phi"],
        limits={"memory_mb": 64},
        capabilities=[],
        below_assessment=True,
        assessed_tier="gvisor",
        risk_score=0.5,
        stopping=True,
        why={"state": "suspended", "reason": "held", "text": "an operator holds it"},
        runs=[
            {
                "run": RUN,
                "state": "running",
                "tier": "interactive",
                "priority": 128,
                "timeout_s": 30.0,
                "deadline_s": None,
                "labels": ["phi"],
                "begun_us": 1_700_000_000_000_000,
                "asked_to_stand": True,
            }
        ],
        errors=[{"code": "timeout", "count": 2, "last_us": 1_700_000_000_000_000}],
        sandbox={
            "runtime": "runc",
            "container": "c" * 64,
            "kernel": "Linux 6.1",
            "mounts": ["/a:/a:ro"],
            "unenforced": [],
        },
        usage={"memory_bytes": 60 << 20, "cpu_time_us": 1_234_567, "processes": 31, "read_bytes": None},
    )
    code, out, _, _ = type_([agent], "agents", "show", "triage")
    assert code == 0
    page = {line.partition("  ")[0].strip(): line.partition("  ")[2].strip() for line in out.splitlines()}
    assert page["state"] == "suspended, stopping"
    assert page["why"] == "an operator holds it"
    assert page["tier"] == "docker (weaker than gvisor, which its risk of 0.5 asks for)"
    assert page["tenant"] == "ward?[2J"
    assert page["limits"] == "memory_mb 64"
    assert page["run"].startswith(f"{RUN} running since 2023-11-1")
    assert page["run"].endswith("interactive 128, asked to stand still, timeout_s 30, carries phi")
    assert page["error"].startswith("timeout, 2 times, last 2023-11-1")
    assert page["sandbox"] == "runc cccccccccccc, Linux 6.1"
    assert page["uses"] == "60 MiB of memory, 1,234 ms of processor time, 31 processes and threads"
    assert "capabilities" not in out
    assert "\x1b" not in out


def test_stop_all_says_how_many(type_: Any) -> None:
    assert type_({"stopped": 3}, "stop", "--all")[:2] == (0, "stopped 3 agents\n")
    assert json.loads(type_({"stopped": 0}, "stop", "--all", "--json")[1]) == {"stopped": 0}
