"""Attacks on the trail with the means of a real machine: kill -9, two writers, forged and borrowed records (A1, A4, A9).

Whatever ours says of what is left, the page of Python says too (A10). `ci/attacks` runs these and those of the crate in
their long form.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
import symbi
from nacl.signing import SigningKey
from symbi.audit import verify_trail
from symbi.errors import ChainBrokenError, LogLockedError

if TYPE_CHECKING:
    from pathlib import Path

LONG = os.environ.get("SYMBI_LONG", "") not in ("", "0")
MOMENTS = 400 if LONG else 6
SEGMENT = "000000000000.jsonl"

_WRITER = """
import os, random, sys
import symbi
dice = random.Random(int(sys.argv[2]))
with symbi.AuditLog.open(sys.argv[1], "a", signing=sys.argv[3]) as log:
    os.write(1, b"open\\n")
    while True:
        size = dice.choice((1, 1, 3, 40, 300))
        done = log.append_many([("test.event", "agent", {"n": n, "text": "x" * dice.randrange(300)}) for n in range(size)])
        os.write(1, b"ack %d\\n" % done.stop)
"""


def ours(trail: Path) -> int | None:
    try:
        symbi.AuditLog(trail, None, "", "", created=False).verify()
    except ChainBrokenError as error:
        return error.seq
    return None


def page(trail: Path) -> int | None:
    try:
        verify_trail.verify(trail)
    except verify_trail.Broken as error:
        return int(error.seq)
    return None


def _killed(trail: Path, seed: int, signing: str, acknowledgements: int, linger: int) -> int:
    """Runs a writer, kills it at some moment after so many acknowledgements; answers how much it had promised."""
    command = [sys.executable, "-c", _WRITER, str(trail), str(seed), signing]
    promised = heard = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"ack "):
                promised, heard = int(line[4:]), heard + 1
            if heard >= acknowledgements:
                break
        for _ in range(linger):  # some moment within what comes next
            pass
        process.kill()
        rest, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, errors.decode()
    whole = [line for line in rest.split(b"\n")[:-1] if line.startswith(b"ack ")]
    return max([promised, *(int(line[4:]) for line in whole)])


def test_a1_whenever_the_writer_is_killed_all_that_was_acknowledged_is_there_in_order(tmp_path: Path) -> None:
    seed = int(os.environ.get("SYMBI_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)  # noqa: S311 - a test's choice, to be repeated
    trail = tmp_path / "trail"
    for moment in range(MOMENTS):
        if moment % 100 == 0 and trail.exists():
            shutil.rmtree(trail)
            trail.with_name("trail.key").unlink()
        signing = "group" if moment % 2 else "event"
        promised = _killed(
            trail, dice.randrange(1 << 30), signing, dice.randrange(1, 6), dice.randrange(100_000)
        )
        story = f"seed {seed}, moment {moment}"
        found = symbi.AuditLog.open(trail).verify()
        assert found.records >= promised, story
        if moment % 10 == 0 or not LONG:
            said = verify_trail.verify(trail)
            assert (said["records"], said["head"]) == (found.records, found.head), story
        with symbi.AuditLog.open(trail, "a") as log:  # and it goes on
            assert log.append("test.event", None, {}).seq >= promised, story


def test_a9_a_second_process_is_refused_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    trail = tmp_path / "trail"
    with symbi.AuditLog.open(trail, "a") as log:
        log.append("test.event", None, {})
        command = [sys.executable, "-c", _WRITER, str(trail), "1", "event"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "LogLockedError" in done.stderr
        with pytest.raises(LogLockedError):
            symbi.AuditLog.open(trail, "a")
        log.append("test.event", None, {})
    assert (ours(trail), page(trail)) == (None, None)


def _trail(directory: Path, count: int) -> list[bytes]:
    with symbi.AuditLog.open(directory, "a") as log:
        log.append_many([("test.event", "agent", {"n": n}) for n in range(count)])
    return (directory / SEGMENT).read_bytes().splitlines(keepends=True)


def _signed_again(line: bytes, key: SigningKey) -> bytes:
    """The same body and link under a valid signature of another key."""
    body, chain, _ = line[:-174], line[-164:-100], line[-91:]
    message = b"symbi/audit/event/v1\0" + bytes.fromhex(chain.decode())
    signature = b64encode(key.sign(message).signature)
    return body + b',"chain":"' + chain + b'","sig":"' + signature + b'"}\n'


def _chained_again(lines: list[bytes], at: int, key: SigningKey) -> list[bytes]:
    """History from record `at` on written anew by somebody with a key of their own: links hold, signatures are theirs."""
    log_id = bytes.fromhex(json.loads(lines[0])["details"]["log_id"])
    chain, out = bytes.fromhex(json.loads(lines[at - 1])["chain"]), list(lines)
    for seq in range(at, len(lines)):
        body = lines[seq][:-174].replace(b'"n":', b'"m":')
        chain = hashlib.sha256(
            b"symbi/audit/chain/v1\0" + log_id + seq.to_bytes(8, "big") + chain + body
        ).digest()
        out[seq] = _signed_again(
            body + b',"chain":"' + chain.hex().encode() + b'","sig":"' + b"A" * 88 + b'"}\n', key
        )
    return out


def test_a4_spliced_signed_again_forked_and_swapped_histories_are_named_alike_by_both(tmp_path: Path) -> None:
    trail, other = tmp_path / "trail", tmp_path / "other"
    lines, strange = _trail(trail, 14 if LONG else 8), _trail(other, 14 if LONG else 8)
    stranger = SigningKey(bytes(range(32)))
    cases: list[tuple[str, int, list[bytes]]] = []
    for at in range(1, len(lines)):
        cases.append(("spliced", at, [*lines[:at], strange[at], *lines[at + 1 :]]))
        cases.append(("grafted", at, [*lines[:at], *strange[at:]]))
        cases.append(("re-signed", at, [*lines[:at], _signed_again(lines[at], stranger), *lines[at + 1 :]]))
        cases.append(("forked", at, _chained_again(lines, at, stranger)))
        cases.append(("deleted", at, [*lines[:at], *lines[at + 1 :]]))
        cases.append(("truncated", at, lines[:at]))
    for what, at, changed in cases:
        (trail / SEGMENT).write_bytes(b"".join(changed))
        assert ours(trail) == page(trail) == at, f"{what} at {at}"
    (trail / SEGMENT).write_bytes(b"".join(lines))
    assert (ours(trail), page(trail)) == (None, None)
