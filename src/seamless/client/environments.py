"""The part of the client that is about environments in AWS: `Client.environments`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, cast

from seamless.connection import ConnectionLostError, Patience
from seamless.errors import UnavailableError

if TYPE_CHECKING:
    import httpx

    from seamless.wire_environments import (
        EnvironmentJSON,
        EnvironmentPlanJSON,
        EnvironmentRequest,
        StackOperationJSON,
        StackProgressJSON,
    )

_PLAN_TIMEOUT_S: Final = 120.0  # AWS is asked for many things, and may be slow
_PATIENCE_S: Final = 300.0


class EnvironmentCalls:
    """`post` and `stream` are the client's own; each raises the SeamlessError that the agent answered with."""

    def __init__(
        self, send: Callable[..., httpx.Response], stream: Callable[..., AbstractContextManager[httpx.Response]]
    ) -> None:
        self._send = send
        self._stream = stream

    def show(self, environment: str, *, region: str | None = None, cluster: str | None = None) -> EnvironmentJSON:
        where = {name: value for name, value in (("region", region), ("cluster", cluster)) if value}
        answer = self._send("GET", f"environments/{environment}", params=where, timeout=_PLAN_TIMEOUT_S)
        return cast("EnvironmentJSON", answer.json())

    def plan(self, environment: str, asked: EnvironmentRequest) -> EnvironmentPlanJSON:
        return cast("EnvironmentPlanJSON", self._post(environment, "plan", asked))

    def up(self, environment: str, asked: EnvironmentRequest) -> StackOperationJSON:
        """Begins; `asked["fingerprint"]` is that of the plan that was confirmed."""
        return cast("StackOperationJSON", self._post(environment, "up", asked))

    def down(
        self, environment: str, name: str, *, region: str | None = None, cluster: str | None = None
    ) -> StackOperationJSON:
        """Begins; `name` is what the user typed."""
        asked = {"name": name, "region": region, "cluster": cluster}
        return cast("StackOperationJSON", self._post(environment, "down", asked))

    def follow(
        self, environment: str, operation: StackOperationJSON, *, region: str | None = None, cluster: str | None = None
    ) -> Iterator[StackProgressJSON]:
        """Every event of the operation, and at last its result or error; across restarts of the agent, each once."""
        patience = Patience(_PATIENCE_S)
        wanted = {
            "stack": operation["stack"]["id"],
            "since": operation["since"],
            "action": operation["action"],
            "region": region,
            "cluster": cluster,
        }
        shown = 0
        while True:
            try:
                with self._stream(f"environments/{environment}/progress", wanted, timeout_s=None) as answer:
                    for number, line in enumerate(answer.iter_lines()):
                        patience.renew()
                        step: StackProgressJSON = json.loads(line)
                        if "event" in step and number < shown:
                            continue  # it was there before the connection broke
                        shown = max(shown, number + 1)
                        yield step
                        if "event" not in step:
                            return
                patience.wait(ConnectionLostError("the agent closed the stream of the stack's events"))
            except (ConnectionLostError, UnavailableError) as error:
                patience.wait(error)

    def _post(self, environment: str, what: str, body: Mapping[str, Any]) -> Any:
        given = {name: value for name, value in body.items() if value is not None}
        return self._send("POST", f"environments/{environment}/{what}", json=given, timeout=_PLAN_TIMEOUT_S).json()
