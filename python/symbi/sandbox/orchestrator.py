"""Which backend serves a tier, behind the monitor; and which tiers work here.

Why: the one place where a sandbox begins. What begins is what the monitor decided on: the spec is read from
the permit's bytes. A tier that is not here is refused; nothing weaker takes its place.
Not here: which tier an agent needs (`risk`), how a tier works (`docker`, `degraded`).

Invariants
- O1 No start without a permit, and what starts is what the permit's bytes say.
- O2 What was asked for runs, or nothing: never a weaker tier, never silently.
- O3 The degraded tier runs in mode `development` only, and says so each time it is first used.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

from symbi.errors import PermitError, SandboxError, SandboxUnavailableError
from symbi.sandbox.base import (
    GUEST_PATH,
    SandboxSpec,
    SecurityTier,
    spec_from_bytes,
    spec_to_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from symbi.sandbox.base import Backend, Sandbox
    from symbi.sandbox.reaper import Owner

__all__ = ["Orchestrator", "Permit", "TierCheck", "check_tiers", "setup_script"]

_log = logging.getLogger("symbi.sandbox")

CHECK_S: Final = 20.0
"""Seconds for one tier's check, of which a cold start takes half a second: a daemon that hangs ends it."""

_MEND: Final[Mapping[SecurityTier, str]] = {
    SecurityTier.DEGRADED: "a Linux kernel with Landlock (5.13 or newer, `lsm=landlock`)",
    SecurityTier.DOCKER: "install Docker (`apt-get install docker.io`) and start it",
    SecurityTier.GVISOR: "`sudo ci/setup-sandbox` in a checkout, or `sudo symbi doctor --fix`",
}

_MEANWHILE = (
    'without it, for development only: `@symbi.agent(tier="degraded")` and '
    '`symbi.Runtime.open(mode="development")`'
)


class Permit(Protocol):
    """What the kernel gives out for `sandbox.start`: single use, bound to the bytes it decided on."""

    def take(self) -> bytes:
        """The bytes to act on; a second call raises `PermitError`."""
        ...


