"""The one-file image: our static guest binary, packed so that the same bytes give the same layer digest.

Why: nothing is pulled, nothing in the image has to be trusted but our own binary, and the digest that the
host computes is the digest that the daemon must report, so a swapped image is seen at each start. Not here:
talking to the daemon (`engine`).

Invariants
- I1 The archive is a function of the binary alone: fixed names, order, owner, mode and time.
- I2 `layer_digest` is the SHA-256 of the archive, which is what Docker calls the layer's diff id.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from typing import Final

from symbi.errors import SandboxUnavailableError
from symbi.sandbox.base import GUEST_PATH

__all__ = ["IMAGE_NAME", "GuestImage", "guest_image"]

IMAGE_NAME: Final = "symbi/guest"

_TAG_DIGITS: Final = 16  # enough to tell two builds apart at a glance; the whole digest is what is verified


@dataclass(frozen=True, slots=True)
class GuestImage:
    """The image to import.

    Attributes:
        archive: The tar file.
        layer_digest: `sha256:` and 64 hex digits (I2).
        tag: The image's tag, a prefix of the digest.
    """

    archive: bytes = field(repr=False)
    layer_digest: str
    tag: str

    @property
    def reference(self) -> str:
        """Name and tag."""
        return f"{IMAGE_NAME}:{self.tag}"


def guest_image(binary: bytes | None = None) -> GuestImage:
    """Pack a guest binary; without one, that of this installation.

    Raises:
        SandboxUnavailableError: this build carries no guest binary.

    Cost: one copy and one SHA-256 of the binary, a few milliseconds.
    """
    if binary is None:
        binary = _carried()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo(GUEST_PATH.lstrip("/"))  # owner 0:0 and time 0 by default (I1)
        entry.mode = 0o755
        entry.size = len(binary)
        archive.addfile(entry, io.BytesIO(binary))
    packed = buffer.getvalue()
    digest = hashlib.sha256(packed).hexdigest()
    return GuestImage(packed, f"sha256:{digest}", digest[:_TAG_DIGITS])


def _carried() -> bytes:
    try:
        from symbi import _core

        return bytes(_core.guest_binary())
    except (ImportError, AttributeError) as error:
        raise SandboxUnavailableError(
            "this build carries no guest binary: reinstall the wheel, or run `make build` in a checkout"
        ) from error
