#!/usr/bin/env python3
"""The taste of the tree as code: what a reviewer would say every time, said by a machine.

Why: a rule that is only written down is kept for a month. Each rule here is one function, reports file, line
and reason, and is seen to fail on a bad tree by tests/unit/test_ci_tidy.py.
Not here: formatting, lints and types (`ci/check` calls their tools). Standard library only: it runs anywhere.

A single line may be excused in place: `tidy: allow(RULE) why`, in a comment of the same line.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINES_NOTICE = 500  # past it, look for the second subject
COMMITS_READ = 500  # newest first; older ones were read when they were new
EXCUSE = re.compile(r"tidy: allow\((\w+)\) \S+")
SKIPPED = {
    "target",
    "dist",
    "__pycache__",
    "node_modules",
}  # and whatever begins with a dot, except .ci, .cargo
KEPT_DOTTED = {".ci", ".cargo"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend. A notice is said and does not fail."""

    path: str
    line: int
    rule: str
    why: str
    notice: bool = False

    def __str__(self) -> str:
        kind = "notice: " if self.notice else ""
        return f"{self.path}:{self.line}: {kind}{self.rule}: {self.why}"


@dataclass(frozen=True)
class Tree:
    """A source tree, read once."""

    root: Path

    @cached_property
    def texts(self) -> dict[str, str]:
        """Every text file by its path from the root."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(name for name in folders if _is_ours(name))
            for name in sorted(names):
                path = Path(folder, name)
                try:
                    found[path.relative_to(self.root).as_posix()] = path.read_text(encoding="utf-8")
                except (UnicodeDecodeError, OSError):
                    continue
        return found

    def matching(self, *patterns: str) -> Iterator[tuple[str, str]]:
        """Paths and texts; `*` crosses folders."""
        for path, text in self.texts.items():
            if any(fnmatch.fnmatch(path, pattern) for pattern in patterns):
                yield path, text

    @cached_property
    def modules(self) -> dict[str, ast.Module]:
        """Every Python file that parses; what does not is the compiler's to report."""
        parsed = {}
        for path, text in self.matching("*.py"):
            try:
                parsed[path] = ast.parse(text)
            except SyntaxError:
                continue
        return parsed


def _is_ours(folder: str) -> bool:
    return folder in KEPT_DOTTED or not (
        folder in SKIPPED or folder.startswith(".") or folder.endswith(".egg-info")
    )


def header(tree: Tree) -> Iterator[Finding]:
    """Every source file says what it is for."""
    for path, text in tree.matching("*.rs"):
        first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#![")), "")
        if not first.startswith("//!"):
            yield Finding(path, 1, "header", "begin with `//!`: what this file is, why, what is not here")
    for path, module in tree.modules.items():
        if not ast.get_docstring(module):
            yield Finding(
                path, 1, "header", "begin with a docstring: what this file is, why, what is not here"
            )


def size(tree: Tree) -> Iterator[Finding]:
    """A long file has a second subject inside."""
    for path, text in tree.matching("*.rs", "*.py"):
        lines = text.count("\n")
        if lines > LINES_NOTICE:
            yield Finding(path, lines, "size", f"{lines} lines: look for the second subject", notice=True)


# What never belongs into the project, and what does not outside tests. The words are split here, so that this
# file does not name itself.
_UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
_MACHINE = re.compile(r"(?<![\w./~-])/(wo" + r"rk|ro" + r"ot)/")
_PRETENDED = re.compile(r"\b(\w*mo" + r"ck\w*|(?<!type )stu" + r"b(s|bed)?)\b", re.IGNORECASE)
_WORDS = (
    (_UNFINISHED, "unfinished work is an issue, not a word in the tree"),
    (_MACHINE, "a path of one machine"),
)
_READ_FOR_WORDS = (
    *("*.rs", "*.py", "*.pyi", "*.md", "*.toml", "*.cedar", "*.cedarschema", "*.yml", "*.yaml", "*.sql"),
    *("*.sh", "ci/*", ".ci/*", "Makefile", "Dockerfile*"),
)


