"""Files of a log that nobody writes any more: compressed, and still read from any offset.

A packed file is a gzip file (RFC 1952), so that `zcat` reads it without Seamless:

    member, one for each block of the file's bytes ...     compressed by itself
    empty member with a table in its extra field ...       where each of those ends, 8 bytes each
    empty member with the footer in its extra field        how many bytes they hold, and where the tables begin

To read from an offset costs two look-ups and the blocks that hold what is asked for, whatever the file's size.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import OrderedDict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol, Self

from seamless.crashpoints import crash_point
from seamless.errors import StorageError

BLOCK: Final = 256 * 1024
WORTH_IT: Final = 4096  # bytes; a shorter file takes one block of the disk either way
_SUFFIX: Final = ".gz"
_LEVEL: Final = 6
_GZIP: Final = 31  # wbits: with gzip's header and checksum
_CACHED: Final = 10  # blocks: a search goes over each chunk of its own more than once
_HEADER: Final = struct.Struct(
    "<4sIBBH"
)  # magic, deflate and FEXTRA; no time; unknown system; the extra field's length
_SUBFIELD: Final = struct.Struct("<2sH")  # whose it is, and its length
_BEFORE: Final = _HEADER.size + _SUBFIELD.size
_EMPTY: Final = b"\x03\x00" + bytes(8)  # deflate's empty stream, its checksum and its size
_ENTRY: Final = struct.Struct("<Q")
_ENTRIES: Final = 8000  # of one table; an extra field holds less than 64 KiB
_FOOTER: Final = struct.Struct("<QQ")  # the bytes in all blocks, where the tables begin; a checksum follows
_CHECKSUM: Final = struct.Struct("<I")


class Readable(Protocol):
    """The bytes of a file, packed or not; `read` is for one thread at a time. Use as a context manager."""

    size: int

    def read(self, offset: int, limit: int) -> bytes:
        """At most `limit` bytes; fewer only at the end. Raises OSError, and StorageError for a damaged file."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def packed(path: Path) -> Path:
    """Where the file is once it is packed."""
    return path.with_name(path.name + _SUFFIX)


def open_readable(path: Path) -> Readable:
    """The file, or what it was packed to. Raises FileNotFoundError when there is neither."""
    try:
        return _Plain(path)
    except FileNotFoundError:
        return _Packed(packed(path))


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class _Plain(_File):
    """May grow while it is read; `size` is that of its opening."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.size = os.fstat(self._fd).st_size

    def read(self, offset: int, limit: int) -> bytes:
        return os.pread(self._fd, limit, offset)


class _Packed(_File):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self.size, self._tables = self._footer()
        except BaseException:
            os.close(self._fd)
            raise
        self._cache: OrderedDict[int, bytes] = OrderedDict()

    def _footer(self) -> tuple[int, int]:
        length = len(_member(b"SF", bytes(_FOOTER.size + _CHECKSUM.size)))
        data = os.pread(self._fd, length, max(0, os.fstat(self._fd).st_size - length))
        content = data[_BEFORE : -len(_EMPTY)]
        fields = content[: _FOOTER.size]
        if data != _member(b"SF", content) or content[_FOOTER.size :] != _CHECKSUM.pack(zlib.crc32(fields)):
            raise self._damaged("its end is missing")
        size, tables = _FOOTER.unpack(fields)
        return size, tables

    def read(self, offset: int, limit: int) -> bytes:
        end = min(offset + limit, self.size)
        if offset >= end:
            return b""
        first, last = offset // BLOCK, (end - 1) // BLOCK
        data = b"".join(self._block(number) for number in range(first, last + 1))
        return data[offset - first * BLOCK : end - first * BLOCK]

    def _block(self, number: int) -> bytes:
        if (data := self._cache.get(number)) is not None:
            self._cache.move_to_end(number)
            return data
        start = self._end_of(number - 1) if number else 0
        try:
            data = zlib.decompress(os.pread(self._fd, self._end_of(number) - start, start), _GZIP, BLOCK)
        except zlib.error as error:
            raise self._damaged(str(error)) from None
        self._cache[number] = data
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return data

    def _end_of(self, number: int) -> int:
        table, entry = divmod(number, _ENTRIES)
        start = self._tables + table * (_BEFORE + _ENTRIES * _ENTRY.size + len(_EMPTY))
        found = os.pread(self._fd, _ENTRY.size, start + _BEFORE + entry * _ENTRY.size)
        if len(found) < _ENTRY.size:
            raise self._damaged("its table is cut off")
        return int(_ENTRY.unpack(found)[0])

    def _damaged(self, why: str) -> StorageError:
        return StorageError(f"{self._path} is damaged: {why}", hint="restore it from a backup, if you have one")


def packing(path: Path) -> Generator[None]:
    """Packs a file that nobody writes any more, a block at each step, and removes it.

    At any moment the file is there or what it was packed to, whole and on the disk. Beginning again, after a death
    too, is always right. To be closed when it is given up. Raises OSError: the file is as it was then.
    """
    part = path.with_name(f"{path.name}.part")
    target = packed(path)
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
            with _Plain(path) as source:
                yield from _write(source, out)
            out.flush()
            os.fsync(out.fileno())
        yield from _compare(path, part)
        crash_point("log.pack:before_rename")
        os.rename(part, target)
        _sync(path.parent)
        crash_point("log.pack:after_rename")
        path.unlink()
    finally:
        part.unlink(missing_ok=True)


def _write(source: Readable, out: BinaryIO) -> Iterator[None]:
    ends: list[bytes] = []
    at = 0
    for offset in range(0, source.size, BLOCK):
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        data = packer.compress(source.read(offset, BLOCK)) + packer.flush()
        out.write(data)
        at += len(data)
        ends.append(_ENTRY.pack(at))
        crash_point("log.pack:half_written")
        yield
    for first in range(0, len(ends), _ENTRIES):
        out.write(_member(b"ST", b"".join(ends[first : first + _ENTRIES])))
    fields = _FOOTER.pack(source.size, at)
    out.write(_member(b"SF", fields + _CHECKSUM.pack(zlib.crc32(fields))))


def _compare(path: Path, part: Path) -> Iterator[None]:
    """What is removed next must be in the other file. Raises StorageError when it is not."""
    with _Plain(path) as source, _Packed(part) as other:
        for offset in range(0, max(source.size, other.size), BLOCK):
            if source.read(offset, BLOCK) != other.read(offset, BLOCK):
                raise StorageError(f"{path} was packed wrongly; it stays as it is", hint="look at the disk's health")
            yield


def _member(name: bytes, content: bytes) -> bytes:
    """An empty member of a gzip file whose extra field has one subfield."""
    extra = _SUBFIELD.size + len(content)
    return _HEADER.pack(b"\x1f\x8b\x08\x04", 0, 0, 255, extra) + _SUBFIELD.pack(name, len(content)) + content + _EMPTY


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
