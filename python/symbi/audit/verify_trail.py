"""Verify a symbi trail, or the proof of one record, without symbi:
    python verify_trail.py DIRECTORY|PROOF [--key FINGERPRINT] [--checkpoint FILE]
Written from docs/formats/audit-log.md alone. Needs the standard library and PyNaCl or `cryptography`, and the program
`zstd` only where segments are sealed. Reads everything, writes nothing. Exit 0 good, 1 broken, 2 wrong use."""

# mypy: ignore-errors
# fmt: off
# ruff: noqa: B905, E401, E731, I001, RUF024 - so that it stays a page
import argparse, base64, collections.abc, contextlib, datetime, functools, hashlib, json, re, subprocess, sys, uuid
from pathlib import Path
try:
    from nacl.signing import VerifyKey
except ImportError:
    VerifyKey = None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
KINDS = {"v": [int], "seq": [int], "event_id": [str], "timestamp": [str], "mono": [int], "boot": [str], "key": [str]}
KINDS |= {"event_type": [str]} | dict.fromkeys(["agent_id", "run", "op", "decision", "policy"], [str, type(None)])
KINDS |= {"labels": [list], "subjects": [list], "details": [dict], "personal": [dict, type(None)]}
SLOT_FIELDS = ["v", "log_id", "records", "chain", "segment", "length", "key", "sig"]
SUFFIX = re.compile(rb',"chain":"([0-9a-f]{64})","sig":(?:null|"([A-Za-z0-9+/]{86}==)")\}\n\Z')
SUFFIX_BYTES, SLOT_BYTES, INTEGER_MAX, DEPTH_MAX, LINE_MAX, SEALED_MAX = 174, 4096, 2**53, 64, 2**18, 2**29
TRAILER = b"\x50\x2a\x4d\x18\x20\0\0\0"  # a skippable zstd frame of 32 bytes
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
NOTE = re.compile(r"(symbi-audit/([0-9a-f]{32})\n(0|[1-9][0-9]*)\n(\S{44})\n)\n((?:\u2014 [^\s+]+ \S+\n)+)")
PROOF = re.compile(r"c2sp\.org/tlog-proof@v1\nextra (\S+)\nindex (0|[1-9][0-9]*)((?:\n\S{44}){0,63})")
FAULTS = (ValueError, TypeError, KeyError, IndexError, RecursionError, AttributeError, subprocess.SubprocessError)
class Broken(Exception):  # noqa: N818 - a finding: the first record that fails, and why
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
def signed(public: bytes, message: bytes, signature: bytes) -> bool | None:
    with contextlib.suppress(Exception):  # each library has its own; whatever it says, it does not hold
        key = VerifyKey(public) if VerifyKey else Ed25519PublicKey.from_public_bytes(public)
        key.verify(*((message, signature) if VerifyKey else (signature, message)))
        return True
def unbase64(text: str, size: int | None = None) -> bytes:
    data = base64.b64decode(text.encode(), validate=True)  # binascii.Error is a ValueError
    must(base64.b64encode(data).decode() == text and size in (None, len(data)), "not canonical: a bit could hide")
    return data
def check_values(value: object, *, floats: bool, depth: int = 1) -> None:  # integers to 2**53, finite floats, 64 levels
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
    once = lambda pairs: dict(pairs) if len(dict(pairs)) == len(pairs) else must(None, "a key appears twice")
    value = json.loads(text.decode(), object_pairs_hook=once, parse_constant={}.__getitem__)  # NaN: KeyError
    return value if isinstance(value, dict) else must(None, "not an object")
