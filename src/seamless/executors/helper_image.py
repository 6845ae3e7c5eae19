"""The image of the executor's own containers: the host's static busybox and nothing else.

So that neither pipeline nor tests need a registry for what Seamless itself runs.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
import tarfile
from pathlib import Path
from typing import Final

from seamless.errors import ConfigError, StageError
from seamless.executors.chores import Chores
from seamless.executors.engine import Engine, EngineError
from seamless.executors.images import Images

REPOSITORY: Final = "seamless-helper"

_FALLBACK: Final = "busybox:stable-musl"
_BINARIES: Final = ("busybox", "busybox.static", "busybox-static")
_APPLETS: Final = ("sh", "cat", "chown", "cp", "find", "ip", "rm", "sleep", "su")
_PASSWD: Final = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_LAYOUT: Final = 2  # part of the tag: to be raised when what `_archive` makes changes

_PT_INTERP: Final = 3


async def ensure_helper_image(engine: Engine, images: Images, configured: str) -> str:
    """The name of the image to use: `configured`, else one made from the host's busybox, else one pulled.

    Raises ConfigError when none of them can be had.
    """
    if configured:
        try:
            await images.ensure(configured)
        except StageError as error:
            raise ConfigError(f"agent.helper_image {configured} cannot be had: {error.message}") from error
        return configured
    if (busybox := _static_busybox()) is not None:
        return await _import(engine, busybox.read_bytes())
    try:
        await images.ensure(_FALLBACK)
    except StageError as error:
        raise ConfigError(
            f"there is no static busybox on this host, and {_FALLBACK} cannot be pulled: {error.message}",
            hint="sudo apt-get install busybox-static, or name an image with busybox as agent.helper_image",
        ) from error
    return _FALLBACK


async def check_helper_image(chores: Chores, image: str) -> None:
    """Raises ConfigError when a configured image cannot hold a network namespace as nobody."""
    try:
        await chores.run(["su", "-s", "/bin/sh", "nobody", "-c", "true"], [])
    except StageError as error:
        raise ConfigError(
            f"agent.helper_image {image} cannot be used: {error.message}",
            hint="busybox:stable-musl has all that is needed, and so has what is made here when the key is empty",
        ) from error


async def _import(engine: Engine, busybox: bytes) -> str:
    tag = hashlib.sha256(b"%d\n%b\n" % (_LAYOUT, " ".join(_APPLETS).encode()) + busybox).hexdigest()[:12]
    name = f"{REPOSITORY}:{tag}"
    try:
        await engine.ask(engine.api.inspect_image, name)
    except EngineError as error:
        if error.status != 404:
            raise
        archive = _archive(busybox)
        await engine.call(engine.api.import_image_from_data, archive, repository=REPOSITORY, tag=tag)
    return name


def _static_busybox() -> Path | None:
    found = (shutil.which(name, path="/bin:/usr/bin:/usr/local/bin") for name in _BINARIES)
    return next((Path(path) for path in found if path and is_static(Path(path))), None)


def is_static(path: Path) -> bool:
    """Whether `path` is a 64-bit little-endian ELF program that asks for no dynamic loader."""
    with open(path, "rb") as file:
        header = file.read(64)
        if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
            return False
        (table,) = struct.unpack_from("<Q", header, 32)
        entry_size, entries = struct.unpack_from("<HH", header, 54)
        file.seek(table)
        segments = file.read(entry_size * entries)
    kinds = (struct.unpack_from("<I", segments, at)[0] for at in range(0, len(segments), entry_size))
    return _PT_INTERP not in kinds


def _archive(busybox: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "etc"):  # some storage drivers close a folder that the archive does not name
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        for name, content, mode in (("bin/busybox", busybox, 0o755), ("etc/passwd", _PASSWD, 0o644)):
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(content), mode
            tar.addfile(file, io.BytesIO(content))
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()
