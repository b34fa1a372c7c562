"""`symbi approvals`: operations of which nobody knows whether they happened, and what a person says of them.

Beside a running runtime it asks that one. Without one it opens the data directory itself, which takes the log's lock,
so that two can never settle the same operation.
Not here: approvals before an act; policies of this version ask for none.

Invariants
- CA1 the operator's token comes from `SYMBI_OPERATOR_TOKEN`, a prompt or standard input, never from an argument.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


def register(subparsers: frame.Subparsers) -> None:
    """Adds `approvals` and its verbs."""
    verbs = frame.add_group(
        subparsers, "approvals", summary="operations that wait for a person", example="symbi approvals list"
    )
    frame.add_command(
        verbs,
        "list",
        summary="operations whose outcome is unknown, oldest first",
        description="Their intent is in the trail, and no outcome: the runtime ended between the two.",
        run=_list,
        example="symbi approvals list",
    )
    resolve = frame.add_command(
        verbs,
        "resolve",
        summary="say what became of an unknown operation",
        description=(
            "It needs the operator's token, shown once when the data directory was made: from SYMBI_OPERATOR_TOKEN,\n"
            "from a prompt, or as a line of standard input."
        ),
        run=_resolve,
        example="symbi approvals resolve 6f0c2f51-94a7-4c6e-8b1f-1f3f0c1f7c55 done",
    )
    resolve.add_argument("operation", metavar="OP", help="its id, as `symbi approvals list` shows it")
    resolve.add_argument(
        "resolution",
        choices=["done", "failed"],
        help="it happened; or it did not, and its reservation is given back",
    )


def _list(options: argparse.Namespace) -> int:
    rows = _ask(options, {"command": "approvals.list"})
    if options.json:
        output.print_json(rows)
        return exits.DONE
    headers = ("operation", "action", "principal", "resource", "since", "record")
    cells = [
        [row["operation"], row["action"], row["principal"], row["resource"], _time(row["at_us"]), row["seq"]]
        for row in rows
    ]
    sys.stdout.write(output.table(headers, cells) + "\n")
    output.note(
        f"{len(rows)} unknown" + ("; `symbi approvals resolve OP done|failed` settles one" if rows else "")
    )
    return exits.DONE


def _resolve(options: argparse.Namespace) -> int:
    request = {
        "command": "approvals.resolve",
        "operation": options.operation,
        "resolution": options.resolution,
        "token": _token(),
    }
    answer = _ask(options, request)
    if options.json:
        output.print_json(answer)
    else:
        sys.stdout.write(f"{options.operation} is {options.resolution}: record {answer['seq']}\n")
    return exits.DONE


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _token() -> str:
    """CA1."""
    from symbi.control import TOKEN_VARIABLE

    given = os.environ.get(TOKEN_VARIABLE)
    if given:
        return given.strip()
    if sys.stdin.isatty():
        return getpass.getpass("operator token: ").strip()
    return sys.stdin.readline(1024).strip()


def _ask(options: argparse.Namespace, request: dict[str, Any]) -> Any:
    """Of the running runtime; where there is none, of the data directory itself."""
    from symbi.control import ask
    from symbi.errors import InputError, RuntimeClosedError

    try:
        return ask(options.data, request)
    except RuntimeClosedError:
        if not (options.data / "keys").is_dir():
            raise InputError(
                f"`{options.data}` is no data directory of a runtime: name it with --data"
            ) from None
        return asyncio.run(_alone(options, request))


async def _alone(options: argparse.Namespace, request: dict[str, Any]) -> Any:
    from symbi.control import act
    from symbi.runtime import Runtime

    # Without policies: what operators do is decided by the built-in set, and broken ones must not stand in the way.
    async with Runtime.open(frame.load_config(options), data=options.data, policy=()) as runtime:
        return await act(runtime, f"operator:{os.getuid()}", request)
