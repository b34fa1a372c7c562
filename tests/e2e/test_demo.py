"""The real command, in real sandboxes, on the bundled clinic: what it shows, and that the trail proves it.

Each tier's demo runs once for the module; the tests look at what it left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import symbi
from symbi.sandbox.base import SecurityTier

RUN_S = 90  # the demo takes 3 to 5 s alone; on a busy machine much longer
DOCKER = pytest.param("docker", marks=pytest.mark.docker)
GVISOR = pytest.param("gvisor", marks=pytest.mark.gvisor)


def run_symbi(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The installed command, as a user calls it."""
    command = [sys.executable, "-m", "symbi.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, cwd=cwd, check=False)


@dataclass
class Demo:
    """One finished demo."""

    data: Path
    told: dict[str, Any]
    stderr: str

    def decisions(self, decision: str) -> list[dict[str, Any]]:
        exits = [one for one in self.told["decisions"] if one["action"] == "tool.call"]
        return [one for one in exits if one["decision"] == decision]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory):
    """Runs the demo in a tier, once for the module."""
    done: dict[str, Demo] = {}

    def run(tier: str) -> Demo:
        if tier not in done:
            data = tmp_path_factory.mktemp(tier) / ".symbi"
            ended = run_symbi("demo", "--json", "--tier", tier, "--data", str(data))
            assert ended.returncode == 0, ended.stderr
            done[tier] = Demo(data, json.loads(ended.stdout), ended.stderr)
        return done[tier]

    return run


@pytest.mark.parametrize("tier", [DOCKER, GVISOR])
def test_the_clinic_shows_an_allow_a_redaction_and_a_refusal_with_their_rules(demo, tier: str) -> None:
    """DF1, DT1: each decision names the rule of demo.cedar that made it, and an id to explain it by."""
    shown = demo(tier)
    for decision, rule in (
        ("allow", "courier-sends-clean-parts"),
        ("redact", "courier-redacts-personal-parts"),
        ("deny", "no-secret-leaves"),
    ):
        found = shown.decisions(decision)
        assert found, f"no `{decision}`"
        assert {one["rule"] for one in found} == {rule}
        assert all(len(one["id"]) == 36 for one in found)
    assert [one["count"] for one in shown.decisions("deny")] == [2]  # DT2: two secrets, refused alike
    assert shown.told["verified"] > 50
    assert shown.told["level"] == "authentic"


@pytest.mark.parametrize("tier", [DOCKER, GVISOR])
def test_what_would_be_sent_holds_no_name_no_number_and_no_secret(demo, tier: str) -> None:
    """OB1: the outbox is what the permits carried. DA2: the questions leave clean, for they were sent first."""
    sent = Path(demo(tier).told["outbox"]).read_text()
    assert sent.startswith("1. When is the clinic open on Saturday?\n")
    assert "The vaccine fridge must keep a temperature between 2 and 8 degrees" in sent
    assert "[redacted:person_name]" in sent
    assert "[redacted:email]" in sent
    for kept in (
        "Lopez",
        "Brandt",
        "4471-0023",
        "post.example",
        "Zw4-korken",
        "lab_9fQ2",
        "PRIVATE KEY",
        "clinic.env",
    ):
        assert kept not in sent


@pytest.mark.parametrize("tier", [DOCKER, GVISOR])
def test_every_agent_ran_in_the_tier_that_is_named_and_limits_were_read_back(demo, tier: str) -> None:
    """DF2: from the sandbox's facts, not from the wish."""
    agents = demo(tier).told["agents"]
    assert [agent["name"] for agent in agents] == ["scout", "librarian", "analyst", "courier"]
    for agent in agents:
        assert agent["sandbox"]["tier"] == tier
        assert agent["sandbox"]["limits"]["memory_bytes"] in (128 << 20, 256 << 20)
        assert agent["sandbox"]["limits"]["control_group.memory_bytes"] in (128 << 20, 256 << 20)


