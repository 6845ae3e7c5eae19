"""From where somebody asks: what the host tells of the process at the other end of the socket.

The kernel tells the process. The name is what the process calls itself: `sshd` for whatever comes by OpenSSH's
forwarding. The address is that of the log-in which the process belongs to, as systemd's log-in manager keeps it:
forwarded sockets carry none.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

from seamless.logtext import plain

_PROC: Final = Path("/proc")
_LIBRARY: Final = "libsystemd.so.0"


def origin_of(pid: int, *, proc: Path = _PROC, address_of: Callable[[int], str | None] | None = None) -> str:
    """`seamless[4711]`, `sshd[4711] from 10.0.0.7`; `pid 4711` for a process that is gone or not to be seen."""
    try:
        name = plain((proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip())
    except OSError:
        return f"pid {pid}"
    address = (address_of or login_address)(pid)
    return f"{name}[{pid}]" + (f" from {plain(address)}" if address else "")


def login_address(pid: int) -> str | None:
    """Where the log-in of a process came from: sd_pid_get_session(3), sd_session_get_remote_host(3)."""
    library = _systemd()
    if library is None:
        return None
    session = _string(lambda result: library.sd_pid_get_session(pid, result))
    if session is None:
        return None
    address = _string(lambda result: library.sd_session_get_remote_host(session, result))
    return None if address is None else address.decode(errors="replace")


@lru_cache
def _systemd() -> ctypes.CDLL | None:
    """None on a host without systemd."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_LIBRARY)
        library.sd_pid_get_session.argtypes = (ctypes.c_int, ctypes.POINTER(ctypes.c_void_p))
        library.sd_session_get_remote_host.argtypes = (ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p))
        return library
    return None


_free = ctypes.CDLL(None).free
_free.argtypes = (ctypes.c_void_p,)


def _string(ask: Callable[[object], int]) -> bytes | None:
    """What the library allocated for the answer; None when there is none."""
    result = ctypes.c_void_p()
    if ask(ctypes.byref(result)) < 0 or result.value is None:
        return None
    try:
        return ctypes.string_at(result.value)
    finally:
        _free(result)
