"""The spec and its bytes, the image, the tiers, the owner's labels: what is pure."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
from symbi.errors import InputError
from symbi.limits import ResourceLimits
from symbi.sandbox.base import (
    Mount,
    SandboxSpec,
    SecurityTier,
    Tmpfs,
    spec_digest,
    spec_from_bytes,
    spec_to_bytes,
)
from symbi.sandbox.image import guest_image
from symbi.sandbox.reaper import Owner, is_orphan

if TYPE_CHECKING:
    from pathlib import Path

SPEC = SandboxSpec(
    tier=SecurityTier.GVISOR,
    argv=("/usr/bin/python3", "-c", "print('ü')"),
    agent="agent",
    instance="instance",
    mounts=(Mount("/usr", "/usr"), Mount("/data", "/data", read_only=False)),
    environment=(("B", "2"), ("A", "1")),
    limits=ResourceLimits(memory_mb=64),
)


def test_a_spec_and_its_bytes_are_one_thing() -> None:
    """X1, X2: filled, sorted, equal again; every field that changes changes the digest."""
    assert spec_from_bytes(spec_to_bytes(SPEC)) == SPEC
    assert SPEC.limits.cpu_cores is not None
    assert SPEC.limits.execution_timeout_s is not None
    assert SPEC.environment == (("A", "1"), ("B", "2"))
    assert SPEC.writable
    others = {
        "tier": SecurityTier.DOCKER,
        "argv": ("/bin/sh",),
        "agent": "other",
        "instance": "other",
        "mounts": (),
        "limits": ResourceLimits(memory_mb=65),
        "environment": (),
        "tmpfs": (),
        "working_directory": "/",
        "output_bytes_max": 1 << 20,
        "pids_max": 128,
        "nofile_max": 64,
        "user": 1000,
    }
    assert set(others) == {field.name for field in dataclasses.fields(SandboxSpec)}
    digests = {spec_digest(dataclasses.replace(SPEC, **{name: value})) for name, value in others.items()}
    assert len(digests | {spec_digest(SPEC)}) == len(others) + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda shape: shape.pop("tier"),
        lambda shape: shape.update(tier="tier3"),
        lambda shape: shape.update(extra=1),
        lambda shape: shape.update(argv=[]),
        lambda shape: shape["limits"].update(memory_mb=1),
        lambda shape: shape["mounts"].append({"source": "/x", "target": "relative"}),
        lambda shape: shape["limits"].update(execution_timeout_s=None),
    ],
)
def test_bytes_that_are_no_canonical_spec_are_refused(change: object) -> None:
    """X2: nothing is guessed, nothing filled in after the decision."""
    shape = json.loads(spec_to_bytes(SPEC))
    change(shape)  # type: ignore[operator]
    with pytest.raises(InputError):
        spec_from_bytes(json.dumps(shape, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", spec_to_bytes(SPEC) + b" ", b"{" * 100_000])
def test_bytes_that_are_no_json_of_ours_are_refused(data: bytes) -> None:
    """X2."""
    with pytest.raises(InputError):
        spec_from_bytes(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mount("relative", "/x"),
        lambda: Mount("/x/../y", "/x"),
        lambda: Mount("/x", "/"),
        lambda: Mount("/x", "/symbi-guest"),
        lambda: Mount("/x", "/proc"),
        lambda: Tmpfs("/x", 0),
        lambda: dataclasses.replace(SPEC, mounts=(Mount("/a", "/x"), Mount("/b", "/x"))),
        lambda: dataclasses.replace(SPEC, environment=(("A", "1"), ("A", "2"))),
        lambda: dataclasses.replace(SPEC, environment=(("A=B", "1"),)),
        lambda: dataclasses.replace(SPEC, argv=("a\0b",)),
        lambda: dataclasses.replace(SPEC, pids_max=64),
        lambda: dataclasses.replace(SPEC, agent=""),
    ],
)
def test_an_impossible_spec_is_refused_when_it_is_made(make: object) -> None:
    """Pids below 96 among them: gVisor's own threads would die of it."""
    with pytest.raises(InputError):
        make()  # type: ignore[operator]


def test_tiers_are_ordered_and_named() -> None:
    """The names of configuration, both spellings, any case; another text is refused with what is accepted."""
    assert SecurityTier.DEGRADED < SecurityTier.DOCKER < SecurityTier.GVISOR
    for text, tier in (("Docker", 1), ("tier1", 1), ("GVISOR", 2), ("tier2", 2), ("degraded", 0)):
        assert SecurityTier.parse(text) == tier
    assert [str(tier) for tier in SecurityTier] == ["degraded", "docker", "gvisor"]
    with pytest.raises(InputError, match="accepted are"):
        SecurityTier.parse("tier3")


def test_the_image_is_a_function_of_the_binary() -> None:
    """I1, I2: twice the same bytes; the digest is that of the archive; one file, root's, executable, of no date."""
    first, second = guest_image(b"\x7fELF"), guest_image(b"\x7fELF")
    assert first == second
    assert first.layer_digest == "sha256:" + hashlib.sha256(first.archive).hexdigest()
    assert guest_image(b"\x7fELG").tag != first.tag
    with tarfile.open(fileobj=io.BytesIO(first.archive)) as archive:
        (entry,) = archive.getmembers()
    assert (entry.name, entry.mode, entry.uid, entry.gid, entry.mtime) == ("symbi-guest", 0o755, 0, 0, 0)


def test_whose_a_sandbox_is(tmp_path: Path) -> None:
    """Q1, Q2: the table of who may be reaped."""
    ours = Owner.current(tmp_path)
    boot, namespace, pid, start = ours.process.split(":")
    other_home = Owner.current(tmp_path / "other").labels()
    process = "symbi.owner"
    assert not is_orphan(ours.labels(), ours)  # our own
    assert is_orphan(
        Owner.current(tmp_path).labels(), ours
    )  # this home, an earlier instance: we hold its lock
    assert not is_orphan(other_home, ours)  # a living neighbour: this very process
    assert is_orphan(
        other_home | {process: f"{boot}:{namespace}:{pid}:{int(start) - 1}"}, ours
    )  # a recycled number
    assert is_orphan(other_home | {process: f"{boot}:{namespace}:{2**22 + 1}:5"}, ours)  # no such process
    assert is_orphan(
        other_home | {process: f"another-boot:{namespace}:{pid}:{start}"}, ours
    )  # before a reboot
    assert not is_orphan(
        other_home | {process: f"{boot}:999:{2**22 + 1}:5"}, ours
    )  # a namespace we cannot see into
    for unknown in ({}, {process: ""}, {process: boot}, {process: f"{boot}:{namespace}:x:y"}):
        assert not is_orphan({"symbi.instance": "x", "symbi.home": "y", **unknown}, ours)
    assert pid == str(os.getpid())


def test_a_home_is_a_directory_not_a_path(tmp_path: Path) -> None:
    """Q1: the same path may be another directory elsewhere, and a renamed directory is the same home."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    home = Owner.current(first).home
    first.rename(second)
    first.mkdir()
    assert Owner.current(second).home == home
    assert Owner.current(first).home != home
