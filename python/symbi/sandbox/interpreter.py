"""What of the host a sandboxed Python needs to see, read-only and at the same paths; and what of a
project it must not.

Why: a Python worker brings no Python image. The host's own interpreter runs inside, so the agent has
exactly the
packages its author has, and nothing is pulled or built.
Not here: mounting (`docker`, `degraded`), and which agent gets it.

Found by reading, not by asking: ELF headers are parsed here, since `ldd` runs the loader of the file it
is given.

Invariants
- IN1 A path is given as it is named by those who open it: a link's own path, its target's content.
- IN2 No path lies within another one given: each mount stands alone.
- IN3 Nothing of the user's home is shown except the interpreter, its environment and the packages it
  imports from.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from symbi.errors import InputError
from symbi.sandbox.base import MOUNTS_MAX, Mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MASKED_NAMES", "Elf", "empty_directory", "interpreter_mounts", "project_masks", "read_elf"]

MASKED_NAMES: Final = (".symbi", ".git", ".env*")
"""Names closed wherever they occur below a project: the trail and its keys, the history with what was
once in it,
and the files where people keep passwords."""

MASK_ENTRIES_MAX: Final = 400_000
"""Entries looked at for masked names. A larger project must be shown in parts."""

_ELF_BYTES_MAX: Final = 4 << 20
"""Bytes of the headers and tables read of one ELF file; their offsets are the file's own word."""

_LIBRARIES_MAX: Final = 1_000
"""Libraries followed. A Python with its modules needs 30 to 60."""

_ALWAYS: Final = ("/etc/ssl", "/etc/pki/tls", "/etc/ca-certificates", "/usr/share/zoneinfo", "/etc/localtime")
"""Shown where they are. Without `/etc/ssl` there are no CA certificates and no error either."""

_LIBRARY_DIRECTORIES: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")


@dataclass(frozen=True, slots=True)
class Elf:
    """What an ELF file says about its start.

    Attributes:
        interpreter: The loader it names (PT_INTERP); empty for a library.
        needed: Names of the libraries it needs.
        paths: Directories it asks to search first, `$ORIGIN` replaced.
    """

    interpreter: str
    needed: tuple[str, ...]
    paths: tuple[str, ...]


