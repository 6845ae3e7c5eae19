"""What happens when the engine does not answer: a proxy before the real one's socket cuts the line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from seamless.errors import UnavailableError
from seamless.executors import ContainerExit, ContainerGoneError, ContainerSpec, Started
from seamless.executors.docker import DockerExecutor
from seamless.executors.engine import DEFAULT_HOST, socket_path

from .conftest import Place, remove_all, until

pytestmark = [
    pytest.mark.engine,
    # docker-py leaves it to the garbage collector to close a socket that nobody answers at.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Line:
    """The line to the engine. `cut` hangs up everywhere; `lose` makes it drop the answer to a request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.host = f"unix://{path}"
        self.requests: list[bytes] = []
        self._lost: bytes | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_unix_server(self._begin, self.path)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        self.path.unlink()
        for writer in list(self._open):
            writer.close()
        await asyncio.gather(*self._serving)

    def lose(self, request: bytes) -> None:
        """Loses the answer to the next request whose first line contains `request`, which the engine carries out."""
        self._lost = request

    def _begin(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(client, back))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        engine, forth = await asyncio.open_unix_connection(socket_path(DEFAULT_HOST))
        self._open |= {back, forth}
        losing = asyncio.Event()
        answers = asyncio.create_task(self._pass(engine, back, losing))
        with contextlib.suppress(OSError):
            while piece := await client.read(65536):
                self.requests.append(piece.split(b"\r\n", 1)[0])
                if self._lost is not None and self._lost in self.requests[-1]:
                    self._lost = None
                    losing.set()
                forth.write(piece)
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)
        self._open -= {back, forth}
        for writer in (back, forth):
            writer.close()

    async def _pass(self, engine: asyncio.StreamReader, back: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        while (piece := await engine.read(65536)) and not losing.is_set():
            back.write(piece)
        back.close()


@pytest.fixture
def run(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[DockerExecutor, Line], Awaitable[None]]], None]:
    """Runs a test with an executor whose line to the engine can be cut."""

    def run(body: Callable[[DockerExecutor, Line], Awaitable[None]]) -> None:
        async def main() -> None:
            line = Line(tmp_path / "line.sock")
            monkeypatch.setenv("DOCKER_HOST", line.host)
            await line.mend()
            executor = await DockerExecutor.connect(place.installation, place.data_dir, pool_size=0)
            try:
                await body(executor, line)
            finally:
                await remove_all(executor)
                await executor.close()
                await line.cut()

        asyncio.run(main())

    return run


Run = Callable[[Callable[[DockerExecutor, Line], Awaitable[None]]], None]


def until_told(place: Place, exit_code: int) -> ContainerSpec:
    return place.spec(f"until [ -s /.seamless/out ]; do sleep 0.02; done; exit {exit_code}")


async def begin_to_wait(executor: DockerExecutor, line: Line, spec: ContainerSpec) -> asyncio.Task[ContainerExit]:
    """The engine has been asked to tell of the end."""
    waiting = asyncio.create_task(executor.wait(spec.name))
    await until(lambda: any(b"/wait " in request for request in line.requests))
    return waiting


def test_a_wait_outlives_the_engines_absence_and_tells_the_truth(place: Place, run: Run) -> None:
    async def body(executor: DockerExecutor, line: Line) -> None:
        spec = until_told(place, 6)
        await executor.start(spec)
        waiting = await begin_to_wait(executor, line, spec)
        await line.cut()
        spec.spool.write_text("go")
        await until(lambda: place.inspect(spec.name)["State"]["Status"] == "exited")
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await line.mend()
        assert await waiting == ContainerExit(6)

    run(body)


def test_a_wait_goes_on_when_the_engine_comes_back_and_the_container_still_runs(place: Place, run: Run) -> None:
    async def body(executor: DockerExecutor, line: Line) -> None:
        spec = until_told(place, 0)
        await executor.start(spec)
        waiting = await begin_to_wait(executor, line, spec)
        await line.cut()
        await line.mend()
        line.requests.clear()
        await until(lambda: len(line.requests) >= 2)
        await asyncio.sleep(0.5)
        assert len(line.requests) == 2  # one look, one wait: nothing is polled while the engine answers
        spec.spool.write_text("go")
        assert await waiting == ContainerExit(0)

    run(body)


def test_a_container_that_vanished_meanwhile_is_gone(place: Place, run: Run) -> None:
    async def body(executor: DockerExecutor, line: Line) -> None:
        spec = until_told(place, 0)
        await executor.start(spec)
        waiting = await begin_to_wait(executor, line, spec)
        await line.cut()
        place.api.remove_container(spec.name, force=True)
        await line.mend()
        with pytest.raises(ContainerGoneError):
            await waiting
        await executor.remove(spec.name)
        assert place.containers("network") == []

    run(body)


def test_a_start_whose_answer_was_lost_is_not_made_twice(place: Place, run: Run) -> None:
    async def body(executor: DockerExecutor, line: Line) -> None:
        spec = place.spec("echo once")
        await executor.create(spec)
        line.lose(f"/containers/{place.inspect(spec.name)['Id']}/start".encode())
        assert await executor.start(spec) in (Started.RUNNING, Started.ENDED)
        assert await executor.wait(spec.name) == ContainerExit(0)
        assert spec.spool.read_text() == "once\n"
        started = f"/containers/{place.inspect(spec.name)['Id']}/start".encode()
        assert sum(started in request for request in line.requests) == 1

    run(body)


def test_a_create_whose_answer_was_lost_keeps_its_network_to_itself(place: Place, run: Run) -> None:
    async def body(executor: DockerExecutor, line: Line) -> None:
        first = place.spec("true", stage="first")
        second = place.spec("true", stage="second")
        line.lose(f"name={first.name}".encode())
        await executor.create(first)
        await executor.create(second)
        modes = {place.inspect(spec.name)["HostConfig"]["NetworkMode"] for spec in (first, second)}
        assert len(modes) == 2

    run(body)


def test_everything_else_gives_up_soon_and_says_why(place: Place, run: Run) -> None:
    async def body(executor: DockerExecutor, line: Line) -> None:
        await line.cut()
        with pytest.raises(UnavailableError, match="does not answer: No such file"):
            await executor.start(place.spec("true"))
        await line.mend()
        await executor.start(place.spec("true"))

    run(body)


def test_cancelling_a_wait_holds_nothing_back(place: Place, run: Run) -> None:
    async def body(executor: DockerExecutor, line: Line) -> None:
        spec = place.spec("sleep 60")
        await executor.start(spec)
        waits = [asyncio.create_task(executor.wait(spec.name)) for _ in range(40)]  # more than there are threads
        await asyncio.sleep(0.3)
        assert await executor.exists(spec.name)
        for waiting in waits:
            waiting.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    run(body)
