"""A missing real part is a skip with its remedy on a laptop, and a failure where `SYMBI_REQUIRE` names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from symbi.sandbox.orchestrator import setup_script

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
ONE_TEST = "tests/integration/test_sandbox_docker.py::test_the_tiers_run_on_different_kernels"


def session(path: Path, extra: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A test session on a machine without Docker."""
    environment = {name: value for name, value in os.environ.items() if name != "SYMBI_REQUIRE"}
    environment |= {"DOCKER_HOST": f"unix://{path}/no-docker.sock", **extra}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ONE_TEST]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_without_docker_a_test_is_skipped_with_its_remedy(tmp_path: Path) -> None:
    """The reason names what is missing and what mends it."""
    done = session(tmp_path, {})
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout
    assert "no-docker.sock" in done.stdout
    assert "To mend it" in done.stdout


def test_without_docker_a_required_test_fails(tmp_path: Path) -> None:
    """A green run cannot be an empty one."""
    done = session(tmp_path, {"SYMBI_REQUIRE": "docker,gvisor"})
    assert done.returncode == 1, done.stdout
    assert "1 skipped" not in done.stdout


SKIPS_EVERYTHING = """
import pytest

def pytest_collection_finish(session):
    import conftest
    conftest.need = lambda part: None

def pytest_runtest_call(item):
    pytest.skip("not today")
"""


def test_a_skip_by_whatever_way_fails_a_session_that_requires_it(tmp_path: Path) -> None:
    """The hook counts skips itself: a `skipif` or a mark elsewhere does not get past it."""
    (tmp_path / "skips_everything.py").write_text(SKIPS_EVERYTHING)
    environment = dict(os.environ) | {"SYMBI_REQUIRE": "docker", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "skips_everything", ONE_TEST],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "was skipped, and SYMBI_REQUIRE=docker" in done.stdout


@pytest.mark.gvisor
def test_the_setup_is_idempotent_and_quick_when_done() -> None:
    """Run again it only checks; Docker's configuration keeps every key it had."""
    config = Path("/etc/docker/daemon.json")
    before = config.read_bytes() if config.exists() else b""
    done = subprocess.run(
        ["bash", str(setup_script()), "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tier 2 works" in done.stderr
    assert (config.read_bytes() if config.exists() else b"") == before
