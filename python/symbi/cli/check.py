"""`symbi check`: what is wrong with policies, counters and configuration, and where.

Why together: a policy may read a counter that another file declares, and two files may name one rule; so the
policy files of one call are checked as the one set that a runtime would make of them.
Not here: what is right (the policy core and `symbi.config` say).

Invariants
- CK1 a file that is not understood is refused by name, never passed over as clean.
- CK2 exit 1 when there is an error; warnings alone are exit 0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output
from symbi.errors import ConfigError, InputError, NotBuiltError, PolicyError

if TYPE_CHECKING:
    import argparse

_EXAMPLE = """\
symbi check policies/
symbi check policies/*.cedar policies/*.counters.toml
symbi check hipaa-phi policies/
symbi check symbi.toml --json"""

_ACCEPTED = (
    "accepted are directories of policies, names of starter policies, `*.cedar`, `*.counters.toml`, `*.test.toml`, "
    "other `*.toml` (configuration)"
)


def register(subparsers: frame.Subparsers) -> None:
    """Adds `symbi check`."""
    parser = frame.add_command(
        subparsers,
        "check",
        summary="diagnose policies, counters and configuration",
        description="Policy files are checked as one set, with the counters given.",
        example=_EXAMPLE,
        run=_run,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="PATH", help=_ACCEPTED)


def _run(options: argparse.Namespace) -> int:
    from symbi.policy.sources import STARTERS, read_policies

    policies: list[tuple[str, str, str]] = []
    findings: list[dict[str, Any]] = []
    starters = [str(path) for path in options.files if str(path) in STARTERS and not path.exists()]
    policies += [("cedar", *source) for source in read_policies(dict.fromkeys(starters)).sources]
    files = [file for path in options.files if str(path) not in starters for file in _files(path)]
    kinds = [(file, _kind(file)) for file in dict.fromkeys(files)]
    for file, kind in kinds:
        if kind == "config":
            findings += _check_config(file)
            continue
        if kind == "tests":
            findings += _check_tests(file)
            continue
        try:
            policies.append((kind, str(file), file.read_bytes().decode("utf-8")))
        except UnicodeDecodeError as error:
            message = f"not UTF-8 at byte `{error.start}`"
            findings.append(_finding((str(file), 1, 1), "policy.encoding", message))
    if policies:
        findings += _check_policies(policies)
    errors = sum(finding["severity"] == "error" for finding in findings)
    sources = len(kinds) + len(set(starters))
    if options.json:
        output.print_json({"files": sources, "findings": findings})
    else:
        for finding in findings:
            sys.stdout.write(_line(finding))
        warnings = len(findings) - errors
        counted = [_counted(sources, "file"), _counted(errors, "error"), _counted(warnings, "warning")]
        output.note(f"{counted[0]}: {counted[1]}, {counted[2]}")
    return exits.FINDING if errors else exits.DONE


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"


def _files(path: Path) -> list[Path]:
    """The file; of a directory what a runtime would take as policies, and the tests beside them (CK1)."""
    if path.is_dir():
        kinds = ("*.cedar", "*.counters.toml", "*.test.toml")
        found = [file for kind in kinds for file in sorted(path.glob(kind))]
        if not found:
            raise InputError(f"`{path}` holds no policies and no tests of policies: {_ACCEPTED}")
        return found
    if not path.exists():
        raise InputError(f"there is no `{path}`")
    return [path]


def _kind(file: Path) -> str:
    """What the name says a file is (CK1)."""
    if file.suffix == ".symbi":
        raise NotBuiltError(f"`{file}`: checking agent files does not exist in this version; {_ACCEPTED}")
    if file.name.endswith(".counters.toml"):
        return "counters"
    if file.name.endswith(".test.toml"):
        return "tests"
    if file.suffix == ".cedar":
        return "cedar"
    if file.suffix == ".toml":
        return "config"
    raise InputError(f"`{file}` is of no kind that can be checked: {_ACCEPTED}")


def _check_policies(sources: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    from symbi.policy import check_policies

    return [
        _finding((source, line, column), code, message, help_, error=error)
        for error, source, line, column, code, message, help_ in check_policies(sources)
    ]


def _check_tests(file: Path) -> list[dict[str, Any]]:
    """Whether its cases can be run; what comes of them `symbi policy test` says."""
    from symbi.policy.testing import read_suite

    try:
        read_suite(file)
    except (InputError, PolicyError) as error:
        place, _, text = str(error).partition(": ")
        line = place.rpartition(":")[2]
        known = bool(text) and place.startswith(str(file)) and line.isdigit()
        return [
            _finding((str(file), int(line) if known else 1, 1), "policy.test", text if known else str(error))
        ]
    return []


def _check_config(file: Path) -> list[dict[str, Any]]:
    from symbi.config import Config

    try:
        config = Config.load(file, environ={})
    except ConfigError as error:
        told = [str(error), *(note.removeprefix("and: ") for note in getattr(error, "__notes__", []))]
        return [_config_finding(file, error.code, one) for one in told]
    return [_finding((str(file), 1, 1), "config.warning", text, error=False) for text in config.warnings]


def _config_finding(file: Path, code: str, told: str) -> dict[str, Any]:
    """A problem at its line, which the configuration says in front: `FILE:LINE: what`."""
    line, colon, text = told.removeprefix(f"{file}:").partition(": ")
    known = bool(colon) and told.startswith(f"{file}:") and line.isdigit()
    return _finding((str(file), int(line) if known else 1, 1), code, text if known else told)


def _finding(
    place: tuple[str, int, int], code: str, message: str, help_: str | None = None, *, error: bool = True
) -> dict[str, Any]:
    file, line, column = place
    return {
        "file": file,
        "line": line,
        "column": column,
        "code": code,
        "severity": "error" if error else "warning",
        "message": message,
        "help": help_,
    }


def _line(finding: dict[str, Any]) -> str:
    place = f"{finding['file']}:{finding['line']}:{finding['column']}"
    warning = "" if finding["severity"] == "error" else " [warning]"
    lines = [f"{place}: {finding['code']}: {finding['message']}{warning}"]
    if finding["help"]:
        lines.append(f"  help: {finding['help']}")
    return "".join(f"{output.clean(line)}\n" for line in lines)
