"""The Docker Engine's HTTP API, for requests that no program of Docker's is needed for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from seamless.errors import EngineUnavailableError

_SOCKET: Final = "/var/run/docker.sock"
_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is JSON, None where there is none; of a refusal it has the engine's "message"."""

    status: int
    body: Any

    @property
    def message(self) -> str:
        """Why the engine refuses."""
        words = self.body.get("message") if isinstance(self.body, Mapping) else None
        return str(words)[:300] if words else f"HTTP {self.status}"


async def ask_engine(
    method: str,
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> Answer:
    """`body` is sent as JSON. Raises EngineUnavailableError when it does not answer."""
    import httpx  # here, since it is an eighth of an idle agent's memory

    socket = httpx.AsyncHTTPTransport(uds=engine_socket(), verify=False)  # no TLS: it need not load certificates
    try:
        async with httpx.AsyncClient(transport=socket, base_url="http://engine", timeout=_TIMEOUT_S) as client:
            answer = await client.request(method, path, params=params, headers=headers, json=body)
    except httpx.HTTPError as error:
        raise EngineUnavailableError(f"the Docker Engine does not answer: {error}") from error
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    return Answer(answer.status_code, answer.json() if is_json else None)


async def find_objects(kind: str, filters: Mapping[str, Sequence[str]]) -> Any:
    """The engine's list of "containers/json", "images/json", "networks" or "volumes", as it documents each; stopped
    containers too. Raises EngineUnavailableError.
    """
    answer = await ask_engine("GET", f"/{kind}", params={"filters": json.dumps(filters), "all": "true"})
    if answer.status != HTTPStatus.OK:
        raise EngineUnavailableError(f"the Docker Engine does not list its {kind}: {answer.message}")
    return answer.body


def engine_socket() -> str:
    """Its path; the agent has refused engines elsewhere."""
    return os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or _SOCKET
