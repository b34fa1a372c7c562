"""A stamp is made and read with an authority that is not ours: `openssl ts` (RFC 3161)."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.audit.authority import check_answer
from symbi.audit.stamp import read_answer, request
from symbi.cli.main import main
from symbi.errors import CryptoError, InputError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.openssl

CONFIG = """
[req]
distinguished_name = dn
x509_extensions = tsa
prompt = no
[dn]
CN = test authority
[tsa]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[ts]
serial = SERIAL
default_policy = 1.2.3.4.1
digests = sha256, sha512
signer_digest = sha256
ess_cert_id_alg = sha256
"""


def openssl(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    (tmp_path / "ts.cnf").write_text(CONFIG.replace("SERIAL", str(tmp_path / "serial")))
    (tmp_path / "serial").write_text("01\n")
    made = openssl(
        tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.pem",
        "-days", "2", "-config", "ts.cnf",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return tmp_path


def answer(authority: Path, query: str) -> None:
    done = openssl(
        authority, "ts", "-reply", "-queryfile", query, "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "kept.tsr",
        "-config", "ts.cnf", "-section", "ts",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_checkpoint_is_stamped_and_a_changed_one_is_not(
    authority: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with symbi.AuditLog.open(authority / "trail", "a") as log:
        log.append("test.event", None, {})
        kept = authority / "kept.checkpoint"
        kept.write_text(log.checkpoint().text)
    assert main(["audit", "stamp", str(kept), "--request", str(authority / "kept.tsq")]) == 0
    shown = openssl(authority, "ts", "-query", "-in", "kept.tsq", "-text").stdout
    assert "Hash Algorithm: sha256" in shown
    assert "Certificate required: yes" in shown
    answer(authority, "kept.tsq")
    verified = openssl(
        authority, "ts", "-verify", "-data", str(kept), "-in", "kept.tsr", "-CAfile", "tsa.pem"
    )
    assert verified.returncode == 0, verified.stderr
    capsys.readouterr()
    assert main(["audit", "stamp", str(kept), "--answer", str(authority / "kept.tsr")]) == 0
    assert "3 records" in capsys.readouterr().out
    said = ["audit", "stamp", str(kept), "--answer", str(authority / "kept.tsr")]
    assert main([*said, "--authority", str(authority / "tsa.pem"), "--json"]) == 0
    assert "CN=test authority" in capsys.readouterr().out
    time = read_answer((authority / "kept.tsr").read_bytes(), kept.read_bytes())
    assert abs(datetime.now(UTC) - time) < timedelta(hours=1)
    with pytest.raises(CryptoError, match="imprint"):
        read_answer((authority / "kept.tsr").read_bytes(), kept.read_bytes() + b" ")


def test_st1_an_answer_that_is_cut_or_no_answer_is_refused(authority: Path) -> None:
    (authority / "q").write_bytes(request(b"data"))
    answer(authority, "q")
    good = (authority / "kept.tsr").read_bytes()
    read_answer(good, b"data")
    for length in range(0, len(good), 7):
        with pytest.raises(CryptoError):
            read_answer(good[:length], b"data")
    for other in (b"", b"x" * 50, request(b"data")):
        with pytest.raises(CryptoError):
            read_answer(other, b"data")
    assert all(openssl_reads(authority, request(b"data")) for _ in range(20)), (
        "whatever the nonce begins with"
    )


def _authority_below_another(directory: Path, key: tuple[str, ...]) -> None:
    """A root, and an authority that it vouches for: `tsa.pem`, `tsa.key`, with `root.pem` to be trusted."""
    root = (
        "req", "-x509", "-newkey", *key, "-nodes", "-keyout", "root.key", "-out", "root.pem", "-days", "2",
        "-subj", "/CN=root", "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    query = (
        "req",
        "-new",
        "-newkey",
        *key,
        "-nodes",
        "-keyout",
        "tsa.key",
        "-out",
        "tsa.csr",
        "-config",
        "ts.cnf",
    )
    signed = (
        "x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key", "-out", "tsa.pem", "-days", "1",
        "-extfile", "ts.cnf", "-extensions", "tsa", "-CAcreateserial",
    )  # fmt: skip
    for command in (root, query, signed):
        done = openssl(directory, *command)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("key", [("rsa:2048",), ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")])
def test_au1_au2_the_authority_is_known_by_its_signature_or_by_whom_it_leads_to(
    authority: Path, key: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = (authority / "tsa.pem").read_bytes()
    _authority_below_another(authority, key)
    (authority / "q").write_bytes(request(b"data"))
    answer(authority, "q")
    good = (authority / "kept.tsr").read_bytes()
    own, root = (authority / "tsa.pem").read_bytes(), (authority / "root.pem").read_bytes()
    for trusted in (own, root, stranger + root):
        time, name = check_answer(good, b"data", trusted)
        assert (name, time) == ("CN=test authority", read_answer(good, b"data"))
    with pytest.raises(CryptoError, match="trusted"):
        check_answer(good, b"data", stranger)
    with pytest.raises(CryptoError, match="imprint"):
        check_answer(good, b"other", root)
    with pytest.raises(InputError):
        check_answer(good, b"data", b"no certificate")
    for at in range(
        len(good)
    ):  # what openssl takes too is not of the signature: an unused field of the answer
        changed = bytearray(good)
        changed[at] ^= 1 << (at % 8)
        try:
            told = check_answer(bytes(changed), b"data", root)
        except CryptoError:
            continue
        assert told == (time, name), f"byte {at}"
    (authority / "kept").write_bytes(b"data")
    assert main(["audit", "stamp", str(authority / "kept"), "--authority", str(authority / "root.pem")]) != 0


def test_au2_a_certificate_for_something_else_stamps_nothing(authority: Path) -> None:
    (authority / "q").write_bytes(request(b"data"))
    answer(authority, "q")
    good = (authority / "kept.tsr").read_bytes()
    with_more = CONFIG.replace("critical,timeStamping", "critical,timeStamping,codeSigning")
    (authority / "ts.cnf").write_text(with_more.replace("SERIAL", str(authority / "serial")))
    made = openssl(
        authority, "req", "-x509", "-key", "tsa.key", "-out", "other.pem", "-days", "2", "-config", "ts.cnf"
    )
    assert made.returncode == 0, made.stderr
    with pytest.raises(CryptoError):
        check_answer(good, b"data", (authority / "other.pem").read_bytes())
    assert check_answer(good, b"data", (authority / "tsa.pem").read_bytes())[1] == "CN=test authority"


def openssl_reads(directory: Path, query: bytes) -> bool:
    (directory / "query").write_bytes(query)
    return openssl(directory, "ts", "-query", "-in", "query", "-text").returncode == 0
