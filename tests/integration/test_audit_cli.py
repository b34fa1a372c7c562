"""`symbi audit`, as a person types it: data on stdout, the rest on stderr, an exit code that says what was found."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.control import act
from symbi.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 60


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = "import sys; from symbi.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "audit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    directory = tmp_path / "data" / "trail"
    with symbi.AuditLog.open(directory, "a") as log:
        log.append_many([("test.event", f"agent-{n % 2}", {"n": n}) for n in range(6)])
    return directory


def test_verify_says_what_was_verified_and_how_far_its_word_goes(trail: Path) -> None:
    log = symbi.AuditLog.open(trail)
    done = run("verify", trail)
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("8 records", "consistent", log.fingerprint, log.log_id):
        assert part in done.stdout
    told = json.loads(run("verify", "--data", trail.parent, "--key", log.fingerprint, "--json").stdout)
    assert (told["verified"], told["records"], told["level"]) == (True, 8, "authentic")


def test_verify_names_the_record_of_a_flipped_bit_and_exits_1(trail: Path) -> None:
    path = trail / "000000000000.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"n":3}', b'{"n":2}'))
    done = run("verify", trail)
    assert (done.returncode, done.stdout) == (1, "")
    assert "record 5" in done.stderr
    assert "up to record 4 nothing is wrong" in done.stderr
    told = run("verify", trail, "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["seq"] == 5


def test_what_is_refused_is_named_as_it_was_typed_with_what_would_be_taken(trail: Path) -> None:
    for arguments, told in (
        (("verify", trail, "--records", "abc"), "`abc` is not A..B, such as 100..200"),
        (
            ("verify", trail, "--checkpoint", trail / "none"),
            "none` cannot be read: no such file or directory",
        ),
        (("prove", trail), "is a directory: name the record, then the trail"),
        (
            ("query", trail, "--since", "yesterday"),
            "`--since yesterday` is no time: accepted are ISO 8601, such as 2026-01-01T00:00:00Z",
        ),
        (("query", trail, "--since", "2026-01-31"), "no time zone: write 2026-01-01T00:00:00Z"),
        (("hold", trail, "--subject", "patient-17"), "a log is held as a whole: leave --subject out"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert told in done.stderr, done.stderr


def test_wrong_use_exits_2_and_says_what_to_do(trail: Path) -> None:
    for arguments in (
        ("verify", trail.parent / "nothing"),
        ("verify", trail, "--checkpoint", trail / "head"),
        ("verify", trail, "--strict"),
        ("verify", trail, "--records", "5..2"),
        ("prove", "no-number", trail),
        ("query", "-x"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr


def test_query_and_tail_print_records(trail: Path) -> None:
    done = run("query", trail, "--agent", "agent-1", "--limit", 2, "--json")
    assert [record["details"] for record in json.loads(done.stdout)] == [{"n": 1}, {"n": 3}]
    plain = run("query", trail, "--type", "test.*")
    assert len(plain.stdout.splitlines()) == 6
    assert "not checked" in plain.stderr
    assert run("tail", trail, "-n", 0).stdout == ""
    last = run("tail", trail, "-n", 2)
    assert [line.split()[0] for line in last.stdout.splitlines()] == ["6", "7"]


def test_tail_follows_what_is_written(trail: Path) -> None:
    program = "import sys; from symbi.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "audit", "tail", "-f", "-n", "1", "--json", str(trail)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None
            assert json.loads(follower.stdout.readline())["seq"] == 7
            with symbi.AuditLog.open(trail, "a") as log:
                log.append("test.late", None, {})
            seen = [json.loads(follower.stdout.readline())["event_type"] for _ in range(2)]
        finally:
            follower.kill()
    assert seen == ["log.opened", "test.late"]


def test_text_of_a_record_cannot_move_the_cursor(trail: Path) -> None:
    with symbi.AuditLog.open(trail, "a") as log:
        log.append("test.event", "x\x1b[2J", {"text": "\x1b]0;title\x07"})
    done = run("tail", trail, "-n", 1)
    assert "\x1b" not in done.stdout


def test_a_checkpoint_that_was_kept_elsewhere_shows_that_nothing_was_cut_off(
    trail: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.checkpoint"
    done = run("checkpoint", trail)
    assert done.returncode == 0
    assert "keep it where" in done.stderr
    kept.write_text(done.stdout)
    fingerprint = symbi.AuditLog.open(trail).fingerprint
    strict = run("verify", trail, "--checkpoint", kept, "--key", fingerprint, "--strict")
    assert strict.returncode == 0, strict.stderr
    assert "complete: its first 8 records" in strict.stdout
    older = tmp_path / "older"
    shutil.copytree(trail, older)
    with symbi.AuditLog.open(trail, "a") as log:
        log.append("test.event", None, {})
    kept.write_text(run("checkpoint", trail).stdout)
    assert run("verify", older).returncode == 0, "an older genuine state holds by itself"
    cut = run("verify", older, "--checkpoint", kept)
    assert cut.returncode == 1
    assert "the log ends here" in cut.stderr
    assert run("verify", trail, "--checkpoint", kept, "--since-checkpoint").returncode == 0
    grown = run("prove", "--since", older / "checkpoint", trail)
    assert grown.returncode == 0, grown.stderr


def test_strict_says_which_records_no_checkpoint_vouches_for(trail: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.checkpoint"
    kept.write_text(run("checkpoint", trail).stdout)
    with symbi.AuditLog.open(trail, "a") as log:
        log.append("test.event", None, {})
        fingerprint = log.fingerprint
    strict = run("verify", trail, "--checkpoint", kept, "--key", fingerprint, "--strict")
    assert strict.returncode == 1
    assert "records 8 to 9" in strict.stderr


def test_a_record_is_proven_to_somebody_who_has_only_the_fingerprint(trail: Path, tmp_path: Path) -> None:
    fingerprint = symbi.AuditLog.open(trail).fingerprint
    event = symbi.AuditLog.open(trail).query(event_type="test.event")[2]
    proof = tmp_path / "event.tlog-proof"
    for name in (event.seq, event.event_id):
        done = run("prove", name, trail)
        assert done.returncode == 0, done.stderr
        proof.write_text(done.stdout)
        checked = run("verify", "--proof", proof, "--key", fingerprint)
        assert checked.returncode == 0, checked.stderr
        assert f"record {event.seq} is one of the 8" in checked.stdout
        assert "authentic" in checked.stdout
    proof.write_text(done.stdout.replace(f"index {event.seq}", f"index {event.seq + 1}"))
    assert run("verify", "--proof", proof).returncode == 1
    assert run("prove", 8, trail).returncode == 2


def test_a_range_of_records_is_verified_by_itself(trail: Path) -> None:
    done = run("verify", trail, "--records", "2..6")
    assert done.returncode == 0, done.stderr
    assert "records 2 to 5" in done.stdout


def test_a_checkpoint_or_a_witness_that_would_not_be_judged_in_a_range_is_refused(trail: Path) -> None:
    path, kept = trail / "000000000000.jsonl", trail / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b'{"n":3}', b'{"n":2}'))
    given = (
        ("--checkpoint", kept),
        ("--checkpoint", kept, "--since-checkpoint"),
        ("--witness", "w.example/1+0+0"),
    )
    for more in given:
        done = run("verify", trail, "--records", "4..7", *more)
        assert (done.returncode, done.stdout) == (2, ""), more
    assert run("verify", trail, "--records", "4..7").returncode == 1
    with pytest.raises(InputError):
        symbi.AuditLog.open(trail).verify(kept.read_text(), records=range(4, 7), since_checkpoint=True)


def test_cat_and_export_give_the_lines_as_they_were_signed(trail: Path, tmp_path: Path) -> None:
    signed = (trail / "000000000000.jsonl").read_text()
    assert run("cat", trail).stdout == signed
    assert run("cat", trail, "--from", 6).stdout == "".join(signed.splitlines(keepends=True)[6:])
    done = run("export", tmp_path / "out", trail)
    assert (done.returncode, done.stdout) == (0, "")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "000000000000.jsonl",
        "head",
        "checkpoint",
        "verify_trail.py",
        "verify.html",
        "README.txt",
    }
    assert run("export", tmp_path / "out", trail).returncode == 2


def test_an_export_does_not_go_into_the_trail_and_knows_zip_by_any_case(trail: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(trail)
    before = sorted(trail.iterdir())
    for within in (trail / "out", tmp_path / "link" / "out.zip"):
        refused = run("export", within, trail)
        assert (refused.returncode, "lies within the trail itself" in refused.stderr) == (2, True)
    assert sorted(trail.iterdir()) == before
    assert run("export", tmp_path / "ex.ZIP", trail).returncode == 0
    assert "ex/head" in zipfile.ZipFile(tmp_path / "ex.ZIP").namelist()


def test_the_index_is_held_against_the_log_and_one_that_says_something_else_is_a_finding(trail: Path) -> None:
    none = run("reindex", "--check", trail)
    assert (none.returncode, "there is no index" in none.stderr) == (0, True)
    assert run("reindex", trail).returncode == 0
    good = run("reindex", "--check", trail, "--json")
    assert json.loads(good.stdout)["wrong"] == []
    unit = trail / "index" / "000000000000.unit"
    content = bytearray(unit.read_bytes())
    content[-1] ^= 1
    unit.write_bytes(content)
    bad = run("reindex", "--check", trail)
    assert (bad.returncode, "from record 0 on says something else" in bad.stderr) == (1, True)
    assert run("reindex", trail).returncode == 0
    assert run("reindex", "--check", trail).returncode == 0


def test_a_running_runtime_signs_a_checkpoint_and_a_stopped_one_gets_a_new_key(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def checkpoint_of_a_running_one() -> str:
        async with symbi.Runtime.open(data=data, mode="development") as runtime:
            refused = await asyncio.to_thread(run, "rotate", data / "trail")
            assert refused.returncode == 1, "it is open"
            return str(await act(runtime, "operator", {"command": "audit.checkpoint"}))

    kept = asyncio.run(checkpoint_of_a_running_one())
    first = symbi.AuditLog.open(data / "trail").fingerprint
    rotated = run("rotate", "--data", data)
    assert rotated.returncode == 0, rotated.stderr
    asyncio.run(checkpoint_of_a_running_one())
    found = symbi.AuditLog.open(data / "trail").verify(key=first, checkpoint=kept)
    assert (len(found.keys), found.keys[1], found.level) == (2, rotated.stdout.strip(), "complete")
