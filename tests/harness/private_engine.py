"""A second Docker Engine on this host, for tests that stop, kill or fill one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

_READY_S = 60.0

needs_private_engine = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("dockerd") is None, reason="starts an engine of its own, as root"
)


class PrivateEngine:
    """In a network namespace of its own, so that it cannot meddle with the first one's rules."""

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.namespace = f"seamless-{secrets.token_hex(4)}"
        self.url = f"unix://{folder}/engine.sock"
        self.data = data or folder / "data"
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        subprocess.run([*self.inside, "ip", "link", "set", "lo", "up"], check=True)

    def start(self) -> None:
        """Returns at once: `await_ready`."""
        arguments = {
            "host": self.url,
            "data-root": str(self.data),
            "exec-root": f"{self._folder}/exec",
            "pidfile": f"{self._folder}/pid",
            "storage-driver": "vfs",
            "iptables": "false",
        }
        command = ["dockerd", *(f"--{name}={value}" for name, value in arguments.items())]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen([*self.inside, *command], stdout=log, stderr=log)

    def stop(self) -> None:
        """SIGTERM, and its end: containers are stopped."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(120)
            self._process = None

    def kill(self) -> None:
        """SIGKILL: containers go on, until the next engine stops them."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(120)
        self._process = None
        # Its containerd died with it. Where nobody reaps it, it seems alive, and the next engine would wait for it.
        (self._folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def close(self) -> None:
        self.stop()
        self._end_shims()
        subprocess.run(["ip", "netns", "delete", self.namespace], check=True)

    def _end_shims(self) -> None:
        """Those of an engine that was killed and did not come back, with the containers that they hold."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{self._folder}/exec/".encode() in (process / "cmdline").read_bytes():
                    children = (process / "task" / process.name / "children").read_text().split()
                    for pid in (*children, process.name):
                        os.kill(int(pid), signal.SIGKILL)

    @property
    def inside(self) -> list[str]:
        """What to put before a command for it to reach the containers (`ip netns exec` would hide the cgroups)."""
        return ["nsenter", f"--net=/var/run/netns/{self.namespace}"]

    def ready(self) -> bool:
        with contextlib.suppress(DockerException), contextlib.closing(docker.DockerClient(self.url)) as client:
            return bool(client.ping())
        return False

    def await_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        while not self.ready():
            assert time.monotonic() < deadline, (self._folder / "log").read_text(errors="replace")[-2000:]
            time.sleep(0.1)


@contextlib.contextmanager
def private_engine(data: Path | None = None) -> Iterator[PrivateEngine]:
    """One that answers; removed with all that is in it. `data`: where it keeps that, if not in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="seamless-engine-", dir="/tmp"))  # a socket's path must be short
    made = PrivateEngine(folder, data)
    try:
        made.start()
        made.await_ready()
        yield made
    finally:
        made.close()
        for mount in _mounts_below(folder):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _mounts_below(folder: Path) -> list[str]:
    """Innermost first."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True)
