"""Calls of the C library as a test wants them to end: a process that is killed at its nth step, a disk that is full once, a
sync that fails, a clock that is set. A small library that is loaded before the C library, so that what is tested is the
program as it is.

Not here: the crate's own faulty disk (`symbi-testkit`), which sees every order and no real system.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Begins to count when a file of this name is to be removed, which is not there. */
static const char *ARM = "/arm-now";
static atomic_int armed;
static atomic_long steps, writes, syncs;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

/* One change of a file: dead before it, where it is the nth. */
static void step(void) {
    if (armed && atomic_fetch_add(&steps, 1) + 1 == number("KILL_AT")) kill(getpid(), SIGKILL);
}

static int is_file(int fd) {
    struct stat found;
    return armed && fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
}

/* Whether this write to a segment is the nth, for which there is no room. */
static int is_full(int fd) {
    char link[64], path[4096];
    if (!armed || !number("FULL_AT")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    if (length < 6 || memcmp(path + length - 6, ".jsonl", 6)) return 0;
    return atomic_fetch_add(&writes, 1) + 1 == number("FULL_AT");
}

/* Whether this sync is the nth, which the disk does not take. */
static int is_refused(void) {
    if (!armed || atomic_fetch_add(&syncs, 1) + 1 != number("SYNC_FAILS_AT")) return 0;
    errno = EIO;
    return 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (is_file(fd)) step();
    return real(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    if (is_file(fd)) step();
    if (is_full(fd)) {
        real(fd, data, size / 2, offset); /* as much as fits */
        errno = ENOSPC;
        return -1;
    }
    return real(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

int fsync(int fd) {
    REAL(fsync);
    step();
    return is_refused() ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    step();
    return is_refused() ? -1 : real(fd);
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    step();
    return real(fd, size);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    step();
    return real(from, to);
}

int unlink(const char *path) {
    REAL(unlink);
    size_t length = strlen(path);
    if (length >= strlen(ARM) && !strcmp(path + length - strlen(ARM), ARM)) {
        armed = 1;
        errno = ENOENT;
        return -1;
    }
    step();
    return real(path);
}

/* `CLOCK` names a file: `+N` or `-N` moves the wall clock by so many seconds, `=N` lets it stand there. */
int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int done = real(clock, time);
    const char *path = getenv("CLOCK");
    if (done || clock != CLOCK_REALTIME || !path) return done;
    char text[32] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return done;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length > 1 && text[0] == '=') {
        time->tv_sec = atol(text + 1);
        time->tv_nsec = 0;
    } else if (length > 1) {
        time->tv_sec += atol(text);
    }
    return done;
}
"""


def build(directory: Path) -> Path:
    """The library. Skips where there is no compiler, or another system."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler: `apt-get install gcc`")
    source, library = directory / "interposed.c", directory / "interposed.so"
    source.write_text(_SOURCE)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return library


def run(
    library: Path, program: str, *arguments: object, **settings: object
) -> subprocess.CompletedProcess[str]:
    """A Python program with the library before all others. It begins to count at `os.unlink("/arm-now")`."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        **{name: str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
