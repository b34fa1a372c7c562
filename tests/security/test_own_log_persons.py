"""Threat: a person who was forgotten can still be read in a log that an application keeps for itself."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import symbi
import symbi.audit
from symbi import AuditLog
from symbi.audit import persons_path
from symbi.audit.own_persons import Forgotten, LogPersons
from symbi.cli.main import main
from symbi.errors import AuditError, CryptoError, ErasedError, InputError, LogUnavailableError

NAME, WORD = "customer jane roe-17", "zyxquillfeather"


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    with AuditLog.open(tmp_path / "log", "a") as log:
        log.append("order.placed", "shop", {"number": 7}, subject=NAME, personal={"note": f"for {WORD}"})
        log.append("order.placed", "shop", {"number": 8}, subject="bob", personal={"note": "his"})
    return tmp_path / "log"


def _found(place: Path, text: str) -> list[str]:
    """Files that hold this text, plain or as base64."""
    plain = text.encode()
    forms = [plain, *(base64.b64encode(b" " * shift + plain)[4:-4] for shift in range(3))]
    files = (path for path in place.rglob("*") if path.is_file())
    return [path.name for path in files if any(form in path.read_bytes() for form in forms)]


def test_op1_personal_values_are_sealed_under_a_pseudonym_and_opened_by_who_has_the_keys(
    trail: Path, tmp_path: Path
) -> None:
    log = AuditLog.open(trail)
    assert _found(tmp_path, NAME) == _found(tmp_path, WORD) == []
    (event,) = log.query(subject=NAME)
    assert event.subjects == tuple(log.pseudonyms(NAME))
    assert log.personal(event) == {"note": f"for {WORD}"}
    assert log.query(subject=event.subjects[0]) == [event]
    assert log.personal(log.record(0)) == {}
    page = Path(symbi.audit.__file__).with_name("verify_trail.py")
    subprocess.run([sys.executable, page, trail], check=True, capture_output=True, timeout=60)
    shutil.copytree(trail, tmp_path / "elsewhere")
    with pytest.raises(CryptoError, match="keys of persons are not here"):
        AuditLog.open(tmp_path / "elsewhere").personal(event)


def test_many_events_with_personal_values_are_recorded_together_and_in_columns(tmp_path: Path) -> None:
    with AuditLog.open(tmp_path / "log", "a") as log:
        log.append_many([("a.b", None, {}, "ann", {"n": 1}), ("a.b", None, {}), ("a.b", None, {}, "plain")])
        log.append_many(
            {"event_type": "a.c", "details": [{}, {}], "subject": ["ann", None], "personal": [{"n": 2}, None]}
        )
        values = [log.personal(event) for event in log.query(subject="ann")]
        assert values == [{"n": 1}, {"n": 2}]
        assert [event.subjects for event in log.query(subject="plain")] == [("plain",)], "as it was given"
        assert log.verify().records == 7
        with pytest.raises(InputError, match="needs a `subject`"):
            log.append_many({"event_type": "a.c", "details": [{}], "personal": [{"n": 2}]})


def test_ap1_an_erasure_leaves_the_log_whole_its_proofs_valid_and_others_unharmed(
    trail: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    with AuditLog.open(trail, "a", subject_key_backups=[backup]) as log:
        event = log.append("order.paid", None, {}, subject="late", personal={"note": WORD})
        (pseudonym,) = log.pseudonyms("late")
        proof, kept = log.prove(event), log.checkpoint()
        key = (backup / pseudonym).read_text()
        (done,) = log.erase("late", by="operator:1")
        assert (done.subject, done.backups_unreached) == (pseudonym, ())
        assert log.record(done.seq).details["cause"] == "asked"
        with pytest.raises(ErasedError):
            log.personal(event)
        assert _found(tmp_path, key.strip()) == []
        assert list(backup.iterdir()) == []
        with pytest.raises(InputError, match="nothing is known"):
            log.erase("late")
        log.verify(checkpoint=kept)
        proof.check(log.fingerprint)
        (his,) = log.query(subject="bob")
        assert log.personal(his) == {"note": "his"}
        again = log.append("order.placed", None, {}, subject="late", personal={"note": "new"})
        assert again.subjects != (pseudonym,), "who comes back is another"
        assert log.personal(again) == {"note": "new"}


def test_ap2_a_key_that_comes_back_opens_nothing_and_is_destroyed_again(trail: Path, tmp_path: Path) -> None:
    keys = persons_path(trail)
    shutil.copytree(keys, tmp_path / "kept")
    with AuditLog.open(trail, "a") as log:
        (event,) = log.query(subject=NAME)
        log.erase(NAME)
    shutil.rmtree(keys)
    shutil.copytree(tmp_path / "kept", keys)
    with pytest.raises(ErasedError):
        AuditLog.open(trail).personal(event)
    with AuditLog.open(trail, "a") as log:
        assert not (keys / "subjects" / event.subjects[0]).exists()
        assert log.last(1)[0].details["cause"] == "key_came_back"
        with pytest.raises(ErasedError):
            log.personal(event)


_KILLED = """
import os, signal, sys
from symbi import AuditLog, _core
class Dying:
    def __init__(self, core): self.core = core
    def __getattr__(self, name): return getattr(self.core, name)
    def destroy(self, pseudonym):
        if sys.argv[2] == "after": self.core.destroy(pseudonym)
        os.kill(os.getpid(), signal.SIGKILL)