class Orchestrator:
    """Starts sandboxes, each with a permit, each in the tier its spec says.

    Args:
        owner: Whose sandboxes these are: `Owner.current(data_directory)`.
        mode: `production` refuses the degraded tier (O3).
        protected: Paths no sandbox may see: the data directory.
        backends: What serves each tier, made when first needed; Docker's and the degraded one when not given.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        mode: Literal["production", "development"] = "production",
        protected: tuple[str, ...] = (),
        backends: Mapping[SecurityTier, Callable[[], Backend]] | None = None,
    ) -> None:
        self.owner = owner
        self._mode = mode
        self._protected = protected
        self._makers = dict(backends) if backends is not None else self._default_makers()
        self._made: dict[Callable[[], Backend], Backend] = {}

    async def open(self) -> tuple[str, ...]:
        """Reap what killed runtimes left, where Docker is there; the ids of what was removed.

        A machine without Docker has nothing to reap: that is no error here, it is one when a tier is asked
        for.
        """
        from symbi.sandbox.docker import DockerBackend

        try:
            backend = self._backend(SecurityTier.DOCKER)
            return await backend.open() if isinstance(backend, DockerBackend) else ()
        except SandboxUnavailableError:
            return ()

    async def start(self, permit: Permit, spec: SandboxSpec) -> Sandbox:
        """Start what the permit allows (O1).

        Args:
            permit: For `sandbox.start`; taken here, so it serves once.
            spec: What the caller believes to start; compared, never run.

        Raises:
            PermitError: the permit was used, is too late, or is for another spec. Nothing was started.
            SandboxUnavailableError: the tier is not here (O2), or not allowed in this mode (O3).
            SandboxEscapeError, SandboxError: see `Backend.start`.
        """
        data = permit.take()
        if data != spec_to_bytes(spec):
            raise PermitError("the permit was given for another sandbox")
        decided = spec_from_bytes(data)
        try:
            sandbox = await self._backend(decided.tier).start(decided)
        except SandboxUnavailableError as error:
            if decided.tier is not SecurityTier.DEGRADED:
                error.add_note(_MEANWHILE)
            raise
        if sandbox.facts.tier is not decided.tier:
            await sandbox.stop(force=True)
            raise SandboxError(f"tier `{decided.tier}` was asked for, and `{sandbox.facts.tier}` started")
        return sandbox

    async def close(self) -> None:
        """End every sandbox."""
        made, self._made = list(self._made.values()), {}
        await asyncio.gather(*(backend.close() for backend in made))

    def _backend(self, tier: SecurityTier) -> Backend:
        if tier is SecurityTier.DEGRADED and self._mode != "development":
            raise SandboxUnavailableError(
                "the degraded tier is for development: start with mode `development`, or make tier 2 work "
                f"({_MEND[SecurityTier.GVISOR]})"
            )
        maker = self._makers.get(tier)
        if maker is None:
            raise SandboxUnavailableError(f"tier `{tier}` is not served here: {_MEND[tier]}")
        backend = self._made.get(maker)
        if backend is None:
            backend = self._made[maker] = maker()
            if tier is SecurityTier.DEGRADED:
                _log.warning(
                    "sandboxes run in the DEGRADED tier: Landlock, seccomp and rlimits on this machine's own "
                    "kernel; some limits cannot be held. For development only"
                )
        return backend

    def _default_makers(self) -> dict[SecurityTier, Callable[[], Backend]]:
        def docker() -> Backend:
            from symbi.sandbox.docker import DockerBackend

            return DockerBackend(self.owner, protected=self._protected)

        return {
            SecurityTier.DEGRADED: self._degraded,
            SecurityTier.DOCKER: docker,
            SecurityTier.GVISOR: docker,
        }

    def _degraded(self) -> Backend:
        from symbi.sandbox.degraded import DegradedBackend

        return DegradedBackend(protected=self._protected)


@dataclass(frozen=True, slots=True)
class TierCheck:
    """Whether a tier works here: tried, not looked up.

    Attributes:
        works: A sandbox was started, verified and ended.
        kernel: What answered inside; empty when it does not work.
        detail: One line for people.
        mend: What makes it work; empty when it does.
        start_ms: Cold start, milliseconds.
    """

    tier: SecurityTier
    works: bool
    kernel: str
    detail: str
    mend: str
    start_ms: float


async def check_tiers(
    tiers: Sequence[SecurityTier] = tuple(SecurityTier),
    *,
    backends: Mapping[SecurityTier, Callable[[], Backend]] | None = None,
) -> tuple[TierCheck, ...]:
    """Start our own probe in each tier and say what works; for `doctor` and the tests.

    Only our own binary runs, with no mount and no input, so no permit is asked for: there is no agent and no
    data. Never raises for a tier that does not work.

    Cost: a cold start each, 0.2 to 0.7 s; at most `CHECK_S` for a tier that hangs.
    """
    from symbi.sandbox.reaper import Owner

    owner = Owner.current(
        secrets.token_hex(16)
    )  # a home of its own: two checks at once do not reap each other
    orchestrator = Orchestrator(owner, mode="development", backends=backends)
    try:
        return tuple([await _check(orchestrator, tier) for tier in tiers])
    finally:
        await orchestrator.close()


async def _check(orchestrator: Orchestrator, tier: SecurityTier) -> TierCheck:
    spec = SandboxSpec(
        tier=tier, argv=(GUEST_PATH, "probe"), agent="doctor", instance=orchestrator.owner.instance
    )
    try:
        async with asyncio.timeout(CHECK_S):
            sandbox = await orchestrator._backend(tier).start(spec)
            facts = sandbox.facts
            await sandbox.stop(force=True)
    except TimeoutError:
        return TierCheck(tier, False, "", f"no answer within {CHECK_S:g} s", _MEND[tier], 0.0)
    except (SandboxError, ImportError) as error:
        return TierCheck(tier, False, "", str(error), _MEND[tier], 0.0)
    return TierCheck(
        tier, True, facts.kernel, f"{facts.kernel}, started in {facts.start_ms:.0f} ms", "", facts.start_ms
    )


def setup_script() -> Path:
    """The script that installs gVisor and registers it with Docker (root, Debian); for `doctor --fix`."""
    return Path(str(files("symbi.sandbox").joinpath("setup.sh")))
