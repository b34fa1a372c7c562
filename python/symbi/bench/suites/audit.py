"""The trail: what a durable, signed record costs, and what verifying one costs.

Peers do the same work from Python: a signed row in SQLite, a commit each; a signed line in a file, a sync per
hundred. Both with PyNaCl, both on the same disk, in the same minute.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing
from itertools import count, cycle, islice
from typing import TYPE_CHECKING, Literal

from symbi.bench import asking
from symbi.bench.frame import BenchContext, NotMeasured, Peer, Row, Sample, latency_us, rate, sample_ns

if TYPE_CHECKING:
    from pathlib import Path

    from nacl.signing import SigningKey

    from symbi import AuditLog
    from symbi.audit import AuditEvent

NAME, SUMMARY = "audit", "the trail: durable signed records, verification, proofs"

_RECORDS = 100_000  # a run
_GROUP = 1_000
_SINGLE = 2_000
_PEER_RECORDS = 10_000
_PEER_GROUP = 100  # what a careful hand-written log would sync together
_MILLION = 1_000_000  # what opening and proofs are promised for
_UNDER_LOAD = 500
_PROOFS = 200
_PROOF_BYTES_MAX = 2_048.0
_DETAILS = '{"tool":"files.read","arguments_digest":"5f1d7c0c5e2b","duration_us":412,"bytes":18230}'
_AGENT = "0b7c1f7e-3c0b-4d5e-9a55-6d8a3a1f2c11"
_fresh = count()


def rows(context: BenchContext) -> list[Row]:
    """The rows of this suite."""
    peers = (
        Peer("sqlite3+pynacl", _sqlite, _nacl_version()),
        Peer("sqlite3+pynacl, a commit per 100", _sqlite_grouped, _nacl_version()),
        Peer("file+pynacl", _file, _nacl_version()),
    )
    return [
        Row(
            NAME,
            "durable signed records in groups of 1,000",
            "records/s",
            "higher",
            measure=_append_many,
            target=150_000.0,
            peers=peers,
            durability="group commit",
            provider="aws-lc",
        ),
        Row(
            NAME,
            "durable signed records in groups of 1,000, one signer",
            "records/s",
            "higher",
            measure=_append_one_signer,
            target=90_000.0,
            durability="group commit",
            provider="aws-lc",
        ),
        Row(
            NAME,
            "durable records in groups of 1,000, a signature for each group",
            "records/s",
            "higher",
            measure=_append_grouped,
            durability="group commit",
            provider="aws-lc",
        ),
        Row(
            NAME,
            "acknowledgement of one record beside a full load in groups of 100, p99",
            "µs",
            "lower",
            measure=_acknowledged,
            target=10_000.0,
            durability="group commit",
            provider="aws-lc",
        ),
        Row(
            NAME,
            "one record, durable before the next",
            "µs",
            "lower",
            measure=_append_one,
            durability="each",
            provider="aws-lc",
        ),
        Row(
            NAME,
            "verify a trail",
            "records/s",
            "higher",
            measure=_verify,
            target=180_000.0,
            peers=(Peer("pynacl", _verify_nacl),),
        ),
        Row(
            NAME,
            "verify a trail, a signature for each group",
            "records/s",
            "higher",
            measure=_verify_grouped,
        ),
        Row(
            NAME,
            "one record of a sealed segment, read by its number",
            "µs",
            "lower",
            measure=_read_sealed,
        ),
        Row(
            NAME,
            "verify a trail since a checkpoint that covers it",
            "records/s",
            "higher",
            measure=_verify_since,
        ),
        Row(
            NAME,
            f"open after kill -9 with {context.scale(_MILLION):,} records",
            "s",
            "lower",
            measure=_open_killed,
            target=2.0,
        ),
        Row(
            NAME,
            f"proof of 1 in {context.scale(_MILLION):,}, size",
            "bytes",
            "lower",
            measure=_proof_size,
            target=_PROOF_BYTES_MAX,
        ),
        Row(
            NAME,
            f"proof of 1 in {context.scale(_MILLION):,}, made",
            "µs",
            "lower",
            measure=_prove,
            target=1_000.0,
        ),
        Row(
            NAME,
            f"proof of 1 in {context.scale(_MILLION):,}, checked",
            "µs",
            "lower",
            measure=_check,
            target=200.0,
        ),
        *asking.rows(context),
    ]


def _nacl_version() -> str:
    try:
        import nacl
    except ImportError:
        return ""
    return str(nacl.__version__)


def _key() -> SigningKey:
    try:
        from nacl.signing import SigningKey
    except ImportError as error:
        raise NotMeasured("`pip install pynacl` first") from error
    return SigningKey(bytes(32))


def _directory(context: BenchContext) -> Path:
    return context.directory / f"audit-{next(_fresh)}"


def _append_many(context: BenchContext) -> Sample:
    return _append_with(context, None)


def _append_one_signer(context: BenchContext) -> Sample:
    return _append_with(context, 1)


def _append_grouped(context: BenchContext) -> Sample:
    return _append_with(context, None, "group")


def _append_with(
    context: BenchContext, signers: int | None, signing: Literal["event", "group"] = "event"
) -> Sample:
    from symbi import AuditLog

    total = context.scale(_RECORDS, floor=_GROUP)
    group = [("tool.called", _AGENT, _DETAILS)] * _GROUP
    with AuditLog.open(_directory(context), "a", signers=signers, signing=signing) as log:

        def work() -> None:
            for _ in range(total // _GROUP - 1):
                log.append_many(group, wait=False)
            log.append_many(group)

        return rate(work, total // _GROUP * _GROUP)


def _append_one(context: BenchContext) -> Sample:
    from symbi import AuditLog

    with AuditLog.open(_directory(context), "a") as log:
        times = sample_ns(
            lambda: log.append("tool.called", _AGENT, _DETAILS), context.scale(_SINGLE, floor=100)
        )
    return latency_us(times)


def _acknowledged(context: BenchContext) -> Sample:
    """What one caller waits for its record while another hands in groups as fast as they are taken."""
    from symbi import AuditLog

    group = [("tool.called", _AGENT, _DETAILS)] * _PEER_GROUP
    stop = threading.Event()
    with AuditLog.open(_directory(context), "a") as log:

        def load() -> None:
            while not stop.is_set():
                log.append_many(group, wait=False)

        loader = threading.Thread(target=load)
        loader.start()
        try:
            count = context.scale(_UNDER_LOAD, floor=100)
            found = latency_us(sample_ns(lambda: log.append("tool.called", _AGENT, _DETAILS), count))
        finally:
            stop.set()
            loader.join()
    return Sample(found.p99 or found.value, found.p50, found.p99)


def _million(context: BenchContext) -> Path:
    """A million records, or a tenth with `--quick`, with the checkpoint that closing leaves."""
    from symbi import AuditLog

    directory = _directory(context)
    with AuditLog.open(directory, "a") as log:
        group = [("tool.called", _AGENT, _DETAILS)] * 10_000
        for _ in range(context.scale(_MILLION) // 10_000):
            log.append_many(group, wait=False)
    return directory


def _open_killed(context: BenchContext) -> Sample:
    """Another process opens it, appends and is killed; then the time until it takes records again."""
    from symbi import AuditLog

    directory = context.once("audit-million", lambda: _million(context))
    pid = os.fork()
    if pid == 0:
        log = AuditLog.open(directory, "a")
        log.append_many([("tool.called", _AGENT, _DETAILS)] * 100, wait=False)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    begin = time.perf_counter()
    log = AuditLog.open(directory, "a")
    opened_s = time.perf_counter() - begin
    log.close()
    return Sample(opened_s)


def _proven(context: BenchContext) -> tuple[AuditLog, list[AuditEvent]]:
    """The trail, and records all over it as a query would give them."""
    from symbi import AuditLog

    directory = context.once("audit-million", lambda: _million(context))
    log = AuditLog.open(directory)
    total = context.scale(_MILLION)
    events: list[AuditEvent] = []
    for seq in range(2, total, total // 10):
        events += islice(log.tail(seq), context.scale(_PROOFS, floor=100) // 10)
    log.prove(events[0])  # opens the tree once
    return log, events


def _prove(context: BenchContext) -> Sample:
    log, events = context.once("audit-proven", lambda: _proven(context))
    following = cycle(events)
    return latency_us(sample_ns(lambda: log.prove(next(following)), len(events)))


def _check(context: BenchContext) -> Sample:
    log, events = context.once("audit-proven", lambda: _proven(context))
    proofs = cycle([log.prove(event) for event in events])
    return latency_us(sample_ns(lambda: next(proofs).check(log.fingerprint), len(events)))


def _proof_size(context: BenchContext) -> Sample:
    log, events = context.once("audit-proven", lambda: _proven(context))
    return Sample(float(max(len(log.prove(event).text.encode()) for event in events)))


def _trail(context: BenchContext, signing: Literal["event", "group"] = "event") -> Path:
    from symbi import AuditLog

    directory = _directory(context)
    with AuditLog.open(directory, "a", signing=signing) as log:
        log.append_many([("tool.called", _AGENT, _DETAILS)] * context.scale(_RECORDS, floor=_GROUP))
    return directory


def _verify(context: BenchContext) -> Sample:
    from symbi import AuditLog

    log = AuditLog.open(context.once("audit-trail", lambda: _trail(context)))
    return rate(log.verify, context.scale(_RECORDS, floor=_GROUP))


def _verify_grouped(context: BenchContext) -> Sample:
    from symbi import AuditLog

    log = AuditLog.open(context.once("audit-grouped", lambda: _trail(context, "group")))
    return rate(log.verify, context.scale(_RECORDS, floor=_GROUP))


def _read_sealed(context: BenchContext) -> Sample:
    """Records all over the first segment of the large trail, which is sealed where it is full."""
    from symbi import AuditLog

    log = AuditLog.open(context.once("audit-million", lambda: _million(context)))
    wanted = cycle(range(2, context.scale(_MILLION) // 12, context.scale(_MILLION) // 1_200))
    return latency_us(sample_ns(lambda: log.record(next(wanted)), context.scale(_PROOFS, floor=50)))


def _verify_since(context: BenchContext) -> Sample:
    from symbi import AuditLog

    log = AuditLog.open(context.once("audit-trail", lambda: _trail(context)))
    kept = log.checkpoint()
    return rate(
        lambda: log.verify(checkpoint=kept, since_checkpoint=True), context.scale(_RECORDS, floor=_GROUP)
    )


def _verify_nacl(context: BenchContext) -> Sample:
    """The signatures and a hash of as many records; no parsing, no files."""
    total = context.scale(_PEER_RECORDS, floor=1_000)
    key = _key()
    message = hashlib.sha256(_DETAILS.encode()).digest()
    signature = key.sign(message).signature

    def work() -> None:
        for _ in range(total):
            key.verify_key.verify(hashlib.sha256(_DETAILS.encode()).digest(), signature)

    return rate(work, total)


def _line(key: SigningKey, seq: int, previous: bytes) -> tuple[str, bytes]:
    """A record as one would write it by hand: the same fields, chained and signed."""
    body = json.dumps(
        {"seq": seq, "time": time.time(), "agent": _AGENT, "type": "tool.called", "details": _DETAILS}
    )
    chain = hashlib.sha256(previous + body.encode()).digest()
    return f"{body}\t{chain.hex()}\t{key.sign(chain).signature.hex()}\n", chain


def _sqlite(context: BenchContext) -> Sample:
    return _sqlite_with(context, context.scale(_PEER_RECORDS // 5, floor=200), 1)


def _sqlite_grouped(context: BenchContext) -> Sample:
    return _sqlite_with(context, context.scale(_PEER_RECORDS, floor=1_000), _PEER_GROUP)


def _sqlite_with(context: BenchContext, total: int, group: int) -> Sample:
    key = _key()
    with closing(
        sqlite3.connect(context.directory / f"peer-{next(_fresh)}.db", isolation_level=None)
    ) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, line TEXT)")

        def work() -> None:
            chain = bytes(32)
            for seq in range(total):
                line, chain = _line(key, seq, chain)
                if seq % group == 0 and group > 1:
                    database.execute("BEGIN")
                database.execute("INSERT INTO log VALUES (?, ?)", (seq, line))
                if seq % group == group - 1 and group > 1:
                    database.execute("COMMIT")
            if database.in_transaction:
                database.execute("COMMIT")

        return rate(work, total)


def _file(context: BenchContext) -> Sample:
    total = context.scale(_PEER_RECORDS, floor=1_000)
    key = _key()
    with (context.directory / f"peer-{next(_fresh)}.jsonl").open("w") as file:

        def work() -> None:
            chain = bytes(32)
            for seq in range(total):
                line, chain = _line(key, seq, chain)
                file.write(line)
                if seq % _PEER_GROUP == _PEER_GROUP - 1:
                    file.flush()
                    os.fdatasync(file.fileno())

        return rate(work, total)
