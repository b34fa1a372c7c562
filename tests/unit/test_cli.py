"""The command line finds one command, keeps stdout for data, and ends with a code that a script can rely on."""

from __future__ import annotations

import argparse
import errno
import inspect
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi import errors
from symbi.cli import exits, frame, main, output

if TYPE_CHECKING:
    from collections.abc import Iterator

CODES = (exits.DONE, exits.FINDING, exits.USE, exits.FAULT)


def symbi_command(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A whole process, as a user starts it."""
    program = "import sys; from symbi.cli.main import main; sys.exit(main())"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SYMBI")}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, env={**clean, **(environ or {})}
    )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A command of the table whose body a test gives."""
    body = types.SimpleNamespace(run=lambda _options: 0)
    module = types.ModuleType("symbi.cli.demo")

    def register(subparsers: frame.Subparsers) -> None:
        parser = frame.add_command(
            subparsers,
            "demo",
            summary="a body",
            example="symbi demo",
            run=lambda options: body.run(options),  # noqa: PLW0108 - looked up when called: tests replace it
        )
        parser.add_argument("--count", type=int)

    module.register = register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "symbi.cli.demo", module)
    monkeypatch.setattr(main, "available", lambda: ["demo", "config"])
    return body


def raising(error: BaseException) -> object:
    def run(_options: object) -> int:
        raise error

    return run


def test_help_lists_only_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """CL4."""
    assert main.main(["--help"]) == 0
    listed = capsys.readouterr().out
    here = {path.stem for path in Path(main.__file__).parent.glob("*.py")}
    for name, (module, summary) in main.COMMANDS.items():
        assert (summary in listed) == (module in here), name


def test_help_imports_no_command_and_no_parser() -> None:
    """CL1: the budget of --help is spent on nothing else."""
    program = (
        "import sys; from symbi.cli.main import main; main(['--help']);"
        "print(sorted(name for name in sys.modules if name.startswith('symbi') or name == 'argparse'))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30
    )
    assert ran.stdout.splitlines()[-1] == str(["symbi", "symbi.cli", "symbi.cli.main"])


def test_import_symbi_loads_neither_asyncio_nor_the_native_core() -> None:
    program = (
        "import sys, symbi; print(*sorted({'asyncio', 'symbi._core', 'dataclasses'} & set(sys.modules)))"
    )
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(Path(symbi.__file__).parents[1])!r}); {program}",
    ]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    assert ran.stdout.strip() == ""


