"""The witness protocol over HTTP, C2SP `tlog-witness`: a process that co-signs, and how a trail asks one.

Run it under another user, or on another machine: its word is worth what keeps the trail's writer from its state.
Not here: what it signs and what it refuses (`symbi-audit`, `witness.rs`), who may call (its requests prove themselves:
only a checkpoint that its log signed is considered at all).

Invariants
- WH1 a request is at most 64 KiB, comes whole within 10 s, and is answered by a thread of its own, 32 at most.
- WH2 an answer is believed only when the witness' key, which was given beforehand, signed it.
"""

from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from symbi.audit import AuditLog
from symbi.audit.witness import Witness, keep_cosignature, witness_request
from symbi.errors import AuditError, InputError, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from symbi.audit import Checkpoint

__all__ = ["WitnessServer", "ask_witness"]

REQUEST_BYTES_MAX: Final = 64 * 1024
REQUEST_S: Final = 10.0
_THREADS_MAX: Final = 32
_PATH: Final = "/add-checkpoint"


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_S
    protocol_version = "HTTP/1.1"
    server_version = "symbi-witness"
    sys_version = ""

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != _PATH:
            self._answer(404, "there is only POST /add-checkpoint\n")
        elif not length.isascii() or not length.isdecimal() or self.headers.get("Transfer-Encoding"):
            self._answer(411, "Content-Length is missing\n")
        elif int(length) > REQUEST_BYTES_MAX:
            self._answer(413, "the request is too long\n")  # WH1
        else:
            body = self.rfile.read(int(length))
            try:
                text = body.decode()
            except UnicodeDecodeError:
                text = ""
            self._answer(*self.server.witness.add_checkpoint(text, int(time.time())))

    def _answer(self, status: int, body: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/x.tlog.size" if status == 409 else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if status >= 400:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class' name
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], witness: Witness) -> None:
        self.witness = witness
        self._room = threading.BoundedSemaphore(_THREADS_MAX)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(timeout=REQUEST_S):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


class WitnessServer:
    """A witness that listens.

    Attributes:
        key: Its key, `name+hash+base64`: what `symbi audit verify --witness` takes.
        port: Where it listens.
    """

    def __init__(
        self, state: Path, name: str, logs: Sequence[str], *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        """Opens its state, makes its key beside it (`<state>.key`), and binds.

        Raises:
            LogLockedError: another process holds the state.
            ChainBrokenError: its state is damaged: it cannot know what it signed.
            InputError: a name or a log's key that is none.
            AuditError: it cannot listen there.
        """
        witness = Witness(state, name, logs)
        self.key = witness.key
        try:
            self._server = _Server((host, port), witness)
        except OSError as error:
            raise AuditError(f"a witness cannot listen on {host}:{port}: {error}") from error
        self.port: int = self._server.server_address[1]

    def serve(self) -> None:
        """Answers until `close`, from another thread or a signal."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()


def ask_witness(trail: Path, url: str, witness: str) -> tuple[Checkpoint, int]:
    """Has a witness sign the checkpoint beside a trail, and keeps its signature there.

    Args:
        trail: The trail's directory.
        url: Where it listens, such as `http://127.0.0.1:8085`.
        witness: Its key, as it was told beforehand.

    Returns:
        The checkpoint, and the time of the signature in seconds since the Unix epoch.

    Raises:
        AuditError: it cannot be reached, or it refuses: it has seen another history, or a longer one.
        CryptoError: what it answered is not its signature (WH2).
        TruncatedError: it has signed more records than the trail has.
    """
    status, body = _post(url, witness_request(trail, 0))
    if status == 409 and body.strip().isdecimal():
        signed = int(body)
        try:
            proof = witness_request(trail, signed)
        except TruncatedError as error:
            raise TruncatedError(
                f"the witness at {url} has signed {signed} records of this log, here are {error.seq}: it was cut back, "
                "or another copy of it grew",
                seq=error.seq,
            ) from None
        status, body = _post(url, proof)
    if status != 200:
        reason = {
            403: "it does not know the key that signs now",
            404: "it does not know this log",
            409: "it has signed another tree of this size",
            422: "the trail did not grow out of what it has signed",
        }.get(status, body.strip()[:200])
        raise AuditError(f"the witness at {url} refused ({status}): {reason}")
    time_s = keep_cosignature(trail, body, witness)
    return AuditLog.open(trail).checkpoint(), time_s


def _post(url: str, body: str) -> tuple[int, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"`{url}` is not the address of a witness: http://HOST:PORT")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = connect(parts.hostname, parts.port, timeout=REQUEST_S)
        try:
            connection.request("POST", parts.path.rstrip("/") + _PATH, body.encode())
            answer = connection.getresponse()
            return answer.status, answer.read(REQUEST_BYTES_MAX).decode("utf-8", errors="replace")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AuditError(f"the witness at {url} does not answer: {error}") from error
