"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import symbi
from symbi.files import write_whole

# From here on the disk takes no file longer than this.
FULL = """
import resource, signal, sys
from symbi.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def _full(limit: int, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FULL, str(limit), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    with symbi.AuditLog.open(tmp_path / "trail", "a") as log:
        log.append("test.event", None, {})
    return tmp_path / "trail"


def test_fi1_fi2_an_earlier_report_survives_a_full_disk_which_names_it(trail: Path, tmp_path: Path) -> None:
    report = tmp_path / "g.html"
    words = ("audit", "report", "--framework", "gdpr", "--out", report, trail)
    assert _full(10_000_000, *words).returncode == 0
    before = report.read_bytes()
    assert len(before) > 3000
    again = _full(3000, *words)
    assert (again.returncode, report.read_bytes() == before) == (1, True)
    assert f"file too large: `{report}`" in again.stderr
    assert "it is as it was before" in again.stderr
    report.unlink()
    assert _full(3000, *words).returncode == 1
    assert {path.name for path in tmp_path.iterdir()} == {"trail", "trail.key"}


def test_fi1_an_earlier_request_of_a_stamp_survives_a_full_disk(trail: Path, tmp_path: Path) -> None:
    kept, request = tmp_path / "kept", tmp_path / "kept.tsq"
    kept.write_text(symbi.AuditLog.open(trail).checkpoint().text)
    request.write_bytes(b"the one before")
    refused = _full(5, "audit", "stamp", kept, "--request", request)
    assert (refused.returncode, request.read_bytes()) == (1, b"the one before")
    assert f"`{request}`" in refused.stderr
    assert _full(5000, "audit", "stamp", kept, "--request", request).returncode == 0
    assert request.read_bytes() != b"the one before"


def test_a_file_that_was_there_keeps_its_mode_and_its_link_and_a_new_one_gets_the_usual(
    tmp_path: Path,
) -> None:
    old, link = tmp_path / "old", tmp_path / "link"
    old.write_text("before")
    old.chmod(0o640)
    link.symlink_to(old)
    write_whole(link, "after")
    assert link.is_symlink()
    assert (old.read_text(), stat.S_IMODE(old.stat().st_mode)) == ("after", 0o640)
    mask = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", b"x")
        write_whole(tmp_path / "own", b"x", mode=0o600, new=True)
    finally:
        os.umask(mask)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "own")]
    assert modes == [0o640, 0o600]


def test_what_must_be_new_is_refused_where_there_is_one_and_the_error_names_it(tmp_path: Path) -> None:
    file = tmp_path / "there"
    file.write_text("before")
    with pytest.raises(FileExistsError) as refused:
        write_whole(file, "after", new=True)
    assert (refused.value.filename, file.read_text()) == (str(file), "before")
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(FileNotFoundError) as missing:
        write_whole(tmp_path / "none" / "there", "after")
    assert missing.value.filename == str(tmp_path / "none" / "there")


def test_what_is_no_regular_file_is_written_as_it_is() -> None:
    write_whole(Path("/dev/null"), "gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError, match="No space") as full:
        write_whole(Path("/dev/full"), "gone")
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, "/dev/full")
