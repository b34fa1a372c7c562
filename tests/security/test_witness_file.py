"""Threat: the file that shows a trail was cut back is lost to a full disk, a kill, or a second hand."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.cli import witness_file
from symbi.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

# From here on the disk takes no file longer than this.
FULL = """
import resource, signal, sys
from symbi.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""
PROGRAM = "import sys; from symbi.cli.main import main; sys.exit(main(sys.argv[1:]))"


def grow(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        log.append("test.event", None, {})


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    grow(tmp_path / "trail")
    return tmp_path / "trail"


@pytest.fixture
def file(trail: Path) -> Path:
    """A witness file of two checkpoints."""
    file = trail.with_name("witness.file")
    for _ in range(2):
        grow(trail)
        assert main(["audit", "checkpoint", str(trail), "--append", str(file)]) == 0
    return file


def test_wf1_an_append_that_a_full_disk_refuses_leaves_the_file_as_it_was_and_names_it(
    trail: Path, file: Path
) -> None:
    before = file.read_bytes()
    grow(trail)
    main(["audit", "checkpoint", str(trail)])  # signed already: only the append writes
    command = [
        sys.executable,
        "-c",
        FULL,
        str(len(before) + 100),
        "audit",
        "checkpoint",
        trail,
        "--append",
        file,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, file.read_bytes() == before) == (1, True)
    assert f"`{file}`" in done.stderr
    assert "it is as it was before" in done.stderr
    assert {path.name for path in file.parent.iterdir()} == {"trail", "trail.key", "witness.file"}
    assert main(["audit", "checkpoint", str(trail), "--append", str(file)]) == 0
    assert file.read_bytes().startswith(before)
    assert len(witness_file.checkpoints_in(file)) == 3


def test_wf1_a_first_append_that_fails_leaves_no_file(trail: Path, tmp_path: Path) -> None:
    main(["audit", "checkpoint", str(trail)])
    new = tmp_path / "new.file"
    command = [sys.executable, "-c", FULL, "100", "audit", "checkpoint", trail, "--append", new]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 1
    assert {path.name for path in tmp_path.iterdir()} == {"trail", "trail.key"}


def test_wf1_an_append_keeps_the_files_mode_and_a_link_to_it(trail: Path, file: Path) -> None:
    file.chmod(0o644)
    link = file.with_name("link")
    link.symlink_to(file)
    grow(trail)
    assert main(["audit", "checkpoint", str(trail), "--append", str(link)]) == 0
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert len(witness_file.checkpoints_in(file)) == 3


def test_wf1_appends_at_once_wait_for_one_another_and_lose_nothing(trail: Path, tmp_path: Path) -> None:
    file = tmp_path / "witness.file"
    states = []
    for number in range(4):
        states.append(tmp_path / f"state{number}")
        shutil.copytree(trail, states[-1])
        shutil.copy(trail.with_name("trail.key"), states[-1].with_name(f"state{number}.key"))
        grow(trail)
    appends = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "audit", "checkpoint", one, "--append", file],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for one in [*states, trail]
    ]
    codes = [(one.communicate(timeout=60), one.returncode)[1] for one in appends]
    sizes = [symbi.audit.Checkpoint.parse(one).size for one in witness_file.checkpoints_in(file)]
    assert sizes == sorted(set(sizes)), "it only grows"
    assert len(sizes) == codes.count(0), "who was told that it was added finds it there"
    assert codes[-1] == 0


def test_an_older_checkpoint_that_waited_is_not_added_behind_a_later_one(trail: Path, file: Path) -> None:
    older = symbi.audit.Checkpoint.parse(witness_file.checkpoints_in(file)[0])
    before = file.read_bytes()
    witness_file.add_checkpoint(file, older, symbi.AuditLog.open(trail))
    assert file.read_bytes() == before


def test_wf2_a_torn_file_is_named_with_where_to_cut_it_wherever_it_was_torn(
    trail: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = file.read_bytes()
    second = content.rindex(b"symbi-audit/", 0, content.rindex(b"\n\n"))
    capsys.readouterr()
    for length in range(second + 1, len(content)):
        file.write_bytes(content[:length])
        assert main(["audit", "checkpoint", str(trail), "--append", str(file)]) == 2
        said = capsys.readouterr().err
        assert f"`{file}` ends in a checkpoint that was not written whole, from byte {second} on" in said
        assert f"truncate -s {second}" in said
        assert file.read_bytes() == content[:length]
    assert main(["audit", "verify", str(trail), "--checkpoint", str(file)]) == 2
    assert f"truncate -s {second}" in capsys.readouterr().err
    file.write_bytes(content[:second])
    assert main(["audit", "checkpoint", str(trail), "--append", str(file)]) == 0
    assert main(["audit", "verify", str(trail), "--checkpoint", str(file)]) == 0


def test_wf2_a_file_of_one_torn_checkpoint_and_one_that_is_something_else_are_told_apart(
    trail: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = file.read_bytes()
    for begin, word in ((content[:100], "nothing whole is in it"), (b"a letter\n", "not a checkpoint")):
        file.write_bytes(begin)
        capsys.readouterr()
        assert main(["audit", "checkpoint", str(trail), "--append", str(file)]) == 2
        said = capsys.readouterr().err
        assert f"`{file}`" in said
        assert word in said
