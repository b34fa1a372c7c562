"""`symbi letters`: dead letters of the running runtime, messages that were given up, through its control socket.

Not here: when a message is given up, what putting back means (`rt.bus`), who may use the socket (`symbi.control`).

Invariants
- LE1 what a letter says is printed only with `--payload`, and where policy permits it.
- LE2 each verb acts on every letter of that id, and ends with 1 where one of them could not be acted on.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]

_REASONS = {
    "attempts": "handed out as often as may be, never acknowledged",
    "expired": "its time was over",
    "recipient_gone": "its recipient is gone",
}


def register(subparsers: frame.Subparsers) -> None:
    """Adds `letters` and its verbs."""
    verbs = frame.add_group(
        subparsers, "letters", summary="messages that were given up", example="symbi letters list"
    )
    frame.add_command(
        verbs,
        "list",
        summary="every dead letter, the oldest first",
        run=_list,
        example="symbi letters list\nsymbi letters list --json",
    )
    show = frame.add_command(
        verbs,
        "show",
        summary="one of them: from whom, for whom, why it was given up",
        description=(
            "What it says is shown with --payload, where a policy permits you `message.read` of its recipient's mail,\n"
            "and that it was read stands in the trail. No built-in policy permits it."
        ),
        run=_show,
        example="symbi letters show 9ba3d5e8\nsymbi letters show 9ba3d5e8 --payload",
    )
    show.add_argument("--payload", action="store_true", help="what it says, too")
    retry = frame.add_command(
        verbs,
        "retry",
        summary="put it back into its mailbox, as if it had never been handed out",
        run=_retry,
        example="symbi letters retry 9ba3d5e8",
    )
    discard = frame.add_command(
        verbs,
        "discard",
        summary="throw it away, for good",
        run=_discard,
        example="symbi letters discard 9ba3d5e8",
    )
    for parser in (show, retry, discard):
        parser.add_argument("letter", metavar="ID", help="the message's id; its first group is enough")


def _list(options: argparse.Namespace) -> int:
    from symbi.control import ask

    known = ask(options.data, {"command": "letters.list"})
    if options.json:
        output.print_json(known)
        return exits.DONE
    rows = known["letters"]
    if rows:
        headers = ("id", "from", "for", "topic", "reason", "attempts", "sent", "labels")
        sys.stdout.write(output.table(headers, [_cells(row) for row in rows]) + "\n")
    gone = f"; {known['let_go']} older ones were let go" if known["let_go"] else ""
    output.note(("1 dead letter" if len(rows) == 1 else f"{len(rows)} dead letters") + gone)
    return exits.DONE


def _cells(row: dict[str, Any]) -> list[Any]:
    return [
        row["id"],
        row["sender_name"] or "",
        row["recipient_name"] or row["mailbox"],
        row["topic"] or "",
        row["reason"],
        row["attempts"],
        _moment(row["created_us"]),
        ", ".join(row["labels"]),
    ]


def _show(options: argparse.Namespace) -> int:
    from symbi.control import ask

    rows = ask(
        options.data, {"command": "letters.show", "letter": options.letter, "payload": options.payload}
    )
    failed = any("error" in row for row in rows)
    if options.json:
        output.print_json(rows)
        return exits.FINDING if failed else exits.DONE
    sys.stdout.write("\n\n".join(_sheet(row) for row in rows) + "\n")
    for row in rows:
        if "error" in row:
            hint = "; a policy must permit you `message.read`" if row["error"]["code"] == "denied" else ""
            output.note(f"{row['id']}: {row['error']['code']}: {row['error']['message']}{hint}")
    return exits.FINDING if failed else exits.DONE


def _sheet(row: dict[str, Any]) -> str:
    lines = [
        ("id", row["id"]),
        ("from", f"{row['sender_name'] or 'unknown'} {row['sender'] or ''}"),
        ("for", f"{row['recipient_name'] or 'somebody who is gone'} {row['recipient'] or row['mailbox']}"),
        ("topic", row["topic"] or ""),
        ("sent", _moment(row["created_us"])),
        ("given up", f"{_REASONS.get(row['reason'], row['reason'])}; attempts: {row['attempts']}"),
        ("labels", ", ".join(row["labels"])),
    ]
    if "payload" in row:
        said = row["payload"]
        lines.append(("says", said["text"] if "text" in said else json.dumps(said, ensure_ascii=False)))
    return "\n".join(f"{name:<8}  {output.clean(str(value))}".rstrip() for name, value in lines if value)


def _retry(options: argparse.Namespace) -> int:
    return _verb(options, "letters.retry", "lies in its mailbox again")


def _discard(options: argparse.Namespace) -> int:
    return _verb(options, "letters.discard", "is gone")


def _verb(options: argparse.Namespace, command: str, done: str) -> int:
    """Ask, and print one line for each letter that was meant (LE2)."""
    from symbi.control import ask

    rows = ask(options.data, {"command": command, "letter": options.letter})
    failed = any("error" in row for row in rows)
    if options.json:
        output.print_json(rows)
        return exits.FINDING if failed else exits.DONE
    for row in rows:
        who = f"{row['id']} for {row['recipient_name'] or row['mailbox']}"
        if "error" in row:
            output.note(f"{who}: {row['error']['code']}: {row['error']['message']}")
        else:
            sys.stdout.write(output.clean(f"{who}: {done}") + "\n")
    return exits.FINDING if failed else exits.DONE


def _moment(us: int | None) -> str:
    if us is None:
        return ""
    return datetime.fromtimestamp(us / 1e6, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
