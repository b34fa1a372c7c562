"""The bench runs each row often enough, beside its peers, and judges nothing that was not built for figures."""

from __future__ import annotations

import itertools
import json
import re
import sys
import types
from pathlib import Path

import pytest
import symbi
from symbi.bench import frame, machine, plot
from symbi.bench.frame import BenchContext, NotMeasured, Peer, Point, Row, Sample
from symbi.bench.report import Report, Unmeasured, figure
from symbi.build import CoreBuild, core_build
from symbi.cli import bench as command
from symbi.cli import exits, main


def row(
    values: list[float], *, better: str = "higher", target: float | None = None, peers: tuple[Peer, ...] = ()
) -> Row:
    return Row("made", "a row", "op/s", better, measure=series(values), target=target, peers=peers)  # type: ignore[arg-type]


def series(values: list[float]) -> frame.Measure:
    remaining = iter(values)
    return lambda _context: Sample(next(remaining), p50=1.0, p99=2.0, p999=4.0)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchContext:
    monkeypatch.chdir(tmp_path)
    return BenchContext()


def a_machine(build: str = "release") -> machine.Machine:
    here = machine.read_machine()
    fields = {name: getattr(here, name) for name in here.__slots__}
    return machine.Machine(**{**fields, "build": build})


def test_a_value_is_the_median_of_five_runs_after_one_to_warm_up(context: BenchContext) -> None:
    """BF1."""
    result = frame.run_row(row([1000.0, 5.0, 1.0, 3.0, 2.0, 4.0]), context)
    assert result.values == (5.0, 1.0, 3.0, 2.0, 4.0)
    assert result.value == 3.0
    assert (result.p50, result.p99, result.p999) == (1.0, 2.0, 4.0)


def test_fewer_runs_than_five_are_refused() -> None:
    """BF1."""
    with pytest.raises(symbi.InputError, match="`runs` must be at least 5"):
        Row("made", "a row", "s", "lower", measure=series([]), runs=4)


@pytest.mark.parametrize(("better", "ratio"), [("higher", 2.0), ("lower", 0.5)])
def test_a_ratio_is_the_median_of_the_runs_ratios_above_one_when_ours_is_better(
    context: BenchContext, better: str, ratio: float
) -> None:
    """BF2: the machine slows down threefold halfway; a ratio of medians would show it, the ratio run by run does not."""
    ours, theirs = [0.0, 6.0, 6.0, 6.0, 2.0, 2.0], [0.0, 3.0, 3.0, 3.0, 1.0, 1.0]
    result = frame.run_row(row(ours, better=better, peers=(Peer("other", series(theirs), "1.0"),)), context)
    (peer,) = result.peers
    assert (peer.name, peer.version, peer.value, peer.ratio) == ("other", "1.0", 3.0, ratio)


def test_peers_run_interleaved_with_us(context: BenchContext) -> None:
    """BF2."""
    order: list[str] = []

    def measure(name: str) -> frame.Measure:
        def run(_context: BenchContext) -> Sample:
            order.append(name)
            return Sample(1.0)

        return run

    made = Row("made", "a row", "s", "lower", measure=measure("A"), peers=(Peer("B", measure("B"), "1"),))
    frame.run_row(made, context)
    assert "".join(order) == "AB" * 6


def test_a_peer_that_is_not_installed_is_not_run(context: BenchContext) -> None:
    absent = Peer("no-such-package-anywhere", series([]))
    assert absent.installed_version() is None
    assert Peer("pytest", series([])).installed_version() == pytest.__version__
    assert frame.run_row(row([1.0] * 6, peers=(absent,)), context).peers == ()


@pytest.mark.parametrize(
    ("better", "target", "met"),
    [
        ("higher", 3.0, True),
        ("higher", 3.1, False),
        ("lower", 3.0, True),
        ("lower", 2.9, False),
        ("lower", None, None),
    ],
)
def test_a_target_is_met_or_missed_or_none(
    context: BenchContext, better: str, target: float | None, met: bool | None
) -> None:
    assert frame.run_row(row([3.0] * 6, better=better, target=target), context).met is met


def test_a_build_that_is_not_for_figures_judges_no_target(context: BenchContext) -> None:
    """BM1, BD1."""
    result = frame.run_row(row([3.0] * 6, target=1.0), context)
    assert Report(a_machine("release"), (result,), (), quick=False).met(result) is True
    assert Report(a_machine("ci"), (result,), (), quick=False).met(result) is None
    assert Report(a_machine(""), (result,), (), quick=False).met(result) is None
    assert not CoreBuild("1", "ci").is_release
    assert core_build().profile in {"release", "ci"}


