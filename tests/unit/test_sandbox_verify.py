"""The comparison of what was asked for with what was found: every key counts, and one difference is enough."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from symbi.sandbox.base import Mount, SandboxSpec, SecurityTier
from symbi.sandbox.request import create_request
from symbi.sandbox.verify import check_control_group, check_inspection, check_probe

if TYPE_CHECKING:
    from symbi.sandbox.reaper import Owner

HOST = "6.1.0-host"


def spec_of(tier: SecurityTier) -> SandboxSpec:
    """A plain spec."""
    return SandboxSpec(
        tier=tier,
        argv=("/bin/true",),
        agent="a",
        instance="i",
        mounts=(Mount("/usr", "/usr"),),
        environment=(("A", "1"),),
    )


def inspection_of(request: dict[str, Any]) -> dict[str, Any]:
    """What an honest engine answers."""
    found = copy.deepcopy(request)
    config = {key: value for key, value in found.items() if key not in ("HostConfig", "NetworkDisabled")}
    host = found["HostConfig"] | {
        "MaskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "ReadonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
    }
    mounts = [
        {
            "Type": "bind",
            "Source": mount["Source"],
            "Destination": mount["Target"],
            "RW": not mount["ReadOnly"],
        }
        for mount in host["Mounts"]
    ]
    return {
        "Config": config,
        "HostConfig": host,
        "Image": request["Image"],
        "Mounts": mounts,
        "NetworkSettings": {"Networks": {"none": {}}},
    }


def probe_of(spec: SandboxSpec) -> dict[str, Any]:
    """What our first process reports in an honest sandbox."""
    second = spec.tier is SecurityTier.GVISOR
    none = "0" * 16
    return {
        "type": "probe",
        "format": 1,
        "pid": 1,
        "uid": 65534,
        "gid": 65534,
        "kernel": {"release": "4.4.0" if second else HOST},
        "gvisor": second,
        "capabilities": {
            "effective": none,
            "permitted": none,
            "inheritable": none,
            "bounding": none,
            "ambient": none,
        },
        "root_read_only": True,
        "interfaces": ["lo"],
        "rlimits": {"nofile": spec.nofile_max},
        "no_new_privs": None if second else True,
        "seccomp_mode": 0 if second else 2,
        "memory_limit_bytes": None if second else 256 << 20,
        "pids_limit": None if second else spec.pids_max,
    }


@pytest.mark.parametrize("tier", [SecurityTier.DOCKER, SecurityTier.GVISOR])
def test_an_honest_engine_and_an_honest_probe_agree(tier: SecurityTier, owner: Owner) -> None:
    """The comparison is not one that always finds something."""
    spec = spec_of(tier)
    request = create_request(spec, "sha256:1", owner)
    assert check_inspection(request, inspection_of(request)) == []
    assert check_probe(spec, probe_of(spec), HOST) == []


@pytest.mark.parametrize("tier", [SecurityTier.DOCKER, SecurityTier.GVISOR])
def test_every_asked_key_is_compared(tier: SecurityTier, owner: Owner) -> None:
    """V1: each key of the host's part, made different, is found by its name."""
    spec = spec_of(tier)
    request = create_request(spec, "sha256:1", owner)
    for key, value in request["HostConfig"].items():
        found = inspection_of(request)
        found["HostConfig"][key] = _other(value)
        named = [text for text in check_inspection(request, found) if f"`{key}`" in text]
        assert named, key


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("Config", "Env"), ["A=1", "LD_PRELOAD=/x"], "environment"),
        (("Config", "Cmd"), ["/bin/false"], "Cmd"),
        (("Config", "Entrypoint"), ["/bin/sh"], "Entrypoint"),
        (("Config", "User"), "0:0", "User"),
        (("Config", "StdinOnce"), False, "StdinOnce"),
        (("Config", "Tty"), True, "Tty"),
        (("Image",), "sha256:2", "image"),
        (("Mounts",), [], "mounts"),
        (("Mounts",), [{"Type": "bind", "Source": "/usr", "Destination": "/usr", "RW": True}], "mounts"),
        (("HostConfig", "MaskedPaths"), [], "MaskedPaths"),
        (("HostConfig", "ReadonlyPaths"), None, "ReadonlyPaths"),
        (("NetworkSettings", "Networks"), {"bridge": {}}, "networks"),
    ],
)
def test_every_fact_of_the_inspection_is_compared(
    place: tuple[str, ...], value: object, named: str, owner: Owner
) -> None:
    """V1: what the engine adds or leaves out by itself."""
    request = create_request(spec_of(SecurityTier.DOCKER), "sha256:1", owner)
    found = inspection_of(request)
    target = found
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    assert any(named in text for text in check_inspection(request, found))


