"""Every block of the documents that a reader may paste is run here, in order, in an empty directory.

Why: a tour that does not work is worse than none. So the text is the test: a block says in its first line what it is.

- ```` ```python file=NAME ````, ```` ```cedar file=NAME ````, …: the file NAME.
- ```` ```console ````: `$ ` begins a command, the lines below it are what it prints; with `exit=N` the last command ends
  with N. In what is printed `…` is any text, a line of `…` any lines, a number any number, and an id any id, but the
  same one from then on, in later commands too.
- ```` ```console install ````: run from the wheel that `SYMBI_WHEEL` names, in a new environment that has no compiler;
  without one the current environment stands for it.
- ```` ```text ````, ```` ```toml ````, ```` ```rust ````: shown only. Any other first line is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND_S = 120
"""Seconds for one command: an install, or three sandboxes on a busy machine."""

TOURS = [
    "README.md",
    "docs/getting-started.md",
    "docs/tutorial-demo.md",
    "docs/messages.md",
    "docs/scheduling.md",
    "docs/supervision.md",
    "docs/vectors.md",
    "docs/trail.md",
    "docs/erasure.md",
    "docs/reports.md",
]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN_ONLY = {"text", "toml", "rust", "json"}
IDS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}|[0-9a-f]{32}|…|\d+")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its kind, what its first line says besides, its text and its line in the document."""

    kind: str
    words: tuple[str, ...]
    body: str
    line: int

    def setting(self, name: str, default: str = "") -> str:
        """The value of `name=value` in the first line."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), default)


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a document."""
    found = []
    for match in FENCE.finditer(text):
        kind, *words = match["info"].split() or [""]
        found.append(Block(kind, tuple(words), match["body"], text[: match.start()].count("\n") + 1))
    return found


