"""The trail: what a durable, signed record costs, and what verifying one costs.

Peers do the same work from Python: a signed row in SQLite, a commit each; a signed line in a file, a sync per
hundred. Both with PyNaCl, both on the same disk, in the same minute.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

from symbi.bench.frame import BenchContext, NotMeasured, Peer, Row, Sample, latency_us, rate, sample_ns

if TYPE_CHECKING:
    from pathlib import Path

    from nacl.signing import SigningKey

NAME, SUMMARY = "audit", "the trail: durable signed records, verification"

_RECORDS = 100_000  # a run
_GROUP = 1_000
_SINGLE = 2_000
_PEER_RECORDS = 10_000
_PEER_GROUP = 100  # what a careful hand-written log would sync together
_DETAILS = '{"tool":"files.read","arguments_digest":"5f1d7c0c5e2b","duration_us":412,"bytes":18230}'
_AGENT = "0b7c1f7e-3c0b-4d5e-9a55-6d8a3a1f2c11"
_fresh = count()


def rows(context: BenchContext) -> list[Row]:  # noqa: ARG001
    """The rows of this suite."""
    peers = (Peer("sqlite3+pynacl", _sqlite, _nacl_version()), Peer("file+pynacl", _file, _nacl_version()))
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
    from symbi import AuditLog

    total = context.scale(_RECORDS, floor=_GROUP)
    group = [("tool.called", _AGENT, _DETAILS)] * _GROUP
    with AuditLog.open(_directory(context), "a") as log:

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


def _trail(context: BenchContext) -> Path:
    from symbi import AuditLog

    directory = _directory(context)
    with AuditLog.open(directory, "a") as log:
        log.append_many([("tool.called", _AGENT, _DETAILS)] * context.scale(_RECORDS, floor=_GROUP))
    return directory


def _verify(context: BenchContext) -> Sample:
    from symbi import AuditLog

    log = AuditLog.open(context.once("audit-trail", lambda: _trail(context)))
    return rate(log.verify, context.scale(_RECORDS, floor=_GROUP))


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
    total = context.scale(_PEER_RECORDS // 5, floor=200)
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
                database.execute("INSERT INTO log VALUES (?, ?)", (seq, line))

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
