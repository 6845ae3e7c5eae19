"""Whatever anybody sends to the API: an answer that its own OpenAPI document describes, and never an error of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from pydantic import TypeAdapter
from schemathesis import checks
from schemathesis.core.errors import InvalidSchema
from schemathesis.generation import GenerationMode

from e2e.conftest import Shop
from harness.invariants import assert_accounted_for
from seamless import wire
from seamless.errors import RefusedError
from seamless.transitions import RUN_ENDED

EXAMPLES: Final = 8  # of each operation, valid and invalid requests each
_REAL: Final = {"service": "web", "run": "web-1", "stage": "prepare", "ref": "refs/heads/main"}
_CHECKS: Final = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture
def http(shop: Shop) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(shop.agent.socket))
    with httpx.Client(transport=transport, base_url="http://agent", timeout=60) as client:
        yield client


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_every_operation_answers_as_it_says_to_whatever_is_sent(shop: Shop, http: httpx.Client) -> None:
    shop.start(
        "unit_test = 'echo tested'\ninstall = 'echo installed'",
        agent="max_parallel_runs = 1",
        more='[github]\napi_url = "http://127.0.0.1:9/api/v3"',  # where nobody answers
    )
    assert shop.agent.run("web", checks=True)["state"] == "success"
    schema = schemathesis.openapi.from_dict(http.get("/v1/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) > 20
    for operation in operations:
        for mode in GenerationMode:
            with contextlib.suppress(Unsatisfiable):  # without parameters no request is invalid
                _fuzz(operation, mode, http)
    assert shop.agent.is_running()
    for run in shop.agent.client.runs(limit=1000):
        if run["state"] not in RUN_ENDED and run["cancel_requested"] is None:
            with contextlib.suppress(RefusedError):  # it has ended meanwhile
                shop.agent.client.cancel(run["id"], "enough")
    for run in shop.agent.client.runs(limit=1000):
        shop.agent.wait_run(run["id"], RUN_ENDED)
    assert "Traceback" not in shop.agent.said(), shop.agent.said()[-5000:]
    assert_accounted_for(shop.agent)


def _fuzz(operation: Any, mode: GenerationMode, http: httpx.Client) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.integers(0, 3))
    def answers(case: Any, real: int) -> None:
        if real:  # names that exist, three times of four
            for name in case.path_parameters or {}:
                case.path_parameters[name] = _REAL.get(name, case.path_parameters[name])
            if isinstance(case.body, dict) and "ref" in case.body and real == 1:
                case.body["ref"] = _REAL["ref"]
        _check(case, _send(case, http))

    answers()


def _send(case: Any, http: httpx.Client) -> httpx.Response:
    """Sends it; of an answer that goes on for ever only the head is waited for."""
    wanted = case.as_transport_kwargs(base_url="http://agent")
    known = ("method", "url", "params", "json", "data", "headers", "cookies", "files")
    arguments = {name: wanted[name] for name in known if wanted.get(name) is not None}
    if isinstance(arguments.get("data"), bytes | str):
        arguments["content"] = arguments.pop("data")
    with http.stream(**arguments) as answer:
        if "event-stream" not in answer.headers.get("content-type", ""):
            answer.read()
        return answer


def _check(case: Any, answer: httpx.Response) -> None:
    assert answer.headers["Seamless-API"] == "1"
    if answer.is_success:
        if answer.is_stream_consumed and answer.headers.get("content-type") == "application/json":
            with contextlib.suppress(InvalidSchema):  # Schemathesis 4.32 takes prefixItems, of 3.1, for no schema
                case.validate_response(answer, checks=_CHECKS)
        return
    told = f"{case.as_curl_command()}\n{answer.status_code} {answer.text}"
    TypeAdapter(wire.ErrorJSON).validate_json(answer.content, strict=True)
    assert answer.status_code < 500 or answer.status_code == 503, told
    assert "error in Seamless itself" not in answer.text, told
