"""Whoever runs a log cannot take back or rewrite what a witness has signed (A4)."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.errors import AuditError, ChainBrokenError, CryptoError, LogLockedError, TruncatedError
from symbi.http.witness import REQUEST_BYTES_MAX, WitnessServer, ask_witness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = "import sys; from symbi.cli.main import main; sys.exit(main(sys.argv[1:]))"


def grow(trail: Path, count: int) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        log.append_many([("test.event", None, {"n": n}) for n in range(count)])


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    grow(tmp_path / "trail", 5)
    return tmp_path / "trail"


@pytest.fixture
def witness(trail: Path, tmp_path: Path) -> Iterator[WitnessServer]:
    server = WitnessServer(tmp_path / "witness", "w.example/1", symbi.AuditLog.open(trail).verifier_keys())
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.close()
    thread.join(timeout=30)


def url(witness: WitnessServer) -> str:
    return f"http://127.0.0.1:{witness.port}"


def test_a4_a_trail_that_was_cut_back_or_forked_is_refused_by_a_witness(
    trail: Path, witness: WitnessServer, tmp_path: Path
) -> None:
    older, fork = tmp_path / "older", tmp_path / "fork"
    ask_witness(trail, url(witness), witness.key)
    shutil.copytree(trail, older)
    shutil.copytree(trail, fork)
    shutil.copy(trail.with_name("trail.key"), fork.with_name("fork.key"))
    grow(trail, 3)
    kept, time_s = ask_witness(trail, url(witness), witness.key)
    assert (kept.size, kept.signers[1:]) == (11, ("w.example/1",))
    found = symbi.AuditLog.open(trail).verify(checkpoint=kept, witnesses=[witness.key])
    assert found.witnessed is not None
    assert found.witnessed[0].timestamp() == time_s
    with pytest.raises(
        TruncatedError, match=r"has signed 11 records of this log, here are 7: it was cut back"
    ) as cut:
        ask_witness(older, url(witness), witness.key)
    assert cut.value.seq == 7
    grow(fork, 9)
    with pytest.raises(AuditError, match="422"):
        ask_witness(fork, url(witness), witness.key)
    with pytest.raises(ChainBrokenError):
        symbi.AuditLog.open(fork).verify(checkpoint=kept, witnesses=[witness.key])


def test_wh2_an_answer_of_another_witness_is_not_believed(
    trail: Path, witness: WitnessServer, tmp_path: Path
) -> None:
    name, _, _ = witness.key.partition("+")
    other = WitnessServer(tmp_path / "other", name, [])
    try:
        with pytest.raises(CryptoError):
            ask_witness(trail, url(witness), other.key)
    finally:
        other._server.server_close()
    assert symbi.AuditLog.open(trail).checkpoint().signers == (
        f"symbi-audit/{symbi.AuditLog.open(trail).log_id}",
    )


def test_wh1_what_is_too_long_or_no_request_is_answered_and_changes_nothing(
    trail: Path, witness: WitnessServer
) -> None:
    def post(path: str, body: bytes, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", witness.port, timeout=20)
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    assert post("/add-checkpoint", b"x" * 10, **{"Content-Length": str(REQUEST_BYTES_MAX + 1)}) == 413
    assert post("/add-checkpoint", b"\xff\xfe") == 400
    assert post("/", b"") == 404
    assert ask_witness(trail, url(witness), witness.key)[0].size == 7


def test_a_witness_is_a_process_of_its_own_and_remembers_what_it_signed(trail: Path, tmp_path: Path) -> None:
    key = symbi.AuditLog.open(trail).verifier_keys()[-1]
    state = tmp_path / "state"
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "audit",
        "witness",
        str(state),
        "--name",
        "w.example/2",
        "--log",
        key,
    ]

    def start() -> tuple[subprocess.Popen[str], str, str]:
        process = subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        named = process.stdout.readline().strip()
        return process, named, process.stderr.readline().split()[2].rstrip(";")

    process, named, place = start()
    try:
        ask_witness(trail, place, named)
        with pytest.raises(LogLockedError):
            WitnessServer(state, "w.example/2", [key])
    finally:
        process.kill()  # it has no last words: what it answered is on disk
        process.communicate(timeout=30)
    grow(trail, 1)
    process, again, place = start()
    try:
        assert again == named
        command = [sys.executable, "-c", PROGRAM, "audit", "checkpoint", str(trail), "--witness", place]
        command += ["--witness-key", named]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "— w.example/2 " in done.stdout
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_a_witness_that_was_told_of_no_log_says_so(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "audit",
        "witness",
        str(tmp_path / "state"),
        "--name",
        "w.example/3",
    ]
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        assert "it signs for no log" in process.stderr.readline()
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_a_witness_file_only_grows_and_shows_a_trail_that_was_cut_back(trail: Path, tmp_path: Path) -> None:
    file, older = tmp_path / "witness.file", tmp_path / "older"

    def audit(*arguments: object) -> int:
        command = [sys.executable, "-c", PROGRAM, "audit", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    assert audit("checkpoint", trail, "--append", file) == 0
    shutil.copytree(trail, older)
    grow(trail, 1)
    assert audit("checkpoint", trail, "--append", file) == 0
    grown = file.read_bytes()
    assert audit("checkpoint", older, "--append", file) == 1
    assert file.read_bytes() == grown
    assert audit("verify", trail, "--checkpoint", file) == 0
    assert audit("verify", older, "--checkpoint", file) == 1
