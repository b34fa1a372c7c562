"""What an agent is: its declaration, how it is read without being run, where its input goes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.agents.definition import bind, declared, definition_of, worker_target
from symbi.agents.entry import FILE_BYTES_MAX, Entry, asks_in_process, find, read

if TYPE_CHECKING:
    from collections.abc import Callable


@symbi.agent(name="at-the-top")
async def at_the_top(ctx: symbi.AgentContext, ticket: str, urgent: bool = False) -> str:
    return f"{ticket} {urgent} {ctx.name}"


async def _no_agent() -> None: ...


def test_a_decorated_function_is_still_called_as_it_was() -> None:
    assert at_the_top.config.function is at_the_top.function
    with pytest.raises(TypeError, match="ticket"):
        at_the_top()


def test_a_function_that_is_not_async_is_refused_where_it_is_declared() -> None:
    with pytest.raises(symbi.InputError, match="`async def`"):

        @symbi.agent
        def plain() -> None: ...


@pytest.mark.parametrize("name", ["", "x" * 129, "line\nbreak"])
def test_a_name_is_one_to_128_printable_characters(name: str) -> None:
    with pytest.raises(symbi.InputError, match="name"):
        symbi.AgentConfig(name=name, program=("true",))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"function": _no_agent, "program": ("true",)},
        {"entry": ("a.py", "f"), "program": ("true",)},
        {"entry": ("a.py", "f"), "function": _no_agent},
    ],
)
def test_an_agent_has_exactly_one_body(fields: dict[str, Any]) -> None:
    with pytest.raises(symbi.InputError, match="exactly one"):
        symbi.AgentConfig(name="x", **fields)


@pytest.mark.parametrize("entry", [("a.py", "not a name"), ("a.py",), "a.py"])
def test_an_entry_is_a_file_and_a_name(entry: Any) -> None:
    with pytest.raises(symbi.InputError, match="pair"):
        symbi.AgentConfig(name="x", entry=entry)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"program": ("true",)}, "needs a sandbox"),
        ({"entry": ("a.py", "f")}, "needs a sandbox"),
        (
            {"function": _no_agent, "limits": symbi.ResourceLimits(memory_mb=64)},
            "`memory_mb` cannot be enforced",
        ),
        (
            {"function": _no_agent, "limits": symbi.ResourceLimits(cpu_cores=1)},
            "`cpu_cores` cannot be enforced",
        ),
        ({"function": _no_agent, "tier": "gvisor"}, "`tier`"),
    ],
)
def test_what_a_coroutine_of_the_host_cannot_hold_is_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(symbi.InputError, match=match):
        symbi.AgentConfig(name="x", isolation="in_process", **fields)


def test_the_time_limit_can_be_held_in_the_hosts_process() -> None:
    limits = symbi.ResourceLimits(execution_timeout_s=1)
    assert (
        symbi.AgentConfig(name="x", function=_no_agent, isolation="in_process", limits=limits).limits
        == limits
    )


def test_g1_a_function_at_the_top_of_a_file_is_found_again() -> None:
    assert worker_target(at_the_top.config) == (Path(__file__).resolve(), "at_the_top")


def test_g1_a_function_inside_another_is_refused_with_the_line_that_mends_it() -> None:
    @symbi.agent
    async def inner() -> None: ...

    with pytest.raises(
        symbi.InputError, match=r'top level of a file.*@symbi\.agent\(isolation="in_process"\)'
    ):
        worker_target(inner.config)


def test_g1_a_function_of_a_repl_is_refused_with_the_line_that_mends_it() -> None:
    space: dict[str, Any] = {"symbi": symbi}
    exec(compile("@symbi.agent\nasync def typed(): ...", "<stdin>", "exec"), space)  # noqa: S102 - as a REPL does
    with pytest.raises(symbi.InputError, match=r'not in a file.*isolation="in_process"'):
        worker_target(space["typed"].config)


def test_what_is_no_agent_is_refused_with_the_line_that_mends_it() -> None:
    with pytest.raises(symbi.InputError, match=r"`@symbi\.agent` above its `async def`"):
        definition_of(_no_agent)
    with pytest.raises(symbi.InputError, match="a int is not an agent"):
        definition_of(3)


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    context = symbi.AgentContext(object(), agent_id="", name="bound", run_id="")  # type: ignore[arg-type]
    coroutine = bind(function, context, arguments)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return ended.value.value


def test_input_binds_by_name_and_the_context_goes_first() -> None:
    assert _call(at_the_top.function, {"urgent": True, "ticket": "t"}) == "t True bound"


@pytest.mark.parametrize("arguments", [{}, {"ticket": "t", "other": 1}, {"ticket": "t", "ctx": 1}])
def test_input_that_does_not_fit_names_what_the_agent_takes(arguments: dict[str, Any]) -> None:
    with pytest.raises(symbi.InputError, match="it takes ticket, urgent"):
        _call(at_the_top.function, arguments)


_FILE = """\
import symbi
raise SystemExit("this file was run")

