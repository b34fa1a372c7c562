"""`symbi doctor`: what works here, tried rather than looked up, and the line that mends the rest.

Why: whoever installs a runtime on a strange machine wants one page that says what is missing and how to get
    it.
Not here: the mending (`mend`), and any promise: a tier works when our own probe has just run in it.

Invariants
- CH1 a check that breaks is a failed check; the others still run.
- CH2 nothing is changed without `--fix`; with it, every change is said, and its check runs again.
"""

from __future__ import annotations

import importlib
import os
import platform
import stat
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from symbi.build import core_build
from symbi.cli import exits, frame, mend, output
from symbi.errors import ConfigError, SymbiError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from symbi.config import Config

PYTHON_MIN = (3, 11)  # the stable interface that the native core is built for
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the page.

    Attributes:
        status: `ok`; `warn`: works, with less; `fail`: something that is promised does not work here.
        mend: What makes it work; empty where it does.
        fixable: Whether `--fix` can try.
        fixed: What `--fix` did about it, in this call.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""
    fixable: bool = False
    fixed: str = ""


@dataclass(slots=True)
class _Patient:
    """What the checks look at."""

    options: argparse.Namespace
    config: Config | None = None

    @property
    def data(self) -> Path:
        return Path(self.options.data)

    @property
    def trail(self) -> Path:
        storage = self.config.audit.storage if self.config else None
        return storage or self.data / "trail"


def register(subparsers: frame.Subparsers) -> None:
    """Adds `symbi doctor`."""
    parser = frame.add_command(
        subparsers,
        "doctor",
        summary="what works here, and how to mend the rest",
        description="Starts a probe in every sandbox tier. Changes nothing, unless --fix is given.",
        example="symbi doctor\nsudo symbi doctor --fix",
        run=_run,
    )
    parser.add_argument("--fix", action="store_true", help="mend what can be mended, and say what was done")