def test_what_a_measure_says_aside_is_shown_only_with_its_failure(
    context: BenchContext, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(_context: BenchContext) -> Sample:
        print("a new trail", file=sys.stderr)
        return Sample(1.0)

    def broken(context: BenchContext) -> Sample:
        told(context)
        raise RuntimeError("no figure")

    frame.run_row(Row("made", "a row", "op/s", "higher", measure=told), context)
    assert capsys.readouterr().err == ""
    with pytest.raises(RuntimeError) as raised:
        frame.run_row(Row("made", "a row", "op/s", "higher", measure=broken), context)
    assert raised.value.__notes__ == ["a new trail\n"]


def test_quick_does_less_work_and_never_none() -> None:
    assert BenchContext(quick=False).scale(1000) == 1000
    assert BenchContext(quick=True).scale(1000) == 100
    assert BenchContext(quick=True).scale(5) == 1
    assert BenchContext(quick=True).scale(20, floor=7) == 7


def test_what_rows_share_is_made_once_and_taken_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    closed = []
    with BenchContext() as context:
        assert context.directory.parent == tmp_path, "a durable figure from memory would be a lie"
        assert context.once("a", list) is context.once("a", list)
        context.stack.callback(closed.append, "closed")
    assert closed == ["closed"]
    assert list(tmp_path.iterdir()) == []


def test_the_machine_block_is_of_this_machine() -> None:
    block = machine.read_machine()
    assert block.cores >= 1
    assert block.memory_mb > 100
    assert set(block.flags) <= set(machine.FLAGS_OF_NOTE)
    assert block.symbi == symbi.__version__
    assert json.loads(json.dumps(block.as_json()))["build"] == block.build


def test_percentiles_are_nearest_rank() -> None:
    assert frame.percentile([1, 2, 3, 4], 0.5) == 3
    assert frame.percentile(range(100), 0.99) == 99
    assert frame.percentile([7], 0.99) == 7
    with pytest.raises(symbi.InputError):
        frame.percentile([], 0.5)


def test_times_come_ascending_and_in_microseconds() -> None:
    times = frame.sample_ns(lambda: None, 50)
    assert times == sorted(times)
    assert frame.latency_us([1_000, 2_000, 3_000]) == Sample(2.0, 2.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(177_312.4, "177,312"), (43.21, "43.2"), (4.3111, "4.31"), (0.06219, "0.0622"), (0.0, "0.0")],
)
def test_figures_show_the_digits_that_count(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_every_suite_here_is_planned_and_describes_itself() -> None:
    for name, suite in zip(frame.suite_names(), frame.load_suites(), strict=True):
        assert name == suite.NAME
        assert suite.SUMMARY
        assert name in frame.PLANNED


def test_a_suite_that_is_not_here_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    absent = next(name for name in frame.PLANNED if name not in frame.suite_names())
    assert main.main(["bench", absent]) == exits.USE
    assert f"symbi: not_built: the suite `{absent}` does not exist in this version" in capsys.readouterr().err
    assert main.main(["bench", "none-such"]) == exits.USE
    assert (
        "symbi: input.invalid: no suite is called `none-such`: there are `start`"
        in capsys.readouterr()
        .err.replace("`decide`, ", "")
        .replace("`audit`, ", "")
        .replace("`schedule`, ", "")
    )


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.SimpleNamespace:
    """A suite of the given rows, in place of the real ones."""
    monkeypatch.chdir(tmp_path)
    made = types.SimpleNamespace(NAME="made", SUMMARY="for a test", made=[])
    made.rows = lambda _context: made.made
    monkeypatch.setattr(command.bench, "load_suites", lambda _names: [made])
    return made


def test_bench_writes_the_fixed_json_with_the_machine_and_prints_it_first(
    suite: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.made = [row([3.0] * 6, target=1.0, peers=(Peer("other", series([1.5] * 6), "1.0"),))]
    assert main.main(["bench", "--json", "figures.json", "--html", "figures.html"]) == exits.DONE
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("machine  ")
    assert any(line.startswith("made") and "other 1.0: 1.50 (2.00 times)" in line for line in shown)
    assert any("4.00 µs" in line for line in shown), "of a rate, how long one took"
    written = json.loads(Path("figures.json").read_text())
    assert written["machine"]["cores"] >= 1
    (made,) = written["rows"]
    assert made == {
        "suite": "made",
        "name": "a row",
        "unit": "op/s",
        "value": 3.0,
        "better": "higher",
        "target": 1.0,
        "met": True if written["machine"]["presentable"] else None,
        "p50": 1.0,
        "p99": 2.0,
        "p999": 4.0,
        "runs": 5,
        "values": [3.0] * 5,
        "durability": "none",
        "provider": "none",
        "peers": [{"name": "other", "version": "1.0", "value": 1.5, "ratio": 2.0}],
    }


def test_the_page_loads_nothing_and_shows_the_machine_first(context: BenchContext) -> None:
    """BR1, BR2."""
    result = frame.run_row(row([3.0] * 6, target=9.0), context)
    page = Report(a_machine(), (result,), (Unmeasured("made", "<b>", "no docker"),), quick=False).as_html()
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "&lt;b&gt;" in page
    assert page.index("<pre>machine") < page.index("<table>")
    assert "MISSED" in page


def test_rows_of_one_chart_are_drawn_as_curves_beside_their_peers(context: BenchContext) -> None:
    """BR3, BC1, BC2: every figure of the table and no other, each curve named, each point in words."""
    results = []
    for waiting, ours, theirs in ((1_000, 2.0, 4.0), (10_000, 2.5, 40.0)):
        peer = Peer("other<", series([theirs] * 6), "1")
        made = row([ours] * 6, better="lower", peers=(peer,))
        fields = {name: getattr(made, name) for name in made.__slots__}
        point = Point("time & size", waiting, "waiting tasks")
        results.append(frame.run_row(Row(**{**fields, "point": point}), context))
    results.append(frame.run_row(row([7777.0] * 6), context))
    page = Report(a_machine(), tuple(results), (), quick=False).as_html()
    chart = page[page.index("<figure>") : page.index("</figure>")]
    assert chart.startswith("<figure><figcaption>time &amp; size</figcaption><svg")
    assert 'role="img"><title>time &amp; size</title><desc>symbi: 2.50 at 10,000; other&lt;: 40.0' in chart
    assert chart.count("<path") == chart.count('class="name') == 2
    assert chart.count('class="mark"') == 4
    assert "<title>symbi, 1,000: 2.00</title>" in chart
    assert "<title>other&lt;, 10,000: 40.0</title>" in chart
    assert "waiting tasks" in chart
    assert "lower is better" in chart
    assert "7,777" not in chart
    assert page.count("<svg") == 1
    assert "http" not in page.replace("http-equiv", "")


def test_a_share_is_drawn_by_what_is_missing_and_rises_to_the_right(context: BenchContext) -> None:
    results = []
    for missing, ours in ((0.1, 900.0), (0.01, 300.0), (0.05, 500.0)):
        made = row([ours] * 6)
        fields = {name: getattr(made, name) for name in made.__slots__}
        results.append(
            frame.run_row(Row(**{**fields, "point": Point("c", missing, "recall", True)}), context)
        )
    page = Report(a_machine(), tuple(results), (), quick=False).as_html()
    assert "<desc>symbi: 300 at 0.99</desc>" in page
    assert all(f">{tick}</text>" in page for tick in ("0.9", "0.95", "0.98", "0.99"))
    path = re.search(r'<path class="line ours" d="M([^"]*)"', page)
    assert path is not None
    across = [float(point.split()[0]) for point in path[1].split("L")]
    assert across == sorted(across)


def test_a_row_of_bars_is_drawn_beside_its_peers_at_lengths_from_zero(context: BenchContext) -> None:
    """BR3, BC2: every figure with its name, in proportion."""
    made = row([200.0] * 6, better="lower", peers=(Peer("other<", series([800.0] * 6), "1"),))
    fields = {name: getattr(made, name) for name in made.__slots__}
    results = (frame.run_row(Row(**{**fields, "bars": "memory"}), context),)
    page = Report(a_machine(), results, (), quick=False).as_html()
    drawn = page[page.index("<figure>") : page.index("</figure>")]
    assert "memory, op/s, lower is better: a row" in drawn
    assert "<desc>symbi: 200; other&lt;: 800</desc>" in drawn
    widths = [float(width) for width in re.findall(r'class="bar"[^>]* width="([0-9.]+)"', drawn)]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)
    assert plot.bars("nothing", [("symbi", 0.0)], figure).count("<rect") == 1


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([1_000, 1_000_000], [1_000, 10_000, 100_000, 1_000_000]),
        ([3, 40], [2, 5, 10, 20, 50]),
        ([0.02, 0.04], [0.02, 0.05]),
        ([5, 5], [2, 5, 10]),
    ],
)
def test_an_axis_names_round_numbers_that_enclose_what_is_drawn(
    values: list[float], ticks: list[float]
) -> None:
    axis = plot._Axis.over(values, 0, 100)
    named = axis.named()
    assert named == pytest.approx([tick for tick in ticks if axis.low <= tick <= axis.high])
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert 0 <= axis.at(values[0]) <= axis.at(values[-1]) <= 100


