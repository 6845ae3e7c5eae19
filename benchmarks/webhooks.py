"""Webhooks: how many can come at once, and how long one takes to become work."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench, ScriptError, boot_s, longest_stall, milliseconds, quiet
from benchmarks.checks import SAYS_WHEN, WHEN
from benchmarks.figures import Figure, Judged
from forges.servers import free_port
from harness.agents import Agent
from seamless.agent.stalls import STALL_LOG
from seamless.agent.webhooks.signature import signature_of

_SECRET = "a secret for benchmarks"
_RATE = 100  # a second
_STORM_S = 60
_PADDING = "x" * 8000  # the size of a push of a few commits
_SENDERS = 50  # connections
_AGAIN = 200  # deliveries that are sent a second time, to see that they were stored


class _Sender:
    """GitHub, as far as the listener can tell."""

    def __init__(self, repository: Path) -> None:
        self.port = free_port()
        self._name = "/".join(repository.parts[-2:])
        self._numbers = itertools.count()

    @property
    def configuration(self) -> str:
        return f'webhooks = {{ listen = "127.0.0.1:{self.port}", secret = {{ env = "HOOK" }} }}'

    def push(self, ref: str = "refs/heads/main") -> bytes:
        """A delivery unlike all before it, as it goes over the wire."""
        number = next(self._numbers)
        repository = {"id": 1, "full_name": self._name}
        body = json.dumps({"ref": ref, "number": number, "repository": repository, "padding": _PADDING}).encode()
        head = (
            "POST /webhooks/github HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
            f"X-GitHub-Delivery: {number:08x}-bench",
            "X-GitHub-Event: push",
            f"X-Hub-Signature-256: {signature_of(body, _SECRET)}",
            "",
            "",
        )
        return "\r\n".join(head).encode() + body


def storm(bench: Bench) -> list[Figure]:
    """Every delivery stored before it is answered, while each hints at a repository that is watched."""
    repository = bench.repository("web", {"README": "a service\n"})
    sender = _Sender(repository.path)
    stalls = bench.folder / "stalls"
    environment = {"HOOK": _SECRET, STALL_LOG: str(stalls)}
    services = f'[services.web]\nrepo = "{repository.path}"\ntriggers = ["main"]'
    with bench.agent(services, agent=sender.configuration, environment=environment) as agent:
        stalls.write_text("")
        requests = [sender.push() for _ in range(_RATE * _STORM_S)]
        latencies = sorted(asyncio.run(_send(sender.port, requests)))
        late, computed = longest_stall(stalls)
        if agent.client.runs():
            raise ScriptError("a hint at nothing new started a run")
    p99 = latencies[math.ceil(len(latencies) * 0.99) - 1]
    ms = milliseconds
    name = f"{_RATE} webhooks a second for {_STORM_S} s, each stored before it is answered"
    return [
        Figure(f"{name}: median", "ms", ms([latencies[len(latencies) // 2]]), Judged.MEDIAN, None),
        Figure("  99 of 100 answered within", "ms", ms([p99]), Judged.WORST, 1000),
        Figure("  the slowest", "ms", ms(latencies[-1:]), Judged.WORST, 10_000),
        Figure("  longest stall of the event loop in these", "ms", ms([late]), Judged.WORST, 100),
        Figure("    of which it computed itself", "ms", ms([computed]), Judged.WORST, None),
    ]


async def _send(port: int, requests: Sequence[bytes]) -> list[float]:
    """Seconds from when each was due to its answer. Whoever is free sends the next that is due."""
    begun = time.monotonic()
    coming = iter(enumerate(requests))

    async def send() -> list[float]:
        latencies = []
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, request in coming:
            due = begun + number / _RATE
            await asyncio.sleep(due - time.monotonic())
            status = await _exchange(reader, writer, request)
            if status != 202:
                raise ScriptError(f"delivery {number} was answered {status}")
            latencies.append(time.monotonic() - due)
        writer.close()
        return latencies

    latencies = [one for each in await asyncio.gather(*(send() for _ in range(_SENDERS))) for one in each]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests[:: max(1, len(requests) // _AGAIN)]:
        if (status := await _exchange(reader, writer, request)) != 200:
            raise ScriptError(f"a delivery was not stored: it is answered {status} the second time")
    writer.close()
    return latencies


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """The status of the answer. A client of our own, because httpx takes longer than the listener."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.I)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(head.split(None, 2)[1])


def webhook(bench: Bench) -> list[Figure]:
    """A push, from the first byte of its delivery to the moment at which `install` begins."""
    repository = bench.repository("web", {"README": "a service\n"})
    sender = _Sender(repository.path)
    services = f'[services.web]\nrepo = "{repository.path}"'
    pipeline = f"install = '{SAYS_WHEN}'\ntriggers = [\"main\"]"
    environment = {"HOOK": _SECRET}
    numbers = itertools.count(1)
    with bench.agent(services, pipeline=pipeline, agent=sender.configuration, environment=environment) as agent:

        def ours() -> float:
            repository.commit()
            request = sender.push()
            begun = boot_s()
            if asyncio.run(_deliver(sender.port, request)) != 202:
                raise ScriptError("the delivery was not taken")
            return _first_command(agent, f"web-{next(numbers)}") - begun

        def script() -> float:
            begun, line, _ = bench.first_line("first-command.sh", JOIN="", COMMAND=SAYS_WHEN)
            return float(line.split()[1]) - begun

        run, plain = bench.in_turns(ours, script)
    name = "webhook to first command in a container"
    what = "to the same by `docker run`"
    return [Figure(name, "ms", milliseconds(run), Judged.DIFFERENCE, 300, milliseconds(plain), what)]


async def _deliver(port: int, request: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    status = await _exchange(reader, writer, request)
    writer.close()
    return status


def _first_command(agent: Agent, run: str) -> float:
    """When a run's first command began, by `boot_s`; then the run is ended."""
    for event in agent.client.stream_events(run=run, after=0):
        if event["kind"] == "stage" and event["to_state"] in ("success", "failure"):
            break
    found = WHEN.search(agent.read_log(run, "prepare"))
    if found is None:
        raise ScriptError(f"the first command of {run} said nothing:\n{agent.said()}")
    agent.client.cancel(run, "seen")
    agent.wait_run(run, {"cancelled", "failure", "success"})
    quiet(agent)
    return float(found[1])