def _run(options: argparse.Namespace) -> int:
    patient = _Patient(options)
    checks = []
    with output.Progress("checking", len(_CHECKS)) as progress:
        for name, examine, fix in _CHECKS:
            found = _examine(name, examine, patient)
            if options.fix and fix is not None and any(_mendable(check) for check in found):
                found = _fix(name, examine, fix, patient, found)
            checks += found
            progress.advance(note=name)
    healthy = all(check.status != "fail" for check in checks)
    if options.json:
        output.print_json({"healthy": healthy, "checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    return exits.DONE if healthy else exits.FINDING


def _examine(name: str, examine: Callable[[_Patient], Iterator[Check]], patient: _Patient) -> list[Check]:
    """Runs one group of checks (CH1)."""
    try:
        return list(examine(patient))
    except SymbiError as error:
        return [Check(name, "fail", f"{error.code}: {error}")]
    except Exception as error:  # noqa: BLE001 - CH1
        return [Check(name, "fail", f"{type(error).__name__}: {error}")]


def _mendable(check: Check) -> bool:
    return check.fixable and check.status != "ok"


def _fix(
    name: str,
    examine: Callable[[_Patient], Iterator[Check]],
    fix: Callable[[_Patient], str],
    patient: _Patient,
    found: list[Check],
) -> list[Check]:
    """Mends, says what was done, and looks again (CH2)."""
    try:
        done = fix(patient)
    except (SymbiError, OSError) as error:
        output.warn(f"{name}: {error}")
        return [replace(check, fixed=f"not mended: {error}") for check in found]
    output.note(f"{name}: {done}")
    return [replace(check, fixed=done) for check in _examine(name, examine, patient)]


def _print(checks: list[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        status = output.paint(f"{check.status:<4}", _STYLES[check.status])
        sys.stdout.write(f"{status}  {check.name:<{width}}  {output.clean(check.detail)}\n")
        if check.mend and check.status != "ok":
            sys.stdout.write(f"      {'':<{width}}  → {output.clean(check.mend)}\n")


def _python(_: _Patient) -> Iterator[Check]:
    version = platform.python_version()
    if sys.version_info < PYTHON_MIN:
        yield Check("python", "fail", f"Python {version}", "install Python 3.11 or newer")
        return
    yield Check(
        "python", "ok", f"Python {version} on {platform.system()} {platform.release()}, {platform.machine()}"
    )


def _core(_: _Patient) -> Iterator[Check]:
    core = core_build()
    if core.problem:
        yield Check("native core", "fail", core.problem, "`pip install .` in a checkout, or install a wheel")
    elif core.is_release:
        yield Check("native core", "ok", f"{core.version}, release build")
    else:
        detail = f"{core.version}, built as `{core.profile}`: assertions on, its figures are none"
        yield Check("native core", "ok", detail)


def _config(patient: _Patient) -> Iterator[Check]:
    try:
        patient.config = frame.load_config(patient.options)
    except ConfigError as error:
        others = "".join(f"; {note}" for note in getattr(error, "__notes__", []))
        yield Check(
            "configuration", "fail", f"{error}{others}", "docs/configuration.md lists what is accepted"
        )
        return
    where = f"{patient.config.file}" if patient.config.file else "defaults and environment, no file"
    yield Check("configuration", "ok", f"{where}; mode {patient.config.runtime.mode}")


def _data(patient: _Patient) -> Iterator[Check]:
    directory = patient.data
    if not directory.exists():
        yield Check(
            "data directory",
            "warn",
            f"{directory} is absent: the first run makes it",
            "symbi doctor --fix",
            fixable=True,
        )
        return
    found = directory.stat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        yield Check("data directory", "fail", f"{directory} is no directory", "name another by --data DIR")
    elif found.st_uid != os.geteuid():
        yield Check(
            "data directory", "fail", f"{directory} belongs to uid {found.st_uid}", f"chown it: {directory}"
        )
    elif mode != mend.PRIVATE_MODE:
        detail = f"{directory} has mode {mode:04o}: others may read keys and knowledge"
        yield Check("data directory", "fail", detail, f"chmod 700 {directory}", fixable=True)
    else:
        yield Check("data directory", "ok", f"{directory}, mode 0700")


def _tiers(_: _Patient) -> Iterator[Check]:
    import asyncio
    import logging

    from symbi.sandbox.orchestrator import check_tiers

    logging.getLogger("symbi.sandbox").setLevel(logging.ERROR)  # the page itself says what works
    for tier in asyncio.run(check_tiers()):
        name = f"tier {tier.tier.name.lower()}"
        # Production needs Docker and gVisor; the degraded tier is a help for development.
        status: Literal["warn", "fail"] = "warn" if name == "tier degraded" else "fail"
        fixable = name == "tier gvisor"
        yield Check(name, "ok" if tier.works else status, tier.detail, tier.mend, fixable=fixable)


def _trail(patient: _Patient) -> Iterator[Check]:
    if not patient.trail.exists():
        yield Check("trail", "ok", f"{patient.trail}: none yet")
        return
    audit: Any = importlib.import_module("symbi.audit")
    try:
        with audit.AuditLog.open(patient.trail, mode="r") as log:
            verified = log.verify()
    except SymbiError as error:
        yield Check("trail", "fail", f"{error.code}: {error}", f"symbi audit verify {patient.trail}")
        return
    yield Check("trail", "ok", f"{patient.trail}: {verified.records} records, {verified.level}")


def _policy(patient: _Patient) -> Iterator[Check]:
    paths = patient.config.policy.paths if patient.config else ()
    if not paths:
        yield Check("policy", "ok", "none named: the built-in secure-default holds")
        return
    policy: Any = importlib.import_module("symbi.policy")
    sources: Any = importlib.import_module("symbi.policy.sources")
    try:
        texts = sources.read_policies(paths)
        counters = "\n".join(text for _, text in texts.counters)
        engine = policy.PolicyEngine(schema="symbi", counters=counters or None)
        for name, text in texts.sources:
            engine.register_policy(text, name=name)
    except SymbiError as error:
        yield Check("policy", "fail", str(error), f"symbi check {' '.join(str(path) for path in paths)}")
        return
    yield Check("policy", "ok", f"{len(texts.sources)} files compile")


def _fix_data(patient: _Patient) -> str:
    return mend.make_private(patient.data)


def _fix_tiers(_: _Patient) -> str:
    return mend.install_gvisor()


_CHECKS: tuple[
    tuple[str, Callable[[_Patient], Iterator[Check]], Callable[[_Patient], str] | None],
    ...,
] = (
    ("python", _python, None),
    ("native core", _core, None),
    ("configuration", _config, None),
    ("data directory", _data, _fix_data),
    ("tiers", _tiers, _fix_tiers),
    ("trail", _trail, None),
    ("policy", _policy, None),
)
