"""Verify a symbi trail, or the proof of one record, without symbi:
    python verify_trail.py DIRECTORY [--key FINGERPRINT] [--checkpoint FILE]
    python verify_trail.py PROOF [--key FINGERPRINT]
Written from docs/formats/audit-log.md alone. Needs the standard library and PyNaCl or `cryptography`, and the program
`zstd` only where segments are sealed. Reads everything, writes nothing. Exit 0 good, 1 broken, 2 wrong use.
"""

# mypy: ignore-errors
# fmt: off
import argparse
import base64
import datetime
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

try:
    from nacl.signing import VerifyKey
except ImportError:
    VerifyKey = None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FIELDS = ["v", "seq", "event_id", "timestamp", "mono", "boot", "key", "event_type", "agent_id", "run", "op"]
FIELDS += ["decision", "policy", "labels", "subjects", "details", "personal"]
SLOT_FIELDS = ["v", "log_id", "records", "chain", "segment", "length", "key", "sig"]
SUFFIX = re.compile(rb',"chain":"([0-9a-f]{64})","sig":"([A-Za-z0-9+/]{86}==)"\}\n')
SUFFIX_BYTES, SLOT_BYTES, INTEGER_MAX, DEPTH_MAX, LINE_MAX = 174, 4096, 2**53, 64, 256 * 1024
TRAILER = b"\x50\x2a\x4d\x18\x20\0\0\0"  # a skippable zstd frame of 32 bytes
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
NOTE = re.compile(r"(symbi-audit/([0-9a-f]{32})\n(0|[1-9][0-9]*)\n(\S{44})\n)\n((?:\u2014 [^\s+]+ \S+\n)+)")
PROOF = re.compile(r"c2sp\.org/tlog-proof@v1\nextra (\S+)\nindex (0|[1-9][0-9]*)((?:\n\S{44}){0,63})")
FAULTS = (ValueError, TypeError, KeyError, IndexError, RecursionError, AttributeError)

class Broken(Exception):  # noqa: N818 - a finding, not a fault of this program
    """The first record that fails, and why."""
    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(f"record {seq}: {reason}")
        self.seq = seq

def must(good: object, reason: str) -> None:
    if not good:
        raise ValueError(reason)

def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()

def key_id(public: bytes) -> str:
    return sha256(b"ed25519", public).hex()[:32]

