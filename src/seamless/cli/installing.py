"""`seamless agent install` and `uninstall`: plans the steps, prints them or carries them out, and does them again
without harm. Also the agent's unit as the other commands meet it: with one installed, systemd starts and stops."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seamless.cli import unit as units
from seamless.cli.unit import CONFIG_FILE, CREDENTIALS_DIR, UNIT_FILE, UNIT_NAME, Unit
from seamless.errors import ConfigError, ForbiddenError, RefusedError, UnavailableError

DEFAULT_USER: Final = "seamless"
_BOOTED: Final = Path("/run/systemd/system")  # sd_booted(3)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: a command, or `text` to write to the file `argv[-1]`."""

    argv: tuple[str, ...]
    text: str | None = None

    def __str__(self) -> str:
        """As a shell takes it."""
        if self.text is None:
            return shlex.join(self.argv)
        return f"cat >{shlex.quote(self.argv[-1])} <<'END'\n{self.text}END"


def is_booted() -> bool:
    """Whether systemd runs this host."""
    return _BOOTED.is_dir()


# -- the plan


def unit_for(config_file: Path, user: str) -> Unit:
    """The unit that fits this configuration and this installation of Seamless. Raises ConfigError, RefusedError."""
    from seamless.config import load_config

    if config_file != CONFIG_FILE:
        raise RefusedError(
            f"the service reads {CONFIG_FILE}, and this configuration is {config_file}",
            hint=f"sudo install -D -m 640 {config_file} {CONFIG_FILE}; then leave out --config",
        )
    agent = load_config(config_file).agent
    folder = agent.socket.parent
    if folder.parent != Path("/run"):
        raise ConfigError(
            f"{CONFIG_FILE}: agent.socket: {agent.socket} is not in a folder of /run, which the service makes",
            hint='set agent.socket = "/run/seamless/agent.sock"',
        )
    if agent.data_dir.is_relative_to("/tmp") or agent.data_dir.is_relative_to("/var/tmp"):
        raise ConfigError(
            f"{CONFIG_FILE}: agent.data_dir: {agent.data_dir} is lost with the next clean-up",
            hint='set agent.data_dir = "/var/lib/seamless"',
        )
    return Unit(_program(), config_file, user, agent.data_dir, folder.name)


def install_steps(unit: Unit, *, present: str | None, has_user: bool, booted: bool) -> Iterator[Step]:
    """What brings the host to this unit. `present`: the unit file's text now. Nothing that is right is done anew,
    and an agent that runs is started anew only for a unit that changed."""
    text = units.render(unit)
    if not has_user:
        home = str(unit.data_dir)
        add = ("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin")
        yield Step((*add, "--home-dir", home, unit.user))
    yield Step(("install", "-d", "-m", "0700", "-o", "root", "-g", "root", str(CREDENTIALS_DIR)))
    yield Step(("chgrp", unit.user, str(unit.config.parent), str(unit.config)))
    yield Step(("chmod", "0750", str(unit.config.parent)))
    yield Step(("chmod", "0640", str(unit.config)))
    if not unit.data_dir.is_relative_to("/var/lib"):
        yield Step(("install", "-d", "-m", "0700", "-o", unit.user, "-g", unit.user, str(unit.data_dir)))
    if present != text:
        yield Step(("tee", str(UNIT_FILE)), text)
    if booted:
        yield Step(("systemctl", "daemon-reload"))
    yield Step(("systemctl", "enable", UNIT_NAME))
    if booted:
        yield Step(("systemctl", "start" if present in (None, text) else "restart", UNIT_NAME))


def uninstall_steps(*, booted: bool) -> Iterator[Step]:
    """Removes the service. User, configuration, credentials and data stay."""
    yield Step(("systemctl", "disable", *(["--now"] if booted else []), UNIT_NAME))
    yield Step(("rm", "--", str(UNIT_FILE)))
    if booted:
        yield Step(("systemctl", "daemon-reload"))