def read_record(line: bytes) -> tuple[dict[str, object], bytes, bytes, bytes]:  # and body, chain, signature or None
    suffix = SUFFIX.search(line[-SUFFIX_BYTES:])
    must(suffix and len(line) <= LINE_MAX, "the suffix is not chain and signature")
    record = parse(line)
    must([*record][: len(KINDS)] == [*KINDS] and [*record][-2:] == ["chain", "sig"], "fields missing or out of order")
    for name, value in record.items():
        check_values(value, floats=name in ("details", "personal"))
    must(all(type(record[name]) in kinds for name, kinds in KINDS.items()), "a field of another kind")
    must(all(record[name] >= 0 for name in ("v", "seq", "mono")), "a negative number")
    must(all(UUID.fullmatch(record[name]) for name in ("event_id", "boot")), "not a UUID")
    must(all(isinstance(item, str) for item in record["labels"] + record["subjects"]), "not a list of texts")
    must(TIME.fullmatch(record["timestamp"]) and record["timestamp"] >= "1970", "not a time")
    own = record["event_type"].startswith("log.") or record["event_type"] == "key.rotated"
    must(suffix[2] if record["v"] == 1 else record["v"] == 2 and not own, "another version, or no signature")
    datetime.datetime.strptime(record["timestamp"], "%Y-%m-%dT%H:%M:%S.%f%z")  # a date that exists
    signature = suffix[2] and unbase64(suffix[2].decode(), 64)
    return record, line[: len(line) - len(suffix[0])], bytes.fromhex(suffix[1].decode()), signature
class Checkpoint:  # a C2SP signed note of three lines: origin, size, root
    def __init__(self, text: str) -> None:
        note = NOTE.fullmatch(text)
        must(note and len(text.encode()) <= 65536 and int(note[3]) <= INTEGER_MAX, "not a checkpoint")
        must(all(char == "\n" or char.isprintable() for char in text) and note[5].count("\n") <= 256, "not a note")
        self.text, self.log_id, self.size, self.root = note[1], note[2], int(note[3]), unbase64(note[4], 32)
        self.lines = [(line.split(" ")[1], unbase64(line.split(" ")[2])) for line in note[5].splitlines()]
        must(all(len(data) > 3 and len(name.encode()) < 256 for name, data in self.lines), "a signature that is none")
    def signed_by(self, public: bytes) -> bool:  # exactly one line is this key's, as the log's own, and holds
        name, mine = f"symbi-audit/{self.log_id}", sha256(self.text.split("\n")[0].encode(), b"\n\1", public)[:4]
        found = [data[4:] for named, data in self.lines if named == name and data[:4] == mine]
        return len(found) == 1 and signed(public, self.text.encode(), found[0])
