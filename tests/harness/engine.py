"""The Docker Engine as the tests see it: an image to run in, and what an installation has left there."""

from __future__ import annotations

import io
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Container

IMAGES = "seamless-test-e2e"
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1234:5678::/:/bin/sh\n"


def docker(*arguments: str, check: bool = True) -> str:
    """What the engine's client prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def import_busybox(*, shell: bool = True) -> str:
    """Makes an image of the host's static busybox, all applets and a user `app` (1234:5678); returns its name."""
    busybox = shutil.which("busybox")
    assert busybox, "the tests need the package busybox-static"
    applets = subprocess.run([busybox, "--list"], capture_output=True, check=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        passwd = tarfile.TarInfo("etc/passwd")
        passwd.size = len(_PASSWD)
        tar.addfile(passwd, io.BytesIO(_PASSWD))
        for applet in applets if shell else ():
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                tar.addfile(link)
    name = f"{IMAGES}:{secrets.token_hex(6)}"
    subprocess.run(["docker", "import", "-", name], input=buffer.getvalue(), check=True, capture_output=True)
    return name


def labelled(installation: str, *, but: Container[str] = ()) -> dict[str, list[str]]:
    """Everything on the engine that carries the installation's label: kind -> names; without the
    containers whose role is among `but`."""
    label = f"label=io.seamless.installation={installation}"
    shown = '{{.Names}} {{.Label "io.seamless.role"}}'
    containers = docker("container", "ls", "--all", "--filter", label, "--format", shown).splitlines()
    return {
        "container": [name for name, role in (line.split() for line in containers) if role not in but],
        "volume": docker("volume", "ls", "--filter", label, "--format", "{{.Name}}").split(),
        "network": docker("network", "ls", "--filter", label, "--format", "{{.Name}}").split(),
    }


def remove_everything(installation: str) -> None:
    """Containers, volumes, networks and images of one installation."""
    for kind, names in labelled(installation).items():
        if names:
            docker(kind, "rm", *(["--force"] if kind != "network" else []), *names, check=False)
    images = docker("image", "ls", "--quiet", "--filter", f"reference=seamless-{installation}/*").split()
    if images:
        docker("image", "rm", "--force", *dict.fromkeys(images), check=False)
