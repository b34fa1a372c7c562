"""The commands a person types, as real processes: run, explain, agents, stop, approvals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SYMBI = Path(sys.executable).with_name("symbi")
BOUND_S = 60.0

_AGENTS = """\
import symbi

@symbi.tool(name="outbox.send", attributes=["to"])
def send(to: str) -> str:
    return "sent to " + to

@symbi.agent(name="counter", limits=symbi.ResourceLimits(memory_mb=96))
async def count(ctx: symbi.AgentContext, n: int = 1) -> dict:
    return {"n": n + 1, "agent": ctx.name}

@symbi.agent(isolation="in_process")
async def sender(ctx: symbi.AgentContext, to: str) -> str:
    return await ctx.tools.call("outbox.send", {"to": to})

@symbi.agent
async def mails(ctx: symbi.AgentContext, to: str) -> str:
    print("mailing \\x1b[2J" + to)
    return await ctx.tools.call("outbox.send", {"to": to})

@symbi.agent
async def broken(ctx: symbi.AgentContext) -> None:
    raise ValueError("its own fault")
"""

_POLICY = """\
@id("mail-inside")
@message("mail goes to our own people")
permit (principal, action == Action::"tool.call", resource == Tool::"outbox.send")
when { context has call && context.call.hasTag("to") && context.call.getTag("to") == "alice" };
"""


class Shell:
    """A directory of somebody's, and a prompt in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "agents_of_mine.py").write_text(_AGENTS)
        (directory / "mail.cedar").write_text(_POLICY)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SYMBI")}

    def symbi(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SYMBI), *arguments],
            cwd=self.directory,
            env=self.environment | environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


POLICIES = ("--policy", "secure-default", "mail.cedar")
IN_PROCESS = ("run", "agents_of_mine.py:sender", "--in-process", *POLICIES)


@pytest.mark.docker
def test_ru2_run_prints_the_result_and_nothing_else_on_stdout(shell: Shell) -> None:
    done = shell.symbi("run", "agents_of_mine.py:count", "--input", '{"n": 41}', "--tier", "docker")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"n": 42, "agent": "counter"}), done.stderr
    assert "operator token" in done.stderr  # the first opening of this directory
    (shell.directory / "in.json").write_text('{"n": 1}')
    by_file = shell.symbi("run", "agents_of_mine:count", "--input", "@in.json", "--tier", "docker")
    assert json.loads(by_file.stdout)["n"] == 2, by_file.stderr
    by_stdin = shell.symbi(
        "run", "agents_of_mine.py:count", "--input", "-", "--tier", "docker", stdin='{"n": 2}'
    )
    assert json.loads(by_stdin.stdout)["n"] == 3, by_stdin.stderr


@pytest.mark.docker
def test_ru1_the_agents_file_is_not_run_by_the_host(shell: Shell) -> None:
    file = shell.directory / "witness.py"
    file.write_text(
        "import os, symbi\n"
        "try:\n    open(os.path.dirname(os.path.abspath(__file__)) + '/was-here', 'w').close()\n"
        "except OSError:\n    pass\n"  # the sandbox sees its project read-only; the host would have written
        "@symbi.agent\n"
        "async def witness(ctx) -> int:\n    return os.getuid()\n"
    )
    done = shell.symbi("run", "witness.py:witness", "--tier", "docker", "--project", ".")
    assert done.returncode == 0, done.stderr
    assert not (shell.directory / "was-here").exists()


