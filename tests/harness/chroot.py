"""A Debian of its own in a folder: what a fresh host is like, without a kernel or systemd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_CERTIFICATES = "/etc/host-certificates.pem"
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_PREPARE = """\
set -eu
mount --bind {root} {root}
mount -t proc proc {root}/proc
mount -t tmpfs tmpfs {root}/run
mount -t tmpfs tmpfs {root}/dev
mkdir {root}/dev/shm {root}/run/lock
chmod 1777 {root}/dev/shm {root}/run/lock
ln -s /proc/self/fd {root}/dev/fd
for node in {nodes}; do
    touch {root}/dev/$node
    mount --bind /dev/$node {root}/dev/$node
done
"""


def _can_mount() -> bool:
    command = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_chroot = pytest.mark.skipif(
    shutil.which("debootstrap") is None or not _can_mount(), reason="needs root, debootstrap and mounts"
)


class Chroot:
    """Programs run in mount and process namespaces of its own: nothing of them is left when it is closed."""

    def __init__(self, root: Path, release: str) -> None:
        self.root = root
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=python3,ca-certificates", release, str(root), *_mirror()],
            check=True,
            capture_output=True,
            timeout=900,
        )
        self._bring_the_network()
        services = root / "usr/sbin/policy-rc.d"  # packages must not start their services: systemd is not here
        services.write_text("#!/bin/sh\nexit 101\n")
        services.chmod(0o755)
        self._namespaces = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sleep", "infinity"], stderr=subprocess.DEVNULL
        )
        self._first = _only_child(self._namespaces.pid)
        self._inside("sh", "-c", _PREPARE.format(root=root, nodes=" ".join(_NODES))).check_returncode()

    def _bring_the_network(self) -> None:
        """Names, certificates and the settings of apt and pip are those of the host that runs the tests."""
        for file in ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf"):
            if Path(file).exists():
                shutil.copyfile(file, f"{self.root}{file}")
        for settings in Path("/etc/apt/apt.conf.d").glob("*prox*"):
            shutil.copy(settings, f"{self.root}/etc/apt/apt.conf.d")
        shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", f"{self.root}{_CERTIFICATES}")
        (self.root / "etc/apt/apt.conf.d/90certificates").write_text(f'Acquire::https::CaInfo "{_CERTIFICATES}";\n')

    @property
    def environment(self) -> dict[str, str]:
        """What a program there gets: how pip and its like reach the world, and nothing else of ours."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
        names = ("SSL_CERT_FILE", "PIP_CERT", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {**kept, **dict.fromkeys(names, _CERTIFICATES), "PATH": path, "HOME": "/root", "LC_ALL": "C.UTF-8"}

    def bind(self, source: str, target: str) -> None:
        """Makes a file or device of the host appear there."""
        place = self.root / target.lstrip("/")
        script = f"mkdir -p {place.parent} && touch {place} && mount --bind {source} {place}"
        self._inside("sh", "-c", script).check_returncode()

    def run(
        self, *argv: str, env: Mapping[str, str] | None = None, timeout: float = 900, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program there as root; its output is one text."""
        return self._inside(
            "chroot", str(self.root), *argv, env={**self.environment, **(env or {})}, timeout=timeout, text=text
        )

    def _inside(
        self, *argv: str, env: Mapping[str, str] | None = None, timeout: float = 60, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--target={self._first}", "--mount", "--pid", "--", *argv],
            env=dict(env) if env is not None else None,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
        )

    def close(self) -> None:
        """Ends every program there; the folder is removed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._first, signal.SIGKILL)
        self._namespaces.wait(30)
        shutil.rmtree(self.root)


@contextlib.contextmanager
def debian(folder: Path, release: str) -> Iterator[Chroot]:
    """A fresh one of that release ("bookworm")."""
    chroot = Chroot(folder, release)
    try:
        yield chroot
    finally:
        chroot.close()


def _only_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        os.sched_yield()
    return int(found[0])


def _mirror() -> list[str]:
    """The mirror that this host itself uses, when it says so in the new format or the old."""
    for file in [*Path("/etc/apt/sources.list.d").glob("debian*.sources"), Path("/etc/apt/sources.list")]:
        if file.exists():
            for line in file.read_text().splitlines():
                words = line.split()
                if words[:1] in (["URIs:"], ["deb"]):
                    return [next(word for word in words if "://" in word).rstrip("/")]
    return []
