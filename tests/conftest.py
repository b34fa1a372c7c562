"""What every test may use: directories, real sandboxes, and the rule that a missing part is never a silent pass.

A test marked `docker`, `gvisor`, `browser` or `openssl` needs the real thing. Where it is missing the test is skipped with the reason and
the command that mends it; where `SYMBI_REQUIRE` (a comma list: `docker,gvisor`) names it, it fails instead. And
when it is named, a session in which such a test was skipped, by whomever, fails: a green run cannot be an empty one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from symbi.sandbox.base import Mount, SandboxSpec, SecurityTier, Tmpfs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from symbi.sandbox.docker import DockerBackend
    from symbi.sandbox.orchestrator import TierCheck
    from symbi.sandbox.reaper import Owner

TIERS = {"docker": SecurityTier.DOCKER, "gvisor": SecurityTier.GVISOR}
PROGRAMS = {"browser": ("chromium", "chromium-browser", "google-chrome"), "openssl": ("openssl",)}
REAL_PARTS = {*TIERS, *PROGRAMS}

_skipped: list[str] = []


def required() -> frozenset[str]:
    """The real parts that must be here: `SYMBI_REQUIRE`."""
    return frozenset(name.strip() for name in os.environ.get("SYMBI_REQUIRE", "").split(",") if name.strip())


@cache
def _check(tier: SecurityTier) -> TierCheck:
    from symbi.sandbox.orchestrator import check_tiers

    # In a thread of its own: the caller may be inside a loop that this must not touch.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(check_tiers([tier]))).result()[0]


def need(part: str) -> None:
    """Skip, or fail where it is required, unless the real part works here."""
    if part in PROGRAMS:
        if any(shutil.which(name) for name in PROGRAMS[part]):
            return
        reason = f"no {part} here. To mend it: apt-get install {PROGRAMS[part][0]}"
    else:
        found = _check(TIERS[part])
        if found.works:
            return
        reason = f"{part} does not work here: {found.detail}. To mend it: {found.mend}"
    if part in required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The marker is enough; no test needs to name the fixture."""
    for part in sorted(REAL_PARTS):
        if item.get_closest_marker(part) is not None:
            need(part)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Remember each skipped test that needs a real part."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and any(item.get_closest_marker(part) for part in required() & REAL_PARTS):
        _skipped.append(item.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A required part whose tests were skipped fails the session."""
    if _skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why."""
    if _skipped:
        terminalreporter.section("required, and skipped", sep="=", red=True)
        for name in _skipped:
            terminalreporter.line(f"{name} was skipped, and SYMBI_REQUIRE={','.join(sorted(required()))}")


@pytest.fixture(scope="session")
def docker_daemon() -> None:
    """A Docker daemon in which tier 1 works."""
    need("docker")


@pytest.fixture(scope="session")
def gvisor_runtime() -> None:
    """Docker with the runtime `runsc`, in which tier 2 works."""
    need("gvisor")


@pytest.fixture
def data_directory(tmp_path: Path) -> Path:
    """A data directory as a runtime makes it: empty, 0700."""
    path = tmp_path / ".symbi"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(
    params=[
        pytest.param(SecurityTier.DOCKER, marks=pytest.mark.docker, id="docker"),
        pytest.param(SecurityTier.GVISOR, marks=pytest.mark.gvisor, id="gvisor"),
    ]
)
def tier(request: pytest.FixtureRequest) -> SecurityTier:
    """Each tier that a real container engine serves: one body, both kernels."""
    return request.param


@pytest.fixture
def owner(data_directory: Path) -> Owner:
    """This process as the owner of a fresh data directory."""
    from symbi.sandbox.reaper import Owner

    return Owner.current(data_directory)


@pytest_asyncio.fixture
async def backend(owner: Owner, data_directory: Path) -> AsyncIterator[DockerBackend]:
    """Docker, on the test's own loop; whatever the test started is ended."""
    from symbi.sandbox.docker import DockerBackend

    docker = DockerBackend(owner, protected=(str(data_directory),))
    yield docker
    await docker.close()


def python_mounts() -> tuple[Mount, ...]:
    """What the interpreter of this test run needs inside, at the same paths."""
    wanted = [Path(sys.base_prefix), Path("/usr/lib"), Path("/lib"), Path("/lib64")]
    places = [place for place in wanted if place.exists()]
    outer = [place for place in places if not any(other in place.parents for other in places)]
    return tuple(Mount(str(place.resolve()), str(place)) for place in outer)


@pytest.fixture
def python_spec(owner: Owner) -> Callable[..., SandboxSpec]:
    """Makes the spec of a Python program inside: `python_spec(tier, code, *arguments, **spec fields)`."""
    executable = os.path.realpath(sys.executable)

    def make(tier: SecurityTier, code: str, *arguments: str, **fields: object) -> SandboxSpec:
        mounts = (*python_mounts(), *fields.pop("mounts", ()))  # type: ignore[misc]
        fields.setdefault("tmpfs", (Tmpfs("/work", 16), Tmpfs("/tmp", 8)))
        return SandboxSpec(
            tier=tier,
            argv=(executable, "-I", "-S", "-c", code, *arguments),
            agent="agent-of-a-test",
            instance=owner.instance,
            mounts=mounts,
            **fields,  # type: ignore[arg-type]
        )

    return make
