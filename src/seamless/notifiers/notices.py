"""What there is to tell of an event, for people and for filters. Pure functions of what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from seamless.config import Notify
from seamless.logtext import because, plain
from seamless.model import STAGE_ENVIRONMENT, Event, NoticeKind, Run, Stage, StageName, Trigger, Trust, short
from seamless.transitions import RUN_ENDED, STAGE_ENDED, DeploymentState, RunState, StageState

_SUBJECT_MAX: Final = 80
_REASON_MAX: Final = 300
_WORDS: Final = {
    RunState.SUCCESS: "succeeded",
    RunState.FAILURE: "failed",
    RunState.CANCELLED: "was cancelled",
    RunState.IN_PROGRESS: "started",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `kinds`: what it is, the most telling first; whoever wants one of them is told, once."""

    id: str  # the same for the same event, whenever it is made
    at: str  # ISO 8601, UTC
    kinds: tuple[NoticeKind, ...]
    title: str  # one line: what happened, where and why
    service: str | None = None
    lines: tuple[str, ...] = ()  # more of it
    commands: tuple[str, ...] = ()  # to type next
    attributes: Mapping[str, str] = field(default_factory=dict)  # for filters: event, service, run, state, …
    log: tuple[str, str] | None = None  # (run, stage): the last lines of that log belong to it
    trusted: bool = True  # it concerns what can lead to production

    def with_tail(self, tail: list[str]) -> Notice:
        """With the last lines of its log, which are read when it is sent."""
        if self.log is None or not tail:
            return self
        return replace(
            self, lines=(*self.lines, "", f"last lines of {self.log[1]}:", *(f"    {line}" for line in tail))
        )

    @property
    def text(self) -> str:
        """All of it, for people."""
        blocks = ["\n".join((self.title, *self.lines)), "\n".join(f"    {command}" for command in self.commands)]
        return "\n\n".join(block for block in blocks if block) + "\n"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Notice:
        """The other way."""
        log = value["log"]
        tuples = {key: tuple(value[key]) for key in ("lines", "commands")}
        kinds = tuple(NoticeKind(kind) for kind in value["kinds"])
        return cls(**{**value, **tuples, "kinds": kinds, "log": None if log is None else (log[0], log[1])})


def is_wanted(notice: Notice, by: Notify) -> bool:
    """An approval is for somebody in any case: nothing moves before it is given."""
    if by.services and notice.service not in by.services:
        return False
    if not notice.trusted and not by.pull_requests and NoticeKind.APPROVAL not in notice.kinds:
        return False
    return not set(by.events).isdisjoint(notice.kinds)


def notice_of(event: Event, run: Run | None, *, was_red: bool) -> Notice | None:
    """What the event is worth telling; None for nothing. `run`: the event's own, as it is after it.

    `was_red`: of the branch, the last run with a verdict before this one failed.
    """
    match event.kind:
        case "run" if run is not None:
            return _of_run(event, run, was_red)
        case "stage" if run is not None and event.to_state in STAGE_ENDED:
            title = _because(f"{run.id}: {event.stage} {_stage_word(event.to_state)}", event.reason)
            return _notice(event, (NoticeKind.STAGE,), title, run)
        case "deployment" if run is not None and event.to_state == DeploymentState.SUCCESS:
            return _of_deployment(event, run)
        case "action" if event.name == "hold":
            title = f"{_because(f'{event.service} is on hold', event.reason)} (by {plain(event.actor or 'agent')})"
            lines = ("Its production opens only on someone's word.",)
            return _notice(event, (NoticeKind.HOLD,), title, run, lines, (f"seamless release {event.service}",))
        case "action" if event.name == "release":
            return _notice(event, (NoticeKind.HOLD,), f"{event.service} is not on hold any more", run)
        case "service" if event.name == "pause":
            lines = ("No push and no pull request starts a run of it until that is mended.",)
            title = _because(f"{event.service} is paused", event.reason)
            return _notice(event, (NoticeKind.PAUSE,), title, run, lines, ("seamless doctor",))
        case _:
            return None


def trial_notice(id: str, at: str, name: str, by: str) -> Notice:
    """What `seamless notify test` sends."""
    title = f"Seamless can tell {name} what happens (a test, by {plain(by)})"
    return Notice(id, at, (NoticeKind.RUN,), title, attributes={"event": "test"})


def _of_run(event: Event, run: Run, was_red: bool) -> Notice | None:
    generic = (NoticeKind.RUN,)
    if event.to_state == RunState.AWAITING_APPROVAL:
        return _approval(event, run)
    if event.to_state == RunState.FAILURE:
        return _failure(event, run)
    if event.to_state == RunState.SUCCESS and was_red:
        title = f"{run.service} is well again: {run.id} succeeded"
        return _notice(event, (NoticeKind.RECOVERY, *generic), title, run, (_commit(run),))
    if event.name == "start" or event.to_state in RUN_ENDED:
        title = _because(f"{run.id} {_WORDS[RunState(str(event.to_state))]}", event.reason)
        return _notice(event, generic, title, run, (_commit(run),))
    return None