def signed(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        if VerifyKey:
            VerifyKey(public).verify(message, signature)
        else:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except Exception:  # noqa: BLE001 - each library has its own; whatever it says, it does not hold
        return False
    return True

def unbase64(text: str, size: int | None = None) -> bytes:
    """Canonical base64: re-encoding gives the same text, so no bit can hide."""
    data = base64.b64decode(text.encode(), validate=True)  # binascii.Error is a ValueError
    must(base64.b64encode(data).decode() == text and size in (None, len(data)), "base64 is not canonical")
    return data

def no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    must(len({name for name, _ in pairs}) == len(pairs), "a key appears twice")
    return dict(pairs)

def check_values(value: object, *, floats: bool, depth: int = 1) -> None:
    """Integers up to 2**53, finite floats only where allowed, no lone surrogates, 64 levels."""
    if isinstance(value, str):
        value.encode()  # a lone surrogate cannot be encoded: UnicodeEncodeError is a ValueError
    elif isinstance(value, int | float):
        limit = float("inf") if isinstance(value, float) else INTEGER_MAX + 1
        must(abs(value) < limit and (floats or isinstance(value, int)), "a number that may not stand there")
    elif isinstance(value, list | dict):
        must(depth <= DEPTH_MAX, "nested too deep")
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            check_values(part, floats=floats, depth=depth + 1)

def parse(text: bytes) -> dict[str, object]:
    value = json.loads(text.decode(), object_pairs_hook=no_duplicates, parse_constant={}.__getitem__)  # NaN: KeyError
    return value if isinstance(value, dict) else must(None, "not an object")

def read_record(line: bytes) -> tuple[dict[str, object], bytes, bytes, bytes]:
    """Record, body, chain and signature of a line: names in order, a type for each; later versions may add after."""
    suffix = SUFFIX.fullmatch(line[-SUFFIX_BYTES:])
    must(suffix and len(line) <= LINE_MAX, "the suffix is not chain and signature")
    record = parse(line)
    must([*record][: len(FIELDS)] == FIELDS and [*record][-2:] == ["chain", "sig"], "fields missing or out of order")
    for name, value in record.items():
        check_values(value, floats=name in ("details", "personal"))
    must(all(type(record[name]) is int and record[name] >= 0 for name in ("v", "seq", "mono")), "not a number")
    must(all(UUID.fullmatch(record[name]) for name in ("event_id", "boot")), "not a UUID")
    must(all(isinstance(record[name], str | None) for name in FIELDS[8:13]), "not text or null")
    must(isinstance(record["event_type"], str) and isinstance(record["key"], str), "not text")
    must(type(record["labels"]) is type(record["subjects"]) is list, "not a list")
    must(all(isinstance(item, str) for item in record["labels"] + record["subjects"]), "not a list of texts")
    must(isinstance(record["details"], dict) and isinstance(record["personal"], dict | None), "not an object")
    must(TIME.fullmatch(record["timestamp"]) and record["timestamp"] >= "1970" and record["v"] == 1, "no version, time")
    datetime.datetime.strptime(record["timestamp"], "%Y-%m-%dT%H:%M:%S.%f%z")  # a date that exists
    return record, line[:-SUFFIX_BYTES], bytes.fromhex(suffix[1].decode()), unbase64(suffix[2].decode(), 64)

class Tree:
    """The right edge of the Merkle tree of RFC 6962."""
    def __init__(self) -> None:
        self.size, self.nodes = 0, []  # complete subtrees, the largest first
    def push(self, node: bytes) -> None:
        rest, self.size = self.size, self.size + 1
        while rest & 1:
            node, rest = sha256(b"\1", self.nodes.pop(), node), rest >> 1
        self.nodes.append(node)
    def root(self) -> bytes:
        *lefts, root = self.nodes or [sha256()]
        for left in reversed(lefts):
            root = sha256(b"\1", left, root)
        return root

class Checkpoint:
    """A C2SP signed note of three lines: origin, size, root."""
    def __init__(self, text: str) -> None:
        note = NOTE.fullmatch(text)
        must(note and len(text.encode()) <= 65536 and int(note[3]) <= INTEGER_MAX, "not a checkpoint")
        must(all(char == "\n" or char.isprintable() for char in text) and note[5].count("\n") <= 256, "not a note")
        self.text, self.log_id, self.size, self.root = note[1], note[2], int(note[3]), unbase64(note[4], 32)
        self.lines = [(line.split(" ")[1], unbase64(line.split(" ")[2])) for line in note[5].splitlines()]
        must(all(len(data) > 3 and len(name.encode()) < 256 for name, data in self.lines), "a signature that is none")
    def signed_by(self, public: bytes) -> bool:
        """Whether exactly one line is this key's, as the log's own, and holds."""
        name, mine = f"symbi-audit/{self.log_id}", sha256(self.text.split("\n")[0].encode(), b"\n\1", public)[:4]
        found = [data[4:] for named, data in self.lines if named == name and data[:4] == mine]
        return len(found) == 1 and signed(public, self.text.encode(), found[0])

def check_proof(text: str, fingerprint: str | None = None) -> dict[str, object]:
    """One record under a checkpoint, C2SP `tlog-proof`; raises ValueError and its like."""
    proof, checkpoint = PROOF.fullmatch(text.partition("\n\n")[0]), Checkpoint(text.partition("\n\n")[2])
    must(proof, "not a proof")
    extra = unbase64(proof[1])
    key, signer, (record, body, chain, signature) = extra[:32], extra[32:64], read_record(extra[64:])
    must(signed(signer, b"symbi/audit/event/v1\0" + chain, signature), "the record's signature does not verify")
    at, last, node = int(proof[2]), checkpoint.size - 1, sha256(b"\0", body, chain)
    must(record["seq"] == at <= last and record["key"] == key_id(signer), "another record, or key")
    for sibling in (unbase64(one, 32) for one in proof[3].split()):  # RFC 9162, section 2.1.3.2
        must(last, "too many hashes")
        if at & 1 or at == last:
            node = sha256(b"\1", sibling, node)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            node = sha256(b"\1", node, sibling)
        at, last = at >> 1, last >> 1
    must(not last and node == checkpoint.root, "the hashes do not lead to the root")
    must(checkpoint.signed_by(key) and fingerprint in (None, key_id(key)), "the checkpoint is not signed with that key")
    return {"record": record, "level": "authentic" if fingerprint else "consistent", "log_id": checkpoint.log_id,
            "size": checkpoint.size, "key": key_id(key)}

class Trail:
    """The state of a verification: where the chain stands, and whose turn it is to sign."""
    def __init__(self) -> None:
        self.seq, self.chain, self.log_id, self.public, self.signer, self.time = 0, bytes(32), b"", b"", b"", ""
        self.keys, self.tree = [], Tree()
        self.points, self.roots = {}, {}  # records -> chain, signer, segment, length; -> root, keys that may sign it
    def record(self, line: bytes) -> None:
        """Check one line, newline included, and move on."""
        record, body, claimed, signature = read_record(line)
        details = record["details"]
        must(record["seq"] == self.seq, f"its number is {record['seq']}")
        must((record["event_type"] == "log.created") == (self.seq == 0), "`log.created` is record 0, and only that")
        if self.seq == 0:
            must(details["format"] == 1 and isinstance(details["policy"], str), "another format, or no policy digest")
            must(re.fullmatch(r"[0-9a-f]{32}", details["log_id"]), "a bad log id")
            self.log_id, self.public = bytes.fromhex(details["log_id"]), unbase64(details["root_key"], 32)
            self.keys = [self.public]
        must(record["key"] == key_id(self.public), "not signed with the key whose turn it is")
        must(record["timestamp"] >= self.time, "its time is before the last record's")
        number = self.seq.to_bytes(8, "big")
        chain = sha256(b"symbi/audit/chain/v1\0", self.log_id, number, self.chain, body)
        must(chain == claimed, "the chain does not match the body and the records before it")
        must(signed(self.public, b"symbi/audit/event/v1\0" + chain, signature), "the signature does not verify")
        self.signer = self.public
        if record["event_type"] == "key.rotated":
            new = unbase64(details["new_key"], 32)
            message = b"symbi/audit/rotation/v1\0" + self.log_id + number + self.public + new
            must(signed(new, message, unbase64(details["new_sig"], 64)), "the new key did not sign the rotation")
            self.public, self.keys = new, [*self.keys, new]
        self.seq, self.chain, self.time = self.seq + 1, chain, record["timestamp"]
        self.tree.push(sha256(b"\0", body, chain))

def segment_lines(path: Path) -> list[bytes]:
    data = path.read_bytes()  # the last line may have no newline; a sealed segment holds its own digest
    if path.suffix == ".zst":
        must(data[-40:] == TRAILER + sha256(data[:-40]), "the sealed segment is not the one that was sealed")
        done = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=False)
        must(done.returncode == 0, "zstd cannot read it")
        data = done.stdout
    *lines, last = data.split(b"\n")
    return [line + b"\n" for line in lines] + ([last] if last else [])