def test_curves_that_end_together_have_names_that_do_not_overlap() -> None:
    """BC1."""
    curves = [plot.Curve(name, ((1, 1.0), (10, 1.0 + place / 1_000))) for place, name in enumerate("abcd")]
    drawn = plot.chart("t", "x", "y", curves, str)
    places = sorted(float(y) for y in re.findall(r'class="name s\d" x="[\d.]+" y="([\d.]+)"', drawn))
    assert all(below - above >= 16 for above, below in itertools.pairwise(places))
    assert (drawn.count("<circle"), drawn.count("<polygon")) == (2, 6), "marks differ, too"
    dashes = re.findall(r'stroke-dasharray="([^"]+)"', drawn)
    assert len(set(dashes)) == 3, "the first is drawn whole"


@pytest.mark.parametrize("full", [True, False])
def test_the_load_of_the_schedule_suite_is_what_its_rows_say(full: bool) -> None:
    from symbi.bench.suites import schedule

    load = schedule._Load(100, "first_fit", full)
    stats = load.scheduler.stats()
    assert sum(stats.waiting.values()) == 100
    assert sum(stats.running.values()) == len(load.running)
    assert (stats.capacity["cpu_cores"] - stats.allocated["cpu_cores"] < schedule._NODES * 4) is full
    assert load.scheduler.next() is None if full else load.scheduler.next() is not None
    peer = schedule._HeapFirstFit(100)
    assert len(peer.heap) == 100
    assert peer.next() is None


