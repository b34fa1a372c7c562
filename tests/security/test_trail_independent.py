"""The trail is checked by cryptography and code that are not ours (A10).

Two verifiers, one in Rust and one page of Python written from the format alone, must agree on good trails and on
every tampered one: on whether it holds, and on the record that is named.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import shutil
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from symbi.errors import ChainBrokenError

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "data" / "trail-v1"
SEGMENT = "000000000000.jsonl"
TAMPERED = 400  # seeded; each is verified twice


def _independent() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_trail", ROOT / "python/symbi/audit/verify_trail.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


independent = _independent()


def ours(trail: Path) -> int | None:
    """The record that the native verifier names, or `None`."""
    try:
        symbi.AuditLog(trail, None, "", "", created=False).verify()
    except ChainBrokenError as error:
        return error.seq
    return None


def theirs(trail: Path) -> int | None:
    """The record that the page names, or `None`."""
    try:
        independent.verify(trail)
    except independent.Broken as error:
        return int(error.seq)
    return None


def test_a10_the_page_does_not_import_symbi() -> None:
    text = (ROOT / "python/symbi/audit/verify_trail.py").read_text()
    assert "import symbi" not in text
    assert "from symbi" not in text
    assert len(text.splitlines()) <= 300, "it must stay one page that a person reads"


def test_a10_both_verifiers_accept_the_vectors_and_say_the_same() -> None:
    found = symbi.AuditLog.open(VECTORS).verify()
    page = independent.verify(VECTORS)
    assert (found.records, found.head, found.log_id) == (page["records"], page["head"], page["log_id"])
    assert list(found.keys) == page["keys"]
    for key in (found.keys[0], found.keys[-1]):
        assert independent.verify(VECTORS, key)["level"] == "authentic"
        assert symbi.AuditLog.open(VECTORS).verify(key=key).level == "authentic"


def _lines(trail: Path) -> list[bytes]:
    return (trail / SEGMENT).read_bytes().splitlines(keepends=True)


def _flip(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _tamper(lines: list[bytes], dice: random.Random) -> list[bytes]:
    """One of the things that somebody who wants history otherwise would do."""
    at, other = dice.randrange(len(lines)), dice.randrange(len(lines))
    changed = list(lines)
    match dice.randrange(8):
        case 0 | 1:
            changed[at] = _flip(changed[at], dice)
        case 2:
            del changed[at]
        case 3:
            changed.insert(at, changed[other])
        case 4:
            changed[at], changed[other] = changed[other], changed[at]
        case 5:
            changed = changed[:at]
        case 6:
            cut = dice.randrange(len(changed[at]))
            changed = [*changed[:at], changed[at][:cut]]
        case _:
            text = changed[at].replace(
                b'"details":{', b'"details":{"a":1,"a":2,' if at % 2 else b'"details":{"x":1e999,'
            )
            changed[at] = text
    return changed


def test_a10_both_verifiers_name_the_same_record_of_every_tampered_trail(tmp_path: Path) -> None:
    trail = tmp_path / "trail"
    shutil.copytree(VECTORS, trail)
    lines = _lines(trail)
    dice = random.Random(20_25)  # noqa: S311 - a test's choice, to be repeated
    found = 0
    for number in range(TAMPERED):
        changed = _tamper(lines, dice)
        (trail / SEGMENT).write_bytes(b"".join(changed))
        native, page = ours(trail), theirs(trail)
        assert native == page, f"case {number}: ours {native}, the page's {page}"
        assert (native is None) == (b"".join(changed) == b"".join(lines)), f"case {number}"
        found += native is not None
    assert found > TAMPERED * 0.8


def test_a10_both_verifiers_refuse_every_tampered_head(tmp_path: Path) -> None:
    trail = tmp_path / "trail"
    shutil.copytree(VECTORS, trail)
    good = (trail / "head").read_bytes()
    dice = random.Random(7)  # noqa: S311 - a test's choice, to be repeated
    for _ in range(100):
        (trail / "head").write_bytes(_flip(good, dice))
        assert ours(trail) is not None
        assert theirs(trail) is not None
    (trail / "head").unlink()
    assert (ours(trail), theirs(trail)) == (0, 0)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the program zstd is not here: apt-get install zstd")
def test_a10_sealed_segments_are_read_by_plain_zstd(tmp_path: Path) -> None:
    source = VECTORS / SEGMENT
    sealed = tmp_path / "x.jsonl.zst"
    import subprocess

    frame = subprocess.run(["zstd", "-qc", str(source)], check=True, capture_output=True, timeout=20).stdout
    sealed.write_bytes(frame + independent.TRAILER + hashlib.sha256(frame).digest())
    assert b"".join(independent.segment_lines(sealed)) == source.read_bytes()
    trail = tmp_path / "trail"
    trail.mkdir()
    shutil.copy(VECTORS / "head", trail)
    shutil.copy(sealed, trail / f"{SEGMENT}.zst")
    assert (ours(trail), theirs(trail)) == (None, None)
    for bit in range(0, len(frame) * 8, 97):
        changed = bytearray(sealed.read_bytes())
        changed[bit // 8] ^= 1 << (bit % 8)
        (trail / f"{SEGMENT}.zst").write_bytes(changed)
        assert ours(trail) == theirs(trail) == 0


def _signed(line: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    record = json.loads(line)
    return record, b"symbi/audit/event/v1\0" + bytes.fromhex(record["chain"]), b64decode(record["sig"])


def test_signatures_of_records_verify_with_pynacl_and_cryptography() -> None:
    lines = _lines(VECTORS)
    public = b64decode(json.loads(lines[0])["details"]["root_key"])
    seen = 0
    for line in lines:
        record, message, signature = _signed(line)
        VerifyKey(public).verify(message, signature)
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        with pytest.raises(BadSignatureError):
            VerifyKey(public).verify(message.replace(b"event", b"other"), signature)
        with pytest.raises(InvalidSignature):
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message[:-1])
        if record["event_type"] == "key.rotated":
            public = b64decode(record["details"]["new_key"])
        seen += 1
    assert seen == 9


def test_seals_open_with_cryptography_and_signatures_verify_with_pynacl() -> None:
    seals = (ROOT / "tests/data/seals-v1.txt").read_text().splitlines()
    assert len(seals) == 4
    for line in seals:
        nonce, plain, sealed, public, signature = map(bytes.fromhex, line.split(" "))
        assert AESGCM(bytes([9] * 32)).decrypt(nonce, sealed, b"header") == plain
        with pytest.raises(InvalidTag):
            AESGCM(bytes([9] * 32)).decrypt(nonce, sealed, b"other")
        VerifyKey(public).verify(sealed, signature)
