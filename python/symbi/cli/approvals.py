"""`symbi approvals`: operations that wait for a person, those whose outcome nobody knows, and what people say of them.

Beside a running runtime it asks that one. Without one it opens the data directory itself, which takes the log's lock,
so that two can never settle the same operation.
Not here: which operations wait (policies), when a person's word counts (the kernel).

Invariants
- CA1 an operator's token comes from `SYMBI_OPERATOR_TOKEN`, a prompt or standard input, never from an argument.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output, values
from symbi.cli.asking import ask_or_open

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_HOW = (
    "It needs your operator's token, shown once when it was made: from SYMBI_OPERATOR_TOKEN,\n"
    "from a prompt, or as a line of standard input."
)
_OPERATION = "its id as `symbi approvals list` shows it; its first eight characters are enough"
_EXAMPLE = "6f0c2f51"


def register(subparsers: frame.Subparsers) -> None:
    """Adds `approvals` and its verbs."""
    verbs = frame.add_group(
        subparsers, "approvals", summary="operations that wait for a person", example="symbi approvals list"
    )
    frame.add_command(
        verbs,
        "list",
        summary="operations that wait for a person, or whose outcome is unknown, oldest first",
        description=(
            "Unknown: its intent is in the trail and no outcome, because the runtime ended between the two."
        ),
        run=_list,
        example="symbi approvals list",
    )
    show = frame.add_command(
        verbs,
        "show",
        summary="one of them, with its arguments in the clear",
        description="Who asks for what, under which rule, until when, and who has agreed.",
        run=_show,
        example=f"symbi approvals show {_EXAMPLE}",
    )
    approve = frame.add_command(
        verbs,
        "approve",
        summary="agree to it; with other content, if you say so",
        description=f"It is decided again when it comes back. {_HOW}",
        run=_approve,
        example=f"symbi approvals approve {_EXAMPLE}\n"
        f"symbi approvals approve {_EXAMPLE} --arguments '{{\"amount\": 90}}'",
    )
    approve.add_argument(
        "--arguments",
        metavar="JSON|@FILE",
        help=(
            "agree only with this content, a JSON object: arguments of a call, input of a task, `text` of a message, "
            "`readers` of a document; who agreed before must agree again"
        ),
    )
    deny = frame.add_command(
        verbs,
        "deny",
        summary="say no to it; that holds until its time is over",
        description=_HOW,
        run=_deny,
        example=f"symbi approvals deny {_EXAMPLE}",
    )
    resolve = frame.add_command(
        verbs,
        "resolve",
        summary="say what became of an unknown operation",
        description=_HOW,
        run=_resolve,
        example=f"symbi approvals resolve {_EXAMPLE} done",
    )
    for verb in (show, approve, deny, resolve):
        verb.add_argument("operation", metavar="OP", help=_OPERATION)
    resolve.add_argument(
        "resolution",
        choices=["done", "failed"],
        help="it happened; or it did not, and its reservation is given back",
    )
    operators = frame.add_command(
        verbs,
        "operators",
        summary="persons who have a token of their own: list, add, remove",
        description=f"A new token is printed once. For adding and removing:\n{_HOW}",
        run=_operators,
        example="symbi approvals operators add ann",
    )
    operators.add_argument("verb", choices=["list", "add", "remove"])
    operators.add_argument("name", nargs="?", help="of the person; rules name it in `@approvers`")


def _list(options: argparse.Namespace) -> int:
    rows = _ask(options, {"command": "approvals.list"})
    if options.json:
        output.print_json(rows)
        return exits.DONE
    headers = ("operation", "state", "action", "principal", "resource", "since", "until", "agreed", "record")
    sys.stdout.write(output.table(headers, [_cells(row) for row in rows]) + "\n")
    waiting = sum(row["state"] == "waiting" for row in rows)
    unknown = sum(row["state"] == "unknown" for row in rows)
    output.note(f"{waiting} waiting, {unknown} unknown")
    if waiting:
        output.note("`symbi approvals show OP`, then `symbi approvals approve OP` or `deny OP`")
    if unknown:
        output.note("`symbi approvals resolve OP done|failed` settles an unknown one")
    return exits.DONE


def _cells(row: dict[str, Any]) -> list[Any]:
    known = row["state"] != "unknown"
    return [
        row["operation"],
        row["state"],
        row["action"],
        row.get("subject") or row["principal"],  # an agent by its name; its id is in `show`
        row["resource"],
        _time(row["at_us"]),
        _time(row["expires_us"]) if known else "",
        f"{len(row['votes'])} of {row['count']}" if known else "",
        row["seq"],
    ]


def _show(options: argparse.Namespace) -> int:
    row = _ask(options, {"command": "approvals.show", "operation": options.operation})
    if options.json:
        output.print_json(row)
        return exits.DONE
    lines = [
        ("operation", row["operation"]),
        (
            "state",
            row["state"] + (", with other arguments than were asked for" if row.get("modified") else ""),
        ),
        ("action", row["action"]),
        ("principal", f"{row['principal']} {row.get('subject', '')}".strip()),
        ("resource", row["resource"]),
    ]
    if row["state"] != "unknown":
        who = ", ".join(row["approvers"]) or "any operator"
        agreed = ", ".join(
            f"{vote['name']} ({vote['operator']}, {_time(vote['at_us'])})" for vote in row["votes"]
        )
        lines += [
            ("rules", ", ".join(row["rules"])),
            ("labels", ", ".join(row["labels"]) or "none"),
            ("asked", _time(row["asked_us"])),
            ("until", _time(row["expires_us"])),
            ("needs", f"{row['count']} of {who}"),
            ("said", agreed or "nobody yet"),
            ("arguments", json.dumps(row["arguments"], indent=2, ensure_ascii=False)),
        ]
    for name, text in lines:
        sys.stdout.write(f"{name:<10} {_clean(text)}\n")
    return exits.DONE


def _approve(options: argparse.Namespace) -> int:
    request: dict[str, Any] = {"command": "approvals.approve", "operation": options.operation}
    if options.arguments is not None:
        request["arguments"] = _object(options.arguments)
    return _say(options, request, "approved")


def _deny(options: argparse.Namespace) -> int:
    return _say(options, {"command": "approvals.deny", "operation": options.operation}, "denied")


def _resolve(options: argparse.Namespace) -> int:
    request = {
        "command": "approvals.resolve",
        "operation": options.operation,
        "resolution": options.resolution,
    }
    return _say(options, request, options.resolution)


def _say(options: argparse.Namespace, request: dict[str, Any], word: str) -> int:
    answer = _ask(options, {**request, "token": _token()})
    if options.json:
        output.print_json(answer)
    else:
        sys.stdout.write(f"{answer['operation']} is {word}: record {answer['seq']}\n")
    return exits.DONE


def _operators(options: argparse.Namespace) -> int:
    from symbi.errors import InputError

    request: dict[str, Any] = {"command": "approvals.operators", "verb": options.verb, "name": options.name}
    if options.verb != "list":
        if not options.name:
            raise InputError(f"`symbi approvals operators {options.verb}` needs a name")
        request["token"] = _token()
    answer = _ask(options, request)
    if options.json:
        output.print_json(answer)
    elif options.verb == "list":
        sys.stdout.write("\n".join(answer["operators"]) + "\n")
    elif options.verb == "add":
        sys.stdout.write(f"{answer['token']}\n")
        output.note(f"the token of `{options.name}`, shown once: hand it over and keep it nowhere else")
    else:
        output.note(f"`{options.name}` has no token any more")
    return exits.DONE


def _object(text: str) -> dict[str, Any]:
    """JSON, or `@FILE` with it.

    Raises:
        InputError: not a JSON object.
    """
    from symbi.errors import InputError

    given = values.read_text(Path(text[1:])) if text.startswith("@") else text
    try:
        value = json.loads(given)
    except ValueError as error:
        raise InputError(f"`--arguments` is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError("`--arguments` is a JSON object")
    return value


def _clean(text: str) -> str:
    """Line by line: what an agent wrote cannot move the cursor, or turn a text around."""
    return "\n".join(output.clean(line) for line in text.split("\n"))


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _token() -> str:
    """CA1."""
    from symbi.operators import TOKEN_VARIABLE

    given = os.environ.get(TOKEN_VARIABLE)
    if given:
        return given.strip()
    if sys.stdin.isatty():
        return getpass.getpass("operator token: ").strip()
    return sys.stdin.readline(1024).strip()


def _ask(options: argparse.Namespace, request: dict[str, Any]) -> Any:
    """Under the built-in policies where no runtime runs: what an operator says of what waits is theirs to decide."""
    return ask_or_open(options, request, built_in=True)
