"""A stamp is made and read with an authority that is not ours: `openssl ts` (RFC 3161)."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.audit.stamp import read_answer, request
from symbi.cli.main import main
from symbi.errors import CryptoError

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


def openssl_reads(directory: Path, query: bytes) -> bool:
    (directory / "query").write_bytes(query)
    return openssl(directory, "ts", "-query", "-in", "query", "-text").returncode == 0