@symbi.agent(
    name="triage", capabilities=["tool:git_log"], limits=symbi.ResourceLimits(memory_mb=64, cpu_cores=0.5),
    inputs={"personal"}, tier="docker", external_apis=("mail",), requires_filesystem=True,
)
async def triage(ctx, ticket): ...

@symbi.agent
async def plain(ctx): ...

async def bare(ctx): ...

@symbi.agent
def wrong(ctx): ...

NAME = "x"

@symbi.agent(name=NAME)
async def computed(ctx): ...

@symbi.agent(source="builtin")
async def trusting(ctx): ...

@symbi.agent(mounts=["/"])
async def greedy(ctx): ...

@symbi.agent(**{})
async def starred(ctx): ...

@symbi.agent(limits=make())
async def made(ctx): ...

@symbi.agent(limits=symbi.ResourceLimits(memory_mb=1))
async def small(ctx): ...

@symbi.agent(isolation="in_process")
async def here(ctx): ...

@symbi.agent(tier="moon")
async def far(ctx): ...

@symbi.agent(tier="degraded", tier_min="gvisor")
async def both(ctx): ...

@symbi.agent(tierr="docker")
async def mistyped(ctx): ...
"""


@pytest.fixture
def agents_file(tmp_path: Path) -> Path:
    file = tmp_path / "agents_file.py"
    file.write_text(_FILE)
    return file


def test_en1_a_file_is_read_without_being_run(agents_file: Path) -> None:
    config = read(Entry(agents_file, "triage"))
    assert declared(config) == {
        "name": "triage",
        "capabilities": ["tool:git_log"],
        "limits": {"memory_mb": 64, "cpu_cores": 0.5},
        "inputs": ["personal"],
        "requires_network": False,
        "requires_filesystem": True,
        "external_apis": ["mail"],
    }
    assert config.entry == (str(agents_file), "triage")
    assert read(Entry(agents_file, "plain")).name == "plain"
    assert "agents_file" not in sys.modules


def test_en2_the_tier_that_a_file_names_only_raises_it(agents_file: Path) -> None:
    config = read(Entry(agents_file, "triage"))
    assert (config.tier, config.tier_min) == (None, "docker")
    assert read(Entry(agents_file, "both")).tier_min == "gvisor"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("bare", r"`@symbi\.agent` above"),
        ("wrong", "`async def`"),
        ("absent", "no function `absent`"),
        ("computed", "line 20: `name` is not written as a literal"),
        ("trusting", "`source` is not the file's to say"),
        ("greedy", "`mounts` is not the file's to say"),
        ("mistyped", "line 47: `tierr` is not an argument of `@symbi.agent`: did you mean `tier`"),
        ("starred", "name by name"),
        ("made", "ResourceLimits"),
        ("small", "`memory_mb` must be 16"),
        ("far", "`moon` is not a tier"),
    ],
)
def test_en1_what_cannot_be_read_is_refused_by_its_line(agents_file: Path, name: str, match: str) -> None:
    with pytest.raises(symbi.InputError, match=match):
        read(Entry(agents_file, name))


def test_en2_a_file_that_wants_the_hosts_process_is_noticed(agents_file: Path) -> None:
    assert asks_in_process(Entry(agents_file, "here"))
    assert not asks_in_process(Entry(agents_file, "triage"))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"def (", "not Python, line 1"),
        (b"x = '\xff'", "UTF-8"),
        (b"\0", "not Python"),
        (b"#" * (FILE_BYTES_MAX + 1), "more than"),
        (b"x = " + b"(" * 50_000, "not Python|too deep"),
        (b"x = " + b"-" * 200_000 + b"1", "not Python|too deep"),
    ],
)
def test_en1_a_hostile_file_is_one_clear_error(tmp_path: Path, content: bytes, match: str) -> None:
    file = tmp_path / "hostile.py"
    file.write_bytes(content)
    with pytest.raises(symbi.InputError, match=match):
        read(Entry(file, "f"))


def test_an_agent_is_found_by_file_and_by_module_and_nothing_is_imported(tmp_path: Path) -> None:
    package = tmp_path / "mail"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "triage.py").write_text("raise SystemExit('imported')")
    assert find("mail/triage.py:f", tmp_path) == Entry(package.resolve() / "triage.py", "f")
    by_module = find("mail.triage:f", tmp_path)
    assert (by_module.file, by_module.project) == (package.resolve() / "triage.py", tmp_path.resolve())


@pytest.mark.parametrize(
    "agent", ["triage", "triage.py", ":f", "a.py:", "a.py:1f", "a b:f", "no.such.module:f", "no.py:f"]
)
def test_a_name_that_leads_to_no_agent_is_refused(agent: str, tmp_path: Path) -> None:
    with pytest.raises(symbi.InputError):
        find(agent, tmp_path)


@pytest.mark.parametrize("agent", ["triage.symbi", "triage.symbi:main"])
def test_an_agent_of_the_language_to_come_is_refused_by_that_reason(agent: str) -> None:
    with pytest.raises(symbi.NotBuiltError, match="not in this version"):
        find(agent)
