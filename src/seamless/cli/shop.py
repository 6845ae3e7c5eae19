"""The sample shop of `seamless demo`: made in a folder of its own, and removed with all that it left on the engine.

Only programs that the user has too (git, docker) make and remove it; no registry is asked for anything.
"""

from __future__ import annotations

import io
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from seamless.connection import check_socket_path
from seamless.errors import ConfigError, UnavailableError, UsageError
from seamless.paths import default_data_dir

SERVICES: Final = ("gateway", "notification", "payment")
_MARKER: Final = ".seamless-demo"  # its content is the name of the base image
_BASE: Final = "seamless-demo-base"  # as the sample files call it
_BUSYBOXES: Final = ("busybox", "busybox.static", "busybox-static")
_PASSWD: Final = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_NEEDED_APPLETS: Final = {"httpd", "sh", "wget"}
_PORTS: Final = range(18080, 19080)
_SAMPLE_PORTS: Final = {"production": 18080, "staging": 18081}  # as the sample configuration has them
_AGENT_ENDS_S: Final = 20.0
_CLEARS_WITHIN_S: Final = 30.0
_ENVIRONMENTS: Final = ("production", "staging")


class Shop:
    """Where everything of one demo is."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder.expanduser().absolute() if folder else default_data_dir().with_name("seamless-demo")
        self.config_file = self.folder / "seamless.toml"
        self.data_dir = self.folder / "data"
        self.repositories = self.folder / "repositories"
        self.down = "seamless demo --down" + (f" --dir {self.folder}" if folder else "")

    def exists(self) -> bool:
        return (self.folder / _MARKER).is_file()

    def make(self) -> Mapping[str, int]:
        """Make the base image, a repository for each service, and the configuration.

        Returns the ports of this host that lead to payment, by environment. Raises ConfigError and
        UnavailableError when something that is needed is not there, UsageError for a folder that holds other things.
        """
        check_socket_path(self.folder / "run" / "agent.sock")
        check_engine()
        busybox = _find_busybox()
        ports = _free_ports(_ENVIRONMENTS)
        base = f"{_BASE}:{secrets.token_hex(4)}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(self.folder.iterdir()):
                raise UsageError(f"{self.folder} holds other things", hint="--dir takes a folder that is new or empty")
            (self.folder / _MARKER).write_text(base, encoding="ascii")
        except OSError as error:
            raise ConfigError(
                f"{self.folder} cannot be used: {error.strerror}", hint="Name another folder: seamless demo --dir PATH"
            ) from None
        _import_base(busybox, base)
        changes = {_BASE: base}
        samples = resources.files("seamless") / "samples"
        for service in SERVICES:
            repository = self.repositories / service
            _copy(samples / service, repository, changes)
            self.git(service, "init", "--quiet", "--initial-branch=main")
            self.git(service, "config", "user.name", "Sam Sample")
            self.git(service, "config", "user.email", "sam@shop.example")
            self.git(service, "add", "--all")
            self.git(service, "commit", "--quiet", "--message", f"Open the shop: {service}")
        for environment, port in ports.items():
            changes[f"publish = {_SAMPLE_PORTS[environment]}"] = f"publish = {port}"
        _copy(samples / "seamless.toml", self.config_file, changes)
        return ports

    def git(self, service: str, *arguments: str) -> str:
        """Run git in a service's repository, whatever the user's own settings are; returns what it wrote."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        return _run("git", "-C", str(self.repositories / service), *arguments, environment=environment).strip()

    def edit(self, service: str, file: str, script: str) -> None:
        """Change a file of a service's working tree by a script for sed."""
        _run("sed", "-i", script, str(self.repositories / service / file))

    def remove(self) -> None:
        """End the agent and remove all that the demo made. It can be interrupted and called again."""
        check_engine()
        base = (self.folder / _MARKER).read_text(encoding="ascii").strip()
        self._end_agent()
        with suppress(FileNotFoundError):
            installation = (self.data_dir / "installation").read_text(encoding="ascii").strip()
            _clear_engine(installation)
        self._remove_files(base)
        _docker("image", "rm", "--force", base, may_fail=True)
        with suppress(FileNotFoundError):
            (self.folder / _MARKER).unlink()
            self.folder.rmdir()

    def _end_agent(self) -> None:
        """Also one that is only starting and answers nobody yet: else it would make anew what is removed here."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            agents = _agents_of(self.config_file)
            for pid in agents:
                with suppress(ProcessLookupError):
                    os.kill(pid, sign)
            deadline = time.monotonic() + _AGENT_ENDS_S
            while agents and time.monotonic() < deadline:
                time.sleep(0.05)
                agents = _agents_of(self.config_file)
            if not agents:
                return
        raise UnavailableError(f"the demo's agent (pid {agents[0]}) does not end", hint="End it, then call this again")

    def _remove_files(self, base: str) -> None:
        """All but the marker. What root made in containers, a container removes when the user is not root."""
        for path in self.folder.iterdir() if self.exists() else ():
            if path.name == _MARKER:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
                if path.exists():
                    mount = f"type=bind,source={self.folder},target=/demo"
                    _docker(
                        "run", "--rm", "--network=none", f"--mount={mount}", base, "rm", "-rf", f"/demo/{path.name}"
                    )
            else:
                path.unlink()


def check_engine() -> None:
    """Raise UnavailableError, saying what to do, when no Docker Engine answers."""
    if shutil.which("docker") is None:
        raise UnavailableError("there is no docker program on the PATH", hint="The project's scripts/demo installs one")
    asked = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True)
    if asked.returncode == 0:
        return
    said = asked.stderr.strip().rpartition("\n")[2]
    if "permission denied" in said:
        raise UnavailableError(
            "this user may not use the Docker Engine", hint="Type: sudo usermod -aG docker $USER, then log in again"
        )
    raise UnavailableError(f"no Docker Engine answers: {said}", hint="Start it: sudo systemctl start docker")


def _find_busybox() -> Path:
    """A busybox with the applets that the shop needs; whether it is static shows in its first container."""
    for name in _BUSYBOXES:
        if path := shutil.which(name):
            applets = subprocess.run([path, "--list"], capture_output=True, text=True).stdout.split()
            if _NEEDED_APPLETS.issubset(applets):
                return Path(path)
    raise ConfigError(
        "the demo's base image is made of a static busybox with httpd, and this host has none",
        hint="Install one: sudo apt-get install busybox-static",
    )


def _import_base(busybox: Path, name: str) -> None:
    """Make the image that all of the shop is based on: busybox, a link for each applet, two users, `/tmp`."""
    applets = _run(str(busybox), "--list").split()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        program = tar.gettarinfo(busybox.resolve(), "bin/busybox")
        with busybox.open("rb") as file:
            tar.addfile(program, file)
        for applet in applets:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                tar.addfile(link)
        passwd = tarfile.TarInfo("etc/passwd")
        passwd.size = len(_PASSWD)
        tar.addfile(passwd, io.BytesIO(_PASSWD))
        temporary = tarfile.TarInfo("tmp")
        temporary.type, temporary.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(temporary)
    _docker("import", "-", name, stdin=archive.getvalue())
    try:
        _docker("run", "--rm", "--network=none", name, "true")
    except UnavailableError as error:
        raise ConfigError(
            f"{busybox} does not run in a container of its own: {error.message}",
            hint="If it is not static: sudo apt-get install busybox-static",
        ) from None


def _copy(sample: Traversable, to: Path, changes: Mapping[str, str]) -> None:
    """Write a sample file or folder, with `changes` made in its text. Scripts can be executed."""
    if sample.is_dir():
        to.mkdir(parents=True, exist_ok=True)
        for entry in sample.iterdir():
            _copy(entry, to / entry.name, changes)
        return
    text = sample.read_text(encoding="utf-8")
    for old, new in changes.items():
        text = text.replace(old, new)
    to.write_text(text, encoding="utf-8")
    to.chmod(0o755 if text.startswith("#!") else 0o644)


def _free_ports(names: tuple[str, ...]) -> dict[str, int]:
    """Ports that nobody listens on now, drawn by lot so that two demos hardly ever want the same one."""
    free: dict[str, int] = {}
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            free[names[len(free)]] = port
        if len(free) == len(names):
            return free
    raise UnavailableError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")


def _agents_of(config_file: Path) -> list[int]:
    """The processes that are agents with this configuration."""
    wanted = b"\0".join([b"--config", os.fsencode(config_file), b"agent", b"run"])
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is not ours to see
            if wanted in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def _clear_engine(installation: str) -> None:
    """Remove the containers, volumes, networks and images of an installation."""
    label = f"label=io.seamless.installation={installation}"
    images = f"reference=seamless-{installation}/*"
    deadline = time.monotonic() + _CLEARS_WITHIN_S
    for listing, removal in (
        (("container", "ls", "--all", "--filter", label), ("container", "rm", "--force", "--volumes")),
        (("volume", "ls", "--filter", label), ("volume", "rm", "--force")),
        (("network", "ls", "--filter", label), ("network", "rm")),
        (("image", "ls", "--filter", images), ("image", "rm", "--force")),
    ):
        # What the agent had begun to remove when it ended goes by itself, and may not be removed twice.
        while found := _docker(*listing, "--quiet").split():
            _docker(*removal, *dict.fromkeys(found), may_fail=time.monotonic() < deadline)


def _docker(*arguments: str, stdin: bytes = b"", may_fail: bool = False) -> str:
    return _run("docker", *arguments, stdin=stdin, may_fail=may_fail)


def _run(*argv: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None, may_fail: bool = False) -> str:
    """What a program printed; raises UnavailableError with its last words when it fails or is not there."""
    try:
        done = subprocess.run(argv, input=stdin, env=environment, capture_output=True)
    except FileNotFoundError:
        raise UnavailableError(
            f"the demo needs {argv[0]}, and there is none on the PATH",
            hint=f"Install it: sudo apt-get install {argv[0]}",
        ) from None
    if done.returncode != 0 and not may_fail:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UnavailableError(f"{' '.join(argv[:2])} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")
