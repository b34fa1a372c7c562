"""`symbi agents`: the agents of the running runtime, through its control socket.

Not here: the socket and who may use it (`symbi.control`), what stopping and holding mean (`symbi.runtime`).

Invariants
- CA2 each verb acts on every agent of the name, and ends with 1 where one of them could not be acted on.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["register"]

GRACE_S = 30.0
"""Of a graceful stop: how long the task may go on. Long enough for a model's answer, short enough to wait for."""

_COLUMNS = ("name", "state", "kind", "isolation", "tier", "tenant", "labels", "id")


def register(subparsers: frame.Subparsers) -> None:
    """Adds `agents` and its verbs."""
    verbs = frame.add_group(
        subparsers, "agents", summary="the agents of the running runtime", example="symbi agents list"
    )
    frame.add_command(
        verbs,
        "list",
        summary="every agent with its state",
        run=_list,
        example="symbi agents list\nsymbi agents list --json",
    )
    show = frame.add_command(
        verbs,
        "show",
        summary="everything about an agent: limits, runs, what it waits for, its sandbox, its errors",
        run=_show,
        example="symbi agents show triage\nsymbi agents show 9ba3d5e8 --json",
    )
    why = frame.add_command(
        verbs,
        "why",
        summary="why an agent, or a run, does what it does, in a sentence",
        run=_why,
        example="symbi agents why triage",
    )
    suspend = frame.add_command(
        verbs,
        "suspend",
        summary="hold the task of an agent where it stands; never refused",
        description=(
            "A sandbox is frozen. A coroutine in the host's process stands still when it next awaits `ctx`, or at\n"
            "`ctx.checkpoint()`. Time limits do not run meanwhile. `symbi agents resume` lets it go on."
        ),
        run=_suspend,
        example="symbi agents suspend triage",
    )
    resume = frame.add_command(
        verbs,
        "resume",
        summary="let a suspended agent go on",
        run=_resume,
        example="symbi agents resume triage",
    )
    stop = frame.add_command(
        verbs,
        "stop",
        summary="stop agents of this name or id; never refused",
        description=(
            "An agent ends when its task does, or by force once the grace is over; with --force, now. What waits for\n"
            "its turn ends at once."
        ),
        run=_stop,
        example="symbi agents stop triage\nsymbi agents stop triage --grace 5\nsymbi agents stop triage --force",
    )
    for parser in (show, why, suspend, resume, stop):
        parser.add_argument(
            "agent",
            metavar="NAME|ID",
            help="a name, which several agents may have, or an id, of which the first group is enough",
        )
    how = stop.add_mutually_exclusive_group()
    how.add_argument("--force", action="store_true", help="end its task now")
    how.add_argument(
        "--grace",
        type=float,
        default=GRACE_S,
        metavar="SECONDS",
        help=f"how long its task may go on (default: {GRACE_S:.0f})",
    )


def _list(options: argparse.Namespace) -> int:
    from symbi.control import ask

    rows = ask(options.data, {"command": "agents.list"})
    if options.json:
        output.print_json(rows)
        return exits.DONE
    headers = [name for name in _COLUMNS if any(row.get(name) for row in rows)]
    for row in rows:
        if row["isolation"] == "in_process":
            row["tier"] = ""  # it is in no sandbox
    cells = [[_cell(row.get(name)) for name in headers] for row in rows]
    if rows:
        sys.stdout.write(output.table(headers, cells) + "\n")
    output.note("1 agent" if len(rows) == 1 else f"{len(rows)} agents")
    return exits.DONE


def _show(options: argparse.Namespace) -> int:
    from symbi.control import ask

    found = ask(options.data, {"command": "agents.show", "agent": options.agent})
    if options.json:
        output.print_json(found)
    else:
        sys.stdout.write("\n\n".join(_sheet(agent) for agent in found) + "\n")
    return exits.DONE


def _why(options: argparse.Namespace) -> int:
    return _verb(options, "agents.why", lambda row: str(row["text"]))


def _suspend(options: argparse.Namespace) -> int:
    def say(row: dict[str, Any]) -> str:
        if row["standing"]:
            return "stands still; `symbi agents resume` lets it go on"
        return "is asked to stand still, and does when its coroutine next awaits `ctx`; `symbi agents why` shows it"

    return _verb(options, "agents.suspend", say)


