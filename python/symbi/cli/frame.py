"""What every command shares: its options, its help, how it loads the configuration.

A command is a module of this package with `register(subparsers)`:

    def register(subparsers: frame.Subparsers) -> None:
        parser = frame.add_command(subparsers, "stop", summary="stop all", example="symbi stop", run=_run)
        parser.add_argument("--all", action="store_true", help="every agent")

    def _run(options: argparse.Namespace) -> int: ...  # 0 done, 1 a finding; raise for the rest

A command of several verbs: `verbs = frame.add_group(subparsers, "audit", …)`, then `add_command(verbs, …)`.
Not here: tables, colours and progress bars (`output`), exit codes (`exits`).

Invariants
- CF1 every command has `--data`, `--config` and a help text with an example.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from symbi.config import Config

    Subparsers = argparse._SubParsersAction["Parser"]
    Run = Callable[[argparse.Namespace], int | None]

__all__ = ["DATA_DEFAULT", "Parser", "add_command", "add_common", "add_group", "load_config"]

DATA_DEFAULT = Path(".symbi")


class Parser(argparse.ArgumentParser):
    """argparse with our manner: no guessed abbreviations, errors in one line with the way to the help."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **options)

    def error(self, message: str) -> NoReturn:
        """Ends with 2, and says where the help is."""
        text = "".join(char if char.isprintable() else "?" for char in message)
        sys.stderr.write(f"symbi: use: {text}\n  `{self.prog} --help` shows how, with an example\n")
        raise SystemExit(2)


def add_common(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """Adds `--data`, `--config` and, where the command prints data, `--json`."""
    parser.add_argument(
        "--data", type=Path, default=DATA_DEFAULT, metavar="DIR", help="data directory (default: ./.symbi)"
    )
    parser.add_argument("--config", type=Path, default=None, metavar="FILE", help="configuration file (TOML)")
    if json:
        parser.add_argument("--json", action="store_true", help="print data as JSON on stdout")


def add_command(
    subparsers: Subparsers,
    name: str,
    *,
    summary: str,
    run: Run,
    example: str,
    description: str | None = None,
    json: bool = True,
) -> Parser:
    """Adds one command with the common options (CF1).

    Args:
        subparsers: What `register` was given, or what `add_group` returned.
        name: As it is typed.
        summary: One line, no full stop.
        run: Called with the parsed options; returns the exit code (`None` is 0).
        example: One or more whole command lines.
        description: More than the summary, where there is more to say.
        json: False where the command has no `--json`, or gives it another meaning.
    """
    indented = "\n".join(f"  {line}" for line in example.splitlines())
    text = summary if description is None else f"{summary}\n\n{description}"
    parser = subparsers.add_parser(name, help=summary, description=text, epilog=f"example\n{indented}")
    add_common(parser, json=json)
    parser.set_defaults(run=run)
    return parser


def add_group(subparsers: Subparsers, name: str, *, summary: str, example: str) -> Subparsers:
    """Adds a command of several verbs, and returns where its verbs go."""
    parser = subparsers.add_parser(name, help=summary, description=summary, epilog=f"example\n  {example}")
    return parser.add_subparsers(dest="verb", required=True, metavar="VERB")


def load_config(options: argparse.Namespace, overrides: Mapping[str, object] | None = None) -> Config:
    """The configuration of this call; its warnings go to stderr, its log level takes effect.

    Args:
        options: The parsed options; `options.config` names the file, if any.
        overrides: Settings of the command line, by key, such as `{"runtime.mode": "development"}`.

    Raises:
        ConfigError: a setting that cannot be applied.
    """
    from symbi.cli import output
    from symbi.config import Config, configure_logging

    config = Config.load(options.config, overrides=overrides)
    for warning in config.warnings:
        output.warn(warning)
    configure_logging(config)
    return config