def test_json_on_stdout_stands_there_alone(
    suite: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.made = [row([3.0] * 6)]
    assert main.main(["bench", "--json", "-"]) == exits.DONE
    shown = capsys.readouterr()
    assert json.loads(shown.out)["rows"][0]["value"] == 3.0
    assert "machine  " in shown.err


def test_a_row_that_cannot_be_measured_is_named_and_one_that_breaks_is_a_finding(
    suite: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """BF3, CB1."""

    def lacking(_context: BenchContext) -> Sample:
        raise NotMeasured("needs Docker: `symbi doctor` says how")

    def broken(_context: BenchContext) -> Sample:
        raise ZeroDivisionError("odd")

    lacks = Row("made", "lacks", "s", "lower", measure=lacking)
    breaks = Row("made", "breaks", "s", "lower", measure=broken)
    suite.made = [lacks, row([1.0] * 6, target=100.0)]
    assert main.main(["bench", "--json", "-"]) == exits.DONE, "a missed target is no failure"
    shown = capsys.readouterr()
    written = json.loads(shown.out)
    assert [made["name"] for made in written["rows"]] == ["a row"]
    assert written["unmeasured"] == [
        {"suite": "made", "name": "lacks", "reason": "needs Docker: `symbi doctor` says how"}
    ]
    assert "not measured: made: lacks: needs Docker" in shown.err
    suite.made = [breaks, row([1.0] * 6)]
    assert main.main(["bench"]) == exits.FINDING
    shown = capsys.readouterr()
    assert "not measured: made: breaks: ZeroDivisionError: odd" in shown.err
    assert "a row" in shown.out, "one broken row must not cost the figures of the others"


def test_a_peer_asked_for_by_name_must_be_there(
    suite: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """CB2."""
    there, absent = Peer("there", series([1.0] * 60), "1"), Peer("no-such-package-anywhere", series([]))
    suite.made = [row([1.0] * 60, peers=(there, absent))]
    assert main.main(["bench", "--compare", "no-such-package-anywhere"]) == exits.USE
    assert "`pip install no-such-package-anywhere`" in capsys.readouterr().err
    assert main.main(["bench", "--compare", "other"]) == exits.USE
    assert "no row of these suites has a peer `other`" in capsys.readouterr().err
    assert main.main(["bench"]) == exits.DONE
    shown = capsys.readouterr()
    assert "left out: pip install no-such-package-anywhere" in shown.err
    assert "there 1:" in shown.out
    assert main.main(["bench", "--compare", "none"]) == exits.DONE
    assert "there 1:" not in capsys.readouterr().out


def test_a_path_that_cannot_be_written_is_found_before_the_work(
    suite: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.made = [row([])]
    assert main.main(["bench", "--json", "no/such/folder.json"]) == exits.USE
    assert "io.enoent" in capsys.readouterr().err


def test_the_list_names_rows_and_measures_nothing(
    suite: types.SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.made = [row([], peers=(Peer("other", series([]), "1"),))]
    assert main.main(["bench", "--list"]) == exits.DONE
    assert "  a row (op/s, higher is better)  beside other" in capsys.readouterr().out
