"""`symbi config show`: each setting, its value, and with `--origin` who said so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from symbi.cli import exits, frame, output
from symbi.config import SETTINGS
from symbi.config.document import show

if TYPE_CHECKING:
    import argparse

    from symbi.config import Config


def register(subparsers: frame.Subparsers) -> None:
    """Adds `symbi config`."""
    verbs = frame.add_group(
        subparsers,
        "config",
        summary="each setting, and where it came from",
        example="symbi config show --origin",
    )
    parser = frame.add_command(
        verbs,
        "show",
        summary="print every setting as it holds here",
        description="Later wins: defaults, file, environment, command line. Only a named file is read.",
        example="symbi config show --origin\nsymbi config show --config /etc/symbi/config.toml --json",
        run=_show,
    )
    parser.add_argument(
        "--origin", action="store_true", help="also where each value came from, and its variables"
    )


def _show(options: argparse.Namespace) -> int:
    config = frame.load_config(options)
    if options.json:
        output.print_json({"file": config.file, "settings": _settings(config), "warnings": config.warnings})
        return exits.DONE
    if options.origin:
        headers: tuple[str, ...] = ("setting", "value", "from", "variable")
        rows = [(*row, _origin(config, row[0]), _variables(row[0])) for row in _values(config)]
    else:
        headers, rows = ("setting", "value"), _values(config)
    sys.stdout.write(output.table(headers, rows) + "\n")
    absent = ", ".join(setting.key for setting in SETTINGS if not setting.built and setting.in_file)
    output.note(f"not in this version, and refused when set: {absent}")
    return exits.DONE


def _values(config: Config) -> list[tuple[str, ...]]:
    return [(setting.key, show(config.values[setting.key])) for setting in SETTINGS if setting.built]


def _origin(config: Config, key: str) -> str:
    return str(config.origins[key])


def _variables(key: str) -> str:
    return next(" ".join(setting.variables) for setting in SETTINGS if setting.key == key)


def _settings(config: Config) -> list[dict[str, object]]:
    """Every row of the table; one whose part does not exist has neither value nor origin."""
    listed: list[dict[str, object]] = []
    for setting in SETTINGS:
        entry: dict[str, object] = {
            "key": setting.key,
            "built": setting.built,
            "variables": setting.variables,
        }
        if setting.built:
            origin = config.origins[setting.key]
            entry["value"] = config.values[setting.key]
            entry["origin"] = {"kind": origin.kind, "place": origin.place}
        listed.append(entry)
    return listed
