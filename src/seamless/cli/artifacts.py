"""`seamless artifacts`: what the stages of a run left for people."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from seamless.cli import completing
from seamless.cli.session import print_json, session_of
from seamless.errors import RefusedError, UnavailableError, UsageError

app = typer.Typer()


@app.command()
def artifacts(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", autocompletion=completing.runs, help="A run, or a service for its latest run."),
    ],
    get: Annotated[Path | None, typer.Option("--get", metavar="DIR", help="Write them there, by stage.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List or fetch what a run's stages left.

    The files that the service's `artifacts` name. They are kept as long as the log, and come as they are: nothing in
    them is masked.

    \b
    Examples:
      seamless artifacts payment-42
      seamless artifacts payment-42 --get ./reports
    """
    session = session_of(context)
    with session.agent() as agent:
        found = agent.run(run)
        kept = {stage["name"]: one for stage in found["stages"] if (one := stage["detail"].get("artifacts"))}
        if get is not None:
            for stage in [name for name, one in kept.items() if one["files"]]:
                _fetch(agent.artifacts(found["id"], stage), get / stage)
    if as_json:
        print_json(kept)
        return
    from seamless.logtext import plain

    for name, one in kept.items():
        note = f"  {plain(one['note'])}" if one["note"] else ""
        session.console.print(f"{name:<14} {one['files']:>5} files {one['bytes'] / 2**20:9.1f} MiB{note}")
    if not kept:
        print(f"{found['id']} keeps no artifacts")


def _fetch(blocks: object, folder: Path) -> None:
    """Unpacks an archive into a folder that is new or empty: nothing outside of it, no links, no devices."""
    import tarfile
    from collections.abc import Iterable
    from typing import cast

    from seamless.archives import unpack

    if folder.exists() and any(folder.iterdir()):
        raise RefusedError(f"{folder} is there already, and not empty", hint="Name another: --get DIR")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as archive:
            for block in cast("Iterable[bytes]", blocks):
                archive.write(block)
            archive.seek(0)
            with tarfile.open(fileobj=archive, mode="r:gz") as files:
                unpack(files, folder, links=False)
    except tarfile.TarError as error:
        raise UnavailableError(f"what the agent sent is no whole archive: {error}", hint="Try again") from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {os.strerror(error.errno or 5)}") from None
