"""A way to the engine that loses answers: the real engine behind a Unix socket of our own."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

ENGINE: Final = "/var/run/docker.sock"
_NETWORK: Final = re.compile("networks/[0-9a-f]{64}")  # a network that is made again has another id each time


class LossyProxy:
    """Forwards to the engine. With `lossy`, the answer to each request that changes something is thrown away
    the first time: the engine did it, and the caller is told of a broken connection. `close` refuses all.
    """

    def __init__(self, path: Path, *, lossy: bool = False) -> None:
        self.url = f"unix://{path}"
        self.lost: list[str] = []
        self._lossy = lossy
        self._path = path
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> LossyProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(ENGINE)
                self._open += [client, engine]
                losing = threading.Event()
                threading.Thread(target=self._requests, args=(client, engine, losing), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, engine, losing), daemon=True).start()

    def _requests(self, client: socket.socket, engine: socket.socket, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                method, _, rest = data.partition(b" ")
                if self._lossy and method in (b"POST", b"DELETE"):
                    request = f"{method.decode()} {_NETWORK.sub('networks/ID', rest.partition(b' ')[0].decode())}"
                    if request not in self.lost:
                        self.lost.append(request)
                        losing.set()
                engine.sendall(data)

    def _answers(self, client: socket.socket, engine: socket.socket, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := engine.recv(65536):
                if losing.is_set():
                    break
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