log = AuditLog.open(sys.argv[1], "a")
log._persons._core = Dying(log._persons._known())
log.erase(sys.argv[3])
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_ap1_an_erasure_that_was_killed_is_finished_by_the_next_opening(trail: Path, when: str) -> None:
    (event,) = AuditLog.open(trail).query(subject=NAME)
    killed = subprocess.run([sys.executable, "-c", _KILLED, trail, when, NAME], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(ErasedError):
        AuditLog.open(trail).personal(event)
    with AuditLog.open(trail, "a") as log:
        assert log.last(1)[0].details["cause"] == "cut_short"
        assert log.pseudonyms(NAME) == []
        assert log.verify().records == log.durable
    with AuditLog.open(trail, "a") as log:
        assert log.last(1)[0].event_type == "log.opened", "once"


def test_a_legal_hold_refuses_and_a_reader_or_a_forked_child_cannot_erase(trail: Path) -> None:
    with AuditLog.open(trail, "a") as log:
        log.hold("case 7")
        with pytest.raises(AuditError, match="case 7"):
            log.erase(NAME)
        log.release("case 7 is closed")
        child = os.fork()
        if child == 0:
            try:
                log.append("a.b", None, {}, subject=NAME, personal={"n": 1})
            except LogUnavailableError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with pytest.raises(LogUnavailableError):
        AuditLog.open(trail).erase(NAME)


def test_a_hold_that_comes_while_a_person_is_erased_waits_for_its_end(
    trail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, held = LogPersons._carry_out, []
    with AuditLog.open(trail, "a") as log:
        holder = threading.Thread(target=lambda: held.append(log.hold("case 8")))

        def interrupted(self: LogPersons, log: AuditLog, pseudonym: str, cause: str) -> Forgotten:
            holder.start()
            holder.join(0.4)
            return real(self, log, pseudonym, cause)

        monkeypatch.setattr(LogPersons, "_carry_out", interrupted)
        (done,) = log.erase(NAME)
        holder.join(60)
        assert done.seq < held[0], "nothing is erased once a hold is in force"
        log.release("case 8 is closed")


def test_the_command_erases_in_an_applications_log(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "erase", str(trail), "--subject", NAME]
    assert main([*words, "--dry-run", "--json"]) == 0
    (tried,) = json.loads(capsys.readouterr().out)
    assert (tried["places"], tried["held"]) == ({"records": 1}, False)
    assert main([*words, "--yes"]) == 0
    said = capsys.readouterr().out
    assert "is erased: its key" in said
    assert NAME not in said
    assert main([*words, "--yes"]) == 2
    assert "nothing is known" in capsys.readouterr().err
    assert main(["audit", "erase", str(trail.parent / "none"), "--subject", NAME, "--yes"]) == 2


@pytest.fixture
def copied(trail: Path, tmp_path: Path) -> Path:
    """A directory with a copy of each person's key."""
    shutil.copytree(persons_path(trail) / "subjects", tmp_path / "bk", ignore=shutil.ignore_patterns("names"))
    return tmp_path / "bk"


def test_the_command_destroys_the_key_in_the_backups_it_is_told_of(
    trail: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pseudonym,) = AuditLog.open(trail).pseudonyms(NAME)
    (other,) = AuditLog.open(trail).pseudonyms("bob")
    key = (copied / pseudonym).read_text().strip()
    empty = tmp_path / "empty"
    empty.mkdir()
    words = ["audit", "erase", str(trail), "--subject", NAME, "--yes", "--backup", str(copied)]
    assert main([*words, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["backups_reached"] == [str(copied)]
    assert (copied / pseudonym).exists()
    assert main([*words, "--backup", str(empty)]) == 0
    said = capsys.readouterr().err
    assert f"no key of this person lay in `{empty}`" in said
    assert "no backup directory was named" not in said
    assert _found(tmp_path, key) == []
    assert (copied / other).exists()
    assert main(["audit", "erase", "--data", str(tmp_path), *words[3:]]) == 2, "a runtime's are configured"


def test_the_command_says_where_no_backup_was_named_and_reaches_it_by_the_same_command_again(
    trail: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pseudonym,) = AuditLog.open(trail).pseudonyms(NAME)
    words = ["audit", "erase", str(trail), "--subject", NAME, "--yes"]
    assert main(words) == 0
    assert "no backup directory was named" in capsys.readouterr().err
    assert (copied / pseudonym).exists()
    assert main(words) == 2
    assert "--backup DIRECTORY" in capsys.readouterr().err
    assert main([*words, "--backup", str(tmp_path / "away")]) == 2
    assert "is no directory that is there now" in capsys.readouterr().err
    assert main([*words, "--backup", str(copied), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["subject"], row["erased_before"]) == (pseudonym, True)
    assert row["backups_reached"] == [str(copied)]
    assert not (copied / pseudonym).exists()
    assert main([*words, "--backup", str(copied)]) == 2
    assert "lies no key of a person that this log erased" in capsys.readouterr().err


def test_the_command_names_a_backup_that_is_not_there_and_ends_with_a_finding(
    trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = tmp_path / "away"
    words = ["audit", "erase", str(trail), "--subject", NAME, "--yes", "--backup", str(away)]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert f"still lies in `{away}`" in said
    assert "run this again when it is there" in said
