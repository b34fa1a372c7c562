"""What is kept, let go and no longer trusted of a trail, as ours, the page of Python and the commands say it (A10).

Groups under one signature, pruned beginnings, keys that others had: every verifier must agree on each.
"""

from __future__ import annotations

import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import symbi
from symbi.audit import export, verify_trail
from symbi.cli.main import main
from symbi.errors import AuditError, ChainBrokenError, InputError

SEALED = Path(__file__).parents[1] / "data" / "trail-v1-sealed"
GROUPED = SEALED.with_name("trail-v2")
FINGERPRINT = "185da06aee23bf1aa3f7bf099d064b2b"  # of the seed 32 times 01
SEGMENT = "000000000000.jsonl"


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


def _events(count: int) -> list[tuple[str, str, dict[str, Any]]]:
    return [("test.event", "agent", {"n": n, "text": 'é 😀 \\ "'}) for n in range(count)]


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    directory = tmp_path / "grouped"
    with symbi.AuditLog.open(directory, "a", signing="group") as log:
        log.append_many(_events(6))
        single = log.append("test.event", None, {})
        assert single.signature == b""
        log.append_many(_events(3))
    return directory


def test_a10_both_verifiers_take_groups_and_name_the_same_record_of_every_tampered_one(
    grouped: Path, tmp_path: Path
) -> None:
    found, said = symbi.AuditLog.open(grouped).verify(), verify_trail.verify(grouped)
    assert (found.records, found.head) == (said["records"], said["head"]) == (12, said["head"])
    lines = (grouped / SEGMENT).read_bytes().splitlines(keepends=True)
    unsigned = [line for line in lines if line.endswith(b'"sig":null}\n')]
    assert 4 < len(unsigned) < 10
    dice = random.Random(5)  # noqa: S311 - a test's choice, to be repeated
    victim = tmp_path / "victim"
    shutil.copytree(grouped, victim)
    for number in range(250):
        changed, at, other = list(lines), dice.randrange(len(lines)), dice.randrange(len(lines))
        match number % 6:
            case 0 | 1:
                line = bytearray(changed[at])
                line[dice.randrange(len(line))] ^= 1 << dice.randrange(8)
                changed[at] = bytes(line)
            case 2:
                del changed[at]
            case 3:
                changed[at], changed[other] = changed[other], changed[at]
            case 4:
                body, _, _ = changed[at].rpartition(b',"sig":')
                changed[at] = body + b',"sig":null}\n'
            case _:
                changed = changed[:at]
        (victim / SEGMENT).write_bytes(b"".join(changed))
        native = ours(victim)
        assert native == page(victim), number
        assert (native is None) == (changed == lines), number


def test_a_record_of_a_group_is_proven_alone(grouped: Path) -> None:
    log = symbi.AuditLog.open(grouped)
    for seq in range(12):
        proof = log.prove(seq)
        assert proof.check(log.fingerprint).event.seq == seq
        assert verify_trail.check_proof(proof.text, log.fingerprint)["record"]["seq"] == seq


def test_a_trail_of_the_sealed_form_before_is_read_by_both() -> None:
    if shutil.which("zstd") is None:
        pytest.skip("the program zstd is not here: apt-get install zstd")
    assert (ours(SEALED), page(SEALED)) == (None, None)
    assert symbi.AuditLog.open(SEALED).last(1)[0].seq == 21


def test_a_trail_of_the_first_groups_is_read_verified_and_gone_on_with(tmp_path: Path) -> None:
    versions = [
        json.loads(line)["v"] for line in (GROUPED / SEGMENT).read_text(encoding="utf-8").splitlines()
    ]
    assert set(versions) == {1, 2}
    kept = symbi.AuditLog.open(GROUPED)
    assert kept.verify(key=FINGERPRINT).records == len(versions)
    assert verify_trail.verify(GROUPED, FINGERPRINT)["records"] == len(versions)
    assert kept.prove(4).check(FINGERPRINT).event.details["text"] == 'é 😀 \\ "'
    again = tmp_path / "trail"
    shutil.copytree(GROUPED, again)
    (tmp_path / "trail.key").write_text("01" * 32 + "\n")
    (tmp_path / "trail.key").chmod(0o600)
    with symbi.AuditLog.open(again, "a", signing="group") as log:
        log.append_many(_events(2))
    assert (ours(again), page(again)) == (None, None)
    assert symbi.AuditLog.open(again).verify(checkpoint=kept.checkpoint()).records == len(versions) + 3


