"""Verify a symbi trail without symbi: `python verify_audit_log.py DIRECTORY [FINGERPRINT]`.

Why: a trail is worth something only if a stranger can check it with tools of their own. This page follows
docs/formats/audit-log.md alone; it needs the standard library and PyNaCl (or `cryptography`), and the `zstd`
program only where segments are sealed. It reads everything and writes nothing.
Exit 0 good, 1 broken, 2 wrong use.
Not here: repair, checkpoints kept elsewhere (without one, a trail cut back to an older head is not noticed).
"""

import base64
import datetime
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

FIELDS = ["v", "seq", "event_id", "timestamp", "mono", "boot", "key", "event_type", "agent_id", "run", "op"]
FIELDS += ["decision", "policy", "labels", "subjects", "details", "personal"]
SUFFIX = re.compile(rb',"chain":"([0-9a-f]{64})","sig":"([A-Za-z0-9+/]{86}==)"\}\n')
SUFFIX_BYTES, SLOT_BYTES, INTEGER_MAX, DEPTH_MAX, LINE_MAX = 174, 4096, 2**53, 64, 256 * 1024
TRAILER = b"\x50\x2a\x4d\x18\x20\0\0\0"  # a skippable zstd frame of 32 bytes
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
TEXT, TEXTS = (str, type(None)), ("agent_id", "run", "op", "decision", "policy")


class Broken(Exception):  # noqa: N818 - a finding, not a fault of this program
    """The first record that fails, and why."""

    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(f"record {seq}: {reason}")
        self.seq, self.reason = seq, reason


def signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public`'s Ed25519 signature over `message`."""
    try:
        from nacl.exceptions import BadSignatureError as Refused
        from nacl.signing import VerifyKey

        check = VerifyKey(public).verify
    except ImportError:
        from cryptography.exceptions import InvalidSignature as Refused
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        def check(message: bytes, signature: bytes) -> None:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)

    try:
        check(message, signature)
    except Refused:
        return False
    return True


def key_id(public: bytes) -> str:
    return hashlib.sha256(b"ed25519" + public).hexdigest()[:32]


def unbase64(text: str, size: int) -> bytes:
    """Canonical base64 of exactly `size` bytes: re-encoding gives the same text, so no bit can hide."""
    data = base64.b64decode(text.encode(), validate=True)  # binascii.Error is a ValueError
    if len(data) != size or base64.b64encode(data).decode() != text:
        raise ValueError("base64 is not canonical")
    return data


def no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a key appears twice")
    return dict(pairs)


def check_values(value: object, *, floats: bool, depth: int = 1) -> None:
    """Integers up to 2**53, finite floats only where allowed, no lone surrogates, 64 levels."""
    if isinstance(value, str):
        value.encode()  # a lone surrogate cannot be encoded: UnicodeEncodeError is a ValueError
    elif isinstance(value, float):
        if not floats or value in (float("inf"), float("-inf")):
            raise ValueError("a float where none may be")
    elif isinstance(value, int) and abs(value) > INTEGER_MAX:
        raise ValueError("an integer past 2**53")
    elif isinstance(value, list | dict):
        if depth > DEPTH_MAX:
            raise ValueError("nested too deep")
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            check_values(part, floats=floats, depth=depth + 1)


def parse(text: bytes) -> dict[str, object]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    value = json.loads(text.decode(), object_pairs_hook=no_duplicates, parse_constant=refuse)
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def check_fields(record: dict[str, object]) -> None:
    """Names in order, a type for each; what may stand after `personal` is for later versions."""
    if list(record)[: len(FIELDS)] != FIELDS or list(record)[-2:] != ["chain", "sig"]:
        raise ValueError("fields are missing or out of order")
    for name, value in record.items():
        check_values(value, floats=name in ("details", "personal"))
    lists = all(isinstance(record[name], list) for name in ("labels", "subjects"))
    checks = {
        "a number": all(type(record[name]) is int and record[name] >= 0 for name in ("v", "seq", "mono")),
        "a UUID": all(UUID.fullmatch(record[name]) for name in ("event_id", "boot")),
        "text or null": all(isinstance(record[name], TEXT) for name in TEXTS),
        "text": isinstance(record["event_type"], str) and isinstance(record["key"], str),
        "a list": lists and all(isinstance(item, str) for item in [*record["labels"], *record["subjects"]]),
        "an object": isinstance(record["details"], dict) and isinstance(record["personal"], dict | None),
        "a time": bool(TIME.fullmatch(record["timestamp"])) and record["timestamp"] >= "1970",
        "version 1": record["v"] == 1,
    }
    for what, good in checks.items():
        if not good:
            raise ValueError(f"a field is not {what}")
    datetime.datetime.strptime(record["timestamp"], "%Y-%m-%dT%H:%M:%S.%f%z")  # a date that exists


class Trail:
    """The state of a verification: where the chain stands, and whose turn it is to sign."""

    def __init__(self) -> None:
        self.seq, self.chain, self.log_id, self.public, self.time = 0, bytes(32), b"", b"", ""
        self.keys: list[bytes] = []
        self.signer = b""  # of the last record
        self.points: dict[int, tuple[str, bytes, int, int]] = {}  # records -> chain, signer, segment, length

    def record(self, line: bytes) -> None:
        """Check one line, newline included, and move on."""
        suffix = SUFFIX.fullmatch(line[-SUFFIX_BYTES:])
        if suffix is None or len(line) > LINE_MAX:
            raise ValueError("the suffix is not chain and signature")
        body = line[:-SUFFIX_BYTES]
        record = parse(line)
        check_fields(record)
        details = record["details"]
        if record["seq"] != self.seq:
            raise ValueError(f"its number is {record['seq']}")
        if (record["event_type"] == "log.created") != (self.seq == 0):
            raise ValueError("`log.created` is record 0, and only that")
        if self.seq == 0:
            if details["format"] != 1 or not re.fullmatch(r"[0-9a-f]{32}", details["log_id"]):
                raise ValueError("an unknown format or a bad log id")
            if not isinstance(details["policy"], str):
                raise ValueError("no policy digest")
            self.log_id = bytes.fromhex(details["log_id"])
            self.public = unbase64(details["root_key"], 32)
            self.keys = [self.public]
        if record["key"] != key_id(self.public):
            raise ValueError("not signed with the key whose turn it is")
        if record["timestamp"] < self.time:
            raise ValueError("its time is before the last record's")
        number = self.seq.to_bytes(8, "big")
        chain = hashlib.sha256(b"symbi/audit/chain/v1\0" + self.log_id + number + self.chain + body).digest()
        if chain.hex().encode() != suffix[1]:
            raise ValueError("the chain does not match the body and the records before it")
        if not signed(self.public, b"symbi/audit/event/v1\0" + chain, unbase64(suffix[2].decode(), 64)):
            raise ValueError("the signature does not verify")
        self.signer = self.public
        if record["event_type"] == "key.rotated":
            new = unbase64(details["new_key"], 32)
            message = b"symbi/audit/rotation/v1\0" + self.log_id + number + self.public + new
            if not signed(new, message, unbase64(details["new_sig"], 64)):
                raise ValueError("the new key did not sign the rotation")
            self.public = new
            self.keys.append(new)
        self.seq, self.chain, self.time = self.seq + 1, chain, record["timestamp"]


def segment_lines(path: Path) -> list[bytes]:
    """Its lines with their newlines; the last may have none. A sealed one holds its own digest."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        frame, trailer = data[:-40], data[-40:]
        if trailer != TRAILER + hashlib.sha256(frame).digest():
            raise ValueError("the sealed segment is not the one that was sealed")
        done = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=False)
        if done.returncode:
            raise ValueError(f"zstd: {done.stderr.decode(errors='replace').strip()}")
        data = done.stdout
    return [line + b"\n" for line in data.split(b"\n")[:-1]] + [
        last for last in [data.rpartition(b"\n")[2]] if last
    ]


def segments(directory: Path) -> list[tuple[int, Path]]:
    """Each once, in order; where plain and compressed both stand (a crash while sealing), the plain one."""
    found: dict[int, Path] = {}
    for path in sorted(directory.iterdir(), reverse=True):  # `.jsonl.zst` first, so that the plain one stays
        name = re.fullmatch(r"([0-9]{12})\.jsonl(\.zst)?", path.name)
        if name:
            found[int(name[1])] = path
    return sorted(found.items())


def head_slots(directory: Path) -> list[tuple[dict[str, object], bytes]]:
    """The two slots of `head`, each a signed line and zeros up to its end."""
    data = (directory / "head").read_bytes()
    if len(data) != 2 * SLOT_BYTES:
        raise ValueError("`head` is not two slots")
    slots = []
    for slot in (data[:SLOT_BYTES], data[SLOT_BYTES:]):
        line = slot.rstrip(b"\0")
        match = re.fullmatch(rb'(.*),"sig":"([A-Za-z0-9+/]{86}==)"\}\n', line)
        if match is None:
            raise ValueError("a slot of `head` is not a signed line")
        fields = parse(line)
        if list(fields) != ["v", "log_id", "records", "chain", "segment", "length", "key", "sig"]:
            raise ValueError("a slot of `head` has other fields")
        if not all(type(fields[name]) is int for name in ("v", "records", "segment", "length")):
            raise ValueError("a slot of `head` has a number that is none")
        slots.append((fields, b"symbi/audit/head/v1\0" + match[1]))
    return slots


def verify(directory: Path, fingerprint: str | None = None) -> dict[str, object]:
    """Check everything; raises `Broken`. The answer says how far its word goes."""
    trail = Trail()
    try:
        slots = head_slots(directory)
    except (ValueError, TypeError, OSError) as error:
        raise Broken(0, f"head: {error}") from error
    found = segments(directory)
    known, tail = max(slot["records"] for slot, _ in slots), 0
    for at, (first, path) in enumerate(found):
        if first != trail.seq:
            raise Broken(trail.seq, f"the next segment is {path.name}")
        offset = 0
        try:
            for line in segment_lines(path):
                if not line.endswith(b"\n") and at == len(found) - 1 and trail.seq >= known:
                    tail = len(line)  # beyond head and without an end: being written, or left by a crash
                    break
                trail.record(line)
                offset += len(line)
                trail.points[trail.seq] = (trail.chain.hex(), trail.signer, first, offset)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Broken(trail.seq, str(error)) from error
    if not trail.seq:
        raise Broken(0, "there are no records")
    for slot, message in slots:
        point = trail.points.get(slot["records"], (bytes(32).hex(), trail.keys[0], 0, 0))
        if slot["records"] > trail.seq:
            raise Broken(trail.seq, f"head names {slot['records']} records")
        named = (slot["v"], slot["log_id"], slot["chain"], slot["key"], slot["segment"], slot["length"])
        if named != (1, trail.log_id.hex(), point[0], key_id(point[1]), *point[2:]):
            raise Broken(max(slot["records"] - 1, 0), "head does not name this record")
        if not signed(point[1], message, unbase64(slot["sig"], 64)):
            raise Broken(max(slot["records"] - 1, 0), "the signature of head does not verify")
    if fingerprint not in (None, key_id(trail.keys[0]), key_id(trail.signer)):
        raise Broken(0, f"the trail's key is {key_id(trail.keys[0])}")
    return {
        "records": trail.seq,
        "level": "authentic" if fingerprint else "consistent",
        "head": trail.chain.hex(),
        "log_id": trail.log_id.hex(),
        "keys": [key_id(key) for key in trail.keys],
        "tail_bytes": tail,
    }


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(json.dumps(verify(Path(arguments[0]), *arguments[1:])))
    except Broken as finding:
        print(f"broken: {finding}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot read: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
