"""The agent's HTTP API as a Python object, for the CLI and the TUI: one method for each endpoint of docs/api.md.

    with Client(default_socket()) as agent:
        run = agent.start_run("payment")
        for event in agent.stream_events(run=run["id"], after=0): ...

Every method raises the SeamlessError that the agent answered with, and AgentUnreachableError when
nothing usable answers. The two streams (events, a log that is followed) outlive the agent: they
connect again, with back-off, and go on after the last event or byte that was handed out. A client
may be used from several threads at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from seamless.client.environments import EnvironmentCalls
from seamless.client.host import HostCalls
from seamless.connection import ConnectionLostError, Patience, ServerSentEvents
from seamless.errors import NotFoundError, SeamlessError, UnavailableError
from seamless.transitions import STAGE_ENDED

if TYPE_CHECKING:
    from seamless.wire import (
        DeploymentJSON,
        EventJSON,
        HoldJSON,
        ImageJSON,
        RunJSON,
        ServiceJSON,
        ServiceStatusJSON,
    )
    from seamless.wire_logs import LogPositionJSON, LogSearchJSON
    from seamless.wire_plans import PlanJSON

LOG_SIZE_HEADER: Final = "Seamless-Log-Size"
PATIENCE_S: Final = 120.0
_UPLOAD_TIMEOUT_S: Final = 300.0
_SILENCE_S: Final = 45.0  # three of the agent's 15 s heartbeats: the stream is dead
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Client(HostCalls):
    """Speaks to the agent at `socket`: see `Transport` for its opening and closing."""

    # The services

    @property
    def environments(self) -> EnvironmentCalls:
        return EnvironmentCalls(self._send, self._stream)

    def status(self, service: str | None = None) -> list[ServiceStatusJSON]:
        """The fleet, or one service of it."""
        return cast("list[ServiceStatusJSON]", self._get("status", {"service": service}))

    def services(self) -> list[ServiceJSON]:
        return cast("list[ServiceJSON]", self._get("services"))

    def service(self, service: str) -> dict[str, Any]:
        """`service`, `parameters` (resolved) and `sources` (where each parameter comes from)."""
        return cast("dict[str, Any]", self._get(f"services/{_segment(service)}"))

    def hold(self, service: str, why: str) -> HoldJSON:
        return cast("HoldJSON", self._post(f"services/{_segment(service)}/hold", {"why": why}))

    def release(self, service: str) -> None:
        self._post(f"services/{_segment(service)}/release", {})

    # Starting runs

    def start_run(
        self,
        service: str,
        *,
        ref: str | None = None,
        pull_request: int | None = None,
        checks: bool = False,
        staging: bool = False,
        rebuild: bool = False,
    ) -> RunJSON:
        """`ref` is None for the service's branch, or for the pull request of that number."""
        wanted = {"ref": ref, "pull_request": pull_request, "checks": checks, "staging": staging, "rebuild": rebuild}
        return cast("RunJSON", self._post(f"services/{_segment(service)}/runs", wanted))

    def plan(
        self, service: str, *, ref: str | None, checks: bool = False, staging: bool = False, rebuild: bool = False
    ) -> PlanJSON:
        """What such a run would do; nothing is started."""
        wanted = {"ref": ref, "checks": checks, "staging": staging, "rebuild": rebuild}
        return cast("PlanJSON", self._post(f"services/{_segment(service)}/plan", wanted))

    def start_local_run(self, service: str, tar: Iterable[bytes], *, commit: str) -> RunJSON:
        """Run the checks on a working tree. `tar` is read as it is sent; `commit` is what the tree is based on."""
        answer = self._send(
            "POST",
            f"services/{_segment(service)}/local-runs",
            params={"commit": commit},
            content=tar,
            headers={"Content-Type": "application/x-tar"},
            timeout=_UPLOAD_TIMEOUT_S,
        )
        return cast("RunJSON", answer.json())

    def promote(self, service: str, *, release: bool = False, allow_rewritten: bool = False) -> RunJSON:
        wanted = {"release": release, "allow_rewritten": allow_rewritten}
        return cast("RunJSON", self._post(f"services/{_segment(service)}/promote", wanted))

    def rollback(self, to: str, *, service: str | None = None, environment: str = "production") -> RunJSON:
        """`to` is an unambiguous prefix of a commit; it names the service too when `service` is None."""
        wanted = {"to": to, "service": service, "environment": environment}
        return cast("RunJSON", self._post("rollbacks", wanted))

    # Runs. Wherever a run is asked for, a service's name will do: see docs/api.md for which run that means

    def runs(
        self, *, service: str | None = None, state: str | None = None, limit: int = 50, before: str | None = None
    ) -> list[RunJSON]:
        """Newest first; `before` is the id of the last run of the page before."""
        wanted = {"service": service, "state": state, "limit": limit, "before": before}
        return cast("list[RunJSON]", self._get("runs", wanted))

    def run(self, run: str) -> RunJSON:
        return cast("RunJSON", self._get(f"runs/{_segment(run)}"))

    def approve(self, run: str, *, release: bool = False, allow_rewritten: bool = False) -> RunJSON:
        wanted = {"release": release, "allow_rewritten": allow_rewritten}
        return cast("RunJSON", self._post(f"runs/{_segment(run)}/approve", wanted))

    def reject(self, run: str, why: str) -> RunJSON:
        return cast("RunJSON", self._post(f"runs/{_segment(run)}/reject", {"why": why}))

    def cancel(self, run: str, why: str) -> RunJSON:
        return cast("RunJSON", self._post(f"runs/{_segment(run)}/cancel", {"why": why}))

    def rerun(self, run: str, *, from_stage: str | None = None) -> RunJSON:
        return cast("RunJSON", self._post(f"runs/{_segment(run)}/rerun", {"from_stage": from_stage}))

    def images(self, service: str | None = None) -> list[ImageJSON]:
        return cast("list[ImageJSON]", self._get("images", {"service": service}))

    def deployments(
        self, service: str | None = None, environment: str | None = None, *, limit: int = 100, before: int | None = None
    ) -> list[DeploymentJSON]:
        """Newest first; `before` is the id of the last one of the page before."""
        wanted = {"service": service, "environment": environment, "limit": limit, "before": before}
        return cast("list[DeploymentJSON]", self._get("deployments", wanted))

    # Logs: bytes as stored, redacted but not sanitised. Show them through seamless.logtext only

    def log(self, run: str, stage: str, *, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """What is stored now, from `offset`; at most `limit` bytes."""
        with self._stream(_log_path(run, stage), {"offset": offset, "limit": limit}) as answer:
            yield from answer.iter_raw()

    def log_size(self, run: str, stage: str) -> int:
        """Bytes stored now."""
        with self._stream(_log_path(run, stage), {"offset": 0, "limit": 1}) as answer:
            return int(answer.headers.get(LOG_SIZE_HEADER, "0"))

    def log_times(self, run: str, stage: str, *, offset: int = 0, limit: int = 1000) -> list[tuple[int, str]]:
        """When the bytes were written: (offset, ISO time) pairs in order."""
        answer = self._get(f"{_log_path(run, stage)}/times", {"offset": offset, "limit": limit})
        return [(at, time) for at, time in answer]

    def search_log(
        self,
        run: str,
        stage: str,
        pattern: str,
        *,
        offset: int = 0,
        backwards: bool = False,
        ignore_case: bool = False,
        limit: int = 100,
    ) -> LogSearchJSON:
        """Looks for a moment, from `offset` on; call again with `reached` until it is `finished`."""
        wanted = {"pattern": pattern, "offset": offset, "backwards": backwards, "ignore_case": ignore_case}
        return cast("LogSearchJSON", self._get(f"{_log_path(run, stage)}/search", {**wanted, "limit": limit}))

    def log_position(
        self, run: str, stage: str, *, offset: int | None = None, line: int | None = None, at: str | None = None
    ) -> LogPositionJSON:
        """The line that holds an offset, has a number, or was written at an ISO time: give one of them."""
        wanted = {"offset": offset, "line": line, "at": at}
        return cast("LogPositionJSON", self._get(f"{_log_path(run, stage)}/position", wanted))

    def follow_log(self, run: str, stage: str, *, offset: int = 0, patience_s: float = PATIENCE_S) -> Iterator[bytes]:
        """The log from `offset` until the stage has ended, across restarts of the agent, every byte once."""
        patience = Patience(patience_s)
        while True:
            try:
                wanted = {"offset": offset, "follow": "true"}
                with self._stream(_log_path(run, stage), wanted, timeout_s=None) as answer:
                    for chunk in answer.iter_raw():
                        patience.renew()
                        offset += len(chunk)
                        yield chunk
                if self._has_ended(run, stage):  # else the agent ended, not the stage
                    return
                patience.wait(ConnectionLostError(f"the agent at {self.socket} keeps closing the log of {run}"))
            except (ConnectionLostError, UnavailableError) as error:
                patience.wait(error)

    def _has_ended(self, run: str, stage: str) -> bool:
        states = {one["name"]: one["state"] for one in self.run(run)["stages"]}
        return states.get(stage) in STAGE_ENDED

    # Events

    def events(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        kind: str | None = None,
        service: str | None = None,
        run: str | None = None,
        before: int | None = None,
    ) -> list[EventJSON]:
        """At most `limit` events: oldest first from `after` on, or newest first down from `before`."""
        wanted = {"after": after, "limit": limit, "kind": kind, "service": service, "run": run, "before": before}
        return cast("list[EventJSON]", self._get("events", wanted))

    def stream_events(
        self,
        *,
        after: int | None = None,
        service: str | None = None,
        run: str | None = None,
        patience_s: float = PATIENCE_S,
        on_change: Callable[[SeamlessError | None], None] | None = None,
    ) -> Iterator[EventJSON]:
        """Every event after the one with the id `after` (0: from the first; None: from now), once, in order; no end.

        Raises AgentUnreachableError when no agent has answered for `patience_s`. `on_change` is called with the
        error when the agent is lost, and with None when it is back.
        """
        patience = Patience(patience_s, on_change)
        last = after
        while True:
            try:
                wanted = {"after": last, "service": service, "run": run}
                headers = {} if last is None else {"Last-Event-ID": str(last)}
                parser = ServerSentEvents()
                with self._stream("events/stream", wanted, timeout_s=_SILENCE_S, headers=headers) as answer:
                    for chunk in answer.iter_raw():
                        patience.renew()
                        for message in parser.feed(chunk):
                            if not message.data:  # an id alone says where the stream stands
                                last = message.id if last is None else last
                                continue
                            event: EventJSON = json.loads(message.data)
                            if last is None or event["id"] > last:
                                last = event["id"]
                                yield event
                patience.wait(ConnectionLostError(f"the agent at {self.socket} keeps closing the event stream"))
            except (ConnectionLostError, UnavailableError) as error:
                patience.wait(error)


def _segment(name: str) -> str:
    """A service's, run's or stage's name as a part of a path."""
    if not _NAME.fullmatch(name):
        raise NotFoundError(f"{name!r} is not the name of a service, a run or a stage")
    return name


def _log_path(run: str, stage: str) -> str:
    return f"runs/{_segment(run)}/stages/{_segment(stage)}/log"
