"""`symbi audit verify` judges what it is given or refuses it, and tells a missing signature from a broken trail."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.cli import exits
from symbi.cli.main import main
from symbi.http.witness import WitnessServer, ask_witness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STRANGER = (
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"  # of the note format's own tests
)


def grow(trail: Path, count: int) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        log.append_many([("test.event", None, {"n": n}) for n in range(count)])


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven records in `trail` of the working directory, `event.tlog-proof` of one of them, `kept` of all."""
    monkeypatch.chdir(tmp_path)
    grow(tmp_path / "trail", 5)
    log = symbi.AuditLog.open("trail")
    (tmp_path / "event.tlog-proof").write_text(log.prove(3).text)
    (tmp_path / "kept").write_text(log.checkpoint().text)
    return tmp_path / "trail"


@pytest.fixture
def witness(trail: Path, tmp_path: Path) -> Iterator[WitnessServer]:
    server = WitnessServer(tmp_path / "witness", "w.example/1", symbi.AuditLog.open(trail).verifier_keys())
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.close()
    thread.join(timeout=30)


@pytest.mark.parametrize(
    ("more", "instead"),
    [
        (("--checkpoint", "kept"), "symbi audit prove EVENT --against FILE"),
        (("--checkpoint", "nonexist"), "--checkpoint"),
        (("--witness", STRANGER), "--witness"),
        (("--strict",), "--strict"),
        (("--since-checkpoint",), "--since-checkpoint"),
        (("--records", "900..1000"), "--records"),
        (("trail",), "PATH"),
        (("nonexist",), "PATH"),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_cw1_what_a_proof_cannot_show_is_refused_beside_it_by_name(
    more: tuple[str, ...],
    instead: str,
    form: tuple[str, ...],
    trail: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["audit", "verify", "--proof", "event.tlog-proof", *more, *form]) == exits.USE
    shown = capsys.readouterr()
    assert shown.out == "", "no good word beside an option that was passed over"
    assert "--proof" in shown.err
    assert instead in shown.err
    key = symbi.AuditLog.open(trail).fingerprint
    assert main(["audit", "verify", "--proof", "event.tlog-proof", "--key", key, *form]) == exits.DONE


def test_a_trail_that_a_witness_has_not_signed_holds_by_itself(
    trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "verify", "trail", "--witness", STRANGER]) == exits.FINDING
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "not witnessed" in shown.err
    assert "the trail holds by itself: 7 records" in shown.err
    assert "`PeterNeumann` has signed nothing of it" in shown.err
    for word in ("broken", "nothing is vouched for"):
        assert word not in shown.err, "that is said of a trail that was changed"
    assert main(["audit", "verify", "trail", "--witness", STRANGER, "--json"]) == exits.FINDING
    told = json.loads(capsys.readouterr().out)
    assert (told["verified"], told["seq"], told["holds"]) == (False, None, True)
    assert told["signed"] == {STRANGER: 0}


def test_a_witness_that_has_signed_only_the_beginning_is_told_with_how_far(
    trail: Path, witness: WitnessServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed, _ = ask_witness(trail, f"http://127.0.0.1:{witness.port}", witness.key)
    (tmp_path / "kept").write_text(signed.text)
    assert main(["audit", "verify", "trail", "--checkpoint", "kept", "--witness", witness.key]) == exits.DONE
    capsys.readouterr()
    grow(trail, 3)
    with (tmp_path / "kept").open("a") as kept:
        kept.write(symbi.AuditLog.open(trail).checkpoint().text)
    both = ["--witness", witness.key, "--witness", STRANGER]
    assert main(["audit", "verify", "trail", "--checkpoint", "kept", *both]) == exits.FINDING
    err = capsys.readouterr().err
    assert "`w.example/1` has signed its first 7 records" in err
    assert "`PeterNeumann` has signed nothing of it" in err
    assert "broken" not in err


def test_a_changed_trail_is_broken_whether_or_not_a_witness_signed_it(
    trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trail / "000000000000.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"n":3}', b'{"n":2}'))
    assert main(["audit", "verify", "trail", "--witness", STRANGER]) == exits.FINDING
    err = capsys.readouterr().err
    assert "broken: record 5" in err
    assert "holds by itself" not in err