@pytest.mark.docker
def test_an_agent_that_fails_is_a_finding_with_its_class(shell: Shell) -> None:
    failed = shell.symbi("run", "agents_of_mine.py:broken", "--tier", "docker", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["code"] == "agent.failed"
    assert "ValueError: its own fault" in failed.stderr
    assert "Traceback" not in failed.stderr.splitlines()[0]


@pytest.mark.docker
def test_ru1_tools_of_the_agents_file_are_there_when_a_person_says_so(shell: Shell) -> None:
    mails = ("run", "agents_of_mine.py:mails", "--tier", "docker", "--input", '{"to": "alice"}', *POLICIES)
    denied = shell.symbi(*mails)
    assert (denied.returncode, denied.stdout) == (1, "")
    assert "declares the tools `send`" in denied.stderr
    assert "`--tools agents_of_mine.py`" in denied.stderr
    done = shell.symbi(*mails, "--tools", "agents_of_mine.py", "--verbose")
    assert (done.returncode, done.stdout) == (0, '"sent to alice"\n'), done.stderr
    assert "imported by this process, outside any sandbox" in done.stderr
    assert "mailing ?[2Jalice" in done.stderr  # what it printed, without what a terminal would obey
    (shell.directory / "no_tools.py").write_text("1 / 0")
    broken = shell.symbi(*mails, "--tools", "no_tools.py")
    assert (broken.returncode, "ZeroDivisionError" in broken.stderr) == (2, True)
    assert shell.symbi(*mails, "--tools", "absent.py").returncode == 2


@pytest.mark.docker
def test_an_agent_in_a_weaker_tier_than_its_risk_asks_for_is_said_aloud(shell: Shell) -> None:
    done = shell.symbi("run", "agents_of_mine.py:count", "--tier", "docker", "--source", "third_party")
    assert done.returncode == 0, done.stderr
    assert "`counter` runs in tier `docker`, as was asked for" in done.stderr
    assert "`gvisor`" in done.stderr


@pytest.mark.docker
def test_se4_a_file_that_declares_otherwise_when_it_runs_is_refused(shell: Shell) -> None:
    (shell.directory / "two_faced.py").write_text(
        "import symbi\n@symbi.agent(capabilities=['a'])\nasync def f(ctx): ...\n"
        "f = symbi.agent(name='g', capabilities=['a', 'knowledge:write'])(f.function)\n"
    )
    refused = shell.symbi("run", "two_faced.py:f", "--tier", "docker")
    assert refused.returncode == 1
    assert "declares `name`, `capabilities` otherwise" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("agents_of_mine.symbi",), "not in this version"),
        (("agents_of_mine.py:absent",), "no function `absent`"),
        (("absent.py:f",), "no file `absent.py`"),
        (("agents_of_mine",), "names no agent"),
        (("agents_of_mine.py:sender",), "--in-process"),
        (("agents_of_mine.py:count", "--input", "[1]"), "JSON object"),
        (("agents_of_mine.py:count", "--input", "{"), "is not JSON"),
        (("agents_of_mine.py:count", "--input", "@absent.json"), "absent.json"),
        (("agents_of_mine.py:count", "--tier", "degraded"), "--mode development"),
        (("agents_of_mine.py:count", "--tier", "moon"), "invalid choice"),
        ((), "AGENT"),
    ],
)
def test_wrong_use_ends_with_two_and_one_clear_line(
    shell: Shell, arguments: tuple[str, ...], says: str
) -> None:
    wrong = shell.symbi("run", *arguments)
    assert wrong.returncode == 2, wrong.stderr
    assert says in wrong.stderr
    assert wrong.stdout == ""
    assert "Traceback" not in wrong.stderr


def test_ex1_rd1_a_refusal_is_explained_by_rule_place_clause_value_and_change(shell: Shell) -> None:
    done = shell.symbi(*IN_PROCESS, "--input", '{"to": "alice"}')
    assert (done.returncode, json.loads(done.stdout)) == (0, "sent to alice"), done.stderr
    denied = shell.symbi(*IN_PROCESS, "--input", '{"to": "mallory"}', "--json")
    assert denied.returncode == 1
    error = json.loads(denied.stdout)["error"]
    assert (error["class"], error["code"]) == ("PolicyDenied", "denied")
    assert f"symbi explain {error['decision_id']}" in denied.stderr
    (shell.directory / "mail.cedar").unlink()  # the policies of that time are kept beside the trail
    told = shell.symbi("explain", error["decision_id"])
    assert told.returncode == 0, told.stderr
    for piece in (
        "`mail-inside` at mail.cedar:1",
        '"mallory"',
        "to allow it: it would be allowed if",
        "no rule permits it",
    ):
        assert piece in told.stdout, told.stdout
    shape = json.loads(shell.symbi("explain", error["decision_id"], "--json").stdout)
    assert shape["policy"]["same"]
    assert (shape["decision"], shape["explanation"]["rule"], shape["explanation"]["line"]) == (
        "deny",
        "mail-inside",
        1,
    )
    other = shell.symbi("explain", error["decision_id"], "--policy", "secure-default")
    assert "not those that were in force" in other.stderr


