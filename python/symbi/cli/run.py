"""`symbi run`: one agent, to its result.

The agent's file is parsed, never imported: the worker in the sandbox imports it. Only `--in-process`, or `--tools` with
its name, said by the person who runs it, lets this process do so.
Not here: how a file is read without running it (`symbi.agents.entry`), running (`symbi.runtime`).

Invariants
- RU1 without `--in-process`, or `--tools` that names it, no line of the agent's file runs in this process.
- RU2 stdout has the result as one JSON document, or nothing; with `--json` a failure is one JSON document there too.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output
from symbi.errors import InputError, PolicyDenied, SymbiError

if TYPE_CHECKING:
    import argparse

    from symbi.agents import AgentConfig
    from symbi.agents.entry import Entry
    from symbi.config import Config

__all__ = ["register"]

INPUT_BYTES_MAX = 1 << 20
"""Of `--input`: one line to a worker has at most this."""

_EXAMPLE = """\
symbi run triage.py:triage --input '{"ticket": "printer on fire"}'
symbi run mail.triage:triage --input @ticket.json --policy policies/
symbi run triage.py:triage --tools my_tools.py --verbose
echo '{"n": 3}' | symbi run count.py:count --input - --timeout 10"""


def register(subparsers: frame.Subparsers) -> None:
    """Adds `symbi run`."""
    parser = frame.add_command(
        subparsers,
        "run",
        summary="run one agent to its result",
        description=(
            "The file is read, not imported: it runs in a sandbox worker of its tier. What its decorator declares\n"
            "(name, capabilities, limits, inputs, …) is taken from the text, and must be written there as literals;\n"
            "what it says of its tier only ever raises it. A module's imports come from the current directory, a\n"
            "file's own from --project."
        ),
        example=_EXAMPLE,
        run=_run,
    )
    parser.add_argument("agent", metavar="AGENT", help="`file.py:function` or `module:function`")
    parser.add_argument(
        "--input", default="{}", metavar="JSON|@FILE|-", help="a JSON object, bound by parameter name"
    )
    parser.add_argument("--tier", choices=["docker", "gvisor", "degraded"], help="the sandbox tier")
    parser.add_argument("--timeout", type=float, metavar="S", help="wall-clock bound, seconds")
    parser.add_argument("--mode", choices=["production", "development"], help="default: as configured")
    parser.add_argument(
        "--policy", type=Path, nargs="+", action="extend", metavar="PATH", help="policy files or directories"
    )
    parser.add_argument(
        "--project", type=Path, metavar="DIR", help="a directory the file imports from, read-only"
    )
    parser.add_argument(
        "--mount", action="append", default=[], metavar="PATH", help="what the agent may read"
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="LABEL", help="what the input carries"
    )
    parser.add_argument(
        "--source",
        choices=["builtin", "project", "third_party", "unknown"],
        default="project",
        help="how far its code is trusted, for the choice of its tier (default: project)",
    )
    parser.add_argument(
        "--tools",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.py",
        help="import this file here, for its `@symbi.tool` functions: they run in this process, outside any sandbox",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show on stderr what the agent printed; no policy sees that"
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="your own code only: import the file here, without any sandbox",
    )


def _run(options: argparse.Namespace) -> int:
    try:
        value = asyncio.run(_result(options))
    except SymbiError as error:
        if options.json:
            output.print_json({"error": _shape(error)})
        raise
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    return exits.DONE


async def _result(options: argparse.Namespace) -> Any:
    from symbi.agents.channel import encode
    from symbi.agents.entry import find
    from symbi.runtime import Runtime

    entry = find(options.agent)
    for file in options.tools:
        _import_tools(file)
    arguments = _arguments(options.input)
    overrides = {} if options.mode is None else {"runtime.mode": options.mode}
    config = frame.load_config(options, overrides)
    agent = _imported(entry, options) if options.in_process else _read(entry, options)
    if options.tier == "degraded":
        config = _degraded(config)
    async with Runtime.open(config, data=options.data, policy=options.policy) as runtime:
        handle = await runtime.schedule_agent(agent)
        try:
            value = await runtime.run(handle, arguments, timeout_s=options.timeout, labels=options.label)
        except PolicyDenied as denied:
            _explain_tools(denied, entry, options)
            raise
        finally:
            if options.verbose:
                await runtime.stop_agent(handle)  # what it printed has all come when its worker has ended
                _show_printed(runtime.printed(handle))
        trail = runtime.config.audit.storage or runtime.data / "trail"
    output.note(f"{agent.name}: done; its trail is in {trail}")
    try:
        return json.loads(encode(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"the result of `{agent.name}` is not JSON: {error}") from None


def _read(entry: Entry, options: argparse.Namespace) -> AgentConfig:
    """RU1."""
    from symbi.agents.entry import asks_in_process, read

    if asks_in_process(entry):
        raise InputError(
            f"`{entry.file.name}` wants `{entry.name}` to run in this process, without a sandbox: "
            "if it is your own code, say so with --in-process"
        )
    config = read(entry)
    project = options.project.resolve() if options.project else config.project
    return replace(
        config,
        tier=options.tier,
        source=options.source,
        mounts=tuple(str(Path(path).absolute()) for path in options.mount),
        project=None if project is None else str(project),
    )


def _imported(entry: Entry, options: argparse.Namespace) -> AgentConfig:
    """The person at the terminal vouches for this file: it is imported here."""
    from symbi.agents.definition import AgentDefinition
    from symbi.agents.worker import load

    if options.tier or options.mount:
        raise InputError("--tier and --mount are for sandboxes; with --in-process there is none")
    output.warn(f"`{entry.file.name}` runs in this process, outside any sandbox, as you asked")
    sys.path.insert(0, str(options.project or entry.project or entry.file.parent))
    found = load(str(entry.file), entry.name, inside=False)
    if not isinstance(found, AgentDefinition):
        raise InputError(f"`{entry.name}` is not an agent yet: write `@symbi.agent` above its `async def`")
    return replace(found.config, isolation="in_process", tier=None, tier_min=None)


def _import_tools(file: Path) -> None:
    """The person at the terminal vouches for this file, too: its tools are registered by importing it."""
    if not file.is_file():
        raise InputError(f"there is no file `{file}`")
    output.warn(f"`{file.name}` is imported by this process, outside any sandbox, as you asked")
    sys.path.insert(0, str(file.resolve().parent))
    spec = spec_from_file_location(f"_symbi_tools_{file.stem}", file.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"`{file}` is not a Python file")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"`{file}` does not import: {type(error).__name__}: {error}") from error


def _explain_tools(denied: PolicyDenied, entry: Entry, options: argparse.Namespace) -> None:
    """A tool that is not here and one that is forbidden look alike to an agent; to the person they need not."""
    from symbi.agents.entry import tools_of

    imported = {file.resolve() for file in options.tools}
    if options.in_process or entry.file in imported or not (names := tools_of(entry)):
        return
    shown = ", ".join(f"`{name}`" for name in names)
    denied.add_note(
        f"`{entry.file.name}` declares the tools {shown}, which run in this process, and it was not imported here; "
        f"if it is your own code: `--tools {entry.file.name}`"
    )


def _show_printed(text: str) -> None:
    for line in text.splitlines():
        output.note(f"  {line}")


def _degraded(config: Config) -> Config:
    if config.runtime.mode != "development":
        raise InputError("the degraded tier is for development: add --mode development")
    return config


def _arguments(given: str) -> dict[str, Any]:
    """The input: JSON itself, `@FILE`, or `-` for standard input."""
    where = "--input"
    if given == "-":
        text = sys.stdin.read(INPUT_BYTES_MAX + 1)
    elif given.startswith("@"):
        where = given[1:]
        with Path(where).open(encoding="utf-8", errors="strict") as opened:
            try:
                text = opened.read(INPUT_BYTES_MAX + 1)
            except UnicodeDecodeError:
                raise InputError(f"`{where}` is not UTF-8") from None
    else:
        text = given
    if len(text) > INPUT_BYTES_MAX:
        raise InputError(f"the input has at most {INPUT_BYTES_MAX} bytes; mount larger data with --mount")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{where}` is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(
            "the input is a JSON object: its members are bound to the agent's parameters by name"
        )
    return value


def _shape(error: SymbiError) -> dict[str, str]:
    shape = {"class": type(error).__name__, "code": error.code, "message": str(error)}
    if isinstance(error, PolicyDenied):
        shape["decision_id"] = error.decision_id
        shape["explain"] = f"symbi explain {error.decision_id}"
    return shape