@pytest.mark.parametrize("tier", [SecurityTier.DOCKER, SecurityTier.GVISOR])
@pytest.mark.parametrize(
    "change",
    [
        {"gvisor": "swap"},
        {"kernel": {"release": "other"}, "gvisor": "swap"},
        {"pid": 7},
        {"uid": 0},
        {"gid": 0},
        {"root_read_only": False},
        {"interfaces": ["lo", "eth0"]},
        {"capabilities": {"effective": "0000003fffffffff"}},
        {"capabilities": {"bounding": "00000000a80425fb"}},
        {"rlimits": {"nofile": 1_048_576}},
        {"type": "confined"},
        {"format": 2},
    ],
)
def test_every_fact_of_the_probe_is_compared(tier: SecurityTier, change: dict[str, Any]) -> None:
    """V1, V2: a kernel that is not the tier's first of all."""
    spec = spec_of(tier)
    probe = probe_of(spec)
    change = dict(change)
    if change.get("gvisor") == "swap":
        change["gvisor"] = not probe["gvisor"]
    assert check_probe(spec, probe | change, HOST)


def test_tier_2_on_the_hosts_kernel_is_refused_whatever_else_it_claims() -> None:
    """V2: the flag alone is not believed when the release is the host's."""
    spec = spec_of(SecurityTier.GVISOR)
    assert check_probe(spec, probe_of(spec) | {"kernel": {"release": HOST}}, HOST)


def test_tier_1_without_filter_or_limits_is_refused() -> None:
    """V1: what only Tier 1 can see inside."""
    spec = spec_of(SecurityTier.DOCKER)
    for change in (
        {"seccomp_mode": 0},
        {"no_new_privs": False},
        {"memory_limit_bytes": 1 << 40},
        {"pids_limit": 9999},
    ):
        assert check_probe(spec, probe_of(spec) | change, HOST), change
        unseen = dict.fromkeys(change)
        assert check_probe(spec, probe_of(spec) | unseen, HOST) == []  # V3


def test_a_control_group_that_holds_another_limit_is_found() -> None:
    """V1, V3: what it holds is compared, what cannot be read is not."""
    spec = spec_of(SecurityTier.DOCKER)
    good = {"memory_bytes": 256 << 20, "pids": 256, "cpu_millicores": 1000}
    assert check_control_group(spec, good) == []
    assert check_control_group(spec, {}) == []
    for name, value in good.items():
        assert check_control_group(spec, good | {name: value + 100})


@pytest.mark.parametrize("tier", [SecurityTier.DOCKER, SecurityTier.GVISOR])
def test_no_spec_can_ask_for_less_than_the_floor(tier: SecurityTier, owner: Owner) -> None:
    """R1: what holds for every sandbox is not a setting."""
    host = create_request(spec_of(tier), "sha256:1", owner)["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["OomKillDisable"]) == ("none", True, False)
    assert host["MemorySwap"] == host["Memory"] == 256 << 20
    assert host["PidsLimit"] == 256
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["LogConfig"]["Type"] == "none"
    assert all(mount["BindOptions"]["NonRecursive"] for mount in host["Mounts"])
    assert all("noexec" in options and "size=" in options for options in host["Tmpfs"].values())


def test_the_filter_of_tier_1_leaves_out_what_moby_lets_through(owner: Owner) -> None:
    """R1: an allow-list; io_uring, vsock, new namespaces and the tracing of others are not on it, clone3 is absent."""
    option = create_request(spec_of(SecurityTier.DOCKER), "sha256:1", owner)["HostConfig"]["SecurityOpt"][1]
    profile = json.loads(option.removeprefix("seccomp="))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    plain = {
        name
        for rule in profile["syscalls"]
        if not rule.get("args") and rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }
    refused = {
        "io_uring_setup",
        "unshare",
        "setns",
        "mount",
        "bpf",
        "ptrace",
        "keyctl",
        "userfaultfd",
        "socket",
        "clone",
    }
    assert not plain & refused
    families = {rule["args"][0]["value"] for rule in profile["syscalls"] if rule["names"] == ["socket"]}
    assert families == {1, 2, 10}
    (absent,) = [rule for rule in profile["syscalls"] if rule["names"] == ["clone3"]]
    assert (absent["action"], absent["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x" if value else "host"
    if isinstance(value, dict):
        return {"other": "value"}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return []
    return ["other"]
