"""Network namespaces made ahead: whose they are, what they lead to, and that none is used twice or left."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seamless.executors import ContainerExit, Started, docker
from seamless.executors.docker import DockerExecutor

from .conftest import Place, finish, until

pytestmark = pytest.mark.engine


def test_each_container_has_a_namespace_of_its_own_and_the_pool_is_filled_again(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        await until(lambda: executor.ready_networks == 2)
        ahead = set(place.containers("network"))
        specs = [place.spec("sleep 60", stage=f"s{number}") for number in range(3)]
        await asyncio.gather(*(executor.start(spec) for spec in specs))  # one more than are ready
        used = [_namespace(place, spec.name) for spec in specs]
        assert len(set(used)) == 3
        assert ahead < set(used)
        await until(lambda: executor.ready_networks == 2)
        assert len(place.containers("network")) == 5
        await asyncio.gather(*(executor.remove(spec.name) for spec in specs))
        assert set(place.containers("network")).isdisjoint(used)

    place.run(body, pool_size=2)


def test_a_stage_reaches_out_but_not_the_instance_metadata(place: Place, server: int) -> None:
    script = f"""
gateway=$(ip route | awk '/^default/ {{ print $3 }}')
wget -q -O - "http://$gateway:{server}/"
grep -q "$(hostname)" /etc/hosts
for address in 169.254.169.254 169.254.170.2; do
    nc -w 2 $address 80 2>&1 | grep 'Invalid argument'
    ip route del blackhole $address && exit 1
