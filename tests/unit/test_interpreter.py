"""What a sandboxed Python needs to see is found by reading, whole, and nothing more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from symbi.errors import InputError
from symbi.sandbox.interpreter import MASKED_NAMES, interpreter_mounts, project_masks, read_elf


def test_the_interpreter_its_loader_and_its_packages_are_seen() -> None:
    """IN1: each path, as it is named, lies at or below one that is given."""
    given = interpreter_mounts()
    elf = read_elf(Path(sys.executable))
    assert elf is not None
    import symbi

    for wanted in (sys.executable, elf.interpreter, os.__file__, symbi.__file__, pytest.__file__):
        assert any(Path(wanted).is_relative_to(path) for path in given), wanted


def test_in2_no_path_lies_within_another() -> None:
    """A mount below a read-only mount could not be made."""
    given = interpreter_mounts()
    for path in given:
        assert path.is_absolute()
        assert path.exists()
        assert not any(path != other and path.is_relative_to(other) for other in given)


def test_in3_the_current_directory_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's own directory stands in `sys.path`, and may be a home directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    assert not any(tmp_path.is_relative_to(path) for path in interpreter_mounts())


def test_libraries_agree_with_ldd() -> None:
    """The closure by reading is the loader's own, directory by directory (followed through links)."""
    ldd = shutil.which("ldd")
    if ldd is None:
        pytest.skip("no `ldd` here to compare with")
    text = subprocess.run([ldd, os.path.realpath(sys.executable)], capture_output=True, text=True, check=True)
    named = [line.split("=>")[-1].split()[0] for line in text.stdout.splitlines() if "=> /" in line]
    given = [path.resolve() for path in interpreter_mounts()]
    for library in named:
        assert any(Path(library).resolve().is_relative_to(path) for path in given), library


def test_a_distribution_python_is_not_all_of_usr() -> None:
    """`/usr` whole would show every program of the host."""
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no distribution Python here")
    code = "from symbi.sandbox.interpreter import interpreter_mounts as m; print(*m(), sep='\\n')"
    source = Path(__file__).parents[2] / "python"
    got = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(source)}, check=False
    )
    if got.returncode != 0 and "ImportError" in got.stderr:
        pytest.skip("the distribution's Python is too old")
    paths = got.stdout.split()
    assert "/usr" not in paths
    assert "/usr/bin" not in paths
    assert any(path.startswith("/usr/lib/python3") for path in paths)


def test_a_file_that_is_no_elf_is_none_and_a_lying_one_is_an_error(tmp_path: Path) -> None:
    """Headers are the file's own word: a table outside of it must not be believed."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert read_elf(script) is None
    assert read_elf(tmp_path / "absent") is None
    whole = Path(os.path.realpath(sys.executable)).read_bytes()
    lying = tmp_path / "lying"
    lying.write_bytes(whole[:4000])
    with pytest.raises(InputError, match="not a well-formed ELF file"):
        read_elf(lying)
    for at in range(32, 64):
        lying.write_bytes(whole[:at] + b"\xff" + whole[at + 1 : 1 << 20])
        try:
            read_elf(lying)
        except InputError:
            continue


def test_masks_cover_every_masked_name_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    """`.symbi`, `.git`, `.env*`; nothing below a masked directory is looked at."""
    for name in (
        ".git/x/.env",
        "a/.env",
        "a/.env.local",
        "a/b/.symbi/key",
        "a/env",
        "a/.environment",
        "c/.github/x",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "c" / ".envrc").symlink_to("/etc/passwd")
    masks = project_masks(tmp_path)
    names = [str(Path(mask.target).relative_to(tmp_path)) for mask in masks]
    assert names == [".git", "a/.env", "a/.env.local", "a/.environment", "a/b/.symbi"]
    for mask in masks:
        assert mask.read_only
        if Path(mask.target).is_dir():
            assert list(Path(mask.source).iterdir()) == []
        else:
            assert mask.source == os.devnull


def test_too_many_masked_names_are_refused_with_their_names(tmp_path: Path) -> None:
    """Masking only some would show the rest."""
    for number in range(100):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / ".env").write_text("x")
    with pytest.raises(InputError, match="100 entries named"):
        project_masks(tmp_path)
    assert ".env*" in MASKED_NAMES