def _program() -> str:
    """This installation's `seamless`; raises RefusedError where another user could not run it."""
    program = Path(sys.executable).parent / "seamless"
    if not program.exists():
        raise RefusedError(f"there is no {program}: this is not an installed Seamless", hint="install it: pipx install")
    for path in (program, Path(sys.executable).resolve(), Path(units.__file__)):
        for place in (path, *path.parents):
            needed = 0o004 if place.suffix == ".py" else 0o005
            if place.stat().st_mode & needed != needed:
                raise RefusedError(
                    f"{place} is closed to other users, so the service could not run {path}",
                    hint="install Seamless where all may read it: sudo PIPX_HOME=/opt/pipx "
                    "PIPX_BIN_DIR=/usr/local/bin pipx install seamless-ci",
                )
    return str(program)


# -- the host


def present_unit() -> str | None:
    """The unit file's text; None when there is none."""
    try:
        return UNIT_FILE.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(
            f"{UNIT_FILE} cannot be read: {(error.strerror or '').lower()}", hint="move it away, and call this again"
        ) from None


def is_changed() -> bool:
    """Whether there is a unit file that somebody changed."""
    return (present := present_unit()) is not None and not units.is_untouched(present)


def keep_changed(force: bool, first: str = "") -> None:
    """Raises RefusedError for a unit file that somebody changed; with `force` a copy of it is kept instead. `first`:
    what to do before that."""
    if not is_changed():
        return
    if not force:
        raise RefusedError(
            f"{UNIT_FILE} was changed by hand", hint=f"{first}add --force: the changed file is kept beside it"
        )
    copy = UNIT_FILE.with_name(f"{UNIT_NAME}.before-{os.getpid()}")
    with _told(f"{UNIT_FILE} cannot be kept"):
        shutil.copy2(UNIT_FILE, copy)
    print(f"kept the changed unit file as {copy}")


def check_root(command: str) -> None:
    if os.geteuid() != 0:
        raise ForbiddenError("only root may change the host's services", hint=f"sudo seamless agent {command}")


def check_host(user: str) -> None:
    """What the service needs of the host beside systemd. Raises RefusedError."""
    for program in ("systemctl", "useradd", "install"):
        if shutil.which(program) is None:
            raise RefusedError(f"there is no {program} on this host, and the service needs systemd")
    try:
        grp.getgrnam("docker")
    except KeyError:
        raise RefusedError(
            "there is no group docker, which may use the Docker Engine",
            hint="install the engine: apt install docker.io",
        ) from None
    if user == "root":
        raise RefusedError("the agent is not to be root", hint=f"leave out --user: it gets the user {DEFAULT_USER}")


def has_user(name: str) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def carry_out(step: Step) -> None:
    """Raises UnavailableError with what the command said."""
    if step.text is not None:
        target = Path(step.argv[-1])
        new = target.with_name(f".{target.name}.new")
        with _told(f"{target} cannot be written"):
            new.write_text(step.text, encoding="utf-8")
            new.chmod(0o644)
            new.rename(target)
        return
    done = subprocess.run(step.argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        hint = f"journalctl -u {UNIT_NAME} -n 20" if step.argv[0] == "systemctl" else "mend that, and call this again"
        raise UnavailableError(f"{step}: {said}", hint=hint)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{what}: {error.strerror}") from None


# -- the installed service, for `agent start` and `stop`


def serves(config_file: Path) -> bool:
    """Whether the agent of this configuration is systemd's to start and stop."""
    return config_file == CONFIG_FILE and UNIT_FILE.exists()


def ask_systemd(verb: str) -> None:
    """`systemctl start` or `stop`, on the user's terminal: it may ask for a password. Raises UnavailableError."""
    if not is_booted():
        raise UnavailableError(
            f"{UNIT_FILE} is installed, and systemd does not run this host",
            hint="take it out again: sudo seamless agent uninstall; then the agent starts without systemd",
        )
    done = subprocess.run(["systemctl", verb, UNIT_NAME], check=False, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        raise UnavailableError(f"systemctl {verb} {UNIT_NAME} failed", hint=f"See: journalctl -u {UNIT_NAME} -n 20")
