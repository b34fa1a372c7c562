"""Runs rows: several runs each, peers interleaved, medians kept.

Why interleaved (A B A B): the machine drifts while a bench runs, so a ratio is taken run by run, ours and the
peer's in the same minute, and its median is what is reported.
Not here: what is measured (`suites`), how it looks (`report`).

A suite is a module of `symbi.bench.suites`:

    NAME, SUMMARY = "decide", "policy decisions"

    def rows(context: BenchContext) -> list[Row]:
        return [Row(NAME, "one decision", "µs", "lower", measure=_one, target=5.0)]

    def _one(context: BenchContext) -> Sample:
        times = sample_ns(lambda: engine.evaluate_policy(…), context.scale(100_000))
        return latency_us(times)

Invariants
- BF1 a value is the median of at least `RUNS_MIN` runs, `--quick` or not; quick means less work a run.
- BF2 a ratio is the median of the runs' ratios, ours over the peer's, above 1 when ours is better.
- BF3 a row that cannot be measured is named with its reason, never left out, never given a number.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
import time
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, TypeVar, cast

from symbi.errors import InputError, NotBuiltError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "PLANNED",
    "RUNS_MIN",
    "BenchContext",
    "Measure",
    "NotMeasured",
    "Peer",
    "PeerResult",
    "Point",
    "Result",
    "Row",
    "Sample",
    "latency_us",
    "load_suites",
    "percentile",
    "rate",
    "run_row",
    "sample_ns",
    "suite_names",
]

RUNS_MIN = 5  # fewer have no median worth the name
QUICK_DIVISOR = 10  # --quick does a tenth of the work a run

# Every suite that the figures of the project need, whether this version has it or not.
PLANNED = (
    *("decide", "audit", "schedule", "start", "bus", "vectors"),
    *("rag", "agents", "mcp", "sandbox", "server"),
)

Value = TypeVar("Value")


class NotMeasured(Exception):  # noqa: N818 - a finding, not a fault
    """Raised by a measure where the machine lacks what the row needs. The text says what, and how to get
    it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one row: the row's value in its unit, and the run's percentiles, if it has any: in the same unit; of a
    rate (`1/s`) in µs, how long one of them took."""

    value: float
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None


@dataclass(slots=True)
class BenchContext:
    """What measures share during one `symbi bench`. A context manager: what was made is taken down at its
    end.

    Attributes:
        quick: Less work a run.
        directory: An empty directory on a real disk (the working directory's), for trails and data.
    """

    quick: bool = False
    directory: Path = field(default_factory=Path)
    stack: ExitStack = field(default_factory=ExitStack)
    _made: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        # Not /tmp: that is memory on many machines, and a durable figure from there would be a lie.
        scratch = TemporaryDirectory(prefix=".symbi-bench-", dir=Path.cwd())
        self.directory = Path(self.stack.enter_context(scratch))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def scale(self, count: int, *, floor: int = 1) -> int:
        """`count`, or a tenth of it with `--quick`, but at least `floor`."""
        return max(floor, count // QUICK_DIVISOR) if self.quick else count

    def fresh(self) -> Path:
        """A new empty directory, private to its owner, gone at the end."""
        directory = self.directory / f"{len(list(self.directory.iterdir())):06d}"
        directory.mkdir(mode=0o700)
        return directory

    def once(self, name: str, make: Callable[[], Value]) -> Value:
        """What `make` returns, made the first time that `name` is asked for. For set-ups that rows share."""
        if name not in self._made:
            self._made[name] = make()
        return cast("Value", self._made[name])


Measure: TypeAlias = "Callable[[BenchContext], Sample]"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another program on the same work.

    Attributes:
        name: As `--compare` takes it, and as pip installs it.
        measure: The same work, the same unit.
        version: Empty: read from the installed package; a text where the peer is no package (`standard
        library`).
    """

    name: str
    measure: Measure
    version: str = ""

    def installed_version(self) -> str | None:
        """Its version, `None` where it is not installed."""
        if self.version:
            return self.version
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class Point:
    """Where a row stands in a chart of the HTML report: the rows of one chart are one curve, their peers others.

    Attributes:
        chart: The chart's title.
        x: Above 0.
        x_label: What `x` is, with its unit.
        complement: `x` is what is missing to 1, and `x_label` names what is there: the axis shows 1 - x, rising.
    """

    chart: str
    x: float
    x_label: str
    complement: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One promised figure.

    Attributes:
        suite: The suite's name.
        name: What is measured, as a question's answer; unique in its suite.
        unit: Of value, percentiles and target.
        better: Which direction is good.
        measure: One run. Called once to warm up, then `runs` times.
        target: What was promised; `None` where nothing was.
        peers: Others on the same work.
        durability: What is on disk when an operation counts: `none`, `group commit`, `each`.
        provider: The cryptography in it: `aws-lc`, `ring`, `none`.
        runs: Recorded runs, at least `RUNS_MIN`.
        point: Where it stands in a chart; `None`: in none.
        bars: The title of the bars in which it is drawn beside its peers; empty: in none.
    """

    suite: str
    name: str
    unit: str
    better: Literal["higher", "lower"]
    measure: Measure
    target: float | None = None
    peers: Sequence[Peer] = ()
    durability: str = "none"
    provider: str = "none"
    runs: int = RUNS_MIN
    point: Point | None = None
    bars: str = ""

    def __post_init__(self) -> None:
        if self.runs < RUNS_MIN:
            raise InputError(f"row `{self.name}`: `runs` must be at least {RUNS_MIN}, and is {self.runs}")


@dataclass(frozen=True, slots=True)
class PeerResult:
    """A peer's median, and ours over it (BF2)."""

    name: str
    version: str
    value: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Result:
    """A measured row. `values` are the recorded runs, in order."""

    row: Row
    values: tuple[float, ...]
    p50: float | None
    p99: float | None
    p999: float | None
    peers: tuple[PeerResult, ...]

    @property
    def value(self) -> float:
        """The median of the runs (BF1)."""
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the target was met; `None` for a row without target."""
        target = self.row.target
        if target is None:
            return None
        return self.value >= target if self.row.better == "higher" else self.value <= target


class Suite(Protocol):
    """What a module of `symbi.bench.suites` is."""

    NAME: str
    SUMMARY: str

    def rows(self, context: BenchContext) -> list[Row]:
        """Its rows. Cheap: set-ups belong into measures (`BenchContext.once`)."""
        ...


def suite_names() -> list[str]:
    """The suites that this version has, in the order of `PLANNED`, others after them."""
    from symbi.bench import suites

    here = [found.name for found in pkgutil.iter_modules(suites.__path__) if not found.name.startswith("_")]
    return sorted(here, key=lambda name: (PLANNED.index(name) if name in PLANNED else len(PLANNED), name))


def load_suites(names: Sequence[str] = ()) -> list[Suite]:
    """Imports the suites that were asked for; all of them when none was.

    Raises:
        NotBuiltError: a suite that this version does not have yet.
        InputError: no suite of that name; the text lists those that are.
    """
    have = suite_names()
    for name in names:
        if name in have:
            continue
        listed = ", ".join(f"`{suite}`" for suite in have)
        if name in PLANNED:
            raise NotBuiltError(f"the suite `{name}` does not exist in this version: there are {listed}")
        raise InputError(f"no suite is called `{name}`: there are {listed}")
    wanted = [name for name in have if name in names] if names else have
    return [cast("Suite", importlib.import_module(f"symbi.bench.suites.{name}")) for name in wanted]


def run_row(
    row: Row,
    context: BenchContext,
    peers: Sequence[Peer] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Result:
    """Measures one row with its peers, interleaved.

    Args:
        row: What to measure.
        context: Shared by the run.
        peers: Installed peers to run beside it; `None` takes the row's own that are installed.
        progress: Called after every measure, warm-up included.

    Raises:
        NotMeasured: the machine lacks what the row needs (BF3).
    """
    beside = [peer for peer in row.peers if peer.installed_version()] if peers is None else list(peers)
    measures = [row.measure, *(peer.measure for peer in beside)]
    for measure in measures:
        _quietly(measure, context)
        progress()
    runs: list[list[Sample]] = []
    for _ in range(row.runs):
        samples = []
        for measure in measures:
            samples.append(_quietly(measure, context))
            progress()
        runs.append(samples)
    ours = [run[0] for run in runs]
    compared = tuple(
        PeerResult(
            name=peer.name,
            version=peer.installed_version() or "",
            value=median(run[place].value for run in runs),
            ratio=median(_ratio(row, run[0].value, run[place].value) for run in runs),
        )
        for place, peer in enumerate(beside, start=1)
    )
    return Result(
        row=row,
        values=tuple(sample.value for sample in ours),
        p50=_median_of([sample.p50 for sample in ours]),
        p99=_median_of([sample.p99 for sample in ours]),
        p999=_median_of([sample.p999 for sample in ours]),
        peers=compared,
    )


def _quietly(measure: Callable[[BenchContext], Sample], context: BenchContext) -> Sample:
    """One measure.

    Every new data directory introduces itself on stderr, and a bench makes hundreds: what is said there is shown only
    with a failure.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return measure(context)
    except Exception as error:
        if said.getvalue():
            error.add_note(said.getvalue())
        raise


def _ratio(row: Row, ours: float, theirs: float) -> float:
    over, under = (ours, theirs) if row.better == "higher" else (theirs, ours)
    return over / under if under else float("inf")


def _median_of(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return median(present) if present else None


def sample_ns(call: Callable[[], object], count: int) -> list[int]:
    """Times `count` calls one by one, in nanoseconds, ascending. Includes about 60 ns of the clock itself."""
    clock = time.perf_counter_ns
    times = [0] * count
    for place in range(count):
        begin = clock()
        call()
        times[place] = clock() - begin
    times.sort()
    return times


def percentile(ascending: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the samples lie: nearest rank, no interpolation."""
    if not ascending:
        raise InputError("a percentile needs at least one sample")
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


def latency_us(times_ns: Sequence[int]) -> Sample:
    """A row of latency in µs: its value is the run's p50. `times_ns` ascending, as `sample_ns` gives them."""
    p50, p99, p999 = (percentile(times_ns, share) / 1e3 for share in (0.50, 0.99, 0.999))
    return Sample(p50, p50, p99, p999)


def rate(work: Callable[[], object], count: int) -> Sample:
    """A row of throughput: `count` operations over the seconds that `work` took."""
    begin = time.perf_counter()
    work()
    return Sample(count / (time.perf_counter() - begin))
