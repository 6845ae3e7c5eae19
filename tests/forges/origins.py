"""Real repositories for the forge's tests, and what a folder holds, for comparing two."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

IDENTITY = ("-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org")


def git(folder: Path, *arguments: str, **env: str) -> str:
    """Runs git there, as a developer would; returns what it wrote."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **env}
    command = ["git", "-C", str(folder), *IDENTITY, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(errors="surrogateescape").strip()


class Origin:
    """A repository that is pushed to, with a working tree for the tests to write in."""

    def __init__(self, path: Path, *, object_format: str = "sha1") -> None:
        path.mkdir(parents=True)
        self.path = path
        self.git("init", "--quiet", "--initial-branch=main", f"--object-format={object_format}")

    @property
    def url(self) -> str:
        return str(self.path)

    def git(self, *arguments: str, **env: str) -> str:
        return git(self.path, *arguments, **env)

    def commit(self, changes: Mapping[str, str | bytes | None], message: str = "a change", **env: str) -> str:
        """Writes (None: removes) these files and commits everything; returns the commit."""
        for name, content in changes.items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.commit_all(message, **env)

    def commit_all(self, message: str = "a change", **env: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message, **env)
        return self.git("rev-parse", "HEAD")

    def commit_many(self, count: int, content: str) -> str:
        """A commit of many small files, made fast."""
        lines = ["commit refs/heads/many\ncommitter A <a@example.org> 1700000000 +0000\ndata 1\nx\ndeleteall\n"]
        for number in range(count):
            body = f"{content} {number}\n"
            lines.append(f"M 644 inline d{number % 20}/f{number}\ndata {len(body)}\n{body}\n")
        command = ["git", "-C", str(self.path), "fast-import", "--quiet", "--force"]
        subprocess.run(command, input="".join(lines).encode(), check=True)
        return self.git("rev-parse", "refs/heads/many")

    def clone(self, commit: str, folder: Path) -> Path:
        """What a developer's own clone has at that commit."""
        shutil.rmtree(folder, ignore_errors=True)
        git(self.path, "clone", "--quiet", "--no-checkout", str(self.path), str(folder))
        git(folder, "checkout", "--quiet", "--detach", commit)
        shutil.rmtree(folder / ".git")
        return folder


def contents(folder: Path) -> dict[bytes, tuple[str, bytes]]:
    """Every file, link and empty folder below: its name -> what it is, and its bytes."""
    found: dict[bytes, tuple[str, bytes]] = {}
    root = os.fsencode(folder)
    for at, folders, names in os.walk(root):
        for name in [*names, *folders]:
            path = os.path.join(at, name)
            mode = os.lstat(path).st_mode
            shown = os.path.relpath(path, root)
            if stat.S_ISLNK(mode):
                found[shown] = ("link", os.readlink(path))
            elif stat.S_ISDIR(mode):
                if not os.listdir(path):
                    found[shown] = ("empty folder", b"")
            else:
                found[shown] = (oct(stat.S_IMODE(mode)), Path(os.fsdecode(path)).read_bytes())
    return found
