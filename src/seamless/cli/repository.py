"""A look into a repository, as the user who types: its newest commit's files, without a checkout."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seamless.discovery import Files
from seamless.discovery.files import TEXT_MAX
from seamless.errors import UnavailableError
from seamless.programs import LOCAL_UPLOAD_PACK

_CLONE_S: Final = 120.0
_READ_S: Final = 30.0
_UPLOAD_PACK: Final = LOCAL_UPLOAD_PACK.replace("git ", "git -c uploadpack.allowFilter=true ", 1)


@dataclass(frozen=True, slots=True)
class Look:
    files: Files
    branch: str | None  # the one that the repository's HEAD names


@contextmanager
def look_into(url: str, branch: str | None = None) -> Iterator[Look]:
    """The files of the repository's branch, or of its HEAD. Raises UnavailableError with git's words."""
    with tempfile.TemporaryDirectory(prefix="seamless-look-") as folder:
        path = Path(folder, "repository")
        named = [f"--branch={branch}"] if branch else []
        is_remote = "://" in url or ":" in url.partition("/")[0]
        if not is_remote and Path(url).is_dir() and not any(Path(url, name).exists() for name in (".git", "HEAD")):
            raise UnavailableError(
                f"{url} cannot be read: it is no git repository", hint="Name the folder that holds .git, or a URL"
            )
        local = ["--no-local", f"--upload-pack={_UPLOAD_PACK}"]
        how = ["--depth=1", f"--filter=blob:limit={TEXT_MAX}", *([] if is_remote else local), *named]
        clone = ("clone", "--quiet", "--bare", "--single-branch", *how, "--", url, str(path))
        _git(None, *clone, what=f"{url} cannot be read", timeout_s=_CLONE_S)
        head = _git(path, "symbolic-ref", "--short", "HEAD", what=f"{url} has no branch").decode().strip()
        names = _git(
            path, "ls-tree", "-r", "-z", "--name-only", "HEAD", what=f"{url} has no commit yet", hint=_NO_COMMIT
        )
        paths = [os.fsdecode(name) for name in names.split(b"\0") if name]

        def read(name: str) -> str:
            try:
                blob = _git(path, "cat-file", "blob", f"HEAD:{name}", what=name)
            except UnavailableError:  # a submodule, or too large to have been fetched
                return ""
            return blob[:TEXT_MAX].decode(errors="replace")

        yield Look(Files(paths, read), head)


def _git(folder: Path | None, *arguments: str, what: str, hint: str | None = None, timeout_s: float = _READ_S) -> bytes:
    place = ["-C", str(folder)] if folder else []
    env = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",
        "LC_ALL": "C.UTF-8",
    }
    env.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=20")
    try:
        done = subprocess.run(
            ["git", *place, *arguments],
            env=env,
            capture_output=True,
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise UnavailableError("there is no program git on this host", hint="install it: apt install git") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{what}: git was not done after {timeout_s:.0f} s", hint=_HINT) from None
    if done.returncode != 0:
        if hint is not None:  # git's own words would say less
            raise UnavailableError(what, hint=hint)
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        word = said[0].removeprefix("fatal: ") if said else f"git ended with {done.returncode}"
        raise UnavailableError(f"{what}: {word}", hint=_HINT)
    return done.stdout


_NO_COMMIT: Final = "Push a first one; or add the service unseen: --no-inspect"
_HINT: Final = "If you are to have access, try git ls-remote; to add the service unseen: --no-inspect"