@pytest.mark.docker
@pytest.mark.gvisor
def test_docker_and_gvisor_show_different_kernels(demo) -> None:
    """The kernel that really answered inside: the host's own in tier 1, gVisor's in tier 2."""
    first, second = demo("docker").told["sandbox"], demo("gvisor").told["sandbox"]
    assert os.uname().release in first["kernel"]
    assert first["kernel"] != second["kernel"]
    assert second["kernel"].startswith("gVisor")


@pytest.mark.gvisor
def test_one_flipped_bit_anywhere_is_found_and_named(demo, tmp_path: Path) -> None:
    """Every record of the demo's trail: a changed byte breaks the trail at that record and at no other."""
    trail = Path(demo("gvisor").told["trail"])
    (file,) = trail.glob("*.jsonl")
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    copy = tmp_path / "copy"
    shutil.copytree(trail, copy)
    start = 0
    for seq, line in enumerate(lines):
        for offset in (0, len(line) // 2, len(line) - 3):
            changed = bytearray(whole)
            changed[start + offset] ^= 1
            (copy / file.name).write_bytes(changed)
            with pytest.raises(symbi.ChainBrokenError) as caught:
                symbi.AuditLog.open(copy).verify()
            assert caught.value.seq == seq
        start += len(line)


@pytest.mark.gvisor
def test_the_line_to_paste_breaks_a_copy_and_verify_names_the_record(demo) -> None:
    """The second line, as it stands, in a shell: exit 1, a record's number, and the real trail unharmed."""
    shown = demo("gvisor")
    line = next(command for command in shown.told["paste"] if "audit verify" in command)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    ended = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=RUN_S, check=False, env=environment
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "record" in ended.stdout + ended.stderr
    assert symbi.AuditLog.open(shown.told["trail"]).verify().records == shown.told["verified"]


@pytest.mark.gvisor
def test_the_line_to_paste_explains_the_denial(demo) -> None:
    """The first line: the rule and its public message."""
    shown = demo("gvisor")
    (denied,) = shown.decisions("deny")
    ended = run_symbi("explain", denied["id"], "--data", str(shown.data))
    assert ended.returncode in (0, 1), ended.stderr
    assert "no-secret-leaves" in ended.stdout


@pytest.mark.docker
def test_a_changed_rule_changes_the_next_run_and_is_not_written_over(tmp_path: Path) -> None:
    """DP1: the third line to paste takes a rule away; personal parts are then refused, and the file stays as it is."""
    data = tmp_path / ".symbi"
    first = json.loads(run_symbi("demo", "--json", "--tier", "docker", "--data", str(data)).stdout)
    line = next(command for command in first["paste"] if command.startswith("sed "))
    edit = line.partition(" && ")[0]
    assert subprocess.run(["bash", "-c", edit], timeout=RUN_S, check=False).returncode == 0
    changed = (data / "policies" / "demo.cedar").read_text()
    assert "courier-redacts-personal-parts" not in changed
    second = json.loads(run_symbi("demo", "--json", "--tier", "docker", "--data", str(data)).stdout)
    exits = [one for one in second["decisions"] if one["action"] == "tool.call"]
    assert not [one for one in exits if one["decision"] == "redact"]
    assert [one for one in exits if one["decision"] == "deny" and one["labels"] == ["personal"]]
    assert (data / "policies" / "demo.cedar").read_text() == changed
    assert second["verified"] > first["verified"]
    assert second["report"] != first["report"]


@pytest.mark.docker
def test_nothing_of_a_users_files_stands_in_the_plain_trail(tmp_path: Path) -> None:
    """Texts, names of files, questions and answers are sealed or digests; so is a directory inside the input."""
    source = tmp_path / "notes"
    (source / "canarydirectory").mkdir(parents=True)
    text = "The canaryclean report on gardening says that tomatoes like the canaryclean sun.\n"
    (source / "canarydirectory" / "canaryfile.md").write_text(text * 3)
    (source / "person.txt").write_text("Patient: Canaryname Person, canarypersonal visit about tomatoes\n")
    (source / "secret.env").write_text("DB_PASSWORD=Canarysecret-9912-xkcd\n")
    data = source / ".symbi"  # within the input, as it is when a user demos the directory he stands in
    ended = run_symbi("demo", "--json", "--tier", "docker", "--input", ".", "--data", ".symbi", cwd=source)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["input"]["files"] == 3
    assert told["input"]["skipped"]["tool_directory"] == 1
    assert {one["decision"] for one in told["decisions"] if one["action"] == "tool.call"} == {
        "allow",
        "redact",
        "deny",
    }
    plain = b"".join(path.read_bytes() for path in (data / "trail").iterdir())
    assert b"canary" not in plain.lower()
    sent = Path(told["outbox"]).read_text().lower()
    assert "canaryclean" in sent
    assert "canaryname" not in sent
    for path in (Path(told["report"]), Path(told["outbox"]), data / "state.db"):
        assert b"canarysecret" not in path.read_bytes().lower()


@pytest.mark.docker
def test_files_without_personal_data_and_secrets_are_said_to_have_none(tmp_path: Path) -> None:
    """The demo works on any directory of text, and says what it could not show."""
    source = tmp_path / "poems"
    source.mkdir()
    (source / "a.txt").write_text(
        "A slow river runs behind the village, and herons stand in the shallow water.\n"
    )
    (source / "b.txt").write_text(
        "Herons are patient birds; the river brings what they wait for in the water.\n"
    )
    source.chmod(0o700)  # closed to others: read as its owner
    ended = run_symbi("demo", "--tier", "docker", "--input", str(source), "--data", str(tmp_path / "data"))
    assert ended.returncode == 0, ended.stderr
    assert "no personal data and no secrets found" in ended.stdout
    assert "courier-sends-clean-parts" in ended.stdout


@pytest.mark.docker
def test_without_json_the_story_is_on_stdout_and_progress_on_stderr(tmp_path: Path) -> None:
    """CD1, and every word that the README promises is there."""
    ended = run_symbi("demo", "--tier", "docker", "--data", str(tmp_path / "data"))
    assert ended.returncode == 0, ended.stderr
    for word in (
        "scout",
        "librarian",
        "analyst",
        "courier",
        "redact",
        "deny",
        "records verify",
        "symbi explain",
        "sed -i",
    ):
        assert word in ended.stdout
    assert "scout reads" in ended.stderr
    assert "mode development" in ended.stderr
    assert "scout reads" not in ended.stdout


def test_the_degraded_tier_is_said_loudly(tmp_path: Path) -> None:
    """DR2. Where the kernel has no Landlock there is no such tier, and the demo says that instead."""
    import asyncio

    from symbi.sandbox.orchestrator import check_tiers

    (found,) = asyncio.run(check_tiers([SecurityTier.DEGRADED]))
    ended = run_symbi("demo", "--json", "--tier", "degraded", "--data", str(tmp_path / "data"))
    if not found.works:
        assert ended.returncode == 1
        assert "sandbox.unavailable" in ended.stderr
        return
    assert ended.returncode == 0, ended.stderr
    assert "DEGRADED TIER" in ended.stderr
    told = json.loads(ended.stdout)
    assert told["sandbox"]["tier"] == "degraded"
    assert any("DEGRADED" in line for line in told["loud"])
    assert {one["decision"] for one in told["decisions"]} == {"allow", "redact", "deny"}


def test_a_tier_that_is_not_here_ends_the_demo_and_nothing_weaker_runs(tmp_path: Path) -> None:
    """DR1: Docker is asked for where no daemon answers."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"}
    command = [
        sys.executable,
        "-m",
        "symbi.cli.main",
        "demo",
        "--tier",
        "docker",
        "--data",
        str(tmp_path / "data"),
    ]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_S, env=environment, check=False
    )
    assert ended.returncode == 1
    assert "sandbox.unavailable" in ended.stderr
    assert not (tmp_path / "data" / "trail").exists()