def segments(directory: Path) -> list[tuple[int, Path]]:
    """Each once, in order; where plain and compressed both stand (a crash while sealing), the plain one."""
    paths = sorted(directory.iterdir(), reverse=True)  # `.jsonl.zst` first, so that the plain one stays
    named = re.compile(r"[0-9]{12}\.jsonl(\.zst)?")
    return sorted({int(path.name[:12]): path for path in paths if named.fullmatch(path.name)}.items())

def head_slots(directory: Path) -> list[tuple[dict[str, object], bytes, bytes]]:
    """The two slots of `head`, each a signed line and zeros up to its end: fields, message, signature."""
    data, slots = (directory / "head").read_bytes(), []
    must(len(data) == 2 * SLOT_BYTES, "`head` is not two slots")
    for line in (data[:SLOT_BYTES].rstrip(b"\0"), data[SLOT_BYTES:].rstrip(b"\0")):
        match = re.fullmatch(rb'(.*),"sig":"([A-Za-z0-9+/]{86}==)"\}\n', line)
        must(match, "a slot of `head` is not a signed line")
        fields = parse(line)
        numbers = all(type(fields[name]) is int for name in ("v", "records", "segment", "length"))
        must(list(fields) == SLOT_FIELDS and numbers, "a slot of `head` has other fields")
        slots.append((fields, b"symbi/audit/head/v1\0" + match[1], unbase64(fields["sig"], 64)))
    return slots