def words(tree: Tree) -> Iterator[Finding]:
    """No unfinished work, no path of one machine, nothing pretended outside tests."""
    for path, text in tree.matching(*_READ_FOR_WORDS):
        for number, line in enumerate(text.splitlines(), start=1):
            for pattern, why in _WORDS:
                if (found := pattern.search(line)) and not _says_where_agents_work(path, found[0]):
                    yield Finding(path, number, "words", f"`{found[0]}`: {why}")
            if not _is_test(path) and (found := _PRETENDED.search(line)):
                yield Finding(path, number, "words", f"`{found[0]}`: nothing is pretended outside tests")


def _says_where_agents_work(path: str, found: str) -> bool:
    """The working directory inside a sandbox has the name that some machines give to another."""
    return found == "/wo" + "rk/" and ("sandbox" in path or "guest" in path)


def _is_test(path: str) -> bool:
    return path.startswith("tests/") or "/tests/" in path or path.endswith(("_tests.rs", "/tests.rs"))


def commits(tree: Tree) -> Iterator[Finding]:
    """The history is read by users too."""
    if not (tree.root / ".git").exists():
        return
    command = ["git", "-C", str(tree.root), "log", f"-{COMMITS_READ}", "--format=%h%x00%B%x01"]
    log = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    for entry in log.stdout.split("\x01"):
        identity, _, message = entry.strip().partition("\x00")
        for number, line in enumerate(message.splitlines(), start=1):
            for pattern, why in _WORDS:
                if found := pattern.search(line):
                    yield Finding(f"commit {identity}", number, "commits", f"`{found[0]}`: {why}")


_RUST_INVARIANT = re.compile(r"^//! - ([A-Z]{1,3}\d{1,2}) ")
_PYTHON_INVARIANT = re.compile(r"^- ([A-Z]{1,3}\d{1,2}) ")


def invariants(tree: Tree) -> Iterator[Finding]:
    """What a header promises, a test names: an invariant that nothing trips is a wish."""
    everywhere = " ".join(text for _, text in tree.matching("tests/*"))
    for path, text in tree.matching("rust/*/src/*.rs"):
        crate = "/".join(path.split("/")[:2])
        cited = _cited(everywhere + _rust_tests(tree, crate))
        for number, line in enumerate(text.splitlines(), start=1):
            if (found := _RUST_INVARIANT.match(line)) and found[1].lower() not in cited:
                yield Finding(
                    path, number, "invariants", f"{found[1]} is named by no test of {crate} or tests/"
                )
    cited = _cited(everywhere)
    for path, module in tree.modules.items():
        if not path.startswith("python/symbi/"):
            continue
        for line in (ast.get_docstring(module) or "").splitlines():
            if (found := _PYTHON_INVARIANT.match(line)) and found[1].lower() not in cited:
                number = _line_holding(tree.texts[path], line)
                yield Finding(path, number, "invariants", f"{found[1]} is named by no test under tests/")


def _cited(text: str) -> set[str]:
    return {
        found.lower() for found in re.findall(r"(?<![A-Za-z0-9])[A-Za-z]{1,3}\d{1,2}(?![A-Za-z0-9])", text)
    }


def _line_holding(text: str, wanted: str) -> int:
    return next((number for number, line in enumerate(text.splitlines(), start=1) if wanted in line), 1)


def _rust_tests(tree: Tree, crate: str) -> str:
    """The test code of a crate: its tests folder, its test files, and what stands behind `#[cfg(test)]`."""
    parts = []
    for path, text in tree.matching(f"{crate}/*.rs"):
        parts.append(text if _is_test(path) else text.partition("#[cfg(test)]")[2])
    return " ".join(parts)


def adr(tree: Tree) -> Iterator[Finding]:
    """A decision has one number, for ever."""
    numbers: dict[str, str] = {}
    for path, _ in tree.matching("docs/adr/*.md"):
        name = Path(path).name
        found = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", name)
        if found is None:
            if name != "README.md":
                yield Finding(path, 1, "adr", "is called `NNNN-words-with-hyphens.md`")
        elif found[1] in numbers:
            yield Finding(path, 1, "adr", f"number {found[1]} is taken by {numbers[found[1]]}")
        else:
            numbers[found[1]] = path


