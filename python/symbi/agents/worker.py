"""The Python worker: what runs inside a sandbox and calls the agent's function.

Run as `python -m symbi.agents.worker FILE NAME`. It imports FILE under a private module name, says that it is ready,
and then runs tasks from its pipe, one at a time, while its calls travel the other way.

Why: the pipe is the barrier and the identity. Nothing in this file is trusted by the runtime; it is a convenience for
the agent's author. A worker needs no native code, no key and no network.

Lines in, each with a `type`:
  run (run, agent, name, input) · reply (id, value | error) · piece (id, data, last) of a longer reply · end
Lines out:
  ready (version, declares) · broken (kind, text, message) · call (id, operation, arguments) · cancel (id) ·
  result (run, value) · failed (run, kind, text, message)

Invariants
- W1 the pipe carries only our lines: what the agent prints goes to stderr.
- W2 every run that comes in is answered by one `result` or one `failed`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import sys
import traceback
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

import symbi
from symbi import errors
from symbi.agents.channel import CHANNEL_VERSION, decode, encode
from symbi.agents.context import AgentContext
from symbi.agents.definition import AgentDefinition, bind, declared
from symbi.agents.worker_calls import Calls, RunChannel
from symbi.tools.definition import WORKER_MODULE

if TYPE_CHECKING:
    from symbi.agents.definition import AgentFunction

_LINE_BYTES_MAX = 1 << 20
_TEXT_CHARS_MAX = 8_192
_VOUCHED_MODULE = "_symbi_vouched_agent"
"""The name under which a host imports a file that a person vouched for."""


class Worker:
    """One agent, one pipe."""

    def __init__(self, agent: AgentDefinition | AgentFunction, lines_out: IO[bytes]) -> None:
        self._function = agent.function if isinstance(agent, AgentDefinition) else agent
        self.declares = declared(agent.config) if isinstance(agent, AgentDefinition) else None
        self._out = lines_out
        self._calls = Calls(self.say)
        self._task: asyncio.Task[None] | None = None

    def say(self, message: dict[str, Any]) -> None:
        """Write one line (W1). Blocks while the runtime does not read: that is the back-pressure."""
        line = encode(message)
        if len(line) > _LINE_BYTES_MAX:
            raise errors.InputError(f"a line has at most {_LINE_BYTES_MAX} bytes, and this has {len(line)}")
        self._out.write(line + b"\n")
        self._out.flush()

    def hear(self, line: bytes) -> bool:
        """Take one line; False when it was the last."""
        message = decode(line)
        kind = message["type"]
        if kind == "run":
            self._task = asyncio.get_running_loop().create_task(self._run(message))
        elif kind == "reply":
            self._calls.hear(message)
        elif kind == "piece" and (whole := self._calls.piece(message)) is not None:
            return self.hear(whole)
        return bool(kind != "end")

    async def _run(self, message: dict[str, Any]) -> None:
        run = message["run"]
        self._calls.begin(message["agent"], run)
        of = {"agent_id": message["agent"], "name": message["name"], "task_id": message["task"]}
        context = AgentContext(RunChannel(self._calls, run), run_id=run, **of)
        try:
            try:
                value = await bind(self._function, context, message["input"])
            finally:
                self._calls.end()
            self.say({"type": "result", "run": run, "value": value})
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - W2: whatever its code does is its outcome
            text = traceback_of(error)
            print(text, file=sys.stderr, flush=True)
            failed: dict[str, Any] = {
                "type": "failed",
                "run": run,
                "kind": type(error).__name__,
                "text": text,
            }
            failed["message"] = str(error)[:_TEXT_CHARS_MAX]
            if isinstance(error, errors.PolicyDenied):
                failed["denied"] = {"code": error.code, "decision_id": error.decision_id}
            self.say(failed)


def traceback_of(error: BaseException) -> str:
    """What the agent's author is to read: his own frames first. How we came to call him is not his."""
    here, found = os.path.dirname(os.path.dirname(__file__)), error.__traceback__  # noqa: PTH120
    while found is not None and found.tb_frame.f_code.co_filename.startswith((here, "<frozen importlib")):
        found = found.tb_next
    return "".join(traceback.format_exception(type(error), error, found))[-_TEXT_CHARS_MAX:]


class NoRuntime:
    """What `symbi.Runtime` is inside: a file that opens one when it is imported would open it in each worker."""

    @classmethod
    def open(cls, *_: object, **__: object) -> NoReturn:
        """Refuse, and say what the author meant to write."""
        raise errors.InputError(
            "the worker imports the agent's file, and importing it opens a runtime: put what starts it under "
            '`if __name__ == "__main__":`'
        )


def load(file: str, name: str, *, inside: bool = True) -> AgentDefinition | AgentFunction:
    """The agent `name` of `file`, imported under a private module name: this runs the file.

    Args:
        file: Its path. `name`: of a function at its top level.
        inside: This is a worker; False where a person vouched for the file and it is imported by the host.

    Raises:
        InputError: the file has no such function.
    """
    module_name = WORKER_MODULE if inside else _VOUCHED_MODULE
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise errors.InputError(f"`{file}` is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    if inside:
        symbi.Runtime = NoRuntime  # type: ignore[misc, assignment]
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if isinstance(found, AgentDefinition):
        return found
    if not callable(found):
        raise errors.InputError(f"`{file}` has no function `{name}` at its top level")
    return cast("AgentFunction", found)


async def _serve(worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX + 2)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    worker.say({"type": "ready", "version": CHANNEL_VERSION, "declares": worker.declares})
    while line := await reader.readline():
        if not worker.hear(line.rstrip(b"\n")):
            return


def main(arguments: list[str]) -> int:
    """Serve until the pipe ends."""
    lines_out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # W1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # seen when it is printed, not when a buffer is full
    file, name = arguments
    worker = None
    try:
        worker = Worker(load(file, name), lines_out)
    except BaseException as error:  # noqa: BLE001 - importing the agent's file may do anything
        text = traceback_of(error)
        lines_out.write(
            encode(
                {
                    "type": "broken",
                    "kind": type(error).__name__,
                    "text": text,
                    "message": str(error)[:_TEXT_CHARS_MAX],
                }
            )
            + b"\n"
        )
        lines_out.flush()
        return 1
    from symbi.agents.worker_loop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(worker))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