def check_ends(trail: Trail, slots: list[tuple[dict[str, object], bytes, bytes]], kept: list[Checkpoint]) -> None:
    """`head` names a record that is there; so does each checkpoint, and its root is that of the records before it."""
    for slot, message, signature in slots:
        at, start = max(slot["records"] - 1, 0), (bytes(32).hex(), trail.keys[0], 0, 0)
        point = trail.points.get(slot["records"], start)
        if slot["records"] > trail.seq:
            raise Broken(trail.seq, f"head names {slot['records']} records")
        named = (slot["v"], slot["log_id"], slot["chain"], slot["key"], slot["segment"], slot["length"])
        good = named == (1, trail.log_id.hex(), point[0], key_id(point[1]), *point[2:])
        if not good or not signed(point[1], message, signature):
            raise Broken(at, "head does not name this record, or its signature does not verify")
    held = 0
    for one in sorted(kept, key=lambda checkpoint: checkpoint.size):
        if one.log_id != trail.log_id.hex() or not 0 < one.size <= trail.seq:
            raise Broken(0 if one.size <= trail.seq else trail.seq, f"not this log's, or it names {one.size} records")
        root, keys = trail.roots[one.size]
        if not any(one.signed_by(key) for key in keys):
            raise Broken(one.size - 1, "the checkpoint is not signed by the key whose turn it was")
        if root != one.root:
            raise Broken(held, f"from here to {one.size - 1} some records are not those of the checkpoint")
        held = one.size

def verify(directory: Path, fingerprint: str | None = None, kept: tuple[str, ...] = ()) -> dict[str, object]:
    """Check everything, against checkpoints that were kept elsewhere too; raises `Broken`."""
    trail, given, beside, late = Trail(), [Checkpoint(text) for text in kept], [], None
    try:
        slots = head_slots(directory)
    except (*FAULTS, OSError) as error:
        raise Broken(0, f"head: {error}") from error
    try:
        beside = [Checkpoint(path.read_bytes().decode()) for path in directory.glob("checkpoint")]
    except FAULTS as error:
        late = Broken(0, f"checkpoint: {error}")  # told only of a trail that holds otherwise
    sizes, found = {checkpoint.size for checkpoint in given + beside}, segments(directory)
    known, tail = max(slot["records"] for slot, *_ in slots), 0
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
                if trail.seq in sizes:
                    trail.roots[trail.seq] = (trail.tree.root(), (trail.signer, trail.public))
        except FAULTS as error:
            raise Broken(trail.seq, str(error)) from error
    if not trail.seq:
        raise Broken(0, "there are no records")
    check_ends(trail, slots, [] if late else given + beside)
    if late or fingerprint not in (None, key_id(trail.keys[0]), key_id(trail.signer)):
        raise late or Broken(0, f"the trail's key is {key_id(trail.keys[0])}")
    return {"records": trail.seq, "level": "complete" if given else "authentic" if fingerprint else "consistent",
            "complete_to": max((checkpoint.size for checkpoint in given), default=0), "head": trail.chain.hex(),
            "root": trail.tree.root().hex(), "log_id": trail.log_id.hex(), "keys": [*map(key_id, trail.keys)],
            "tail_bytes": tail}

def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="a trail's directory, or the file of a proof")
    parser.add_argument("--key", help="the fingerprint that was kept elsewhere")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="a file that was kept elsewhere")
    options = parser.parse_args()
    try:
        kept = tuple(file.read_bytes().decode() for file in options.checkpoint)
        said = verify(options.path, options.key, kept) if options.path.is_dir() else None
        print(json.dumps(said or check_proof(options.path.read_bytes().decode(), options.key)))
    except (Broken, *FAULTS, OSError) as finding:
        print(f"not verified: {finding}", file=sys.stderr)
        return 2 if isinstance(finding, OSError) else 1
    return 0

if __name__ == "__main__":
    sys.exit(main())