def test_ex2_without_the_keys_the_values_stay_sealed(shell: Shell) -> None:
    denied = shell.symbi(*IN_PROCESS, "--input", '{"to": "mallory"}', "--json")
    decision = json.loads(denied.stdout)["error"]["decision_id"]
    assert "mallory" not in shell.symbi("audit", "query", "--json").stdout
    (shell.directory / ".symbi" / "trail").rename(shell.directory / "copy")
    told = shell.symbi("explain", decision, "--trail", "copy", "--data", "elsewhere")
    assert told.returncode == 0, told.stderr
    assert "its request is sealed" in told.stdout
    assert "mallory" not in told.stdout
    assert not (shell.directory / "elsewhere").exists()


def test_what_was_allowed_is_explained_by_its_rules(shell: Shell) -> None:
    assert shell.symbi(*IN_PROCESS, "--input", '{"to": "alice"}').returncode == 0
    intents = json.loads(shell.symbi("audit", "query", "--type", "operation.intent", "--json").stdout)
    for name in (intents[0]["op"], str(intents[0]["seq"])):
        shape = json.loads(shell.symbi("explain", name, "--json").stdout)
        assert (shape["decision"], shape["action"], shape["rules"][0]["id"]) == (
            "allow",
            "tool.call",
            "mail-inside",
        )
        assert shape["rules"][0]["source"] == "mail.cedar"


@pytest.mark.parametrize("wanted", ["0", "999", "nonsense", "6f0c2f51-94a7-4c6e-8b1f-1f3f0c1f7c55", "-1"])
def test_a_decision_that_is_not_there_is_wrong_use(shell: Shell, wanted: str) -> None:
    assert shell.symbi(*IN_PROCESS, "--input", '{"to": "alice"}').returncode == 0
    told = shell.symbi("explain", wanted)
    assert told.returncode == 2
    assert "Traceback" not in told.stderr
    assert shell.symbi("explain", wanted, "--data", "elsewhere").returncode == 2


_HOST = """
import asyncio, sys, symbi

BEGUN = [asyncio.Event(), asyncio.Event()]

@symbi.agent(isolation="in_process")
async def waits(ctx, number):
    BEGUN[number].set()
    await asyncio.Event().wait()

async def main():
    async with symbi.Runtime.open(data=".symbi") as rt:
        handles = [await rt.schedule_agent(waits) for _ in range(3)]
        runs = [asyncio.ensure_future(rt.run(handles[n], {"number": n})) for n in (0, 1)]
        for begun in BEGUN:
            await begun.wait()
        print("ready", flush=True)
        print([type(one).__name__ for one in await asyncio.gather(*runs, return_exceptions=True)], flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


@contextmanager
def _running(shell: Shell, program: str = _HOST) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=shell.directory,
        env=shell.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as host:
        try:
            assert host.stdout is not None
            assert host.stdout.readline() == "ready\n"
            yield host
            if host.poll() is None:
                host.communicate("\n", timeout=BOUND_S)
        finally:
            host.kill()  # after a failure; nobody waits for ever
        assert host.returncode == 0


def test_agents_are_listed_and_stopped_from_another_terminal(shell: Shell) -> None:
    with _running(shell) as host:
        rows = json.loads(shell.symbi("agents", "list", "--json").stdout)
        assert sorted(row["state"] for row in rows) == ["ready", "running", "running"]
        assert "waits" in shell.symbi("agents", "list").stdout
        (idle,) = [row["id"] for row in rows if row["state"] == "ready"]
        held = shell.symbi("agents", "suspend", "waits")
        assert (held.returncode, held.stdout.count("is asked to stand still")) == (
            1,
            2,
        )  # the third has no task
        assert "lifecycle.illegal" in held.stderr
        assert shell.symbi("agents", "why", "waits").stdout.count("`ctx.checkpoint()`") == 2
        page = shell.symbi("agents", "show", rows[0]["id"][:8]).stdout
        assert rows[0]["id"] in page
        assert shell.symbi("agents", "resume", "waits").stdout.count("goes on: it is running") == 2
        stopped = json.loads(shell.symbi("agents", "stop", idle, "--json").stdout)
        assert stopped == [{"id": idle, "name": "waits", "terminated": True}]
        graceful = shell.symbi("agents", "stop", "waits")
        assert graceful.stdout.count("by force after 30 s; --force ends it now") == 2
        forced = json.loads(shell.symbi("agents", "stop", "waits", "--force", "--json").stdout)
        assert [row["terminated"] for row in forced] == [True, True]
        assert host.stdout is not None
        assert host.stdout.readline() == "['AgentError', 'AgentError']\n"
        assert json.loads(shell.symbi("agents", "list", "--json").stdout) == []
        absent = shell.symbi("agents", "stop", "absent")
        assert (absent.returncode, "no agent `absent`" in absent.stderr) == (2, True)
        locked = shell.symbi(*IN_PROCESS, "--input", '{"to": "alice"}')
        assert (locked.returncode, "audit.locked" in locked.stderr) == (1, True)


def test_stop_all_is_the_emergency_stop(shell: Shell) -> None:
    with _running(shell):
        assert shell.symbi("stop").returncode == 2
        assert json.loads(shell.symbi("stop", "--all", "--json").stdout) == {"stopped": 3}
    brakes = json.loads(shell.symbi("audit", "query", "--type", "brake", "--json").stdout)
    assert {one["details"]["principal"] for one in brakes} == {f"operator:{os.getuid()}"}


def test_cs4_an_emergency_stop_that_ends_the_program_is_answered_too(shell: Shell) -> None:
    leaves = _HOST.replace("        await asyncio.to_thread(sys.stdin.readline)\n", "")
    with _running(shell, leaves) as host:
        stopped = shell.symbi("stop", "--all")
        assert (stopped.returncode, stopped.stdout) == (0, "stopped 3 agents\n"), stopped.stderr
        _, said = host.communicate(timeout=BOUND_S)
        assert "Traceback" not in said


@pytest.mark.parametrize(
    "command",
    [
        ("agents", "list"),
        *(("agents", verb, "x") for verb in ("show", "why", "suspend", "resume", "stop")),
        ("stop", "--all"),
    ],
)
def test_without_a_runtime_that_is_said(shell: Shell, command: tuple[str, ...]) -> None:
    none = shell.symbi(*command)
    assert (none.returncode, "no runtime is running" in none.stderr) == (1, True)


_CRASHING = """
import asyncio, os, signal, symbi

