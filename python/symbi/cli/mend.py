"""What `symbi doctor --fix` does to the machine: a data directory made private, gVisor installed.

Why its own module: this is the only part of the command line that changes anything outside the monitor, so it
stands alone, takes no input, and is listed with its reason in ci/tidy.py.
Not here: finding out what lacks (`doctor`).

Invariants
- CX1 it acts only on the operator's word (`--fix`), with fixed commands, and says what it did.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from symbi.errors import SandboxUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PRIVATE_MODE", "install_gvisor", "make_private"]

PRIVATE_MODE = 0o700  # keys, trail and knowledge lie there
SETUP_TIMEOUT_S = 600  # a package over a slow line, and a smoke container


def make_private(directory: Path) -> str:
    """Makes `directory` where it is missing, readable by its owner alone, and ignored by git; says what it
    did.
    """
    done = []
    if not directory.exists():
        directory.mkdir(parents=True, mode=PRIVATE_MODE)
        done.append("made it")
    if directory.stat().st_mode & 0o777 != PRIVATE_MODE:
        directory.chmod(PRIVATE_MODE)
        done.append("took the rights of others away")
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
        done.append("let git ignore it")
    return ", ".join(done) or "nothing to do"


def install_gvisor() -> str:
    """Runs the script that installs gVisor and registers it with Docker; its words go to stderr.

    Raises:
        SandboxUnavailableError: not root, or the script failed.
    """
    from symbi.sandbox.orchestrator import setup_script

    if os.geteuid() != 0:
        raise SandboxUnavailableError("installing gVisor needs root: `sudo symbi doctor --fix`")
    command = ["bash", str(setup_script())]
    try:
        ran = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            timeout=SETUP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise SandboxUnavailableError(f"installing gVisor took longer than {SETUP_TIMEOUT_S} s") from None
    if ran.returncode != 0:
        raise SandboxUnavailableError(
            f"the script that installs gVisor ended with {ran.returncode}: see above"
        )
    return "installed gVisor and registered it with Docker"
