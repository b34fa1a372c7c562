"""What a stranger takes home verifies without us: a page of Python and a page for the browser agree with ours (A10).

The browser is a real one, headless, started once with many tampered trails; it has no network to ask.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import symbi
from symbi.audit import export, verify_trail
from symbi.audit.witness import Witness, keep_cosignature, witness_request
from symbi.errors import ChainBrokenError, CryptoError, InputError

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "data" / "trail-v1"
SEGMENT = "000000000000.jsonl"
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
LONG = "SYMBI_LONG" in os.environ


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    directory = tmp_path / "trail"
    with symbi.AuditLog.open(directory, "a") as log:
        log.append_many([("test.event", f"agent-{n % 2}", {"n": n, "text": 'é 😀 \\ "'}) for n in range(6)])
    return directory


def ours(trail: Path, kept: list[str]) -> int | None:
    try:
        symbi.AuditLog.open(trail).verify(checkpoint=kept)
    except ChainBrokenError as error:
        return error.seq
    return None


def page(trail: Path, kept: list[str]) -> int | None:
    try:
        verify_trail.verify(trail, None, tuple(kept))
    except verify_trail.Broken as error:
        return int(error.seq)
    return None


def test_xp1_an_export_verifies_with_its_own_page_and_overwrites_nothing(trail: Path, tmp_path: Path) -> None:
    for name in ("out", "out.zip"):
        export(trail, tmp_path / name)
        with pytest.raises(InputError):
            export(trail, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    fingerprint = symbi.AuditLog.open(trail).fingerprint
    for folder in (tmp_path / "out", tmp_path / "unpacked" / "out"):
        assert (folder / SEGMENT).read_bytes() == (trail / SEGMENT).read_bytes()
        command = [sys.executable, "verify_trail.py", ".", "--key", fingerprint]
        command += ["--checkpoint", str(trail / "checkpoint")]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["level"] == "complete"
        assert symbi.AuditLog.open(folder).verify(key=fingerprint).records == 8
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_export_of_a_broken_trail_is_as_broken_as_the_trail(trail: Path, tmp_path: Path) -> None:
    path = trail / SEGMENT
    path.write_bytes(path.read_bytes().replace(b'"n":3', b'"n":4'))
    export(trail, tmp_path / "out")
    assert ours(tmp_path / "out", []) == page(tmp_path / "out", []) == 5


def test_a10_the_page_agrees_on_checkpoints_good_and_bad(trail: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(trail, older)
    early = symbi.AuditLog.open(trail).checkpoint().text
    with symbi.AuditLog.open(trail, "a") as log:
        log.append("test.event", None, {})
    late = symbi.AuditLog.open(trail).checkpoint().text
    for kept in ([early], [late], [early, late]):
        assert ours(trail, kept) is None
        assert page(trail, kept) is None
    assert ours(older, [late]) == page(older, [late]) == 8
    dice = random.Random(3)  # noqa: S311 - a test's choice, to be repeated
    good = (trail / "checkpoint").read_bytes()
    for _ in range(1_000 if LONG else 60):
        changed = bytearray(good)
        changed[dice.randrange(len(good))] ^= 1 << dice.randrange(8)
        (trail / "checkpoint").write_bytes(changed)
        found = ours(trail, [])
        assert found is not None
        assert found == page(trail, [])


def test_a10_the_page_checks_proofs_as_ours_does(trail: Path, tmp_path: Path) -> None:
    log = symbi.AuditLog.open(trail)
    file = tmp_path / "event.tlog-proof"
    for seq in range(8):
        proof = log.prove(seq)
        assert verify_trail.check_proof(proof.text, log.fingerprint)["record"]["seq"] == seq
    file.write_text(log.prove(7).text)
    command = [sys.executable, verify_trail.__file__, str(file), "--key", log.fingerprint]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, json.loads(done.stdout)["level"]) == (0, "authentic")
    dice = random.Random(4)  # noqa: S311 - a test's choice, to be repeated
    good = log.prove(5).text.encode()
    for _ in range(2_000 if LONG else 300):
        changed = bytearray(good)
        changed[dice.randrange(len(good))] ^= 1 << dice.randrange(8)
        text = changed.decode(errors="surrogateescape")
        with pytest.raises((CryptoError, UnicodeEncodeError)):
            symbi.audit.Proof(text).check(log.fingerprint)
        with pytest.raises(verify_trail.FAULTS):
            verify_trail.check_proof(text, log.fingerprint)


def _tampered(dice: random.Random, lines: list[bytes]) -> list[bytes]:
    at, other, changed = dice.randrange(len(lines)), dice.randrange(len(lines)), list(lines)
    match dice.randrange(9):
        case 0 | 1 | 2:
            line = bytearray(changed[at])
            line[dice.randrange(len(line))] ^= 1 << dice.randrange(8)
            changed[at] = bytes(line)
        case 3:
            del changed[at]
        case 4:
            changed.insert(at, changed[other])
        case 5:
            changed[at], changed[other] = changed[other], changed[at]
        case 6:
            changed = changed[:at]
        case 7:
            changed = [*changed[:at], changed[at][: dice.randrange(len(changed[at]))]]
        case _:
            text = b'"details":{"a":1,"a":2,' if at % 2 else b'"details":{"x":1e999,'
            changed[at] = changed[at].replace(b'"details":{', text)
    return changed


_HARNESS = """
<script>
(async () => {
  const answers = [], counted = [], decode = data => Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
  for (const { files, given, key, kept, witnesses } of JSON.parse(document.getElementById("cases").textContent)) {
    let map = new Map(Object.entries(files).map(([name, data]) => [name, async () => decode(data)]));
    if (given) { // as the browser hands files over: their paths begin with the chosen folder, or are empty
      choose(given.map(([path, name, data]) => Object.defineProperty(new File([decode(data)], name), "webkitRelativePath", { value: path })));
      map = chosen;
      if (!map.size) { answers.push({ refused: $("verdict").textContent, waits: $("go").disabled }); continue }
    }
    try { const { counts, ...found } = await verifyTrail(map, key, kept, undefined, witnesses ?? []); answers.push(found); counted.push(Object.fromEntries(counts)) }
    catch (error) { answers.push({ seq: error.seq ?? null, reason: String(error.message) }) }
  }
  const key = unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"), empty = new Uint8Array();
  const good = unhex("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
  const bad = good.slice(); bad[3] ^= 1;
  const out = document.createElement("pre");
  out.id = "answers";
  out.textContent = btoa(JSON.stringify({ answers, counted, web, own: [signedHere(key, empty, good), signedHere(key, empty, bad), hex(sha256(bytes("abc"))), hex(sha512(bytes("abc"))).slice(0, 16)] }));
  document.body.append(out);
})();
</script>
"""


def _browser(tmp_path: Path, cases: list[dict[str, Any]], *, before: str = "") -> dict[str, Any]:
    """The page in a headless browser, with these cases put to its own function."""
    source = (ROOT / "python/symbi/audit/verify.html").read_text(encoding="utf-8")
    data = json.dumps(cases).replace("<", "\\u003c")
    extra = f'<script type="application/json" id="cases">{data}</script>'
    html = tmp_path / "harness.html"
    html.write_text(
        source.replace('"use strict";', f'"use strict";{before}', 1) + extra + _HARNESS, encoding="utf-8"
    )
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += ["--virtual-time-budget=9000000", "--dump-dom", html.as_uri()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=14_000 if LONG else 240, check=False
    )
    _, begin, rest = done.stdout.partition('<pre id="answers">')
    assert begin, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(base64.b64decode(rest.partition("<")[0]))
    return found


def _case(directory: Path, kept: list[str] | None = None, key: str | None = None) -> dict[str, Any]:
    files = {path.name: base64.b64encode(path.read_bytes()).decode() for path in directory.iterdir()}
    return {"files": files, "key": key, "kept": kept or []}


@pytest.mark.browser
@pytest.mark.parametrize("webcrypto", [True, False])
def test_a10_the_browser_names_the_same_record_of_every_tampered_trail(
    trail: Path, tmp_path: Path, webcrypto: bool
) -> None:
    dice = random.Random(2026 + webcrypto)  # noqa: S311 - a test's choice, to be repeated
    kept = symbi.AuditLog.open(trail).checkpoint().text
    fingerprint = symbi.AuditLog.open(trail).fingerprint
    vectors = symbi.AuditLog.open(VECTORS).verify()
    cases = [_case(trail, [kept], fingerprint), _case(VECTORS), _case(trail, [], "0" * 32)]
    expected: list[int | None] = [None, None, 0]
    heads = [False] * 3
    victim = tmp_path / "victim"
    for number in range(300 if LONG else 30 if webcrypto else 20):
        source = VECTORS if number % 2 else trail
        shutil.copytree(source, victim)
        of_head = False
        if number % 10 == 9:
            name = dice.choice(
                [path.name for path in victim.iterdir() if path.name in ("head", "checkpoint")]
            )
            data = bytearray((victim / name).read_bytes())
            data[dice.randrange(300)] ^= 1 << dice.randrange(7)
            (victim / name).write_bytes(data)
            of_head = name == "head"  # whichever record it is told of: that it does not hold is what counts
        else:
            lines = (victim / SEGMENT).read_bytes().splitlines(keepends=True)
            (victim / SEGMENT).write_bytes(b"".join(_tampered(dice, lines)))
        cases.append(_case(victim))
        heads.append(of_head)
        expected.append(ours(victim, []) if (victim / SEGMENT).stat().st_size else 0)
        shutil.rmtree(victim)
    without = "" if webcrypto else "Object.defineProperty(globalThis, 'crypto', { value: {} });"
    found = _browser(tmp_path, cases, before=without)
    assert found["web"] is webcrypto, "Ed25519 is the browser's, or the page's own"
    assert found["own"] == [
        True,
        False,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "ddaf35a193617aba",
    ]
    for number, (answer, seq, of_head) in enumerate(zip(found["answers"], expected, heads, strict=True)):
        agreed = (answer.get("seq") is None) == (seq is None) if of_head else answer.get("seq") == seq
        assert agreed, f"case {number}: ours {seq}, the browser {answer}"
    assert (found["answers"][0]["level"], found["answers"][0]["complete_to"]) == ("complete", 8)
    assert (found["answers"][1]["head"], found["answers"][1]["log_id"]) == (vectors.head, vectors.log_id)
    assert sum(seq is not None for seq in expected) > len(cases) * 0.7


def _sealed_with(directory: Path, *more: bytes) -> None:
    """Seals the one segment of a trail by hand, with more behind its records."""
    plain = directory / SEGMENT
    with subprocess.Popen(["zstd", "-qc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as packing:
        packed, _ = packing.communicate(b"".join([plain.read_bytes(), *more]))
    plain.unlink()
    sealed = packed + b"\x50\x2a\x4d\x18\x20\0\0\0" + hashlib.sha256(packed).digest()
    plain.with_name(SEGMENT + ".zst").write_bytes(sealed)


def test_a10_a_line_without_an_end_is_a_tail_only_where_a_writer_can_have_left_it(
    trail: Path, tmp_path: Path
) -> None:
    for name, more in (("line", b'{"v":1,'), ("zeros", bytes(300_000))):
        sealed = tmp_path / f"sealed-{name}"
        shutil.copytree(trail, sealed)
        _sealed_with(sealed, more)
        assert ours(sealed, []) == page(sealed, []) == 8, "what is sealed is whole"
        plain = tmp_path / f"plain-{name}"
        shutil.copytree(trail, plain)
        with (plain / SEGMENT).open("ab") as segment:
            segment.write(more)
        expected = None if name == "line" else 8  # no record is so long
        assert ours(plain, []) == page(plain, []) == expected
    shutil.rmtree(tmp_path / "sealed-line")
    shutil.copytree(trail, tmp_path / "sealed-line")
    _sealed_with(tmp_path / "sealed-line")
    assert ours(tmp_path / "sealed-line", []) is page(tmp_path / "sealed-line", []) is None


def test_a10_the_page_needs_no_memory_for_what_a_small_file_unpacks_to(trail: Path) -> None:
    _sealed_with(trail, bytes(200_000_000))
    assert (trail / (SEGMENT + ".zst")).stat().st_size < 100_000
    program = (
        "import sys; from pathlib import Path; from symbi.audit import verify_trail\n"
        "try: verify_trail.verify(Path(sys.argv[1]))\n"
        "except verify_trail.Broken as error: print(error.seq, end=' ')\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    command = [sys.executable, "-c", program, str(trail)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seq, used_kb = map(int, done.stdout.split())
    assert seq == 8
    assert used_kb < 120_000


def _given(*folders: tuple[str, Path]) -> dict[str, Any]:
    """Files as a browser hands them over; no path is told of those that were dropped."""
    given = [
        (f"{begin}/{path.name}" if begin else "", path.name, base64.b64encode(path.read_bytes()).decode())
        for begin, directory in folders
        for path in sorted(directory.iterdir())
        if path.is_file()
    ]
    return {"files": {}, "given": given, "key": None, "kept": []}


@pytest.mark.browser
def test_a10_the_browser_judges_the_files_of_the_chosen_folder_and_no_copy_within_it(
    trail: Path, tmp_path: Path
) -> None:
    genuine = tmp_path / "genuine"
    shutil.copytree(trail, genuine)
    path = trail / SEGMENT
    path.write_bytes(path.read_bytes().replace(b'"n":3', b'"n":4'))
    assert ours(trail, []) == page(trail, []) == 5
    cases = [
        _given(("trail", trail), ("trail/zz", genuine)),
        _given(("trail/aa", genuine), ("trail", trail)),
        _given(("trail", genuine), ("trail/zz", trail)),
        _given(("", trail), ("", genuine)),
        _given(("above/trail", genuine)),
    ]
    tampered, first, good, twice, above = _browser(tmp_path, cases)["answers"]
    assert (tampered.get("seq"), first.get("seq")) == (5, 5), "the genuine copy is not what was asked about"
    assert good["level"] == "consistent", "what lies in a folder within is another's"
    assert twice["waits"]
    assert "same name" in twice["refused"]
    assert above["waits"]
    assert "no files" in above["refused"]


def _pruned(tmp_path: Path) -> tuple[Path, str]:
    """An export of a trail that lost its beginning, and a checkpoint from before."""
    directory = tmp_path / "pruned"
    shutil.copytree(VECTORS.with_name("trail-v1-sealed"), directory)
    key = tmp_path / "pruned.key"
    key.write_text("01" * 32 + "\n")
    key.chmod(0o600)
    before = symbi.AuditLog.open(directory).checkpoint().text
    with symbi.AuditLog.open(directory, "a") as log:
        log.append("test.event", None, {})
        seq, _ = log.rotate()
        log.mark_compromised(log.fingerprint, seq - 1, reason="a test")
        assert log.prune("2999-01-01T00:00:00Z") is not None
    export(directory, tmp_path / "pruned-out")
    return tmp_path / "pruned-out", before


def _forge(directory: Path, count: int) -> None:
    """Appends records that nobody signed, as whoever can write there may: the chain has no secret."""
    segment = directory / SEGMENT
    last = json.loads(segment.read_bytes().splitlines()[-1])
    log_id, chain = bytes.fromhex(symbi.AuditLog.open(directory).log_id), bytes.fromhex(last["chain"])
    with segment.open("ab") as file:
        for seq in range(last["seq"] + 1, last["seq"] + 1 + count):
            record = {name: value for name, value in last.items() if name not in ("chain", "sig")}
            record |= {
                "v": 2,
                "seq": seq,
                "event_type": "operation.approve",
                "timestamp": "2999-01-01T00:00:00.000000Z",
            }
            body = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
            parts = (b"symbi/audit/chain/v1\0", log_id, seq.to_bytes(8, "big"), chain, body)
            chain = hashlib.sha256(b"".join(parts)).digest()
            file.write(body + f',"chain":"{chain.hex()}","sig":null}}\n'.encode())


@pytest.mark.browser
def test_a2_no_verifier_counts_records_that_nobody_signed(trail: Path, tmp_path: Path) -> None:
    kept = symbi.AuditLog.open(trail).checkpoint().text
    genuine = _case(trail)
    _forge(trail, 3)
    found = _browser(tmp_path, [genuine, _case(trail, [kept])])
    mine, theirs = (
        symbi.AuditLog.open(trail).verify(checkpoint=kept),
        verify_trail.verify(trail, None, (kept,)),
    )
    assert mine.records == theirs["records"] == found["answers"][1]["records"] == 8
    assert mine.tail_bytes == theirs["tail_bytes"] == found["answers"][1]["tail_bytes"] > 0
    assert found["counted"][0] == found["counted"][1], "the page lists what is signed"


@pytest.mark.browser
def test_a10_the_browser_takes_groups_pruned_trails_and_witnesses(trail: Path, tmp_path: Path) -> None:
    grouped = tmp_path / "grouped"
    with symbi.AuditLog.open(grouped, "a", signing="group") as log:
        log.append_many([("test.event", "agent", {"n": n}) for n in range(5)])
    pruned, before = _pruned(tmp_path)
    witness = Witness(tmp_path / "witness", "w.example/1", symbi.AuditLog.open(trail).verifier_keys())
    status, lines = witness.add_checkpoint(witness_request(trail, 0), 1_700_000_000)
    assert status == 200, lines
    keep_cosignature(trail, lines, witness.key)
    stranger = Witness(tmp_path / "other", "x.example/1", [])
    endless = tmp_path / "endless"
    shutil.copytree(trail, endless)
    with (endless / SEGMENT).open("ab") as segment:
        segment.write(bytes(300_000))
    cases = [
        _case(endless),
        _case(grouped),
        _case(pruned, [before]),
        _case(trail) | {"witnesses": [witness.key]},
        _case(trail) | {"witnesses": [stranger.key]},
    ]
    expected: list[int | None] = [8, None, None, None, 7]
    dice = random.Random(11)  # noqa: S311 - a test's choice, to be repeated
    victim = tmp_path / "victim"
    for number in range(160 if LONG else 16):
        source = grouped if number % 2 else pruned
        shutil.copytree(source, victim)
        names = [SEGMENT] if number % 2 else ["pruned", "tiles-0"]
        name = dice.choice(names)
        data = bytearray((victim / name).read_bytes())
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        (victim / name).write_bytes(data)
        cases.append(_case(victim))
        expected.append(ours(victim, []))
        shutil.rmtree(victim)
    assert all(seq is not None for seq in expected[5:])
    answers = _browser(tmp_path, cases)["answers"]
    for number, (answer, seq) in enumerate(zip(answers, expected, strict=True)):
        assert answer.get("seq") == seq, f"case {number}: ours {seq}, the browser {answer}"
    assert answers[1]["records"] == 7
    found = symbi.AuditLog.open(pruned).verify()
    assert (answers[2]["pruned"], answers[2]["complete_to"]) == (found.pruned, 22)
    assert answers[2]["distrusted"] == [[records.start, records.stop] for records in found.distrusted] != []
    assert answers[3]["witnessed"] == [1_700_000_000]