def _resume(options: argparse.Namespace) -> int:
    return _verb(options, "agents.resume", lambda row: f"goes on: it is {row['state']}")


def _stop(options: argparse.Namespace) -> int:
    def say(row: dict[str, Any]) -> str:
        if row["terminated"]:
            return "terminated"
        return f"ends with its task, by force after {options.grace:g} s; --force ends it now"

    how = {"force": True} if options.force else {"force": False, "grace_s": options.grace}
    return _verb(options, "agents.stop", say, **how)


def _verb(
    options: argparse.Namespace, command: str, say: Callable[[dict[str, Any]], str], **more: object
) -> int:
    """Ask, and print one line for each agent that was meant (CA2)."""
    from symbi.control import ask

    rows = ask(options.data, {"command": command, "agent": options.agent, **more})
    failed = any("error" in row for row in rows)
    if options.json:
        output.print_json(rows)
        return exits.FINDING if failed else exits.DONE
    for row in rows:
        who = f"{row['name']} {row['id']}"
        if "error" in row:
            output.note(f"{who}: {row['error']['code']}: {row['error']['message']}")
        else:
            sys.stdout.write(output.clean(f"{who}: {say(row)}") + "\n")
    return exits.FINDING if failed else exits.DONE


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _sheet(agent: dict[str, Any]) -> str:
    """One agent on a page: what is empty is left out."""
    tier = str(agent["tier"])
    if agent.get("below_assessment"):
        tier += f" (weaker than {agent['assessed_tier']}, which its risk of {agent['risk_score']} asks for)"
    state = str(agent["state"]) + (", stopping" if agent.get("stopping") else "")
    lines = [
        ("name", agent["name"]),
        ("id", agent["id"]),
        ("state", state),
        ("why", agent["why"]["text"]),
        ("kind", f"{agent['kind']}, {agent['isolation']}"),
        ("tier", "" if agent["isolation"] == "in_process" else tier),
        ("tenant", agent.get("tenant")),
        ("limits", [f"{name} {value}" for name, value in agent.get("limits", {}).items()]),
        ("capabilities", agent.get("capabilities")),
        ("labels", agent.get("labels")),
        *(("run", _run(run)) for run in agent["runs"]),
        *(
            ("error", f"{one['code']}, {_times(one['count'])}, last {_moment(one['last_us'])}")
            for one in agent["errors"]
        ),
    ]
    if sandbox := agent.get("sandbox"):
        lines += [
            ("sandbox", f"{sandbox['runtime']} {sandbox['container'][:12]}, {sandbox['kernel']}"),
            *(("mount", mount) for mount in sandbox["mounts"]),
            *(("not held", text) for text in sandbox["unenforced"]),
            ("uses", _usage(agent.get("usage") or {})),
        ]
    shown = [(name, _cell(value)) for name, value in lines if value not in (None, "", [])]
    width = max(len(name) for name, _ in shown)
    return "\n".join(f"{output.clean(name):<{width}}  {output.clean(value)}" for name, value in shown)


def _run(run: dict[str, Any]) -> str:
    parts = [
        f"{run['run']} {run['state']} since {_moment(run['begun_us'])}",
        f"{run['tier']} {run['priority']}",
    ]
    if run["asked_to_stand"]:
        parts.append("asked to stand still")
    parts += [f"{name} {run[name]:g}" for name in ("timeout_s", "deadline_s") if run[name] is not None]
    if run["labels"]:
        parts.append(f"carries {', '.join(run['labels'])}")
    return ", ".join(parts)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _usage(usage: dict[str, int | None]) -> str:
    """What a sandbox uses, in the figures that are known."""
    units = {
        "memory_bytes": (1 << 20, "MiB of memory"),
        "memory_peak_bytes": (1 << 20, "MiB at most"),
        "cpu_time_us": (1_000, "ms of processor time"),
        "throttled_us": (1_000, "ms waited for it"),
        "processes": (1, "processes and threads"),
    }
    known = ((value, *unit) for name, unit in units.items() if (value := usage.get(name)) is not None)
    return ", ".join(f"{value // size:,} {unit}" for value, size, unit in known)