# What reaches out of the process. Everything else asks the monitor, and these rooms act on its permits.
DOOR_ROOMS = ("python/symbi/sandbox/*", "python/symbi/tools/*", "python/symbi/http/*")
DOOR_MODULES = {
    *("subprocess", "docker", "socket", "socketserver", "multiprocessing", "pty", "ctypes"),
    *("httpx", "httpx2", "requests", "aiohttp", "urllib3", "urllib.request", "http.client"),
    *("ftplib", "smtplib", "telnetlib", "xmlrpc", "websockets", "paramiko"),
}
DOOR_CALLS = re.compile(
    r"os\.(system|popen|fork|forkpty|posix_spawnp?|exec[lv]p?e?|spawn[lv]p?e?)"
    r"|\w+\.(create_subprocess_\w+|subprocess_(exec|shell)|open_connection|open_unix_connection"
    r"|start_server|start_unix_server|create_connection|create_unix_connection|create_server"
    r"|create_unix_server|create_datagram_endpoint)"
)
# A way round the door has a name and a reason here.
DOOR_EXCEPTIONS = {
    "python/symbi/control.py": "the control socket, for operators: it lets nothing out",
    "python/symbi/bench/suites/start.py": "times whole starts of our own interpreter, with fixed programs",
    "python/symbi/bench/running.py": "the same, for agents at work",
    "python/symbi/bench/suites/vectors.py": "builds a million vectors in a process whose memory is measured",
    "python/symbi/bench/suites/audit.py": "kills a writer of its own, to time the opening after it",
    "python/symbi/audit/verify_trail.py": "a stranger's page, run by itself: unpacks segments with the program zstd",
    "python/symbi/cli/mend.py": "runs ci/setup-sandbox when an operator asked for it by `doctor --fix`",
}


def door(tree: Tree) -> Iterator[Finding]:
    """One door: only sandbox, tools and http may import what causes effects."""
    for path, module in tree.modules.items():
        inside = any(fnmatch.fnmatch(path, room) for room in DOOR_ROOMS)
        if not path.startswith("python/symbi/") or inside or path in DOOR_EXCEPTIONS:
            continue
        for node in ast.walk(module):
            reaching = [name for name in _imported(node) if _reaches_out(name)][:1]
            if isinstance(node, ast.Attribute) and DOOR_CALLS.fullmatch(ast.unparse(node)):
                reaching.append(ast.unparse(node))
            for name in reaching:
                why = f"`{name}` reaches out of the process: go through sandbox, tools or http"
                yield Finding(path, getattr(node, "lineno", 1), "door", why)


_LOADERS = {"import_module", "__import__"}


def _imported(node: ast.AST) -> list[str]:
    """The modules that an import statement, or `import_module` of a constant, may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        module = node.module or ""
        return [module, *(f"{module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in _LOADERS:
        return [str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)]
    return []


def _reaches_out(name: str) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:depth]) in DOOR_MODULES for depth in range(1, len(parts) + 1))


_RUST_DOOR = re.compile(
    r"\bprocess::(\{[^}]*)?Command\b|\bstd::net\b|\bUnix(Stream|Listener|Datagram)\b|\bTcp(Stream|Listener)\b"
)


def door_rust(tree: Tree) -> Iterator[Finding]:
    """No crate but the guest's starts programs or opens sockets: the cores have no effects of their own."""
    for path, text in tree.matching("rust/*/src/*.rs"):
        if path.startswith("rust/symbi-guest/") or _is_test(path):
            continue
        for number, line in enumerate(text.partition("#[cfg(test)]")[0].splitlines(), start=1):
            if not line.lstrip().startswith("//") and (found := _RUST_DOOR.search(line)):
                yield Finding(path, number, "door_rust", f"`{found[0]}` reaches out of the process")


ADAPTERS = ("cli", "http", "mcp", "bench", "observe")


def adapters(tree: Tree) -> Iterator[Finding]:
    """Adapters stand on the public nouns: what they can do, a program can."""
    for path, module in tree.modules.items():
        if not path.startswith(tuple(f"python/symbi/{name}/" for name in ADAPTERS)):
            continue
        for node in ast.walk(module):
            if any(name == "symbi._core" or name.startswith("symbi._core.") for name in _imported(node)):
                yield Finding(
                    path,
                    getattr(node, "lineno", 1),
                    "adapters",
                    "never imports `symbi._core`: use the public names",
                )