@symbi.tool(name="outbox.send", attributes=["to"])
def send(to):
    os.kill(os.getpid(), signal.SIGKILL)

@symbi.agent(isolation="in_process")
async def sender(ctx):
    await ctx.tools.call("outbox.send", {"to": "alice"})

async def main():
    async with symbi.Runtime.open(data=".symbi", policy=["secure-default", "mail.cedar"]) as rt:
        await rt.run(sender)

asyncio.run(main())
"""


def test_ca1_what_a_crash_left_unknown_is_shown_and_settled_with_the_operators_token(shell: Shell) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", _CRASHING],
        cwd=shell.directory,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert crashed.returncode == -signal.SIGKILL
    token = crashed.stderr.split("operator token ")[1].split()[0]
    (row,) = json.loads(shell.symbi("approvals", "list", "--json").stdout)
    assert (row["action"], row["resource"]) == ("tool.call", 'Tool::"outbox.send"')
    assert row["operation"] in shell.symbi("approvals", "list").stdout
    resolve = ("approvals", "resolve", row["operation"], "done")
    for environment, stdin in (({}, ""), ({"SYMBI_OPERATOR_TOKEN": "wrong"}, ""), ({}, "wrong\n")):
        refused = shell.symbi(*resolve, stdin=stdin, **environment)
        assert (refused.returncode, "operator's token" in refused.stderr) == (1, True), refused.stderr
    assert len(json.loads(shell.symbi("approvals", "list", "--json").stdout)) == 1
    done = shell.symbi(*resolve, stdin=token + "\n")
    assert (done.returncode, "is done: record" in done.stdout) == (0, True), done.stderr
    assert json.loads(shell.symbi("approvals", "list", "--json").stdout) == []
    again = shell.symbi(*resolve, SYMBI_OPERATOR_TOKEN=token)
    assert again.returncode == 2
    assert shell.symbi("audit", "verify").returncode == 0
    assert shell.symbi("approvals", "list", "--data", "elsewhere").returncode == 2
    assert not (shell.directory / "elsewhere").exists()


@pytest.mark.parametrize(
    "command",
    [
        *("run", "explain", "stop", "approvals list"),
        *(f"agents {verb}" for verb in ("list", "show", "why", "suspend", "resume", "stop")),
    ],
)
def test_every_command_has_help_with_an_example(shell: Shell, command: str) -> None:
    shown = shell.symbi(*command.split(), "--help")
    assert shown.returncode == 0
    assert f"example\n  symbi {command}" in shown.stdout
