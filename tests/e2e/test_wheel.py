"""The wheel, in a clean environment: what a user gets who has no compiler.

`SYMBI_WHEEL` names a wheel that is already built (a CI job builds it once); without it, one in `dist/` that is not older
than the sources is taken, and otherwise the test is skipped with the command that builds it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEEL_BYTES_MAX = 20 << 20
"""The size that is promised."""

INSTALL_S = 300
"""Seconds for pip, which may have to fetch what we depend on."""


def _wheel() -> Path:
    named = os.environ.get("SYMBI_WHEEL")
    if named:
        return Path(named).resolve(strict=True)
    built = sorted((ROOT / "dist").glob("symbi-*.whl"), key=lambda path: path.stat().st_mtime)
    if built:
        sources = [*(ROOT / "rust").rglob("*.rs"), *(ROOT / "python").rglob("*.py")]
        if max(path.stat().st_mtime for path in sources) <= built[-1].stat().st_mtime:
            return built[-1]
    reason = "no wheel that is as new as its sources: `make wheel`, or name one in SYMBI_WHEEL"
    if "wheel" in os.environ.get("SYMBI_REQUIRE", "").split(","):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel under test."""
    return _wheel()


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that holds the wheel and what it depends on, made without a compiler."""
    place = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True, timeout=INSTALL_S)
    python = place / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel],
        check=True,
        timeout=INSTALL_S,
        env={**os.environ, "PATH": str(python.parent)},
    )
    return python.parent


def _run(clean: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """With nothing on `PATH` but the environment itself."""
    return subprocess.run(
        [clean / words[0], *words[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={"PATH": str(clean), "HOME": str(cwd)},
        check=False,
    )


def test_the_wheel_is_as_small_as_promised_and_for_every_python_from_3_11(wheel: Path) -> None:
    """One file for all of them, and what it carries is below 20 MB."""
    assert wheel.stat().st_size <= WHEEL_BYTES_MAX
    assert "-cp311-abi3-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "symbi/_core.abi3.so" in names
    assert "symbi/py.typed" in names
    assert not [name for name in names if "/target/" in name or name.endswith(".rs")]


@pytest.mark.timeout(600)
def test_the_commands_work_without_a_compiler(clean: Path, tmp_path: Path) -> None:
    """`symbi --help` is the first thing anybody types."""
    for words in (("symbi", "--help"), ("symbi", "--version")):
        got = _run(clean, *words, cwd=tmp_path)
        assert got.returncode == 0, got.stderr
        assert "symbi" in got.stdout


@pytest.mark.timeout(600)
def test_the_guest_is_carried_whole_and_runs_alone(clean: Path, tmp_path: Path) -> None:
    """It is static: it runs with an empty root, so also as the only file of an image."""
    code = (
        "import sys, pathlib; from symbi._core import guest_binary, guest_digest; "
        "pathlib.Path(sys.argv[1]).write_bytes(guest_binary()); print(guest_digest())"
    )
    guest = tmp_path / "guest"
    got = _run(clean, "python", "-c", code, str(guest), cwd=tmp_path)
    assert got.returncode == 0, got.stderr
    assert got.stdout.strip() == hashlib.sha256(guest.read_bytes()).hexdigest()
    guest.chmod(0o755)
    from symbi.sandbox.interpreter import read_elf

    elf = read_elf(guest)
    assert elf is not None
    assert (elf.interpreter, elf.needed) == ("", ()), "static: no loader, no library"
    said = subprocess.run(
        [guest, "--version"], capture_output=True, text=True, env={}, check=True, timeout=10
    )
    assert said.stdout.startswith("symbi-guest ")
