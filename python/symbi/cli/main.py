"""The door of the command line: finds the command, imports it alone, turns its end into an exit code.

Why by hand and not by a list of parsers: building every command's parser means importing every command, and
the budget of `symbi --help` is 150 ms. So the table below names each command, and argparse sees only the
chosen one.
Not here: what a command does, and how an error is worded (`exits`).

Invariants
- CL1 a command's module is imported only when that command was asked for.
- CL2 only data goes to stdout: an error, a hint, a progress bar go to stderr.
- CL3 every end is one of the codes of `exits`; no traceback reaches a user who did not ask for one.
- CL4 a command is listed only when this version has it; one that is planned is refused by name, never a
  silent no-op.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "available", "main"]

# command -> (module of this package, one line of help); in the order of `symbi --help`.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "the product in one minute, on the bundled files or your own"),
    "init": ("init", "a project that runs and whose tests pass, offline"),
    "run": ("run", "run one agent to its result"),
    "up": ("up", "the server: HTTP API, dashboard, MCP"),
    "mcp": ("mcp", "the server, for MCP clients"),
    "check": ("check", "diagnose policies, their tests, and configuration"),
    "fmt": ("fmt", "format agent files"),
    "policy": ("policy", "test policies, replay the trail under others, propose rules"),
    "explain": ("explain", "why a decision fell as it did: rule, values, what would allow it"),
    "audit": ("audit", "the trail: verify, prove, query, follow, report, forget a person"),
    "agents": ("agents", "the agents of the running runtime"),
    "keys": ("keys", "keys that agents sign messages with: show, exchange, take back"),
    "letters": ("letters", "messages that were given up: look, put back, throw away"),
    "stop": ("stop", "emergency stop of the running runtime"),
    "approvals": ("approvals", "operations that wait for a person"),
    "tools": ("tools", "tools: list, pin, verify"),
    "secrets": ("secrets", "secrets of tools"),
    "knowledge": ("knowledge", "the knowledge base: add, search, ask"),
    "replay": ("replay", "a run, again, from the trail"),
    "config": ("config", "each setting, and where it came from"),
    "doctor": ("doctor", "what works here, and how to mend the rest"),
    "bench": ("bench", "measure this machine: every promised figure is a row"),
}

_COMMON = """\
every command: --help with an example · --data DIR (default ./.symbi) · --config FILE · --json for data
exit codes: 0 done · 1 a finding (denied, broken, failed check) · 2 wrong use · 70 our own fault ·
130 interrupted · 141 whoever read our output went away

example
  symbi demo --input ~/notes"""


def available() -> list[str]:
    """The commands that this version has, in the order of the table (CL4). Cost: one directory read."""
    here = set(os.listdir(os.path.dirname(__file__)))  # noqa: PTH120, PTH208 - pathlib is slow
    return [name for name, (module, _) in COMMANDS.items() if f"{module}.py" in here or module in here]


def _overview() -> str:
    names = available()
    width = max(len(name) for name in names)
    lines = [f"  {name:<{width}}  {COMMANDS[name][1]}" for name in names]
    head = "symbi: a runtime for AI agents that must be fast, contained and provable"
    return "\n".join([head, "", "usage: symbi COMMAND [OPTIONS]", "", "commands", *lines, "", _COMMON])


def _wrong_use(message: str, mend: str) -> int:
    sys.stderr.write(f"symbi: use: {message}\n  {mend}\n")
    return 2


def _unknown(command: str) -> int:
    if command in COMMANDS:
        message = f"the command `{command}` does not exist in this version"
        return _wrong_use(message, "`symbi --help` lists the commands that do")
    from difflib import get_close_matches

    near = get_close_matches(command, available(), n=1, cutoff=0.5)
    mend = f"did you mean `symbi {near[0]}`?" if near else "`symbi --help` lists the commands"
    return _wrong_use(f"unknown command `{printable(command)}`", mend)


def printable(text: str) -> str:
    """`text` cut to 64 characters, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text[:64])


def _not_utf8(arguments: Sequence[str]) -> str | None:
    """The first argument with bytes that are no UTF-8, which the interpreter hands over as lone surrogates."""
    return next((one for one in arguments if any("\ud800" <= char <= "\udfff" for char in one)), None)


def _call(command: str, arguments: Sequence[str]) -> int:
    """Imports the command's module (CL1), parses its arguments, runs it."""
    from importlib import import_module

    from symbi.cli import frame

    parser = frame.Parser(prog="symbi", add_help=False)
    subparsers = parser.add_subparsers(dest="command", required=True)
    import_module(f"symbi.cli.{COMMANDS[command][0]}").register(subparsers)
    options = parser.parse_args([command, *arguments])
    return int(options.run(options) or 0)


def _dispatch(arguments: Sequence[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in {"--help", "-h", "help"}:
        if rest and rest[0] in available():
            return _call(rest[0], ["--help"])
        sys.stdout.write(_overview() + "\n")
        return 0
    if command == "--version":
        import symbi

        sys.stdout.write(f"symbi {symbi.__version__}\n")
        return 0
    if command.startswith("-"):
        return _wrong_use(
            f"`{printable(command)}` stands before a command",
            "options come after it: `symbi COMMAND [OPTIONS]`",
        )
    if command not in available():
        return _unknown(command)
    return _call(command, rest)


def _silence_stdout() -> None:
    """Nobody reads any more: what is still buffered must not raise again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What stands after the program's name; `None` takes the process's own.

    Returns:
        The exit code (CL3): 0 done, 1 a finding, 2 wrong use, 70 our own fault, 130 interrupted, 141 the
        reader of our output went away.
    """
    try:
        try:
            code = _dispatch(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()
    except SystemExit as end:  # argparse ends so: 0 after --help, 2 after wrong use
        return end.code if isinstance(end.code, int) else 2
    except KeyboardInterrupt:
        sys.stderr.write("symbi: interrupted\n")
        return 130
    except BrokenPipeError:
        _silence_stdout()
        return 141
    except Exception as error:  # noqa: BLE001 - CL3: the one place where everything ends
        given = _not_utf8(sys.argv[1:] if arguments is None else arguments)
        if isinstance(error, UnicodeEncodeError) and given is not None:
            return _wrong_use(
                f"`{printable(given)}` is not UTF-8", "texts and names of files are taken as UTF-8"
            )
        from symbi.cli import exits

        return exits.report(error)
    return code


if __name__ == "__main__":
    sys.exit(main())