def unpack(extra: bytes) -> tuple[bytes, bytes, bytes]:  # keys of a proof's checkpoint and record, and the line
    key, rest, flags = extra[:32], extra[32:-1], extra[-1]
    if flags == 10:  # the first form: both keys, and the line with its newline
        return key, rest[:32], rest[32:] + b"\n"
    begin, end, ids = 32 * (flags // 2 % 2), len(rest) - 64 * (flags % 2), 32 * (flags // 4)  # signer, signature, ids
    signer, body, signature, link = rest[:begin] or key, rest[begin : end - 32 - ids], rest[end:], rest[end - 32 : end]
    must(flags < 8 and end >= begin + 32 + ids and (signer != key) == bool(flags & 2), "another form, or one key twice")
    names = [str(uuid.UUID(bytes=rest[end - at : end - at + 16])) for at in (64, 48)] + [key_id(signer)] if ids else []
    for field, name in zip((b"event_id", b"boot", b"key"), names):
        body = body.replace(b'"%b":"' % field, b'"%b":"%b' % (field, name.encode()), 1)
    signature = b'"%b"' % base64.b64encode(signature) if signature else b"null"
    return key, signer, b'%b,"chain":"%b","sig":%b}\n' % (b'{"v":' * bool(ids) + body, link.hex().encode(), signature)
def check_proof(text: str, fingerprint: str | None = None) -> dict[str, object]:  # C2SP `tlog-proof`; ValueError
    proof, checkpoint = PROOF.fullmatch(text.partition("\n\n")[0]), Checkpoint(text.partition("\n\n")[2])
    key, signer, line = unpack(unbase64(proof[1]))
    record, body, chain, signature = read_record(line)
    alone = record["v"] == 1 and signed(signer, b"symbi/audit/event/v1\0" + chain, signature)
    must(alone or (record["v"] == 2 and not signature), "the record's signature does not verify, or is a group's")
    at, last, node = int(proof[2]), checkpoint.size - 1, sha256(b"\0", body, chain)
    must(record["seq"] == at <= last and record["key"] == key_id(signer), "another record, or key")
    for sibling in (unbase64(one, 32) for one in proof[3].split()):  # RFC 9162, section 2.1.3.2
        must(last, "too many hashes")
        right = at & 1 or at == last
        node = sha256(b"\1", *((sibling, node) if right else (node, sibling)))
        while right and at and not at & 1:
            at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    must(not last and node == checkpoint.root, "the hashes do not lead to the root")
    must(checkpoint.signed_by(key) and fingerprint in (None, key_id(key)), "the checkpoint is not signed with that key")
    return {"record": record, "level": "authentic" if fingerprint else "consistent", "log_id": checkpoint.log_id,
            "size": checkpoint.size, "key": key_id(key)}
class Trail:  # the state of a verification: where the chain and the tree stand, and whose turn it is to sign
    def __init__(self) -> None:
        self.seq, self.chain, self.log_id, self.public, self.signer, self.time = 0, bytes(32), b"", b"", b"", ""
        self.nodes, self.keys, self.turns, self.said = [], [], [], []  # nodes: complete subtrees, the largest first
        self.group, self.good = 0, (bytes(32), "", [], 0)  # the first without a signature yet, and what held before it
        self.points, self.roots = {}, {}  # records -> chain, signer, segment, length; -> root, keys that may sign it
    def push(self, leaf: bytes) -> None:
        rest, self.seq = self.seq, self.seq + 1
        while rest & 1:
            leaf, rest = sha256(b"\1", self.nodes.pop(), leaf), rest >> 1
        self.nodes.append(leaf)
    def root(self) -> bytes:
        return functools.reduce(lambda right, left: sha256(b"\1", left, right), reversed(self.nodes or [sha256()]))
    def create(self, record: dict[str, object]) -> bool:
        details, good = record["details"], record["event_type"] == "log.created" and record["seq"] == 0
        must(good and isinstance(details["policy"], str), "record 0 is not `log.created`, or has no policy digest")
        must(details["format"] == 1 and re.fullmatch(r"[0-9a-f]{32}", details["log_id"]), "another format, or log id")
        self.log_id, self.public = bytes.fromhex(details["log_id"]), unbase64(details["root_key"], 32)
        self.keys, self.turns = [self.public], [0]
        return True
    def accept(self, record: dict[str, object], chain: bytes, signature: bytes | None) -> None:  # whose turn it is
        details, kind, number = record["details"], record["event_type"], record["seq"].to_bytes(8, "big")
        must(record["key"] == key_id(self.public), "not signed with the key whose turn it is")
        group = b"symbi/audit/group/v1\0" + self.group.to_bytes(8, "big")
        message = (group if record["v"] == 2 else b"symbi/audit/event/v1\0") + chain
        must(not signature or signed(self.public, message, signature), "the signature does not verify")
        self.signer = self.public
        if kind == "key.rotated":
            new = unbase64(details["new_key"], 32)
            message = b"symbi/audit/rotation/v1\0" + self.log_id + number + self.public + new
            must(signed(new, message, unbase64(details["new_sig"], 64)), "the new key did not sign the rotation")
            self.public, self.keys, self.turns = new, [*self.keys, new], [*self.turns, record["seq"] + 1]
        self.said += [(kind, details)] if kind.startswith("log.") else []
    def record(self, line: bytes) -> None:
        record, body, claimed, signature = read_record(line)
        must(record["seq"] == self.seq, f"its number is {record['seq']}")
        must((record["event_type"] == "log.created") == (self.seq == 0), "`log.created` is record 0, and only that")
        must(self.seq or self.create(record), "")
        must(record["timestamp"] >= self.time, "its time is before the last record's")
        chain = sha256(b"symbi/audit/chain/v1\0", self.log_id, self.seq.to_bytes(8, "big"), self.chain, body)
        must(chain == claimed, "the chain does not match the body and the records before it")
        self.accept(record, chain, signature)
        self.chain, self.time = chain, record["timestamp"]
        self.push(sha256(b"\0", body, chain))
        if signature:
            self.group, self.good = self.seq, (self.chain, self.time, [*self.nodes], 0)
        else:
            self.good = (*self.good[:3], self.good[3] + len(line))
    def begin(self, remainder: bytes, leaves: bytes, sizes: set[int]) -> None:  # records that were pruned
        head, *lines = remainder.splitlines(keepends=True)
        head, kept = parse(head), {}
        must([*head] == ["v", "log_id", "records", "chain"] and head["v"] == 1, "`pruned` has other members")
        for line in lines:
            record, body, chain, signature = read_record(line)
            must(kept or self.create(record), "")
            must(record["v"] == 1, "a kept record without a signature of its own")
            self.accept(record, chain, signature)
            kept[record["seq"]] = sha256(b"\0", body, chain)
        good = [*kept] == sorted(kept) and [*kept][:2] == [0, 1] and len(kept) == len(lines)
        must(good and max(kept) < head["records"] and head["log_id"] == self.log_id.hex(), "other lines are kept")
        for seq in range(head["records"]):
            leaf = leaves[32 * seq : 32 * seq + 32]
            must(len(leaf) == 32 and kept.get(seq, leaf) == leaf, f"record {seq} is kept otherwise than it was")
            self.push(leaf)
            if self.seq in sizes:
                self.roots[self.seq] = (self.root(), self.keys)
        self.chain, self.group = bytes.fromhex(head["chain"]), self.seq
        self.good = (self.chain, "", [*self.nodes], 0)
    def distrusted(self) -> list[list[int]]:  # what keys signed that others had: whole, and shows nothing
        known = [(said["key"], said["from"]) for kind, said in self.said if kind == "log.key_compromised"]
        since, turns = dict(sorted(known, reverse=True)), zip(self.keys, self.turns, [*self.turns[1:], self.seq])
        return [[at, end] for key, turn, end in turns if (at := max(since.get(key_id(key), end), turn)) < end]
def segment_lines(path: Path) -> collections.abc.Iterator[bytes]:  # the last may have no newline
    with path.open("rb") as file:
        if path.suffix != ".zst":
            yield from iter(lambda: file.readline(LINE_MAX + 1), b"")
            return
        data = file.read(SEALED_MAX + 1)
        must(len(data) <= SEALED_MAX and data[-40:] == TRAILER + sha256(data[:-40]), "not what was sealed")
    with path.open("rb") as file, subprocess.Popen(["zstd", "-dcqq"], stdin=file, stdout=subprocess.PIPE) as unpacked:
        yield from iter(lambda: unpacked.stdout.readline(LINE_MAX + 1), b"")
    must(unpacked.returncode == 0, "the sealed segment does not unpack")
def segments(directory: Path) -> list[tuple[int, Path]]:  # sorted so that of both forms the plain one counts
    named = [one for one in directory.iterdir() if re.fullmatch(r"[0-9]{12}\.jsonl(\.zst)?", one.name)]
    return sorted({int(path.name[:12]): path for path in sorted(named, reverse=True)}.items())
def head_slots(directory: Path) -> list[tuple[dict[str, object], bytes, bytes]]:
    data, slots = (directory / "head").read_bytes(), []
    must(len(data) == 2 * SLOT_BYTES, "`head` is not two slots")
    for line in (data[:SLOT_BYTES].rstrip(b"\0"), data[SLOT_BYTES:].rstrip(b"\0")):
        match = re.fullmatch(rb'(.*),"sig":"([A-Za-z0-9+/]{86}==)"\}\n', line)
        fields, numbers = parse(line), ("v", "records", "segment", "length")
        must([*fields] == SLOT_FIELDS and all(type(fields[name]) is int for name in numbers), "a slot has other fields")
        slots.append((fields, b"symbi/audit/head/v1\0" + match[1], unbase64(fields["sig"], 64)))
    return slots
def check_ends(trail: Trail, slots: list[tuple[dict[str, object], bytes, bytes]], kept: list[Checkpoint]) -> None:
    """`head` names a record that is there; so does each checkpoint, and its root is that of the records before it."""
    for slot, message, signature in slots:
        point = trail.points.get(slot["records"], (bytes(32).hex(), trail.keys[0], 0, 0))
        if slot["records"] > trail.seq:
            raise Broken(trail.seq, f"head names {slot['records']} records")
        named = (slot["v"], slot["log_id"], slot["chain"], slot["key"], slot["segment"], slot["length"])
        good = named == (1, trail.log_id.hex(), point[0], key_id(point[1]), *point[2:])
        if not good or not signed(point[1], message, signature):
            raise Broken(max(slot["records"] - 1, 0), "head does not name this record, or its signature is wrong")
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
@contextlib.contextmanager
def blamed(trail: Trail, what: str = "") -> None:  # what fails within is the fault of the record where the trail stands
    try:
        yield
    except (*FAULTS, OSError) as error:
        raise Broken(trail.seq, f"{what}{error}") from error
def verify(directory: Path, fingerprint: str | None = None, kept: tuple[str, ...] = ()) -> dict[str, object]:
    """Check everything, against checkpoints that were kept elsewhere too; raises `Broken`."""
    trail, given, beside, late, begun, tail, left = Trail(), [*map(Checkpoint, kept)], [], None, (0, ""), 0, 0
    with blamed(trail, "head: "):
        slots = head_slots(directory)
    try:
        beside = [Checkpoint(path.read_bytes().decode()) for path in directory.glob("checkpoint")]
    except FAULTS as error:
        late = Broken(0, f"checkpoint: {error}")  # told only of a trail that holds otherwise
    sizes, known = {checkpoint.size for checkpoint in given + beside}, max(slot["records"] for slot, *_ in slots)
    for remainder in directory.glob("pruned"):
        with blamed(Trail(), "pruned: "):
            trail.begin(remainder.read_bytes(), (directory / "tiles-0").read_bytes(), sizes)
            begun = (trail.seq, trail.chain.hex())
    found = [one for one in segments(directory) if one[0] >= trail.seq]
    for at, (first, path) in enumerate(found):
        with blamed(trail):
            must(first == trail.seq, f"the next segment is {path.name}")
            offset = 0
            for line in segment_lines(path):
                torn = not line.endswith(b"\n") and len(line) <= LINE_MAX and path.suffix != ".zst"
                if torn and at == len(found) - 1 and trail.seq >= known:
                    tail = len(line)  # beyond head and without an end: being written, or left by a crash
                    break
                trail.record(line)
                offset += len(line)
                trail.points[trail.seq] = (trail.chain.hex(), trail.signer, first, offset)
                if trail.seq in sizes:
                    trail.roots[trail.seq] = (trail.root(), (trail.signer, trail.public))
    if trail.group < trail.seq:  # a group at the end whose signature is not there yet: told beyond head, not judged
        trail.seq, (trail.chain, trail.time, trail.nodes, left) = trail.group, trail.good
        tail += left
    with blamed(trail):
        must(trail.seq and (not left or known <= trail.seq), "no signature follows, or there are no records")
    pruned = [(said["records"], said["chain"]) for kind, said in trail.said if kind == "log.pruned"]
    if begun[0] and (begun not in pruned or max(sizes, default=0) < begun[0]):
        raise Broken(begun[0], "those before are missing, and no record or no checkpoint vouches for that")
    check_ends(trail, slots, [] if late else given + beside)
    if late or fingerprint not in (None, key_id(trail.keys[0]), key_id(trail.signer)):
        raise late or Broken(0, f"the trail's key is {key_id(trail.keys[0])}")
    return {"records": trail.seq, "level": "complete" if given else "authentic" if fingerprint else "consistent",
            "complete_to": max((checkpoint.size for checkpoint in given), default=0), "head": trail.chain.hex(),
            "root": trail.root().hex(), "log_id": trail.log_id.hex(), "keys": [*map(key_id, trail.keys)],
            "tail_bytes": tail, "pruned": begun[0], "distrusted": trail.distrusted()}
def main() -> int | None:
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
if __name__ == "__main__":
    sys.exit(main())
