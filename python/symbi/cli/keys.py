"""`symbi keys`: the keys that agents of the running runtime sign their messages with, through its control socket.

Not here: the socket and who may use it (`symbi.control`), what exchanging and taking back mean (`rt.keys`).

Invariants
- CK1 each verb acts on every agent of the name, and ends with 1 where one of them could not be acted on.
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


def register(subparsers: frame.Subparsers) -> None:
    """Adds `keys` and its verbs."""
    verbs = frame.add_group(
        subparsers, "keys", summary="keys that agents sign their messages with", example="symbi keys list"
    )
    frame.add_command(
        verbs,
        "list",
        summary="every agent's key, valid until when",
        description="An agent has keys from its first message on, sent or received.",
        run=_list,
        example="symbi keys list\nsymbi keys list --json",
    )
    show = frame.add_command(
        verbs,
        "show",
        summary="an agent's certificate: the runtime's word for its keys",
        run=_show,
        example="symbi keys show triage",
    )
    rotate = frame.add_command(
        verbs,
        "rotate",
        summary="give an agent other keys, or the runtime that vouches for all",
        description="What was sent before is still read. With --runtime each agent keeps its keys, newly certified.",
        run=_rotate,
        example="symbi keys rotate triage\nsymbi keys rotate --runtime",
    )
    revoke = frame.add_command(
        verbs,
        "revoke",
        summary="take an agent's keys back: it sends nothing more",
        description="What it sent and nobody has read is refused. `symbi keys rotate` lets it speak again.",
        run=_revoke,
        example="symbi keys revoke triage",
    )
    for parser in (show, revoke):
        parser.add_argument(
            "agent", metavar="NAME|ID", help="a name, or an id, of which the first group is enough"
        )
    whose = rotate.add_mutually_exclusive_group(required=True)
    whose.add_argument(
        "agent", metavar="NAME|ID", nargs="?", help="a name, or an id, of which the first group is enough"
    )
    whose.add_argument("--runtime", action="store_true", help="the key that vouches for agents")


def _list(options: argparse.Namespace) -> int:
    from symbi.control import ask

    known = ask(options.data, {"command": "keys.list"})
    if options.json:
        output.print_json(known)
        return exits.DONE
    rows = known["agents"]
    if rows:
        headers = ("name", "key", "state", "until", "agent")
        cells = [
            [row["name"], row["key"], _state(row), _moment(row["not_after_us"]), row["agent"]] for row in rows
        ]
        sys.stdout.write(output.table(headers, cells) + "\n")
    output.note(f"{len(rows)} with keys; the runtime vouches with {known['runtime']}")
    return exits.DONE


def _show(options: argparse.Namespace) -> int:
    from symbi.control import ask

    rows = ask(options.data, {"command": "keys.show", "agent": options.agent})
    if options.json:
        output.print_json(rows)
        return exits.DONE
    sys.stdout.write("\n\n".join(_sheet(row) for row in rows) + "\n")
    return exits.DONE


def _sheet(row: dict[str, Any]) -> str:
    lines = [("name", row["name"]), ("agent", row["agent"])]
    if row["key"] is None:
        lines.append(("key", "none yet: it has neither sent nor been sent a message"))
    else:
        lines += [
            ("key", row["key"]),
            ("state", _state(row)),
            ("valid", f"{_moment(row['not_before_us'])} to {_moment(row['not_after_us'])}"),
            ("serial", row["serial"]),
            ("vouched by", row["issuer"]),
            ("certificate", row["certificate"]),
        ]
    return "\n".join(f"{name:<11}  {output.clean(str(value))}" for name, value in lines)


def _rotate(options: argparse.Namespace) -> int:
    from symbi.control import ask

    if not options.runtime:
        return _verb(options, "keys.rotate", lambda row: f"has the key {row['key']}, serial {row['serial']}")
    exchange = ask(options.data, {"command": "keys.rotate_runtime"})
    if options.json:
        output.print_json(exchange)
    else:
        sys.stdout.write(f"{exchange['before']} -> {exchange['after']}: record {exchange['seq']}\n")
        output.note(
            f"{exchange['renewed']} certificates were made; keep a copy of `keys/messages.key` with the others"
        )
    return exits.DONE


def _revoke(options: argparse.Namespace) -> int:
    return _verb(
        options, "keys.revoke", lambda row: f"the key {row['key']}, serial {row['serial']}, is revoked"
    )


def _verb(options: argparse.Namespace, command: str, say: Callable[[dict[str, Any]], str]) -> int:
    """Ask, and print one line for each agent that was meant (CK1)."""
    from symbi.control import ask

    rows = ask(options.data, {"command": command, "agent": options.agent})
    failed = any("error" in row for row in rows)
    if options.json:
        output.print_json(rows)
        return exits.FINDING if failed else exits.DONE
    for row in rows:
        who = f"{row['name']} {row['agent']}"
        if "error" in row:
            output.note(f"{who}: {row['error']['code']}: {row['error']['message']}")
        else:
            sys.stdout.write(output.clean(f"{who}: {say(row)}") + "\n")
    return exits.FINDING if failed else exits.DONE


def _state(row: dict[str, Any]) -> str:
    return "revoked" if row["revoked"] else "valid"


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
