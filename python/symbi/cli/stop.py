"""`symbi stop --all`: the emergency stop. It is never refused, and works while the trail cannot be written.

Not here: what stopping means (`symbi.runtime`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from symbi.cli import exits, frame, output

if TYPE_CHECKING:
    import argparse

__all__ = ["register"]


def register(subparsers: frame.Subparsers) -> None:
    """Adds `symbi stop`."""
    parser = frame.add_command(
        subparsers,
        "stop",
        summary="emergency stop of the running runtime",
        description="Every agent and its sandbox end now. The runtime goes on and can be asked why.",
        example="symbi stop --all",
        run=_run,
    )
    parser.add_argument(
        "--all", action="store_true", required=True, help="every agent; there is no other way yet"
    )


def _run(options: argparse.Namespace) -> int:
    from symbi.control import ask

    answer = ask(options.data, {"command": "stop.all"})
    if options.json:
        output.print_json(answer)
    else:
        sys.stdout.write(f"stopped {answer['stopped']} agents\n")
    return exits.DONE
