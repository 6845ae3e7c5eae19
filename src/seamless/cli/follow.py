"""Following a run until it has ended or stops at an approval: what tells that, and what the command ends with."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from seamless.cli.outcomes import EXIT_CODES, is_stop
from seamless.cli.session import Session, print_json_line, user_name
from seamless.errors import SeamlessError
from seamless.logtext import because, plain, word
from seamless.rendering.formats import duration, local_clock, seconds_between

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire import EventJSON, RunJSON

_TAIL_LINES: Final = 20
_PAGE: Final = 500


class StoppedFollowingError(SeamlessError):
    """The user interrupted the command, not the run."""

    code = "interrupted"
    exit_code = 130


def follow(session: Session, agent: Client, run: RunJSON, *, after: int = 0, as_json: bool = False) -> int:
    """Show `run` from the event after `after` until it stops; returns the exit code that its state stands for.

    As JSON: each event on a line, the run on the last one. On a terminal: a live view. Else a line a transition.
    """
    try:
        if as_json:
            final = _print_events(agent, run, after)
        elif session.is_live:
            from seamless.cli.live import watch

            final = watch(session, agent, run, after=after)
        else:
            final = _print_transitions(session, agent, run, after)
    except KeyboardInterrupt:
        raise StoppedFollowingError(f"interrupted. The run goes on: seamless show {run['id']}") from None
    return EXIT_CODES[final["state"]]


def events_until_stop(agent: Client, run: str, after: int) -> Generator[EventJSON, None, RunJSON]:
    """The run's events after `after`, as they come; returns the run as it is when it has stopped."""
    for event in agent.stream_events(run=run, after=after):
        yield event
        if is_stop(event):
            now = agent.run(run)
            if now["state"] in EXIT_CODES:  # else it has been approved meanwhile
                return now
    raise AssertionError("the stream of events has no end")


def last_event(agent: Client, run: str, name: str) -> int:
    """The id of the run's last event `name`, for following it from there on; 0 without one."""
    found = last = 0
    while page := agent.events(run=run, after=last, limit=_PAGE):
        last = page[-1]["id"]
        found = max([found, *(event["id"] for event in page if event["name"] == name)])
    return found


def _print_events(agent: Client, run: RunJSON, after: int) -> RunJSON:
    events = events_until_stop(agent, run["id"], after)
    while True:
        try:
            print_json_line(next(events))
        except StopIteration as stop:
            final: RunJSON = stop.value
            print_json_line(final)
            return final


def _print_transitions(session: Session, agent: Client, run: RunJSON, after: int) -> RunJSON:
    transitions = Transitions(run["id"])
    events = events_until_stop(agent, run["id"], after)
    while True:
        try:
            event = next(events)
        except StopIteration as stop:
            final: RunJSON = stop.value
            break
        if line := transitions.describe(event):
            print(line, flush=True)
    _print_ending(session, agent, final)
    return final


def _print_ending(session: Session, agent: Client, run: RunJSON) -> None:
    from seamless.cli.lines import last_lines
    from seamless.rendering.evidence import explanation
    from seamless.rendering.runs import Viewer, ending

    for stage in run["stages"]:
        if stage["state"] != "failure" or explanation(stage):  # which holds the last lines that matter
            continue
        lines = last_lines(agent, run["id"], stage["name"], _TAIL_LINES)
        if lines and lines[-1].startswith(f"seamless: {stage['name']}: "):  # the reason, which comes next anyway
            lines.pop()
        if lines:
            print(f"--- the last lines of {stage['name']}")
            print("\n".join(lines))
            print("---")
    for line in ending(run, Viewer.at_present(user_name())):
        session.console.print(line)
    sys.stdout.flush()


class Transitions:
    """Describes a run's events, a line for each transition: `14:02:15 payment-42 prepare success 4.1s`."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._started: dict[str | None, str] = {}
        self._attempts: dict[str | None, int] = {}

    def describe(self, event: EventJSON) -> str | None:
        """The line; None for an event that is no transition of the run or a stage, nor tells what one waits for."""
        if event["kind"] == "wait":
            return plain(f"{local_clock(event['at'])} {self._run} {event['stage']} waits for {event['reason']}")
        if event["kind"] not in ("run", "stage") or event["to_state"] is None:
            return None
        words = [local_clock(event["at"]), self._run, event["stage"] or "", self._what(event)]
        return plain(" ".join(word for word in words if word))

    def _what(self, event: EventJSON) -> str:
        subject, state = event["stage"], str(event["to_state"])
        why = because(word(state), event["reason"])
        if event["name"] == "start":
            self._started[subject] = event["at"]
            attempt = self._attempts[subject] = self._attempts.get(subject, 0) + 1
            return "started" + (f" (attempt {attempt})" if attempt > 1 else "")
        if state == "idle":
            return "queued" if event["from_state"] is None else f"to be tried again{why}"
        if state == "in_progress":
            return "goes on" + why
        seconds = seconds_between(self._started.get(subject), event["at"])
        took = f" {duration(seconds).replace(' ', '')}" if seconds is not None and state != "awaiting_approval" else ""
        if state == "failure" and subject is None:  # its stages have said why
            why = ""
        return f"{word(state)}{took}{why}"