def read_elf(path: Path) -> Elf | None:
    """Read a 64-bit little-endian ELF file's headers; `None` when it is not one.

    Raises:
        InputError: it is one, and its tables lie outside of it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64:
                return None
            return _parse(file.fileno(), head, path)
    except OSError:
        return None
    except (struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise InputError(f"`{path}` is not a well-formed ELF file: {error}") from error


def _parse(file: int, head: bytes, path: Path) -> Elf:
    # ELF-64: program headers are 56 bytes: type, flags, offset, vaddr, paddr, filesz, memsz, align.
    table, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
    headers = [
        struct.unpack_from("<IIQQQQ", _at(file, table + index * size, 56)) for index in range(min(count, 256))
    ]
    loads = [(vaddr, offset, length) for kind, _, offset, vaddr, _, length in headers if kind == 1]
    interpreter, dynamic = "", b""
    for kind, _, offset, _, _, length in headers:
        if kind == 3:  # PT_INTERP
            interpreter = _at(file, offset, length).rstrip(b"\0").decode()
        elif kind == 2:  # PT_DYNAMIC
            dynamic = _at(file, offset, length)
    entries = [struct.unpack_from("<qQ", dynamic, at) for at in range(0, len(dynamic) - 15, 16)]
    values = dict(entries)
    if 5 not in values:  # DT_STRTAB
        return Elf(interpreter, (), ())
    text = _at(file, _offset(loads, values[5]), values.get(10, 0))  # DT_STRSZ

    def name(at: int) -> str:
        return text[at : text.index(b"\0", at)].decode()

    needed = tuple(name(value) for tag, value in entries if tag == 1)
    searched = [name(value) for tag, value in entries if tag in (15, 29)]  # DT_RPATH, DT_RUNPATH
    origin = str(path.resolve().parent)
    paths = tuple(
        os.path.normpath(part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
        for text in searched
        for part in text.split(":")
        if part.startswith(("/", "$"))
    )
    return Elf(interpreter, needed, paths)


def _at(file: int, offset: int, length: int) -> bytes:
    if length > _ELF_BYTES_MAX:
        raise ValueError(f"a table of {length} bytes")
    data = os.pread(file, length, offset)
    if len(data) != length:
        raise ValueError("a table lies outside the file")
    return data


def _offset(loads: Iterable[tuple[int, int, int]], address: int) -> int:
    for vaddr, offset, length in loads:
        if vaddr <= address < vaddr + length:
            return address - vaddr + offset
    raise ValueError(f"address {address:#x} is in no segment")


def _closure(starts: Iterable[Path], searched: Iterable[Path]) -> tuple[set[Path], set[Path]]:
    """Loaders, and libraries found, of these files and of what they need."""
    default = [*(str(path) for path in searched), *_system_directories()]
    waiting, seen = list(starts), set[str]()
    loaders, found = set[Path](), set[Path]()
    while waiting and len(seen) < _LIBRARIES_MAX:
        elf = read_elf(waiting.pop())
        if elf is None:
            continue
        if elf.interpreter:
            loaders.add(Path(elf.interpreter))
        for name in elf.needed:
            if name in seen:
                continue
            seen.add(name)
            for directory in (*elf.paths, *default):
                library = Path(directory, name)
                if library.is_file():
                    found.add(library)
                    waiting.append(library)
                    break
    return loaders, found


def _system_directories() -> Iterator[str]:
    """Where the loader looks by itself: what `ld.so.conf` says, the multiarch directory, the fixed ones."""
    for conf in sorted(Path("/etc/ld.so.conf.d").glob("*.conf")):
        try:
            lines = conf.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        yield from (line.strip() for line in lines if line.strip().startswith("/"))
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        yield from (f"/lib/{multiarch}", f"/usr/lib/{multiarch}")
    yield from _LIBRARY_DIRECTORIES


def _import_roots() -> Iterator[Path]:
    """Where `symbi` and everything importable lies, editable installs included."""
    for entry in sys.path:
        path = Path(entry)
        # The script's own directory and the current one are the user's files, shown only as a project (IN3).
        if entry and path.is_absolute() and path.is_dir() and _is_packages(path):
            yield path
    import symbi

    yield Path(symbi.__file__).parent


def _is_packages(path: Path) -> bool:
    prefixes = {
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(sys.prefix).resolve(),
        Path(sys.base_prefix).resolve(),
    }
    inside = any(path.is_relative_to(prefix) for prefix in prefixes)
    return inside or path.name in ("site-packages", "dist-packages")


def interpreter_mounts() -> tuple[Path, ...]:
    """What `sys.executable` needs to run inside a sandbox, each read-only at its own path.

    The base installation, the virtual environment, the loader, the directories of the libraries that the
    interpreter and its modules need, CA certificates, time zones, and the source tree that holds `symbi`.

    Returns:
        Existing absolute paths, sorted, none within another (IN2).

    Raises:
        InputError: the interpreter is a script or not an ELF file.

    Cost: reads the headers of 60 to 100 files, 30 ms; once for each `sys.path`.
    """
    return _mounts(sys.executable, tuple(sys.path))


@lru_cache(maxsize=4)
def _mounts(_executable: str, _path: tuple[str, ...]) -> tuple[Path, ...]:
    executable = Path(sys.executable)
    base = Path(sys.base_prefix)
    if read_elf(executable.resolve()) is None:
        raise InputError(f"the interpreter `{executable}` is not an ELF file")
    wanted: set[Path] = {executable, executable.resolve()}
    library = sysconfig.get_config_var("LDLIBRARY")
    standard = Path(sysconfig.get_path("stdlib"))
    if str(base) in ("/", "/usr", "/usr/local"):  # a distribution's Python: not all of /usr
        wanted |= {standard, Path(sysconfig.get_path("platstdlib"))}
        wanted |= {path for path in (standard.parent / "python3",) if path.is_dir()}
    else:
        wanted |= {base, base.resolve()}
    if sys.prefix != sys.base_prefix:
        wanted |= {Path(sys.prefix), Path(sys.prefix).resolve()}
    wanted |= set(_import_roots())
    modules = list(standard.glob("lib-dynload/*.so"))
    own = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    starts = [executable.resolve(), *modules]
    if library and (own / library).is_file():
        starts.append(own / library)
    loaders, libraries = _closure(starts, [own])
    wanted |= loaders | {library.parent for library in libraries}
    wanted |= {Path(path) for path in _ALWAYS}
    for path in tuple(wanted):
        wanted |= set(_link_targets(path))
    return _outermost(path for path in wanted if path.exists())


def _link_targets(path: Path) -> Iterator[Path]:
    """Where a link leads, with what lies on the way: inside, links of ours do not exist (IN1)."""
    if path.is_symlink():
        yield path.resolve()
    if path == Path("/etc/ssl") or path == Path("/etc/pki/tls"):
        # Bundles are often links out of the directory.
        for name in ("cert.pem", "certs/ca-certificates.crt", "certs/ca-bundle.crt"):
            bundle = path / name
            if bundle.is_symlink():
                yield bundle.resolve()


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda path: (len(path.parts), path)):
        if not any(path.is_relative_to(outer) for outer in kept):
            kept.append(path)
    return tuple(sorted(kept))


def empty_directory() -> Path:
    """An empty directory of ours, to lay over a masked one.

    Raises:
        InputError: somebody else put something in its place.
    """
    path = Path(tempfile.gettempdir(), f"symbi-empty-{os.getuid()}")
    path.mkdir(mode=0o555, exist_ok=True)
    found = path.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or found.st_mode & 0o222
        or any(path.iterdir())
    ):
        raise InputError(f"`{path}` must be an empty read-only directory of this user: remove it")
    return path


def project_masks(project: Path) -> tuple[Mount, ...]:
    """Mounts that lay something empty over every masked name below `project`.

    Args:
        project: A directory that is mounted at its own path.

    Returns:
        One mount a masked name (`MASKED_NAMES`); nothing below a masked directory is looked at.

    Raises:
        InputError: more names than a sandbox may have mounts, or more than `MASK_ENTRIES_MAX` entries.

    Cost: a walk over the project's directories, 0.1 s for 50,000 entries.
    """
    masks: list[Mount] = []
    left = MASK_ENTRIES_MAX
    waiting = [str(project)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except PermissionError:
            continue  # what we may not list, the sandbox's user may not either
        left -= len(entries)
        if left < 0:
            raise InputError(f"`{project}` has more than {MASK_ENTRIES_MAX} entries: show parts of it")
        for entry in entries:
            directory = entry.is_dir(follow_symlinks=False)
            if any(fnmatchcase(entry.name, name) for name in MASKED_NAMES):
                if not entry.is_symlink():
                    masks.append(Mount(str(empty_directory()) if directory else os.devnull, entry.path))
            elif directory:
                waiting.append(entry.path)
    if len(masks) > MOUNTS_MAX // 2:
        names = ", ".join(f"`{name}`" for name in MASKED_NAMES)
        raise InputError(f"`{project}` holds {len(masks)} entries named {names}: show parts of it")
    return tuple(sorted(masks, key=lambda mask: mask.target))