done
echo over
"""

    async def body(executor: DockerExecutor) -> None:
        spec = place.spec(script)
        assert await finish(executor, spec) == ContainerExit(0), spec.spool.read_text()
        assert spec.spool.read_text().startswith("hello from the host\n")

    place.run(body)


def test_what_holds_a_namespace_can_do_nothing(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        await until(lambda: executor.ready_networks == 1)
        (holder,) = place.containers("network")
        found = place.inspect(holder)
        assert found["HostConfig"]["ReadonlyRootfs"]
        await until(lambda: _status(found["State"]["Pid"])["Name"] == "sleep")
        status = _status(found["State"]["Pid"])
        assert set(status["Uid"].split()) == {"65534"}
        assert {int(status[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"

    place.run(body, pool_size=1)


def test_closing_removes_the_unused_even_those_in_the_making(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        pass

    place.run(body, pool_size=2)
    assert place.left() == []


def test_an_agent_that_was_killed_leaves_no_namespace_behind(place: Place) -> None:
    spec = place.spec("sleep 60")

    async def die(executor: DockerExecutor) -> None:
        await executor.start(spec)
        labels = {"io.seamless.installation": place.installation}
        for role in ("network", "helper"):  # made and not recorded anywhere
            created = place.api.create_container(
                place.image, ["sleep", "60"], labels=labels | {"io.seamless.role": role}
            )
            place.api.start(created)

    async def recover(executor: DockerExecutor) -> None:
        assert place.containers("network") == [_namespace(place, spec.name)]
        assert place.containers("helper") == []
        assert await executor.start(spec) is Started.RUNNING

    place.run(die, tidy=False)
    place.run(recover)


def test_the_next_agent_takes_over_what_a_killed_one_had_ready_and_nobody_used(place: Place) -> None:
    """What was used, ended, or was made by another recipe is removed."""
    ready: dict[str, str] = {}

    async def die(executor: DockerExecutor) -> None:
        await until(lambda: executor.ready_networks == 4)
        spec = place.spec("sleep 60")
        await executor.start(spec)
        used = _namespace(place, spec.name)
        place.api.remove_container(spec.name, force=True)  # and died before it removed the namespace
        await until(lambda: executor.ready_networks == 4)
        ended, other, *kept = (each for each in place.containers("network") if each != used)
        place.api.kill(ended)
        (place.data_dir / "networks" / other).write_text("another recipe")
        ready.update(dict.fromkeys(kept, "kept"))

    async def recover(executor: DockerExecutor) -> None:
        assert executor.ready_networks == len(ready) == 2
        assert set(place.containers("network")) == set(ready)
        spec = place.spec("ip route | grep -q ^default")
        assert await finish(executor, spec) == ContainerExit(0)
        assert _namespace(place, spec.name) in ready

    place.run(die, pool_size=4, close=False)
    place.run(recover, pool_size=2)
    assert not any((place.data_dir / "networks").iterdir())


def test_a_namespace_that_died_before_its_stage_started_is_replaced(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        await until(lambda: executor.ready_networks == 3)
        spec = place.spec("ip route | grep -q ^default")
        await executor.create(spec)
        never_created = place.spec("ip route | grep -q ^default", stage="later")
        for each in (spec, never_created):
            await until(lambda: executor.ready_networks == 3)
            for holder in place.containers("network"):  # as the engine's restart does
                place.api.stop(holder)
            assert await executor.start(each) is Started.NOW
            assert await executor.wait(each.name) == ContainerExit(0)

    place.run(body, pool_size=3)


def test_what_follows_takes_over_the_namespace_which_goes_with_the_last_of_them(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        first = place.spec("true", stage="first")
        second = place.spec("ip route | grep -q '^blackhole 169.254.169.254'", stage="second", follows=first.name)
        await executor.start(first)
        await executor.create(second)  # while the first may still run
        for spec in (first, second):
            assert await finish(executor, spec) == ContainerExit(0)
        namespace = _namespace(place, first.name)
        assert _namespace(place, second.name) == namespace
        await executor.remove(second.name)
        assert place.containers("network") == [namespace]
        await executor.remove(first.name)
        assert place.containers("network") == []

    place.run(body)


def test_what_is_created_after_something_that_has_not_started_follows_it_too(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        first = place.spec("true", stage="first")
        second = place.spec("true", stage="second", follows=first.name)
        await executor.create(first)
        await executor.create(second)
        assert _namespace(place, second.name) == _namespace(place, first.name)

    place.run(body)


def test_what_follows_something_that_is_gone_or_lost_its_namespace_has_one_of_its_own(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        script = "ip route | grep -q ^default"
        orphan = place.spec(script, stage="orphan", follows=place.name("never-there"))
        assert await finish(executor, orphan) == ContainerExit(0)
        first = place.spec("true", stage="first")
        assert await finish(executor, first) == ContainerExit(0)
        second = place.spec(script, stage="second", follows=first.name)
        await executor.create(second)
        place.api.stop(_namespace(place, first.name))  # as the engine's restart does
        assert await finish(executor, second) == ContainerExit(0)
        assert _namespace(place, second.name) != _namespace(place, first.name)
        assert _namespace(place, orphan.name) not in (_namespace(place, first.name), _namespace(place, second.name))

    place.run(body)


def test_a_stage_that_ended_with_its_namespace_has_no_verdict(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(executor: DockerExecutor) -> None:
        spec = place.spec("sleep 600")
        await executor.start(spec)
        namespace, sleep, slept_s = _namespace(place, spec.name), asyncio.sleep, []

        async def stop_the_rest(delay_s: float) -> None:
            if delay_s == docker._ENGINE_STOPS_ALL_WITHIN_S:
                slept_s.append(delay_s)
                await asyncio.to_thread(place.api.stop, namespace)
            else:
                await sleep(delay_s)

        monkeypatch.setattr(asyncio, "sleep", stop_the_rest)
        place.api.kill(spec.name)  # as the engine stops: everything, at nearly the same time
        ended = await executor.wait(spec.name)
        assert slept_s, "it did not look twice"
        assert (ended.exit_code, ended.by_engine) == (137, True)

    place.run(body)


def test_whoever_is_cancelled_while_waiting_wastes_nothing(place: Place) -> None:
    async def body(executor: DockerExecutor) -> None:
        spec = place.spec("true")
        creating = asyncio.create_task(executor.create(spec))
        await asyncio.sleep(0.05)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
        assert await finish(executor, spec) == ContainerExit(0)
        assert len(place.containers("network")) == 1

    place.run(body)


@pytest.fixture
def server() -> Iterator[int]:
    """The port of an HTTP server on this host."""

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello from the host\n")

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Hello) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_port
        listening.shutdown()
        thread.join()


def _namespace(place: Place, name: str) -> str:
    return str(place.inspect(name)["HostConfig"]["NetworkMode"]).removeprefix("container:")


def _status(process: int) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
