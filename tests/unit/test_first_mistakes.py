"""The mistakes that a first script makes are answered by the line that mends them."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import symbi
from symbi.agents import session, worker
from symbi.agents.context import AgentTools
from symbi.agents.shapes import payload_of
from symbi.policy.sources import read_policies


def test_td2_a_tool_called_plainly_inside_a_worker_names_the_call_to_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @symbi.tool
    def look_up_a_first_mistake(patient: str) -> str:
        return patient

    assert look_up_a_first_mistake("p-1") == "p-1"  # outside, for its own tests
    monkeypatch.setitem(sys.modules, "_symbi_agent", types.ModuleType("_symbi_agent"))
    with pytest.raises(symbi.InputError, match=r'await ctx\.tools\.call\("look_up_a_first_mistake"'):
        look_up_a_first_mistake("p-1")


def test_a_tool_taken_for_a_method_names_the_call_to_write() -> None:
    tools = AgentTools(object())  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match=r'await ctx\.tools\.call\("lookup"'):
        _ = tools.lookup


def test_a_file_that_opens_a_runtime_when_it_is_imported_is_told_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symbi, "Runtime", symbi.Runtime)  # so that what `load` puts there is taken away again
    monkeypatch.setitem(sys.modules, "_symbi_agent", types.ModuleType("_symbi_agent"))
    file = tmp_path / "triage.py"
    file.write_text("import symbi\nsymbi.Runtime.open()\n")
    with pytest.raises(symbi.InputError, match="__main__"):
        worker.load(str(file), "triage")


@pytest.mark.parametrize(
    ("kind", "mend"),
    [("ModuleNotFoundError", "project="), ("FileNotFoundError", "mounts="), ("gaierror", "@symbi.tool")],
)
def test_what_a_sandbox_lacks_is_answered_by_how_to_get_it(kind: str, mend: str) -> None:
    failure = session._failure({"kind": kind, "message": "no", "text": "Traceback\n  File\x1b[31m"})
    notes = failure.__notes__
    assert notes[0] == "in the agent:"
    assert "\x1b" not in "".join(notes)
    assert mend in notes[-1]


def test_a_traceback_of_an_agent_begins_in_its_own_file(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import symbi\n\ndef inner():\n    return {}['gone']\n\ninner()\n")
    with pytest.raises(KeyError) as caught:
        worker.load(str(file), "triage", inside=False)
    lines = worker.traceback_of(caught.value.with_traceback(caught.tb.tb_next)).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{file}", line 6, in <module>'
    assert lines[-1] == "KeyError: 'gone'"
    assert "worker.py" not in "".join(lines)
    file.write_text("")
    with pytest.raises(symbi.InputError) as unfit:
        worker.load(str(file), "triage", inside=False)
    told = worker.traceback_of(unfit.value.with_traceback(unfit.tb.tb_next))
    assert told.startswith("symbi.errors.InputError: "), "a refusal of ours has no frames of his"


def test_a_denial_says_how_to_ask_why() -> None:
    denied = symbi.PolicyDenied("not allowed", decision_id="d-1")
    assert denied.__notes__ == ["why: `symbi explain d-1`"]


def test_ps1_a_directory_without_a_policy_is_an_error_and_not_an_empty_set(tmp_path: Path) -> None:
    with pytest.raises(symbi.PolicyError, match=r"holds no `\*\.cedar`"):
        read_policies([tmp_path])
    with pytest.raises(symbi.PolicyError, match="there is no policy"):
        read_policies([tmp_path / "secure_default"])


def test_ps2_the_built_in_set_can_be_named_beside_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.cedar").write_text("permit (principal, action, resource);")
    texts = read_policies(["secure-default", "mine.cedar"])
    assert [name for name, _ in texts.sources] == ["secure-default", "mine.cedar"]
    assert "host-runs-agents" in texts.sources[0][1]
    (tmp_path / "secure-default").mkdir()
    (tmp_path / "secure-default" / "own.cedar").write_text("permit (principal, action, resource);")
    assert [Path(name).name for name, _ in read_policies(["secure-default"]).sources] == ["own.cedar"]


def test_a_dataclass_is_answered_by_the_call_that_makes_it_sendable() -> None:
    from dataclasses import dataclass

    from symbi.agents.channel import encode

    @dataclass
    class Answer:
        urgent: bool

    with pytest.raises(TypeError, match=r"`Answer` cannot be sent.*dataclasses\.asdict"):
        encode({"value": Answer(urgent=True)})


def test_a_runtime_that_is_not_open_yet_is_answered_by_the_line_that_opens_it(tmp_path: Path) -> None:
    runtime = symbi.Runtime.open(data=tmp_path / "d")
    for name in ("bus", "tools", "context", "rag", "approvals", "keys", "kernel"):
        with pytest.raises(symbi.RuntimeClosedError, match=r"`async with symbi\.Runtime\.open\(\) as rt:`"):
            getattr(runtime, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = runtime.nothing  # type: ignore[attr-defined]
    with pytest.raises(symbi.InputError, match=r"write `async with"), runtime:  # type: ignore[attr-defined]
        pass
    assert not (tmp_path / "d").exists()


def test_an_argument_of_the_wrong_kind_is_named_with_what_it_takes(tmp_path: Path) -> None:
    for policy in (5, [5], ["a.cedar", None]):
        with pytest.raises(symbi.InputError, match="`policy` is a path or a list of paths"):
            symbi.Runtime.open(data=tmp_path, policy=policy)  # type: ignore[arg-type]
    with pytest.raises(symbi.InputError, match="`data` is the path of a directory, not a int"):
        symbi.Runtime.open(data=5)  # type: ignore[arg-type]
    with pytest.raises(symbi.InputError, match=r"is a `symbi\.Task`, not a str"):
        symbi.Scheduler([1]).submit("a task")  # type: ignore[arg-type]
    with (
        symbi.AuditLog.open(tmp_path / "log", "a") as log,
        pytest.raises(symbi.InputError, match="by its number, or as `query` gave it, not by a str"),
    ):
        log.prove("3")  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_bound_that_is_no_number_is_refused_by_name(tmp_path: Path) -> None:
    @symbi.agent(isolation="in_process")
    async def triage() -> None: ...

    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        with pytest.raises(symbi.InputError, match=r"`timeout_s` is more than 0 .* and is '5'"):
            await rt.run(triage, timeout_s="5")  # type: ignore[arg-type]
        with pytest.raises(symbi.InputError, match="`priority` is 0 to 255, and is 'high'"):
            await rt.run(triage, priority="high")  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_without_an_engine_the_way_to_develop_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")

    async def triage() -> None: ...

    triage.__qualname__ = "triage"  # as it would be at the top level of its file
    agent = symbi.AgentConfig(name="triage", function=triage)
    async with symbi.Runtime.open(data=tmp_path / ".symbi") as rt:
        with pytest.raises(symbi.SandboxUnavailableError) as caught:
            await rt.schedule_agent(agent)
    assert 'tier="degraded"' in caught.value.__notes__[-1]


def test_what_an_agent_does_not_take_is_refused_by_name_with_what_it_takes() -> None:
    async def triage() -> None: ...

    with pytest.raises(symbi.InputError, match=r"`memory` is not an argument.*`limits`"):
        symbi.agent(memory=64)(triage)
    with pytest.raises(symbi.InputError, match=r"symbi\.ResourceLimits\(memory_mb="):
        symbi.agent(limits={"memory_mb": 64})(triage)  # type: ignore[arg-type]


def test_a_text_as_a_payload_is_answered_by_how_to_send_it() -> None:
    with pytest.raises(symbi.InputError, match=r"text\.encode\(\)"):
        payload_of("hello")


@pytest.mark.asyncio
async def test_an_input_that_is_no_mapping_is_answered_by_its_shape(tmp_path: Path) -> None:
    @symbi.agent(isolation="in_process")
    async def triage(ticket: str) -> str:
        return ticket

    async with symbi.Runtime.open(data=tmp_path / ".symbi") as rt:
        with pytest.raises(symbi.InputError, match=r"give a dict.*not a str"):
            await rt.run(triage, "hello")  # type: ignore[arg-type]


def test_td2_a_host_that_imports_an_agents_file_is_not_taken_for_a_worker(tmp_path: Path) -> None:
    @symbi.tool(name="mistakes.double")
    def double(value: int) -> int:
        return 2 * value

    file = tmp_path / "mine.py"
    file.write_text("import symbi\n\n@symbi.agent\nasync def triage() -> None: ...\n")
    worker.load(str(file), "triage", inside=False)
    assert double(2) == 4