def _failure(event: Event, run: Run) -> Notice:
    """What failed and why comes first; then the evidence; then what to type."""
    failed = [stage for stage in run.stages if stage.state is StageState.FAILURE]
    if not failed:
        title = _because(f"{run.id} failed", event.reason)
        return _notice(event, (NoticeKind.FAILURE, NoticeKind.RUN), title, run, (_commit(run),))
    first = failed[0]
    title = _because(f"{run.id} failed in {first.name}", first.reason)
    others = [_because(f"also in {stage.name}", stage.reason) for stage in failed[1:]]
    lines = (*others, _commit(run), *_evidence(first))
    commands = (f"seamless show {run.id}", f"seamless logs {run.id} {first.name}")
    notice = _notice(event, (NoticeKind.FAILURE, NoticeKind.RUN), title, run, lines, commands)
    return replace(notice, log=(run.id, first.name), attributes={**notice.attributes, "stage": first.name})


def _evidence(stage: Stage) -> list[str]:
    """Which tests failed, or why a deployment did."""
    tests = stage.detail.get("tests") or {}
    explanation = stage.detail.get("explanation") or []
    lines = [plain(str(line)) for line in ([explanation] if isinstance(explanation, str) else explanation)]
    if tests.get("failed"):
        lines.append(f"{tests['failed']} of {tests.get('tests', '?')} tests failed")
        lines += [f"    {plain(str(failure.get('name', '')))}" for failure in tests.get("failures", [])[:5]]
    return lines


def _approval(event: Event, run: Run) -> Notice:
    title = _because(f"{run.id} is waiting for approval", event.reason)
    until = f"expires {run.approval.expires_at:%Y-%m-%d %H:%M} UTC" if run.approval is not None else ""
    commands = (f"seamless show {run.id}", f"seamless approve {run.id}", f'seamless reject {run.id} --why "…"')
    lines = tuple(line for line in (_commit(run), until) if line)
    return _notice(event, (NoticeKind.APPROVAL, NoticeKind.RUN), title, run, lines, commands)


def _of_deployment(event: Event, run: Run) -> Notice:
    environment, commit = str(event.data["environment"]), short(str(event.data["commit"]))
    verb = "was rolled back to" if run.trigger is Trigger.ROLLBACK else "runs"
    title = f"{run.service}: {environment} {verb} {commit} ({run.id}, by {plain(run.requested_by)})"
    notice = _notice(event, (NoticeKind.DEPLOYMENT,), title, run, (_commit(run),))
    return replace(notice, attributes={**notice.attributes, "environment": environment})


def _notice(
    event: Event,
    kinds: tuple[NoticeKind, ...],
    title: str,
    run: Run | None,
    lines: tuple[str, ...] = (),
    commands: tuple[str, ...] = (),
) -> Notice:
    known = {"event": str(kinds[0]), "service": event.service, "run": event.run, "stage": event.stage}
    known |= {"state": event.to_state}
    if run is not None:
        known |= {"trigger": str(run.trigger), "commit": run.commit, "ref": run.ref}
    if event.stage is not None:
        known |= {"environment": STAGE_ENVIRONMENT.get(StageName(event.stage))}
    return Notice(
        id=str(event.id),
        at=event.at.isoformat(),
        kinds=kinds,
        title=title,
        service=event.service,
        lines=lines,
        commands=commands,
        attributes={name: str(value) for name, value in known.items() if value},
        trusted=run is None or run.trust is Trust.TRUSTED,
    )


def _commit(run: Run) -> str:
    subject = plain(run.subject)
    quoted = f'  "{subject[:_SUBJECT_MAX]}{"…" if len(subject) > _SUBJECT_MAX else ""}"' if subject else ""
    ref = run.ref.removeprefix("refs/heads/").removeprefix("refs/tags/").removeprefix("refs/")
    return f"{plain(ref)}  {short(run.commit)}{quoted}" + (f"  by {plain(run.author)}" if run.author else "")


def _because(said: str, reason: str | None) -> str:
    """The words that say what happened, with its reason."""
    why = because(said.rpartition(" ")[2], reason)
    return said + (why if len(why) <= _REASON_MAX else f"{why[:_REASON_MAX]}…")


def _stage_word(state: str | None) -> str:
    return {"success": "succeeded", "failure": "failed", "cancelled": "was cancelled"}.get(str(state), str(state))
