"""`symbi demo`: the product in one minute, on the bundled files or the user's own.

Not here: what it does (`symbi.demo`). This is its command line: options in, text, page and JSON out.

Invariants
- CD1 with `--json` stdout holds one JSON document; progress and warnings are on stderr, always.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.cli import exits, frame, output
from symbi.files import write_whole

if TYPE_CHECKING:
    import argparse

    from symbi.demo.result import Result

_EXAMPLE = """\
symbi demo
symbi demo --input ~/notes --json"""

_DESCRIPTION = """\
Four agents in sandboxes read text files, store what they say, answer questions over it, and try to send
a report: policy lets the clean parts pass, redacts what is personal, refuses what is secret. Nothing is
sent: an outbox file shows what would be. Needs no key and no network. Reads at most 2,000 files of 1 MiB;
skips .symbi, .git, virtual environments and ignored files."""


def register(subparsers: frame.Subparsers) -> None:
    """Adds `symbi demo`."""
    parser = frame.add_command(
        subparsers,
        "demo",
        summary="the product in one minute, on the bundled files or your own",
        description=_DESCRIPTION,
        example=_EXAMPLE,
        run=_run,
    )
    parser.add_argument("--input", type=Path, metavar="DIR", help="read these files, not the bundled clinic")
    parser.add_argument(
        "--tier",
        choices=("docker", "gvisor", "degraded"),
        help="run in this tier or fail (default: the strongest that works here)",
    )


def _run(options: argparse.Namespace) -> int:
    import asyncio

    from symbi.demo.flow import run_demo
    from symbi.demo.page import page_of
    from symbi.demo.screen import text_of

    config = frame.load_config(options, {"runtime.mode": "development"})
    output.note("symbi demo: mode development")
    result = asyncio.run(
        run_demo(source=options.input, data=options.data, tier=options.tier, config=config, say=_say)
    )
    result.paste = _to_paste(result, options)
    result.report = Path(result.data or options.data) / "reports" / f"demo-{result.number}.html"
    write_whole(result.report, page_of(result), mode=0o600, new=True)
    if options.json:
        output.print_json(result.to_json())
    else:
        sys.stdout.write(text_of(result))
    return exits.DONE


def _say(text: str) -> None:
    if text.startswith("WARNING: "):
        output.warn(text.removeprefix("WARNING: "))
    else:
        output.note(f"… {text}")
    sys.stderr.flush()


def _to_paste(result: Result, options: argparse.Namespace) -> list[tuple[str, str]]:
    """Lines that work as they are, in the directory the demo was run in. The trail itself is not touched."""
    data = shlex.quote(str(options.data))
    flipped = shlex.quote(str(options.data / "flipped"))
    again = ["symbi", "demo", "--data", str(options.data)]
    if options.input is not None:
        again += ["--input", str(options.input)]
    if options.tier is not None:
        again += ["--tier", options.tier]
    if options.config is not None:
        again += ["--config", str(options.config)]
    lines = []
    shown = next((one for one in result.exits if one.decision == "deny"), None)
    shown = shown or next((one for one in result.exits if one.decision == "redact"), None)
    shown = shown or next(iter(result.exits), None)
    if shown is not None:
        what = {"deny": "explain this denial", "redact": "explain this redaction"}.get(
            shown.decision, "explain this decision"
        )
        lines.append((what, f"symbi explain {shown.id} --data {data}"))
    trail = shlex.quote(str(result.trail))
    flip = (
        'import pathlib, sys; file = sorted(pathlib.Path(sys.argv[1]).glob("*.jsonl"))[-1]; '
        "data = bytearray(file.read_bytes()); data[len(data) // 2] ^= 1; file.write_bytes(data)"
    )
    copy = f"mkdir -p {flipped} && cp {trail}/* {flipped}/"
    command = f"{copy} && python3 -c {shlex.quote(flip)} {flipped}; symbi audit verify {flipped}"
    lines.append(("flip one bit in a copy of the trail, and watch verify name the record", command))
    rule = '/^@id("courier-redacts-personal-parts")/,/^when/d'
    file = shlex.quote(str(options.data / "policies" / "demo.cedar"))
    lines.append(
        (
            "take away the rule that lets personal data pass redacted, and run again: now it is refused",
            f"sed -i {shlex.quote(rule)} {file} && {shlex.join(again)}",
        )
    )
    return lines
