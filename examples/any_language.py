"""An agent in any language: a program in a sandbox that speaks lines on its standard streams.

The program is a line of shell here; it could be anything that runs on this machine. It needs gVisor:
`symbi doctor` says whether it is there.
"""

from __future__ import annotations

import asyncio

import symbi

WORKER = symbi.AgentConfig(
    name="counter",
    program=("/bin/sh", "-c", 'for n in 1 2 3; do echo "{\\"n\\": $n}"; done'),
    mounts=("/bin", "/lib", "/lib64", "/usr/lib"),
    limits=symbi.ResourceLimits(memory_mb=64, execution_timeout_s=10),
)


async def main() -> None:
    """Start it, and print each line as it comes, after its run is on record."""
    async with symbi.Runtime.open() as rt:
        agent = await rt.schedule_agent(WORKER)
        async for line in rt.stream(agent):
            print(line.decode())


if __name__ == "__main__":
    asyncio.run(main())
