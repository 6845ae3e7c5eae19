"""`seamless events` and `seamless gc`: what was done, and what is not kept any longer."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from seamless.cli import completing
from seamless.cli.session import print_json, print_json_line, session_of
from seamless.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seamless.client import Client
    from seamless.wire import EventJSON

app = typer.Typer()
_PAGE: Final = 1000
_SHOWN_BY_DEFAULT: Final = 50


@app.command()
def events(
    context: typer.Context,
    all_kinds: Annotated[bool, typer.Option("--all", help="Not only what people did: every change of state.")] = False,
    service: Annotated[
        str | None, typer.Option(metavar="SERVICE", autocompletion=completing.services, help="Of this service only.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN", autocompletion=completing.runs, help="Of this run only.")
    ] = None,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="By this user only.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From then on: 2026-11-23, or with a time.")] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Before then; a date alone is its beginning.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="The newest N; 0: all.")] = _SHOWN_BY_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="A line of NDJSON for each: to export.")] = False,
) -> None:
    """Show who did what, when and from where.

    The audit log, oldest first. It stays when runs are removed for their age. From where: the process that asked, sshd
    for a laptop, with the address that its log-in came from where the host knows that.

    \b
    Examples:
      seamless events
      seamless events --actor dana --since 2026-11-01
      seamless events --since 2026-10-01 --until 2026-11-01
      seamless events --all --run payment-42
      seamless events --limit 0 --json > audit.ndjson
    """
    start, end = _time(since), _time(until)
    session = session_of(context)
    with session.agent() as agent:
        found = _matching(agent, None if all_kinds else "action", service, run, actor, start, end)
        if limit:
            from collections import deque

            found = iter(deque(found, limit))
        if as_json:
            for event in found:
                print_json_line(event)
            return
        for event in found:
            session.console.print(_line(event))


def _matching(
    agent: Client,
    kind: str | None,
    service: str | None,
    run: str | None,
    actor: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Iterator[EventJSON]:
    """Page by page, so that memory does not grow with the history."""
    after = 0
    while page := agent.events(after=after, limit=_PAGE, kind=kind, service=service, run=run):
        after = page[-1]["id"]
        for event in page:
            if actor is not None and event["actor"] != actor:
                continue
            at = datetime.fromisoformat(event["at"])
            if (since is not None and at < since) or (until is not None and at >= until):
                continue
            yield event


def _line(event: EventJSON) -> str:
    from seamless.logtext import plain
    from seamless.rendering.formats import local_time

    what = " ".join(part for part in (event["run"] or event["service"], event["stage"]) if part)
    change = f"{event['from_state']} -> {event['to_state']}" if event["to_state"] else ""
    details = ", ".join(f"{key}={value}" for key, value in event["data"].items() if value not in (None, "", False))
    parts = [event["name"], what, change, event["reason"] or details]
    told = "  ".join(plain(str(part)) for part in parts if part)
    origin = f"  ({plain(event['origin'])})" if event["origin"] else ""
    return f"{local_time(event['at']):>12}  {plain(event['actor'] or 'agent'):<12}  {told}{origin}"


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time", hint="such as 2026-11-23 or 2026-11-23T14:00") from None
    return (found if found.tzinfo else found.astimezone()).astimezone(UTC)


@app.command()
def gc(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Remove what was kept long enough.

    Images, logs, runs, checkouts, mirrors and caches, by the ages and numbers of [retention] and keep_images. Logs of
    runs that are over are packed. The agent does this by itself each hour, and at once when the host is short of room.
    What runs, what a rollback would take, and what a hold, an approval or a running stage needs is never removed.

    \b
    Examples:
      seamless gc --dry-run
      seamless gc
    """
    session = session_of(context)
    with session.agent() as agent:
        found = agent.gc(dry_run=dry_run)
    if as_json:
        print_json(found)
        return
    from seamless.logtext import plain

    gone = [one for one in found if one["kept"] is None]
    for one in gone:
        size = "" if one["bytes"] is None else f"{one['bytes'] / 2**20:9.1f} MiB"
        session.console.print(f"{one['kind']:<10} {plain(one['name']):<40} {size:>13}  {plain(one['why'])}")
    packed = sum(one["kind"] == "packed" for one in gone)  # and none of it is lost
    total = sum(one["bytes"] or 0 for one in gone) / 2**20
    words = ("would go", "logs would be packed") if dry_run else ("removed", "logs packed")
    told = f"{words[0]}: {len(gone) - packed}" + (f", {words[1]}: {packed}" if packed else "")
    print(f"{told}; {total:.1f} MiB beside images" if gone else "nothing was kept too long")
    for one in found:
        if one["kept"] is not None:
            print(f"seamless: {one['kind']} {plain(one['name'])} stays: {plain(one['kept'])}", file=sys.stderr)
