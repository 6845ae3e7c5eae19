"""What a mirror knows about commits: reading them, comparing them, merging two."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from seamless.errors import StageError, UnavailableError
from seamless.forges import CommitInfo, MergeConflictError, git_commands
from seamless.forges.checkout import tree_difference
from seamless.forges.mirror import BRANCHES_AND_TAGS, Mirror
from seamless.model import short

_FORMAT: Final = "%H%x00%ct%x00%an%x00%s%x00%B"
_LATEST: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
_SHOWN_FILES: Final = 10


async def log(mirror: Mirror, base: str | None, head: str, limit: int) -> list[CommitInfo]:
    """See `Forge.log`."""
    revisions = [head] if base is None else [head, f"^{base}"]
    await mirror.require(head, *([base] if base else []))
    options = ["-z", f"--format={_FORMAT}", f"--max-count={limit}", "--encoding=UTF-8", "--no-show-signature"]
    fields = (await _output(mirror, "log", *options, *revisions, "--")).split(b"\0")
    return [_commit_info(*fields[at : at + 5]) for at in range(0, len(fields) - 4, 5)]


async def peel(mirror: Mirror, name: str) -> str | None:
    """The commit that the SHA of a commit or tag stands for; None for that of anything else."""
    plan = git_commands.local(mirror.path, "rev-parse", "--quiet", "--verify", f"{name}^{{commit}}")
    return (await mirror.run(plan, allowed=(0, 1, 128))).stdout.decode().strip() or None


async def commits_with_prefix(mirror: Mirror, prefix: str) -> list[str]:
    """The mirror's commits whose SHA begins with this (at least four digits), in order."""
    found = (await _output(mirror, "rev-parse", f"--disambiguate={prefix}")).split()
    asked = b"".join(name + b"\n" for name in found)
    plan = git_commands.local(mirror.path, "cat-file", "--batch-check=%(objecttype) %(objectname)", stdin=asked)
    kinds = (line.split() for line in (await mirror.run(plan)).stdout.decode().splitlines())
    return sorted(name for kind, name in kinds if kind == "commit")


async def changed_files(mirror: Mirror, base: str, head: str) -> list[str]:
    """See `Forge.changed_files`."""
    await mirror.require(base, head)
    return _paths(await _output(mirror, *tree_difference(base, head)))


async def is_ancestor(mirror: Mirror, ancestor: str, descendant: str) -> bool:
    """See `Forge.is_ancestor`."""
    if not (await mirror.has(ancestor) and await mirror.has(descendant)):
        return False
    plan = git_commands.local(mirror.path, "merge-base", "--is-ancestor", ancestor, descendant)
    return (await mirror.run(plan, allowed=(0, 1))).exit_code == 0


async def merge_base(mirror: Mirror, one: str, other: str) -> str | None:
    """See `Forge.merge_base`."""
    await mirror.require(one, other)
    found = await mirror.run(git_commands.local(mirror.path, "merge-base", one, other), allowed=(0, 1))
    return found.stdout.decode().strip() or None


async def is_on_a_branch(mirror: Mirror, commit: str) -> bool:
    """Whether a branch or tag of the remote, as they were fetched last, contains the commit."""
    options = ["--count=1", f"--contains={commit}", "--format=%(refname)"]
    return bool(await _output(mirror, "for-each-ref", *options, *BRANCHES_AND_TAGS))


async def merge(mirror: Mirror, head: str, base: str) -> str:
    """See `Forge.merge`."""
    await mirror.require(head, base)
    if await is_ancestor(mirror, base, head):
        return head
    if await is_ancestor(mirror, head, base):
        return base
    tree = await _merge_trees(mirror, head, base)
    (merged,) = await log(mirror, None, head, limit=1)
    date = f"@{int(merged.committed_at.timestamp())} +0000"
    identity = {"NAME": "Seamless", "EMAIL": "seamless@localhost", "DATE": date}
    plan = git_commands.local(
        mirror.path,
        *("commit-tree", tree, "-p", base, "-p", head, "-m", f"Merge {short(head)} into {short(base)}"),
        env={f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in identity.items()},
    )
    return (await mirror.run(plan)).stdout.decode().strip()


async def _merge_trees(mirror: Mirror, head: str, base: str) -> str:
    with tempfile.NamedTemporaryFile(prefix="attributes-", dir=mirror.path) as attributes:
        # A bare repository has no files that say `CHANGES merge=union`: the base's are shown to git.
        found = git_commands.local(mirror.path, "cat-file", "blob", f"{base}:.gitattributes")
        attributes.write((await mirror.run(found, allowed=(0, 128))).stdout)
        attributes.flush()
        plan = git_commands.local(
            mirror.path,
            *("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", base, head),
            config={"core.attributesFile": attributes.name},
        )
        try:
            result = await mirror.run(plan, allowed=(0, 1))
        except UnavailableError as error:
            if "unrelated histories" not in error.message:
                raise
            why = f"{short(head)} and {short(base)} have no commit in common"
            raise StageError(why, hint="rebase the branch onto its target") from error
    tree, *files = _paths(result.stdout)
    if result.exit_code == 1:
        raise _conflict(head, base, sorted(set(files)))
    return tree


def _conflict(head: str, base: str, files: Sequence[str]) -> MergeConflictError:
    more = len(files) - _SHOWN_FILES
    shown = ", ".join(files[:_SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
    return MergeConflictError(f"{short(head)} does not merge onto {short(base)}: conflicts in {shown}", files)


def _commit_info(commit: bytes, committed_at: bytes, author: bytes, subject: bytes, message: bytes) -> CommitInfo:
    seconds = min(max(int(committed_at or 0), 0), _LATEST)  # a commit may claim any date
    at = datetime.fromtimestamp(seconds, UTC)
    return CommitInfo(_text(commit), _text(subject), _text(author), at, _text(message).rstrip("\n"))


def _paths(output: bytes) -> list[str]:
    return [_text(path) for path in output.split(b"\0") if path]


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


async def _output(mirror: Mirror, *arguments: str) -> bytes:
    return (await mirror.run(git_commands.local(mirror.path, *arguments))).stdout
