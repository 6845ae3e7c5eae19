"""`seamless backup` and `seamless restore`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from seamless.cli.session import Session, session_of
from seamless.errors import AgentUnreachableError, RefusedError, UnavailableError, UsageError

app = typer.Typer()


@app.command()
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="Made anew; never overwritten.")],
) -> None:
    """Write the agent's data into one file.

    While the agent works: its database, logs and configuration, no secret, and nothing that can be had again
    (checkouts, caches, images). The file is verified before it gets its name. The agent makes a backup of its database
    by itself before an update changes it.

    \b
    Example:
      seamless backup /srv/backups/seamless-monday.tar.gz
    """
    from seamless.agent.backup import verify

    session = session_of(context)
    if os.path.lexists(file):
        raise RefusedError(f"{file} is there already", hint="Name another file, or remove that one")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", hint="Name another file") from None
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as target, session.agent() as agent:
            for block in agent.backup():
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
        manifest = verify(part, file.parent)
        part.rename(file)
    except OSError as error:
        raise UnavailableError(
            f"{file} cannot be written: {error.strerror}", hint="Nothing of it is left; name a file on another disk"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    print(f"wrote {file}: {len(manifest.files)} files, {file.stat().st_size / 2**20:.1f} MiB, verified")


@app.command()
def restore(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", readable=False, help="What `seamless backup` wrote."),  # judged where it is read
    ],
    force: Annotated[
        bool, typer.Option("--force", help="In the place of data that is there, which is kept aside.")
    ] = False,
) -> None:
    """Put a backup into the data directory.

    The agent must not run, and its user must be able to read the file. That is verified first; what cannot be used
    changes nothing. The configuration that is in it is not put anywhere. What was under way when it was made is not
    taken up again: such runs are cancelled, and a deployment among them is looked at by the next one.

    \b
    Examples:
      seamless agent stop
      sudo chown seamless seamless-monday.tar.gz
      sudo -u seamless seamless restore seamless-monday.tar.gz
    """
    from seamless.agent.backup import restore as put_back
    from seamless.agent.main import owned

    session = session_of(context)
    _check_stopped(session)
    _check_owner(session.data_dir)
    with owned(session.data_dir) as data_dir:
        manifest, aside = put_back(file, data_dir, force=force)
    made = f" of {manifest.made_at[:19].replace('T', ' ')} UTC" if manifest.made_at else ""
    print(f"restored the backup{made} to {session.data_dir}")
    if aside is not None:
        print(f"what was there is in {aside}")
    print("next: seamless agent start")


def _check_stopped(session: Session) -> None:
    session.config_file  # noqa: B018 - raises for the agent of another host
    try:
        with session.agent() as agent:
            agent.version()
    except AgentUnreachableError:
        return
    raise RefusedError("the agent runs", hint="seamless agent stop")


def _check_owner(data_dir: Path) -> None:
    """Files of another user are nothing that the agent could read."""
    if not data_dir.exists() or (uid := data_dir.stat().st_uid) == os.geteuid():
        return
    import pwd

    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = f"#{uid}"
    raise RefusedError(f"{data_dir} is {owner}'s", hint=f"sudo -u {owner} seamless restore FILE")
