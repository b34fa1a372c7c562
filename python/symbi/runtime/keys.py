"""`rt.keys`: whose keys there are, exchanging them, taking them back.

    for key in rt.keys.list():
        print(key.name, key.key, "revoked" if key.revoked else "valid")
    await rt.keys.revoke(agent, by="operator:1000")

Why: a key that somebody else may have is worth nothing from then on; and whose key was valid when stands in the trail.
Not here: the keys themselves (native: no private key ever reaches Python), who may change them (policy: `key.change`).

Invariants
- KE1 a change is answered after its record is on disk.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from symbi.errors import InputError
from symbi.runtime.leaving import Leaving

if TYPE_CHECKING:
    from symbi._core import Kernel
    from symbi.agents.handle import AgentHandle
    from symbi.runtime import Runtime

__all__ = ["AgentKey", "KeyExchange", "Keys"]


@dataclass(frozen=True, slots=True)
class AgentKey:
    """The runtime's word for an agent's keys.

    Attributes:
        agent, name: Whose.
        key: Fingerprint of the key that signs its messages: 32 hex digits.
        serial: Of the certificate: 16 hex digits.
        not_before_us, not_after_us: When it is valid, microseconds since the epoch, both included.
        issuer: Fingerprint of the runtime's key that vouches.
        revoked: It was taken back.
        certificate: Its 184 bytes: docs/formats/message.md.
    """

    agent: str
    name: str
    key: str
    serial: str
    not_before_us: int
    not_after_us: int
    issuer: str
    revoked: bool
    certificate: bytes


@dataclass(frozen=True, slots=True)
class KeyExchange:
    """The runtime's key for messages was exchanged.

    Attributes:
        before, after: Fingerprints. renewed: Certificates that were made under the new one. seq: The record.
    """

    before: str
    after: str
    renewed: int
    seq: int


_Keys: TypeAlias = "list[AgentKey]"  # `list` is a method below


class Keys:
    """Of one runtime."""

    def __init__(self, runtime: Runtime, kernel: Kernel) -> None:
        self._runtime = runtime
        self._kernel = kernel

    def list(self) -> _Keys:
        """The keys of all agents that have needed theirs: whoever sent, or was sent, a message; by name."""
        return [AgentKey(**row) for row in self._kernel.agent_keys()]

    def get(self, agent: AgentHandle | str) -> AgentKey | None:
        """One agent's; None where it has not needed any."""
        identity = _id(agent)
        return next((key for key in self.list() if key.agent == identity), None)

    @property
    def runtime(self) -> str:
        """Fingerprint of the runtime's key that vouches for agents."""
        return self._kernel.message_key()

    async def rotate(self, agent: AgentHandle | str, *, by: str = "host") -> AgentKey:
        """Give an agent other keys. What it sent before is still read.

        Args:
            agent: A handle, or its id. by: Who: `host`, or `operator:<uid>`.

        Raises:
            PolicyDenied: `key.change` of `Key::"agent/<name>"` is not permitted; the built-in set lets operators.
            InputError: no such agent.
        """
        return await self._change(self._kernel.rotate_agent_key, agent, by)

    async def revoke(self, agent: AgentHandle | str, *, by: str = "host") -> AgentKey:
        """Take an agent's keys back: it sends nothing more, and what it sent and nobody has read is refused.

        `rotate` lets it speak again, with other keys.

        Raises:
            PolicyDenied: as `rotate`. InputError: no such agent. BusError: they were taken back before.
        """
        return await self._change(self._kernel.revoke_agent_key, agent, by)

    async def rotate_runtime(self, *, by: str = "host") -> KeyExchange:
        """Exchange the key that vouches for agents. They keep their keys, under new certificates; nothing is lost.

        The trail is signed by another key, and stays so. Cost: about 20 µs an agent, and the wait for the disk.

        Raises:
            PolicyDenied: `key.change` of `Key::"runtime/messages"` is not permitted; the built-in set lets operators.
            CryptoError: the key's file cannot be written.
        """
        from symbi.config.passphrase import key_passphrase

        async with Leaving(self._runtime, "keys") as leaving:
            exchange = KeyExchange(
                *await asyncio.to_thread(self._kernel.rotate_message_key, by, key_passphrase())
            )
            leaving.seq = exchange.seq
        return exchange

    async def _change(self, change: Any, agent: AgentHandle | str, by: str) -> AgentKey:
        identity = _id(agent)
        handle = self._runtime.handle(identity)
        if handle is None:
            raise InputError(f"there is no agent `{identity}`")
        async with Leaving(self._runtime, "keys") as leaving:
            row, leaving.seq = await asyncio.to_thread(change, by, identity)  # KE1
        return AgentKey(**{**row, "name": handle.name})


def _id(agent: AgentHandle | str) -> str:
    return agent if isinstance(agent, str) else agent.id
