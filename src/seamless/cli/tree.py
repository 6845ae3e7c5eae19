"""A working tree as a tar stream, for `seamless run SERVICE --local PATH`: what git tracks or does not ignore.

Memory stays bounded by one chunk, whatever the tree holds.
"""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from seamless.errors import UsageError

_CHUNK: Final = 256 * 1024


def root_of(path: Path) -> Path:
    """The top folder of the repository that `path` lies in; raises UsageError without one."""
    if not os.path.isdir(path):
        raise UsageError(
            f"{path} is not a folder that you may open", hint="--local takes the folder of a git repository"
        )
    top = _git(path, "rev-parse", "--show-toplevel", failure=f"{path} is not in a git repository")
    return Path(os.fsdecode(top))


def head_of(root: Path) -> str:
    """The commit that the working tree is based on, in full."""
    return _git(root, "rev-parse", "--verify", "HEAD^{commit}", failure=f"{root} has no commit yet").decode()


def tar_of(root: Path) -> Iterator[bytes]:
    """The files of the working tree as they are now, uncommitted changes too, as the bytes of a tar archive.

    Symbolic links stay links. Left out: deleted files, submodules, and what lies behind a folder that has been
    replaced by a link, since it is not the repository's.
    """
    for name in _files(root):
        path = os.path.join(os.fsencode(root), name)
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if _is_behind_link(root, name):
            continue
        entry = tarfile.TarInfo(os.fsdecode(name))
        entry.mtime = int(found.st_mtime)
        if stat.S_ISLNK(found.st_mode):
            entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, os.fsdecode(os.readlink(path))
            yield _header(entry)
        elif stat.S_ISREG(found.st_mode):
            entry.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
            yield from _file(path, entry)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _file(path: bytes, entry: tarfile.TarInfo) -> Iterator[bytes]:
    """One regular file. It may change while it is read: exactly as many bytes as its header says are sent."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        entry.size = os.fstat(file.fileno()).st_size
        yield _header(entry)
        missing = entry.size
        while missing and (chunk := file.read(min(_CHUNK, missing))):
            missing -= len(chunk)
            yield chunk
    padding = missing + -entry.size % tarfile.BLOCKSIZE
    while padding:
        yield bytes(step := min(_CHUNK, padding))
        padding -= step


def _header(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape")


def _is_behind_link(root: Path, name: bytes) -> bool:
    folder = os.path.dirname(name)
    while folder:
        if os.path.islink(os.path.join(os.fsencode(root), folder)):
            return True
        folder = os.path.dirname(folder)
    return False


def _files(root: Path) -> Iterator[bytes]:
    """Names as git lists them, each once: those of a merge in progress come several times in a row."""
    argv = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    last = b""
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=complaints, stdin=subprocess.DEVNULL) as git,
    ):
        assert git.stdout is not None
        for name in _split(git.stdout):
            if name != last:
                yield name
            last = name
        if git.wait() != 0:
            complaints.seek(0)
            said = complaints.read(2000).decode(errors="replace").strip()
            raise UsageError(f"git cannot list the files of {root}: {said}")


def _split(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(_CHUNK):
        *names, rest = (rest + chunk).split(b"\0")
        yield from names


def _git(folder: Path, *arguments: str, failure: str) -> bytes:
    """What git answers, without the line's end; raises UsageError, which begins with `failure`."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise UsageError("--local needs git, and there is none on the PATH") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UsageError(failure, hint=f"git says: {said}" if said else None)
    return done.stdout.removesuffix(b"\n")
