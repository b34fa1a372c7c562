"""What is asked for, checked: one task, as it is decided on and as its agent gets it.

Not here: whether it may be (the kernel), running it (`runs`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from symbi.agents.channel import decode, encode
from symbi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["PRIORITY_NORMAL", "TIERS", "Request"]

PRIORITY_NORMAL: Final = 128
TIERS: Final = ("realtime", "interactive", "batch")
TIMEOUT_S_MAX: Final = 86_400.0  # a day, as `execution_timeout_s`
_EMPTY: Final = encode({})


@dataclass(slots=True)
class Request:
    """What is asked for: checked, and decided on as it stands here. Nobody changes one; `frozen` would make it dear."""

    line: bytes
    arguments: dict[str, Any]
    labels: list[str]
    priority: int
    tier: str
    timeout_s: float | None
    deadline_s: float | None
    approval_timeout_s: float | None = None

    @classmethod
    def of(
        cls,
        given: Mapping[str, Any] | None,
        *,
        timeout_s: float | None,
        priority: int,
        tier: str,
        deadline_s: float | None,
        labels: Iterable[str],
        approval_timeout_s: float | None = None,
    ) -> Request:
        """The request of `Runtime.run`.

        Raises:
            InputError: a value that cannot be; the text names it and what is accepted.
        """
        for name, value in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
            if value is not None and not (isinstance(value, int | float) and 0 < value <= TIMEOUT_S_MAX):
                raise InputError(f"`{name}` is more than 0 and at most {TIMEOUT_S_MAX}, and is {value!r}")
        if not isinstance(priority, int) or not 0 <= priority <= 255:
            raise InputError(f"`priority` is 0 to 255, and is {priority!r}")
        if tier not in TIERS:
            raise InputError(f"`tier` is one of {', '.join(f'`{one}`' for one in TIERS)}, and is `{tier}`")
        if (tier == "realtime") != (deadline_s is not None):
            raise InputError('`deadline_s` goes with tier="realtime", which needs it')
        line, arguments = _bound(given)
        return cls(line, arguments, list(labels), priority, tier, timeout_s, deadline_s, approval_timeout_s)

    def for_input(self, given: Mapping[str, Any] | None) -> Request:
        """The same for another input.

        Raises:
            InputError: as `of`.
        """
        line, arguments = _bound(given)
        if line is _EMPTY is self.line:
            return self
        return Request(
            line,
            arguments,
            self.labels,
            self.priority,
            self.tier,
            self.timeout_s,
            self.deadline_s,
            self.approval_timeout_s,
        )

    def changed(self, line: bytes) -> Request:
        """The same with the input that a person made of it, as it stands in the approval.

        Raises:
            InputError: it is no input.
        """
        try:
            arguments = decode(line)
        except ValueError as error:
            raise InputError(f"the input that was approved cannot be read: {error}") from None
        return replace(self, line=line, arguments=arguments)

    @property
    def deadline_ms(self) -> int | None:
        """As the kernel takes it."""
        return None if self.deadline_s is None else max(1, round(self.deadline_s * 1000))


def _bound(given: Mapping[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
    """The input as one line, and as the agent gets it: decoded from that line, which is what is decided on."""
    if given is not None and not hasattr(given, "keys"):
        kind = type(given).__name__
        raise InputError(f'the input is bound by name: give a dict, such as {{"ticket": …}}, not a {kind}')
    if not given:
        return _EMPTY, {}
    try:
        line = encode(dict(given))
        return line, decode(line)
    except (TypeError, ValueError) as error:
        raise InputError(f"the input cannot be given to an agent: {error}") from None