# types ◀ {crypto, policy, …} ◀ {audit, bus, store} ◀ kernel ◀ py: a crate sees only lower layers.
LAYERS = {
    **dict.fromkeys(("symbi-types", "symbi-features"), 0),
    **dict.fromkeys(("symbi-crypto", "symbi-policy", "symbi-scheduler", "symbi-vectors", "symbi-dsl"), 1),
    **dict.fromkeys(("symbi-detect", "symbi-supervisor"), 1),
    **dict.fromkeys(("symbi-audit", "symbi-bus", "symbi-store"), 2),
    "symbi-kernel": 3,
    "symbi-py": 4,
}
# Crates beside the layers, and what they may see.
BESIDE = {"symbi-guest": {"symbi-types", "symbi-detect"}, "symbi-testkit": {"symbi-types", "symbi-audit"}}
# A second door: the binding sees bus, store and keys only through the kernel.
FORBIDDEN = {"symbi-py": {"symbi-bus", "symbi-store", "symbi-crypto", "symbi-detect"}}


def arrows(tree: Tree) -> Iterator[Finding]:
    """Dependencies between crates point one way, and only the binding names pyo3."""
    for path, text in tree.matching("rust/*/Cargo.toml"):
        crate, manifest = path.split("/")[1], tomllib.loads(text)
        if crate not in LAYERS and crate not in BESIDE:
            yield Finding(
                path, 1, "arrows", f"`{crate}` has no layer: give it one in ci/tidy.py, with an ADR"
            )
            continue
        for name in sorted(_needs(manifest)):
            if why := _wrong_arrow(crate, name):
                yield Finding(path, _line_holding(text, name), "arrows", why)
    for path, text in tree.matching("rust/*.rs"):
        if not path.startswith("rust/symbi-py/") and (found := re.search(r"\bpyo3::", text)):
            line = text.count("\n", 0, found.start()) + 1
            yield Finding(path, line, "arrows", "only symbi-py names pyo3: a core knows nothing of Python")


_BUILT_WITH = ("dependencies", "build-dependencies")


def _needs(manifest: dict[str, Any]) -> set[str]:
    """What a crate is built with; not what its tests use, nor what `cfg(any())` (never true) names."""
    targets = [table for name, table in manifest.get("target", {}).items() if name != "cfg(any())"]
    return {name for table in (manifest, *targets) for kind in _BUILT_WITH for name in table.get(kind, {})}


def _wrong_arrow(crate: str, name: str) -> str:
    """Why `crate` must not depend on `name`; empty where it may."""
    why = ""
    if name == "pyo3" and crate != "symbi-py":
        why = "only symbi-py names pyo3: a core knows nothing of Python"
    elif name.startswith("symbi-"):
        if crate in BESIDE:
            why = "" if name in BESIDE[crate] else f"`{crate}` sees only {', '.join(sorted(BESIDE[crate]))}"
        elif name == "symbi-testkit":
            why = "symbi-testkit is a dev-dependency only"
        elif name in FORBIDDEN.get(crate, ()):
            why = f"`{crate}` sees `{name}` only through the kernel: otherwise it is a second door"
        elif LAYERS.get(name, LAYERS[crate]) >= LAYERS[crate]:
            why = f"`{crate}` must not see `{name}`: arrows point down the layers only"
    return why


RULES: tuple[Callable[[Tree], Iterator[Finding]], ...] = (
    *(header, size, words, commits, invariants, adr),
    *(door, door_rust, adapters, arrows),
)


def check(tree: Tree) -> list[Finding]:
    """Every finding of every rule, less those excused on their own line."""
    found = [finding for rule in RULES for finding in rule(tree)]
    return [finding for finding in found if not _excused(tree, finding)]


def _excused(tree: Tree, finding: Finding) -> bool:
    lines = tree.texts.get(finding.path, "").splitlines()
    line = lines[finding.line - 1] if 0 < finding.line <= len(lines) else ""
    excuse = EXCUSE.search(line)
    return excuse is not None and excuse[1] == finding.rule


def main() -> int:
    """Prints every finding; 1 where there is one that is not a mere notice."""
    parser = argparse.ArgumentParser(description="the taste of the tree as code")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    tree = Tree(parser.parse_args().root)
    findings = check(tree)
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    errors = sum(not finding.notice for finding in findings)
    sys.stdout.write(f"tidy: {len(tree.texts)} files, {len(RULES)} rules, {errors} findings\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