def commands(body: str) -> list[tuple[str, list[str]]]:
    """Commands, each with the lines it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


class Reader:
    """Somebody who follows a document, line by line."""

    def __init__(self, place: Path, path: str) -> None:
        self.place = place
        self.known: dict[str, str] = {}  # an id of the document -> the id that came here
        kept = {name: os.environ[name] for name in ("DOCKER_HOST", "LD_LIBRARY_PATH") if name in os.environ}
        self.environment = {
            **kept,
            "PATH": path,
            "HOME": str(place),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
        }
        self.environment["NO_COLOR"] = "1"

    def run(self, block: Block) -> None:
        """Run the commands of a block, and hold what they print against what it says."""
        listed = commands(block.body)
        for number, (written, said) in enumerate(listed, start=1):
            command = written
            for shown, real in self.known.items():
                command = command.replace(shown, real)
            code = int(block.setting("exit", "0")) if number == len(listed) else 0
            got = subprocess.run(
                ["bash", "-c", command],
                cwd=self.place,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=COMMAND_S,
                check=False,
            )
            where = f"line {block.line}, `{command}` printed:\n{got.stdout}"
            assert got.returncode == code, f"ended with {got.returncode}, not {code}; {where}"
            if said or not block.words:
                self.compare(said, got.stdout, where)

    def compare(self, said: list[str], printed: str, where: str) -> None:
        """Match, and learn which id stands for which."""
        new: list[str] = []
        pattern = "".join(self._line(line, new) for line in said)
        match = re.fullmatch(pattern, printed if printed.endswith("\n") or not printed else printed + "\n")
        assert match, f"the document says:\n{os.linesep.join(said)}\n{where}"
        self.known |= {shown: match[f"id{number}"] for number, shown in enumerate(new)}

    def _line(self, line: str, new: list[str]) -> str:
        if line == "…":
            return r"(?:.*\n)*"
        out, end = [], 0
        for found in IDS.finditer(line):
            out.append(re.escape(line[end : found.start()]))
            out.append(self._piece(found[0], new))
            end = found.end()
        return "".join(out) + re.escape(line[end:]) + r"[ ]*\n"

    def _piece(self, shown: str, new: list[str]) -> str:
        if shown == "…":
            return ".*"
        if shown.isdigit() and len(shown) < 32:
            return r"\d+"
        if shown in self.known:
            return re.escape(self.known[shown])
        if shown in new:
            return f"(?P=id{new.index(shown)})"
        new.append(shown)
        return f"(?P<id{len(new) - 1}>[0-9a-f-]{{{len(shown)}}})"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path | None]:
    """`PATH` with the installed package first, and the wheel to install where one is named."""
    named = os.environ.get("SYMBI_WHEEL")
    if not named:
        return f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin", None
    place = tmp_path_factory.mktemp("reader")
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True, timeout=COMMAND_S)
    tools = place / "no-compiler"  # before the machine's own: a build would end here
    tools.mkdir()
    for name in ("cc", "gcc", "clang", "cargo", "rustc", "maturin"):
        (tools / name).symlink_to("/bin/false")
    return f"{place / 'venv' / 'bin'}:{tools}:/usr/bin:/bin:/usr/sbin:/sbin", Path(named).resolve(strict=True)


@pytest.mark.gvisor
@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", TOURS)
def test_a_reader_who_pastes_every_block_sees_what_is_printed_here(
    document: str, tmp_path: Path, environment: tuple[str, Path | None]
) -> None:
    path, wheel = environment
    reader = Reader(tmp_path, path)
    page = blocks((ROOT / document).read_text(encoding="utf-8"))
    if wheel is not None and not any("install" in block.words for block in page):
        page.insert(0, Block("console", ("install",), "$ pip install --quiet ./symbi-*.whl\n", 0))
    for block in page:
        if name := block.setting("file"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(block.body, encoding="utf-8")
        elif block.kind == "console" and "install" in block.words:
            if wheel is not None:
                shutil.copy(wheel, tmp_path)
                reader.run(block)
        elif block.kind == "console":
            reader.run(block)


@pytest.mark.parametrize(
    "document", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))
)
def test_every_block_says_whether_it_is_run(document: str) -> None:
    run = document in TOURS
    for block in blocks((ROOT / document).read_text(encoding="utf-8")):
        known = block.kind in SHOWN_ONLY | {""} or (
            run and (block.kind == "console" or block.setting("file"))
        )
        assert known or not run, f"{document}:{block.line}: `{block.kind}` is neither run nor shown only"


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        text = FENCE.sub("", document.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} names `{target}`"


def test_the_readme_lists_the_commands_that_are_there_and_those_that_are_not() -> None:
    from symbi.cli.main import COMMANDS, available

    listed = (ROOT / "README.md").read_text(encoding="utf-8")
    there, absent = (
        listed.partition("<!-- commands -->")[2].partition("<!-- /commands -->")[0].strip().split("\n")
    )
    assert sorted(re.findall(r"`(\w+)`", there)) == sorted(available())
    assert sorted(re.findall(r"`(\w+)`", absent)) == sorted(set(COMMANDS) - set(available()))


def test_an_id_is_any_id_at_first_and_the_same_afterwards(tmp_path: Path) -> None:
    reader = Reader(tmp_path, "/usr/bin:/bin")
    reader.compare(["trail " + "a" * 32 + " has 7", "…"], "trail " + "b" * 32 + " has 12\nmore\n", "")
    reader.compare(["again " + "a" * 32], "again " + "b" * 32 + "\n", "")
    with pytest.raises(AssertionError, match="the document says"):
        reader.compare(["again " + "a" * 32], "again " + "c" * 32 + "\n", "")
    with pytest.raises(AssertionError, match="the document says"):
        reader.compare(["can wait"], "not allowed\n", "")


@pytest.mark.gvisor
@pytest.mark.parametrize("example", sorted(path.name for path in ROOT.glob("examples/*.py")))
def test_an_example_runs_by_itself(example: str, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples" / example]
    got = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    assert got.returncode == 0, got.stderr
    assert got.stdout
    assert example in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in {*ROOT.glob("docs/*.md")} - {ROOT / "docs/README.md"}:
        assert f"({page.name})" in index, f"docs/README.md lacks {page.name}"


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/adr/0*.md"):
        assert f"({page.name})" in index, f"docs/adr/README.md lacks {page.name}"
