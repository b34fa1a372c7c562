"""Reports: a trail held against controls; what is missing is a gap, and a trail that does not hold is evidence of nothing."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from symbi import AuditLog
from symbi.audit import Proof
from symbi.audit.framework import built_in, load
from symbi.audit.report import report
from symbi.cli.main import main
from symbi.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

HOUSE = """
name = "house"
title = "House rules"
[[control]]
id = "H1"
title = "Refusals are on record"
evidence = [{ says = "{count} refusals", query = { event_type = "operation.denied" } }]
[[control]]
id = "H2"
title = "Persons approve"
evidence = [{ says = "{count} approvals", query = { event_type = "approval.requested" } }]
[[control]]
id = "H3"
title = "Both"
evidence = [
  { says = "{count} refusals of <b>x</b>", query = { rule = "no-<script>" } },
  { says = "{count} approvals", query = { event_type = "approval.requested" } },
  { says = "it holds: {verified}", fact = "verified", required = false },
]
[[control]]
id = "H4"
title = "The key is known"
evidence = [{ says = "signed as expected", fact = "authentic" }, { says = "kept elsewhere", fact = "complete" }]
"""


def _trail(path: Path) -> AuditLog:
    log = AuditLog.open(path, "a")
    log.append_many(
        [("operation.denied", "a", {"number": number, "rules": ["no-<script>"]}) for number in range(20)]
        + [("operation", "a", {"resource": '<img src="x">'})]
    )
    log.close()
    return log


def _trail_of(path: Path, refusals: int) -> AuditLog:
    log = AuditLog.open(path, "a")
    log.append_many([("operation.denied", "a", {})] * refusals)
    return log


def _house(tmp_path: Path) -> Path:
    file = tmp_path / "house.toml"
    file.write_text(HOUSE)
    return file


def _forge(directory: Path, count: int, time: str | None = None) -> None:
    """Appends records that nobody signed, as whoever can write there may: the chain has no secret."""
    segment = directory / "000000000000.jsonl"
    last = json.loads(segment.read_bytes().splitlines()[-1])
    log_id, chain = bytes.fromhex(AuditLog.open(directory).log_id), bytes.fromhex(last["chain"])
    with segment.open("ab") as file:
        for seq in range(last["seq"] + 1, last["seq"] + 1 + count):
            record = {name: value for name, value in last.items() if name not in ("chain", "sig")}
            record |= {"v": 2, "seq": seq, "event_type": "approval.requested"}
            record |= {"timestamp": time or record["timestamp"]}
            body = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
            parts = (b"symbi/audit/chain/v1\0", log_id, seq.to_bytes(8, "big"), chain, body)
            chain = hashlib.sha256(b"".join(parts)).digest()
            file.write(body + f',"chain":"{chain.hex()}","sig":null}}\n'.encode())


@pytest.mark.parametrize("time", [None, "2999-01-01T00:00:00.000000Z"])
def test_rp1_records_that_nobody_signed_are_no_evidence_and_move_no_time(
    tmp_path: Path, time: str | None
) -> None:
    log = _trail(tmp_path / "trail")
    given = {"key": log.fingerprint, "checkpoints": [log.checkpoint().text]}
    before = report(log, load(_house(tmp_path)), **given)
    _forge(log.directory, 3, time)
    found = report(log, load(_house(tmp_path)), **given)
    assert found.verification is not None
    assert found.verification.tail_bytes
    assert (found.until, found.series) == (before.until, before.series)
    counted = [
        [(one.count, one.events) for control in told.controls[:3] for one in control.findings]
        for told in (before, found)
    ]
    assert counted[0] == counted[1]
    assert all(before.events[seq] == event for seq, event in found.events.items())


def test_rp2_a_control_without_evidence_is_a_gap_and_never_green(tmp_path: Path) -> None:
    log = _trail(tmp_path / "trail")
    found = report(log, load(_house(tmp_path)))
    assert {one.control.id: one.status for one in found.controls} == {
        "H1": "evidence",
        "H2": "gap",
        "H3": "partial",
        "H4": "gap",
    }
    assert [one.control.id for one in found.gaps()] == ["H2", "H3", "H4"]
    kept = log.checkpoint()
    known = report(log, load(_house(tmp_path)), key=log.fingerprint, checkpoints=[kept.text])
    assert known.controls[3].status == "evidence"
    page = found.to_html()
    assert re.search(r'<article class="card gap" id="c-H2">', page)
    assert 'class="chip evidence">evidence' in page.split('id="c-H1"')[1].split("</article>")[0]


def test_rp3_every_event_that_a_sentence_names_stands_there_with_its_line_and_its_proof(
    tmp_path: Path,
) -> None:
    log = _trail(tmp_path / "trail")
    found = report(log, load(_house(tmp_path)))
    finding = found.controls[0].findings[0]
    assert finding.count == 20
    assert finding.events == (2, 3, 4, 19, 20, 21), "the first ones and the last ones"
    told = json.loads(json.dumps(found.to_json(), default=str))
    named = {seq for one in told["controls"] for said in one["evidence"] for seq in said["events"]}
    assert named == {event["seq"] for event in told["events"]}
    for event in told["events"]:
        proven = Proof(event["proof"]).check(log.fingerprint)
        assert (proven.event.seq, proven.event.line) == (event["seq"], event["line"])
    page = found.to_html()
    linked = set(re.findall(r'href="#e-(\d+)"', page))
    assert linked
    assert linked == set(re.findall(r'id="e-(\d+)"', page))


def test_rp1_rh3_a_trail_that_does_not_hold_is_told_first_and_is_evidence_of_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _trail(tmp_path / "trail")
    segment = tmp_path / "trail" / "000000000000.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"number":7', b'"number":8'))
    found = report(log, load(_house(tmp_path)))
    assert (found.verified, found.broken_seq) == (False, 9)
    assert {one.status for one in found.controls} == {"unverified"}
    body = found.to_html().split("<body>")[1].lstrip()
    assert body.startswith('<p class="banner broken"')
    assert "evidence</span>" not in body
    first = json.dumps(found.to_json())
    assert first.startswith('{"verified": false')
    rows = list(csv.reader(io.StringIO(found.to_csv())))
    assert rows[1][3].startswith("NOT VERIFIED")
    assert len(rows) == 2, "no sentence stands in it"
    out = tmp_path / "report.html"
    arguments = ["audit", "report", "--framework", str(_house(tmp_path)), "--out", str(out)]
    assert main([*arguments, str(tmp_path / "trail")]) == 1
    assert "broken" in capsys.readouterr().err
    assert out.read_text().split("<body>")[1].lstrip().startswith('<p class="banner broken"')


def test_rp1_a_trail_whose_end_cannot_even_be_read_is_reported_so(tmp_path: Path) -> None:
    log = _trail(tmp_path / "trail")
    segment = tmp_path / "trail" / "000000000000.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"number":7', b'"number":"'))
    found = report(log, load(_house(tmp_path)))
    assert (found.verified, found.broken_seq) == (False, 9)
    assert 'class="banner broken"' in found.to_html()


def test_rh1_rh2_no_text_of_a_trail_stands_in_the_page_unescaped(tmp_path: Path) -> None:
    framework = tmp_path / "tools.toml"
    framework.write_text(
        'name = "t"\ntitle = "T<i>"\n[[control]]\nid = "1<u>"\ntitle = "x"\n'
        'evidence = [{ says = "{count} <em>", query = { event_type = "operation" } }]\n'
    )
    page = report(_trail(tmp_path / "trail"), load(framework)).to_html()
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    for bad in ("<img", "<script", "<i>", "<u>", "<em>", "http://", "https://", "url("):
        assert bad not in page, bad
    assert "&lt;img src=" in page


def test_rp4_a_checkpoint_of_a_part_is_told_as_that_part_and_is_no_evidence_that_nothing_is_missing(
    tmp_path: Path,
) -> None:
    framework = tmp_path / "complete.toml"
    framework.write_text(
        'name = "c"\ntitle = "C"\n[[control]]\nid = "H1"\ntitle = "t"\n'
        'evidence = [{ says = "nothing is missing: {verified}", fact = "complete" }]\n'
    )
    with _trail_of(tmp_path / "trail", 3) as log:
        middle = log.append("note", "a", {})  # waits for the disk, so what follows is later
        early = log.checkpoint()
        log.append_many([("operation.denied", "a", {})] * 500)
    part = report(log, load(framework), key=log.fingerprint, checkpoints=[early.text])
    (control,) = part.controls
    assert (control.status, part.vouched) == ("gap", False)
    assert control.findings[0].says == "nothing is missing: 506 records, complete for the first 6"
    page = part.to_html()
    assert "no checkpoint vouches for records 6 to 505" in page
    assert "records verified: complete</span>" not in page
    assert "506 records, complete for the first 6" in part.to_csv()
    # Of a time that the checkpoint covers nothing is missing, however the trail went on.
    before = report(log, load(framework), until=middle.timestamp, checkpoints=[early.text])
    assert (before.controls[0].status, before.vouched) == ("evidence", True)
    just_after = report(
        log, load(framework), until=middle.timestamp + timedelta(microseconds=1), checkpoints=[early.text]
    )
    assert just_after.controls[0].status == "gap", "records of that time may have come after the checkpoint"
    whole = report(log, load(framework), checkpoints=[log.checkpoint().text])
    assert whole.controls[0].findings[0].says == "nothing is missing: 506 records, complete"
    assert whole.controls[0].status == "evidence"
    with (tmp_path / "trail" / "000000000000.jsonl").open("ab") as segment:
        segment.write(b'{"v":1,')
    torn = report(log, load(framework), checkpoints=[log.checkpoint().text])
    assert torn.controls[0].status == "gap", "nobody vouches for the last bytes"


def test_rp4_records_signed_with_a_key_that_others_had_are_no_evidence_of_who_signed(tmp_path: Path) -> None:
    with _trail_of(tmp_path / "trail", 3) as log:
        root, (seq, _) = log.fingerprint, log.rotate()
        log.mark_compromised(root, seq - 1, reason="a test")
    found = report(log, load(_house(tmp_path)), key=root, checkpoints=[log.checkpoint().text])
    assert found.verification is not None
    assert found.verification.distrusted
    assert found.controls[3].status == "gap"
    assert f"{seq - 1} to {seq} signed with a key that others had" in found.controls[2].findings[2].says


def test_only_the_period_counts(tmp_path: Path) -> None:
    with _trail_of(tmp_path / "trail", 5) as log:
        middle = log.append("note", "a", {})  # waits for the disk, so what follows is later
        log.append_many([("operation.denied", "a", {})] * 7)
    found = report(log, load(_house(tmp_path)), since=middle.timestamp)
    assert found.controls[0].findings[0].count == 7
    assert [sum(series.counts) for series in found.series] == [8, 0]
    assert found.verification is not None
    assert found.verification.records == 2 + 5 + 8, "verified was all of it"
    with pytest.raises(InputError, match="no time between"):
        report(log, load(_house(tmp_path)), since=middle.timestamp, until=middle.timestamp)


@pytest.mark.parametrize("name", built_in())
def test_the_frameworks_that_come_with_symbi_are_read_and_reported(tmp_path: Path, name: str) -> None:
    found = report(_trail(tmp_path / "trail"), load(name))
    assert found.framework.name == name
    assert len(found.controls) >= 7
    assert any(one.status == "gap" for one in found.controls), "this trail shows little"
    found.to_html()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("title", "titel"), "has no `titel`"),
        (('event_type = "approval', 'evnt = "approval'), "has no `evnt`"),
        (('fact = "verified"', 'fact = "green"'), "no fact `green`"),
        (("{count} approvals", "{counted} approvals"), "takes `{count}`"),
        (('id = "H2"', 'id = "H1"'), "twice"),
        (("[[control]]", "[[controls]]"), "has no `controls`"),
        (
            ('query = { event_type = "operation.denied" } }', "query = {}, required = false }"),
            "requires nothing",
        ),
        ((', query = { event_type = "operation.denied" } }', " }"), "either a `query` or a `fact`"),
    ],
)
def test_fw1_fw2_a_file_says_what_it_means_or_is_refused(
    tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    file = tmp_path / "house.toml"
    file.write_text(HOUSE.replace(*change))
    with pytest.raises(InputError, match=re.escape(told)):
        load(file)
    with pytest.raises(InputError, match="neither a file nor one of ai-act"):
        load("hippa")
