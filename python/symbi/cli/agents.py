"""`symbi agents`: the agents of the running runtime, through its control socket.

Not here: the socket and who may use it (`symbi.control`), what stopping means (`symbi.runtime`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from symbi.cli import exits, frame, output

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


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
    stop = frame.add_command(
        verbs,
        "stop",
        summary="stop agents of this name or id; never refused",
        description="Without --force an agent ends when its task does; with it, now.",
        run=_stop,
        example="symbi agents stop triage\nsymbi agents stop triage --force",
    )
    stop.add_argument("agent", metavar="NAME", help="a name, which all of its instances have, or an id")
    stop.add_argument("--force", action="store_true", help="end its task now")


def _list(options: argparse.Namespace) -> int:
    from symbi.control import ask

    rows = ask(options.data, {"command": "agents.list"})
    if options.json:
        output.print_json(rows)
        return exits.DONE
    headers = ("name", "state", "kind", "isolation", "tier", "labels", "id")
    cells = [[", ".join(row[name]) if name == "labels" else row[name] for name in headers] for row in rows]
    sys.stdout.write(output.table(headers, cells) + "\n")
    output.note(f"{len(rows)} agents")
    return exits.DONE


def _stop(options: argparse.Namespace) -> int:
    from symbi.control import ask

    rows = ask(options.data, {"command": "agents.stop", "agent": options.agent, "force": options.force})
    if options.json:
        output.print_json(rows)
    else:
        lines = [
            f"{row['id']}  {'terminated' if row['terminated'] else 'ends with its task; --force ends it now'}"
            for row in rows
        ]
        sys.stdout.write("\n".join(lines) + "\n")
    return exits.DONE
