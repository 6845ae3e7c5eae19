"""The systemd unit: what systemd's own checkers say of it, and installing it on a host of its own."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.users import unprivileged
from seamless.cli import installing, unit
from seamless.cli.installing import Step
from seamless.cli.unit import Unit
from seamless.errors import ConfigError, RefusedError

EXPOSURE_MAX = 25  # systemd-analyze's tenths: 0 is safe, 100 is open
UNIT = Unit("/bin/true", unit.CONFIG_FILE, "root", Path("/var/lib/seamless"), "seamless")

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def analyze(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def rendered(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str) -> Path:
        file = tmp_path / "seamless.service"
        file.write_text(text)
        return file

    return write


@needs_systemd
@pytest.mark.parametrize("data_dir", ["/var/lib/seamless", "/srv/ci data/100%"])
def test_systemd_takes_the_unit_without_a_word(rendered: Callable[..., Path], data_dir: str) -> None:
    text = unit.render(Unit("/bin/true", unit.CONFIG_FILE, "root", Path(data_dir), "seamless"))
    done = analyze(rendered(text), "verify")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert "Unknown key" in analyze(rendered(text.replace("UMask", "UMusk")), "verify").stderr


@needs_systemd
def test_the_unit_is_closed_enough(rendered: Callable[..., Path]) -> None:
    threshold = ("security", "--offline=yes", f"--threshold={EXPOSURE_MAX}")
    assert analyze(rendered(unit.render(UNIT)), *threshold).returncode == 0
    opened = unit.render(UNIT).replace("ProtectSystem=strict\n", "").replace("CapabilityBoundingSet=\n", "")
    assert analyze(rendered(opened), *threshold).returncode != 0


def test_a_unit_that_was_changed_by_hand_is_recognised() -> None:
    text = unit.render(UNIT)
    assert unit.is_untouched(text)
    for changed in (text.replace("30s", "60s"), text + "\n", text.replace("sha256 ", "sha256 0"), "[Service]\n", ""):
        assert not unit.is_untouched(changed)


def test_installing_again_does_only_what_is_missing() -> None:
    text = unit.render(UNIT)

    def verbs(**host: bool | str | None) -> list[str]:
        steps = installing.install_steps(UNIT, **{"present": text, "has_user": True, "booted": True} | host)  # type: ignore[arg-type]
        return [" ".join(step.argv[:2]) for step in steps if step.argv[0] in ("useradd", "tee", "systemctl")]

    fresh = ["useradd --system", f"tee {unit.UNIT_FILE}", "systemctl daemon-reload", "systemctl enable"]
    assert verbs(present=None, has_user=False) == [*fresh, "systemctl start"]
    assert verbs(present=None, has_user=False, booted=False) == [fresh[0], fresh[1], "systemctl enable"]
    assert verbs() == ["systemctl daemon-reload", "systemctl enable", "systemctl start"]
    assert verbs(present="older")[-1] == "systemctl restart"


def test_a_step_is_printed_as_a_shell_takes_it(tmp_path: Path) -> None:
    written = Step(("tee", str(tmp_path / "a file")), 'a $line "quoted"\n')
    subprocess.run(["sh", "-eu", "-c", str(written)], check=True)
    assert (tmp_path / "a file").read_text() == 'a $line "quoted"\n'
    assert str(Step(("chmod", "0640", "/a b"))) == "chmod 0640 '/a b'"


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ('socket = "/srv/a.sock"', "agent.socket: /srv/a.sock is not in a folder of /run"),
        ('socket = "/run/a.sock"', "agent.socket: /run/a.sock is not in a folder of /run"),
        ('socket = "/run/seamless/a.sock"\ndata_dir = "/tmp/x"', "agent.data_dir: /tmp/x is lost"),
    ],
)
def test_a_configuration_that_no_service_can_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, agent: str, said: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[agent]\n{agent}\n")
    with pytest.raises(RefusedError, match=r"the service reads /etc/seamless/config\.toml"):
        installing.unit_for(file, "seamless")
    monkeypatch.setattr(installing, "CONFIG_FILE", file)
    with pytest.raises(ConfigError, match=said):
        installing.unit_for(file, "seamless")


COMMAND = """\
import sys
from seamless.cli import installing, main
installing._program = lambda: "/usr/local/bin/seamless"
sys.exit(main.main())
"""
HOST = """\
set -eu
mount --bind etc /etc
mount -t tmpfs tmpfs /run
{script}
"""


@pytest.fixture
def host(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a script as root of a host whose /etc is a copy of this one's, and which systemd does not run."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this host lets nobody mount")
    subprocess.run(["cp", "-a", "/etc", str(tmp_path / "etc")], check=True)
    with (tmp_path / "etc/group").open("a") as groups:
        groups.write("docker:x:990:\n" if "\ndocker:" not in (tmp_path / "etc/group").read_text() else "")

    seamless = tmp_path / "seamless"  # says that it lies where all may read it, wherever these tests are
    seamless.write_text(f"#!{sys.executable}\n{COMMAND}")
    seamless.chmod(0o755)

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", HOST.format(script=script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "S": str(seamless)},
        )

    return run


@needs_systemd
def test_install_and_uninstall_on_a_host_that_is_not_booted(
    host: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    etc = tmp_path / "etc"
    (etc / "seamless").mkdir()
    (etc / "seamless/config.toml").write_text('[agent]\nsocket = "/run/seamless/agent.sock"\ndata_dir = "/var/lib/s"\n')
    done = host(
        '"$S" agent install --dry-run; "$S" agent install; "$S" agent install; "$S" agent start || echo "code $?"'
    )
    assert done.returncode == 0, done.stderr
    assert "and systemd does not run this host" in done.stderr
    assert done.stdout.endswith("code 1\n")
    unit_file = etc / "systemd/system/seamless.service"
    assert unit.is_untouched(unit_file.read_text())
    assert unit_file.read_text() in done.stdout
    assert done.stdout.count("+ useradd") == done.stdout.count("+ cat >") == 1, "done again"
    assert (etc / "systemd/system/multi-user.target.wants/seamless.service").is_symlink()
    assert "seamless:x:" in (etc / "passwd").read_text()
    assert oct((etc / "seamless/config.toml").stat().st_mode & 0o777) == "0o640"
    assert oct((etc / "seamless/credentials").stat().st_mode & 0o777) == "0o700"
    with pytest.raises(KeyError):
        pwd.getpwnam("seamless")

    unit_file.write_text(unit_file.read_text().replace("WatchdogSec=30s", "WatchdogSec=90s"))
    done = host('for verb in install uninstall; do "$S" agent $verb --dry-run; done')
    assert done.stdout.count("by hand: it takes --force") == 2
    done = host(
        'for verb in install uninstall; do "$S" agent $verb || echo "code $?"; done; "$S" agent install --force'
    )
    assert done.stdout.count("code 5\n") == 2
    assert done.stderr.count("seamless.service was changed by hand") == 2
    assert "by hand: it takes --force" not in done.stdout
    assert "WatchdogSec=30s" in unit_file.read_text()
    (kept,) = unit_file.parent.glob("seamless.service.before-*")
    assert "WatchdogSec=90s" in kept.read_text()

    done = host('"$S" agent uninstall; "$S" agent uninstall')
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "the service is not installed"), done.stderr
    assert not unit_file.exists()
    assert not (etc / "systemd/system/multi-user.target.wants/seamless.service").is_symlink()
    assert (etc / "seamless/config.toml").exists()


def test_who_is_not_in_the_group_yet_is_told_so_and_gets_no_agent_of_his_own(
    host: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The first day of a second user: the configuration is in a folder that is closed to him."""
    command = [*unprivileged([sys.executable]), "-m", "seamless"]
    if any("caps" in word for word in command):
        pytest.skip("this checkout is closed to others")
    (tmp_path / "etc/seamless").mkdir()
    (tmp_path / "etc/seamless/config.toml").write_text("")
    calls = ["status", "agent start", "init --yes", "service add /srv/x", "doctor"]
    script = "groupadd --system crew; chgrp crew /etc/seamless; chmod 0750 /etc/seamless; cd /; export HOME=/nowhere\n"
    script += "mkdir -m 0750 /run/seamless; chgrp crew /run/seamless; unset XDG_RUNTIME_DIR SEAMLESS_CONFIG\n"
    script += "\n".join(f"{shlex.join(command)} {call} || echo code $?" for call in calls)
    done = host(script)
    assert done.stdout.startswith("code 3\ncode 3\ncode 5\ncode 2\n"), done
    status, start, init, add = done.stderr.splitlines()
    assert (
        status
        == start
        == (
            "seamless: /run/seamless is open to the group crew only, and you are not in it. "
            "Have yourself added, then log in again: sudo usermod -aG crew $USER"
        )
    )
    assert add.startswith("seamless: /etc/seamless/config.toml: cannot be read: permission denied. As its owner")
    assert init.startswith("seamless: this host has /etc/seamless/config.toml, and one of your own would hide it")
    assert "/etc/seamless/config.toml: cannot be read: permission denied" in done.stdout
    assert "open to the group crew only" in done.stdout


def test_a_program_that_others_may_not_run_is_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "closed" / "seamless"
    program.parent.mkdir()
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    with pytest.raises(RefusedError, match="not an installed Seamless"):
        installing._program()
    program.touch(0o755)
    program.parent.chmod(0o700)
    with pytest.raises(RefusedError, match="is closed to other users") as caught:
        installing._program()
    assert "pipx install" in str(caught.value.hint)


def test_only_root_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RefusedError, match="only root may") as caught:
        installing.check_root("install")
    assert caught.value.hint == "sudo seamless agent install"