def _aged(directory: Path) -> None:
    """A trail of several segments: what is appended to it is young, what lies there is old."""
    shutil.copytree(SEALED, directory)
    (directory.parent / f"{directory.name}.key").write_text("01" * 32 + "\n")
    (directory.parent / f"{directory.name}.key").chmod(0o600)


def test_a10_a_pruned_trail_verifies_everywhere_and_says_what_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trail = tmp_path / "trail"
    _aged(trail)
    before = symbi.AuditLog.open(trail).checkpoint()
    at = [str(trail)]
    assert main(["audit", "hold", "--reason", "case 7", *at]) == 0
    assert main(["audit", "prune", "--before", "2999-01-01T00:00:00Z", *at]) != 0
    assert main(["audit", "hold", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["hold"]["reason"] == "case 7"
    assert main(["audit", "hold", "--release", "--reason", "closed", *at]) == 0
    capsys.readouterr()
    assert main(["audit", "prune", "--before", "2999-01-01T00:00:00Z", "--json", *at]) == 0
    pruned = json.loads(capsys.readouterr().out)["pruned"]
    end = pruned["end"]
    assert pruned["first"] == 0
    assert end == 23, "what was there, and the opening that found it old enough to be closed"
    log = symbi.AuditLog.open(trail)
    assert log.begins_at == end
    found = log.verify(checkpoint=before)
    assert (found.pruned, found.first, found.complete_to) == (end, end, 22)
    assert next(iter(log.tail())).seq == end
    export(trail, tmp_path / "out")
    for place in (trail, tmp_path / "out"):
        said = verify_trail.verify(place, log.fingerprint, (before.text,))
        assert (said["pruned"], said["level"], said["root"]) == (end, "complete", said["root"])
    assert main(["audit", "verify", *at]) == 0
    assert "were pruned" in capsys.readouterr().out
    # Whatever vouches for the beginning, and is taken or changed, is missed by both.
    dice = random.Random(8)  # noqa: S311 - a test's choice, to be repeated
    for name in ("pruned", "tiles-0", "checkpoint"):
        good = (trail / name).read_bytes()
        (trail / name).unlink()
        assert ours(trail) is not None
        assert page(trail) is not None
        for _ in range(25):
            changed = bytearray(good)
            changed[dice.randrange(min(len(good), end * 32))] ^= 1 << dice.randrange(8)
            (trail / name).write_bytes(changed)
            assert ours(trail) is not None, name
            assert page(trail) is not None, name
        (trail / name).write_bytes(good)
    with symbi.AuditLog.open(trail, "a") as again:
        again.append("test.event", None, {})
        with pytest.raises(InputError):
            again.release("none is in force")
        again.hold("again")
        with pytest.raises(AuditError):
            again.prune(datetime.now(UTC) + timedelta(days=1))
    assert (ours(trail), page(trail)) == (None, None)


def test_a_key_is_rotated_while_the_log_is_open_and_what_the_old_one_signed_late_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trail = tmp_path / "trail"
    with symbi.AuditLog.open(trail, "a") as log:
        log.append_many(_events(4))
        old = log.fingerprint
        seq, new = log.rotate()
        event = log.append("test.event", None, {})
        assert (event.seq, event.key) == (seq + 1, new)
        with pytest.raises(InputError):
            log.mark_compromised(new, 3, reason="it signs still")
    assert main(["audit", "compromised", old, str(trail), "--from", "3", "--reason", "laptop"]) == 0
    found, said = symbi.AuditLog.open(trail).verify(key=old), verify_trail.verify(trail, old)
    assert found.distrusted == (range(3, seq + 1),)
    assert said["distrusted"] == [[3, seq + 1]]
    assert main(["audit", "verify", str(trail)]) == 0
    assert "not to be trusted" in capsys.readouterr().out
    kept = tmp_path / "kept.checkpoint"
    kept.write_text(symbi.AuditLog.open(trail).checkpoint().text)
    assert main(["audit", "verify", "--strict", "--key", old, "--checkpoint", str(kept), str(trail)]) == 1
    with symbi.AuditLog.open(trail, "a") as log:
        assert log.append("test.event", None, {}).key == new


def test_a10_a_proof_of_the_first_form_is_good_for_ever() -> None:
    for name, seq in (("trail-v1-sealed", 9), ("trail-v2", 3)):
        text = (SEALED.with_name(name + ".tlog-proof")).read_text()
        assert symbi.audit.Proof(text).check(FINGERPRINT).event.seq == seq
        assert verify_trail.check_proof(text, FINGERPRINT)["record"]["seq"] == seq
        made = symbi.AuditLog.open(SEALED.with_name(name)).prove(seq).text
        assert len(made) + 200 < len(text), "one key; ids, link and signature as bytes"