def test_a_command_imports_no_other() -> None:
    """CL1."""
    program = (
        "import sys; from symbi.cli.main import main; main(['config', 'show']);"
        "print(*sorted(name for name in sys.modules if name.startswith('symbi.cli.')), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30
    )
    loaded = set(ran.stderr.splitlines()[-1].split())
    assert loaded == {f"symbi.cli.{name}" for name in ("config", "exits", "frame", "main", "output")}


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A command, or the verbs of one that has verbs."""
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for verb in group.choices.values():
            yield from _leaves(verb)


def _parser(name: str) -> argparse.ArgumentParser:
    top = frame.Parser(prog="symbi", add_help=False)
    import_module(f"symbi.cli.{main.COMMANDS[name][0]}").register(top.add_subparsers(dest="command"))
    return top


@pytest.mark.parametrize("name", main.available())
def test_cf1_every_command_and_verb_has_an_example_and_each_example_is_taken(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([name, "--help"]) == 0
    shown = capsys.readouterr()
    assert f"example\n  symbi {name}" in shown.out
    assert shown.err == ""
    for leaf in _leaves(_parser(name)):
        assert {"--data", "--config"} <= set(leaf._option_string_actions), leaf.prog
        head, _, examples = (leaf.epilog or "").partition("example\n")
        assert head == "", leaf.prog
        lines = [line.strip() for line in examples.splitlines() if line.strip()]
        assert any(leaf.prog in line for line in lines), f"{leaf.prog} has no example"
        for line in lines:  # what a shell would make of it, up to what is no word of ours
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split, lexer.commenters = True, ""
            words = list(lexer)
            while "symbi" in words:
                words = words[words.index("symbi") + 1 :]
                end = next((n for n, word in enumerate(words) if set(word) <= set("|&;<>")), len(words))
                _parser(words[0]).parse_args(words[:end])  # ends the test where an option is not there


def test_every_command_has_the_common_options(command: types.SimpleNamespace) -> None:
    """CF1."""
    seen = []
    command.run = lambda options: seen.append(options) or 0
    assert main.main(["demo", "--data", "d", "--config", "c.toml", "--json"]) == 0
    assert main.main(["demo"]) == 0
    assert (seen[0].data, seen[0].config, seen[0].json) == (Path("d"), Path("c.toml"), True)
    assert (seen[1].data, seen[1].config, seen[1].json) == (Path(".symbi"), None, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dem"], "did you mean `symbi demo`?"),
        (["zzzz"], "`symbi --help` lists the commands"),
        (["up"], "the command `up` does not exist in this version"),
        (["--data", "x", "demo"], "`--data` stands before a command"),
        (["demo", "--cou", "3"], "unrecognized arguments: --cou 3"),
        (["demo", "--count", "three"], "invalid int value"),
        (["\x1b[2Jdemo\n"], "unknown command `?[2Jdemo?`"),
        (["demo", "\x1b[2J"], "unrecognized arguments: ?[2J"),
    ],
)
def test_wrong_use_ends_with_2_and_says_how(
    command: types.SimpleNamespace, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """CL2, CL3, CL4: stdout stays empty."""
    assert main.main(arguments) == exits.USE
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


def test_no_argument_shows_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 0
    assert "usage: symbi COMMAND" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"symbi {symbi.__version__}\n"


def test_the_table_of_exit_codes_covers_every_error() -> None:
    """CE1, both ways: no class without a code, no code without a class."""
    classes = [
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SymbiError)
    ]
    assert {kind.__name__ for kind in classes} == set(errors.__all__)
    codes = {vars(kind)["code"] for kind in classes}
    denials = {"denied", "needs_approval", "over_budget", "rate_limited", "unavailable", "no_principal"}
    denials |= {"suspended", "cancelled"}
    assert codes | denials == set(exits.EXITS)
    assert set(exits.EXITS.values()) <= set(CODES) - {exits.DONE}


def test_a_denial_ends_with_1_and_says_how_to_ask_why(
    command: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run = raising(
        errors.PolicyDenied("no personal data leaves", code="needs_approval", decision_id="d-17")
    )
    assert main.main(["demo"]) == exits.FINDING
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[0] == "symbi: needs_approval: no personal data leaves"
    assert "`symbi explain d-17`" in shown.err
    assert "`symbi approvals list`" in shown.err


def test_an_error_is_one_printable_line_with_its_notes_below(
    command: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """CE2."""
    error = errors.ToolError("first\x1b[2J\nsecond \u202e")
    error.add_note("mend\r it")
    command.run = raising(error)
    assert main.main(["demo"]) == exits.FINDING
    assert capsys.readouterr().err == "symbi: tool: first [2J second\n  mend  it\n"


def test_a_subclass_ends_as_its_class_does() -> None:
    class OwnError(errors.AuditError):
        code = "audit.own"

    assert exits.exit_code(OwnError("x")) == exits.EXITS["audit"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            FileNotFoundError(errno.ENOENT, "x", "gone.json"),
            exits.USE,
            "symbi: io.enoent: no such file or directory: `gone.json`",
        ),
        (
            PermissionError(errno.EACCES, "x", "shut"),
            exits.FINDING,
            "symbi: io.eacces: permission denied: `shut`",
        ),
        (
            OSError(errno.ENOSPC, "x", "log"),
            exits.FINDING,
            "symbi: io.enospc: no space left on device: `log`",
        ),
        (
            OSError(errno.ENOSPC, "x"),  # as stdout has it: no name
            exits.FINDING,
            "symbi: io.enospc: no space left on device: where this was to be written",
        ),
        (OSError(errno.ENOENT, "x"), exits.FAULT, "symbi: fault: FileNotFoundError"),
        (RuntimeError("odd"), exits.FAULT, "symbi: fault: RuntimeError: odd"),
        (errors.PermitError("used twice"), exits.FAULT, "symbi: permit.invalid: used twice"),
    ],
)
def test_what_is_not_our_fault_is_told_from_what_is(
    command: types.SimpleNamespace, error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """CL3."""
    command.run = raising(error)
    assert main.main(["demo"]) == code
    assert capsys.readouterr().err.startswith(said)


def test_a_traceback_is_shown_only_when_asked_for(
    command: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CE3."""
    command.run = raising(RuntimeError("odd"))
    main.main(["demo"])
    quiet = capsys.readouterr().err
    assert "Traceback" not in quiet
    assert "SYMBI_TRACEBACK=1" in quiet
    monkeypatch.setenv("SYMBI_TRACEBACK", "1")
    main.main(["demo"])
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_ends_with_130(
    command: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """CL3."""
    command.run = raising(KeyboardInterrupt())
    assert main.main(["demo"]) == 128 + signal.SIGINT
    assert capsys.readouterr().err == "symbi: interrupted\n"


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    """CL3: `symbi … | head` prints no traceback, not even at exit."""
    reading, writing = os.pipe()
    os.close(reading)
    program = "import sys; from symbi.cli.main import main; sys.exit(main(['config', 'show', '--json']))"
    ran = subprocess.run(
        [sys.executable, "-c", program], check=False, stdout=writing, stderr=subprocess.PIPE, timeout=30
    )
    os.close(writing)
    assert ran.returncode == 128 + signal.SIGPIPE
    assert b"Traceback" not in ran.stderr
    assert b"BrokenPipe" not in ran.stderr


def test_a_configuration_error_ends_with_2_and_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "symbi.toml"
    file.write_text("[runtime]\nmodus = 1\n")
    ran = symbi_command("config", "show", "--config", str(file))
    assert (ran.returncode, ran.stdout) == (exits.USE, "")
    assert f"symbi: config.invalid: {file}:2: unknown key `runtime.modus`" in ran.stderr


def test_config_show_names_the_place_of_every_value(tmp_path: Path) -> None:
    file = tmp_path / "symbi.toml"
    file.write_text("[security]\ncrypto_provider = 'ring'\n")
    ran = symbi_command(
        "config", "show", "--origin", "--config", str(file), environ={"SYMBI_LOG_LEVEL": "info"}
    )
    rows = {line.split()[0]: line.split()[1:] for line in ran.stdout.splitlines()[2:]}
    assert rows["security.crypto_provider"] == ["ring", f"{file}:2", "SYMBI_CRYPTO_PROVIDER"]
    assert rows["log.level"] == ["info", "SYMBI_LOG_LEVEL", "SYMBI_LOG_LEVEL"]
    assert rows["runtime.mode"] == ["production", "default", "SYMBI_RUNTIME_MODE"]


def test_config_show_as_json_keeps_secrets_and_warnings_apart() -> None:
    """CL2, CD1: a warning goes to stderr as well; no secret goes anywhere."""
    ran = symbi_command("config", "show", "--json", environ={"OPENAI_API_KEY": "s3cret"})
    shown = json.loads(ran.stdout)
    by_key = {entry["key"]: entry for entry in shown["settings"]}
    assert by_key["runtime.mode"]["origin"] == {"kind": "default", "place": ""}
    assert "value" not in by_key["context.openai_api_key"]
    assert "s3cret" not in ran.stdout + ran.stderr
    assert "warning: `OPENAI_API_KEY` is set and has no effect" in ran.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_holds_no_control_character() -> None:
    """CO1: a cell cannot repaint what stands elsewhere."""
    shown = output.table(("name", "value"), [("a\x1b[2J", "1\n2"), ("b", "\u202e3")], right=(1,))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.splitlines()[2] == "a?[2J    1 2"
    assert len(shown.splitlines()) == 4


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
def test_colour_is_for_terminals_that_want_it(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CO2."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.paint("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert output.paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv(variable, "dumb")
    assert output.paint("x", "red", Terminal()) == "x"


def progressed(stream: io.StringIO, seconds: list[float], total: int | None = 4) -> str:
    """What a bar wrote when its steps fell at these moments."""
    moments = iter([0.0, *seconds])
    with output.Progress("reading", total, stream=stream, clock=lambda: next(moments)) as progress:
        for _ in seconds:
            progress.advance(note="a\x1bb")
    return stream.getvalue()


def test_no_bar_for_what_takes_less_than_a_second() -> None:
    """CO3."""
    assert progressed(Terminal(), [0.1, 0.2, 0.9]) == ""


def test_a_bar_on_a_terminal_is_wiped_at_the_end() -> None:
    """CO3, CO1."""
    shown = progressed(Terminal(), [1.0, 1.05, 1.2])
    assert "\x1b" not in shown
    assert "1/4" in shown
    assert "2/4" not in shown, "repainted at most ten times a second"
    assert "3/4" in shown
    assert shown.endswith(" \r")


def test_a_pipe_gets_plain_lines_every_few_seconds() -> None:
    """CO3."""
    assert progressed(io.StringIO(), [1.0, 2.0, 6.5], None) == "reading 1 a?b\nreading 3 a?b\n"
