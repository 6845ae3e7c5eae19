"""Deployments to the Docker target on a real engine."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.request
from typing import Any

import pytest

from seamless.model import DigestKind, Environment, ImageRef
from seamless.targets import DeployOutcome, stopwatch
from seamless.transitions import DeploymentEvent

from .conftest import Images, Place
from .deploying import Lines, MemoryJournal, commit, deploy_wholly, free_port, request, until

pytestmark = pytest.mark.engine

STAGING = Environment.STAGING


def deploy(place: Place, deployment: int, image: str, **changes: Any) -> DeployOutcome:
    """Deploys, waits for the verdict, and ends what was replaced."""
    going = request(deployment, image, **changes)
    return asyncio.run(deploy_wholly(place.target, going, MemoryJournal(), Lines()))


class Clock:
    """The time by which deployments know their deadline. It can be moved on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stopwatch, "time", made)
    return made


def deploy_past_the_deadline(
    place: Place,
    clock: Clock,
    deployment: int,
    image: str,
    *,
    answers: str | None = None,
    going_back: bool = False,
    **changes: Any,
) -> DeployOutcome:
    """Has the deadline be up when the new container runs; when the container `answers` does answer, if one is named;
    with `going_back`, the one for going back, as soon as that has begun."""
    going, journal = request(deployment, image, **changes), MemoryJournal()

    def is_time() -> bool:
        if going_back:
            return journal.get("back_clock") is not None
        if answers is not None:
            return answers in place.names(running=True) and place.accepts_connections(answers, 8080)
        return f"web-{deployment}" in place.names(running=True)

    async def main() -> DeployOutcome:
        deploying = asyncio.create_task(place.target.deploy(going, journal, Lines()))
        await until(is_time)
        clock.ahead_s += going.deadline_s
        return await deploying

    return asyncio.run(main())


def get(port: int, path: str = "/version") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return str(answer.read().decode())


def test_the_first_deployment_is_reached_by_its_name(place: Place, images: Images) -> None:
    outcome = deploy(place, 1, images.v1)
    assert outcome.event is DeploymentEvent.COMPLETE
    assert outcome.reason is not None
    assert outcome.reason.startswith("healthy after ")
    assert place.fetch(images.v1, "/version") == "v1"
    current = asyncio.run(place.target.current("web", STAGING, {}))
    assert current is not None
    assert current.image == ImageRef(images.v1, DigestKind.IMAGE_ID)
    assert (current.commit, current.deployment, current.healthy, current.address) == (commit(1), 1, True, None)


def test_the_container_is_confined_and_keeps_itself_running(place: Place, images: Images) -> None:
    deploy(place, 1, images.v1)
    host = place.inspect("web-1")["HostConfig"]
    assert host["Init"] is True
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (10**9, 2**26, 2**26, 64)
    assert host["CapDrop"] == ["ALL"]
    assert "CAP_SYS_CHROOT" not in host["CapAdd"]
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}}


def test_environment_and_secrets_arrive_with_any_characters(place: Place, images: Images) -> None:
    told = "a=b 'c' \"d\" $HOME `e` \\ ü\nsecond line\t€"
    deploy(place, 1, images.v1, secret_env={"TOLD": told}, env={"PORT": "8080"})
    assert place.fetch(images.v1, "/cgi-bin/env") == told


def test_port_is_told_unless_the_environment_sets_it(place: Place, images: Images, clock: Clock) -> None:
    deploy(place, 1, images.v1, port=8099, health="/healthz")
    assert "PORT=8099" in place.inspect("web-1")["Config"]["Env"]
    outcome = deploy_past_the_deadline(place, clock, 2, images.v1, port=8080, env={"PORT": "8099"})
    assert outcome.reason == "not healthy after 60 s: GET /healthz: connection refused; rolled back to 0000001"


def test_a_caller_in_the_network_sees_no_failure_while_the_release_is_replaced(place: Place, images: Images) -> None:
    deploy(place, 1, images.v1)
    loop = "until [ -e /enough ]; do wget -q -O - http://web:8080{path} || echo -n FAILED; echo; done"
    caller = place.caller(images.v1, loop.format(path="/version"))
    slow = place.caller(images.v1, loop.format(path="/cgi-bin/slow"))

    def answers(container: str) -> list[str]:
        return str(place.api.logs(container).decode()).split()

    asyncio.run(until(lambda: bool(answers(caller) and answers(slow))))
    outcome = deploy(place, 2, images.v2)
    whole = len(answers(slow))
    asyncio.run(until(lambda: "v2" in answers(caller) and len(answers(slow)) > whole))
    for container in (caller, slow):
        place.execute(container, "touch", "/enough")
        place.api.wait(container)
    assert outcome.event is DeploymentEvent.COMPLETE
    assert "gap_s" not in outcome.detail
    assert set(answers(caller)) == {"v1", "v2"}
    assert answers(caller)[-1] == "v2"
    assert set(answers(slow)) == {"whole"}
    assert [name for name in place.names() if name.startswith("web")] == ["web-2"]


def test_connections_that_the_new_release_opened_outlive_its_naming(place: Place, images: Images) -> None:
    """The engine cannot name a running container, so it is taken off the network and put back."""
    deploy(place, 1, images.v1)
    deploy(place, 2, images.v1, service="echo", env={"ECHO": "1"}, health="", port=None)
    outcome = deploy(place, 3, images.v2, env={"TALK": "echo"})  # which answers when it has heard something
    assert outcome.event is DeploymentEvent.COMPLETE

    def heard() -> int:
        return len(place.fetch(images.v1, "/talk").splitlines())

    after_naming = heard()
    assert after_naming > 0
    asyncio.run(until(lambda: heard() > after_naming + 1))


def test_a_published_port_has_a_gap_and_it_is_told(place: Place, images: Images) -> None:
    port = free_port()
    first = deploy(place, 1, images.v1, publish=port)
    assert first.detail["address"] == f"http://127.0.0.1:{port}"
    assert "gap_s" not in first.detail
    assert get(port) == "v1"
    second = deploy(place, 2, images.v2, publish=port)
    assert second.event is DeploymentEvent.COMPLETE
    assert 0 < second.detail["gap_s"] < 60
    assert second.reason is not None
    assert second.reason.endswith(f"gap {second.detail['gap_s']:.1f} s")
    assert get(port) == "v2"
    assert place.names() == ["web-2"]


def test_another_published_port_needs_no_gap(place: Place, images: Images) -> None:
    deploy(place, 1, images.v1, publish=free_port())
    other = free_port()
    outcome = deploy(place, 2, images.v2, publish=other)
    assert "gap_s" not in outcome.detail
    assert get(other) == "v2"
    assert place.names() == ["web-2"]


def test_a_release_that_stays_sick_leaves_the_old_one_answering(place: Place, images: Images, clock: Clock) -> None:
    deploy(place, 1, images.v1)
    before = place.ids()
    outcome = deploy_past_the_deadline(place, clock, 2, images.v2, env={"SICK": "1"}, answers="web-2")
    assert outcome.event is DeploymentEvent.ROLL_BACK
    assert outcome.reason == "not healthy after 60 s: GET /healthz answered 404; rolled back to 0000001"
    assert place.ids() == before
    assert place.fetch(images.v1, "/version") == "v1"


def test_with_a_published_port_a_sick_release_does_not_even_stop_the_old_one(
    place: Place, images: Images, clock: Clock
) -> None:
    port = free_port()
    deploy(place, 1, images.v1, publish=port)
    before = place.ids()
    outcome = deploy_past_the_deadline(
        place, clock, 2, images.v2, publish=port, env={"SICK": "1"}, answers="web-2-trial"
    )
    assert outcome.event is DeploymentEvent.ROLL_BACK
    assert "gap_s" not in outcome.detail
    assert place.ids() == before
    assert get(port) == "v1"


def test_the_old_release_comes_back_when_the_new_one_fails_in_its_place(place: Place, images: Images) -> None:
    """The trial is healthy, and what then gets the port is not: here, by being stopped before it answers."""
    port = free_port()
    deploy(place, 1, images.v1, publish=port)

    async def main() -> DeployOutcome:
        going = request(2, images.v2, publish=port, env={"AWAIT": "/go"})
        task = asyncio.create_task(place.target.deploy(going, MemoryJournal(), Lines()))
        await until(lambda: "web-2-trial" in place.names(running=True))
        place.execute(f"{place.network}-web-2-trial", "touch", "/go")
        await until(lambda: "web-2" in place.names(running=True))
        place.api.kill(f"{place.network}-web-2")
        return await task

    outcome = asyncio.run(main())
    assert outcome.event is DeploymentEvent.ROLL_BACK
    assert outcome.reason == (
        "not healthy: exit code 137, killed, perhaps out of memory (limit 64 MiB); rolled back to 0000001"
    )
    assert outcome.detail["gap_s"] > 0
    assert get(port) == "v1"
    assert place.names() == ["web-1"]


def test_a_first_release_that_fails_leaves_nothing(place: Place, images: Images) -> None:
    secret = "hunter2-hunter2"
    changes = {"SAY": f"cannot log in with {secret}", "EXIT": "3"}
    outcome = deploy(place, 1, images.v1, env=changes, secret_env={"PASSWORD": secret})
    assert outcome.event is DeploymentEvent.FAIL
    assert outcome.reason == "not healthy: exit code 3; there is nothing to go back to"
    explanation = outcome.detail["explanation"]
    assert explanation[-1] == "  cannot log in with ***"
    assert explanation[-2].endswith("web-1: exit code 3")
    assert (place.names(), place.networks()) == ([], [])
    assert asyncio.run(place.target.current("web", STAGING, {})) is None


def test_out_of_memory_is_said(place: Place, images: Images) -> None:
    outcome = deploy(place, 1, images.v1, env={"EAT": "200M"}, limits={"memory": 16 * 1024**2})
    assert outcome.reason is not None
    assert "out of memory (limit 16 MiB)" in outcome.reason


def test_a_port_taken_by_a_foreign_program_is_said(place: Place, images: Images) -> None:
    with socket.socket() as foreign:
        foreign.bind(("0.0.0.0", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        outcome = deploy(place, 1, images.v1, publish=port)
    assert outcome.event is DeploymentEvent.FAIL
    assert outcome.reason == f"port {port} of the host is taken by another program; there is nothing to go back to"
    assert (place.names(), place.networks()) == ([], [])


def test_a_port_taken_by_another_service_names_it(place: Place, images: Images) -> None:
    port = free_port()
    deploy(place, 1, images.v1, publish=port)
    outcome = deploy(place, 2, images.v1, publish=port, service="shop")
    assert outcome.reason is not None
    assert f"port {port} of the host is taken by the container {place.network}-web-1" in outcome.reason
    assert place.names() == ["web-1"]


def test_an_image_that_is_gone_is_said(place: Place, images: Images) -> None:
    gone = "sha256:" + "0" * 64
    assert not asyncio.run(place.target.has_image(ImageRef(gone, DigestKind.IMAGE_ID)))
    assert asyncio.run(place.target.has_image(ImageRef(images.v1, DigestKind.IMAGE_ID)))
    deploy(place, 1, images.v1)
    outcome = deploy(place, 2, gone)
    assert outcome.event is DeploymentEvent.ROLL_BACK
    assert outcome.reason is not None
    assert outcome.reason.startswith(f"the image {gone} is not to be had: ")
    assert place.fetch(images.v1, "/version") == "v1"


def test_a_cancelled_deployment_goes_back(place: Place, images: Images) -> None:
    deploy(place, 1, images.v1)
    before = place.ids()

    async def main() -> DeployOutcome:
        going = request(2, images.v2, env={"SLOW": "1000"})
        task = asyncio.create_task(place.target.deploy(going, MemoryJournal(), Lines()))
        await until(lambda: "web-2" in place.names())
        going.cancel.set()
        return await asyncio.wait_for(task, 50)  # and not when the deadline is up

    outcome = asyncio.run(main())
    assert (outcome.event, outcome.reason) == (DeploymentEvent.ROLL_BACK, "rolled back to 0000001")
    assert place.ids() == before


def test_an_old_release_that_is_sick_too_is_not_called_a_rollback(place: Place, images: Images, clock: Clock) -> None:
    deploy(place, 1, images.v1)
    place.execute(f"{place.network}-web-1", "rm", "/www/healthz")
    outcome = deploy_past_the_deadline(place, clock, 2, images.v2, env={"EXIT": "1"}, going_back=True)
    assert outcome.event is DeploymentEvent.FAIL
    assert outcome.reason == (
        "not healthy: exit code 1; went back to 0000001, which is not healthy either: GET /healthz answered 404"
    )


def test_the_images_own_healthcheck_decides_when_no_path_is_given(place: Place, images: Images) -> None:
    healthy = deploy(place, 1, images.checked, health="")
    assert healthy.event is DeploymentEvent.COMPLETE
    outcome = deploy(place, 2, images.checked, health="", env={"SICK": "1"})
    assert outcome.reason == "not healthy: the image's HEALTHCHECK says unhealthy; rolled back to 0000001"


def test_without_a_path_a_port_that_accepts_connections_is_healthy(place: Place, images: Images, clock: Clock) -> None:
    assert deploy(place, 1, images.v1, health="", env={"SICK": "1"}).event is DeploymentEvent.COMPLETE
    outcome = deploy_past_the_deadline(place, clock, 2, images.v1, health="", env={"IDLE": "1"})
    assert outcome.reason is not None
    assert "nothing accepts connections on port 8080" in outcome.reason


def test_without_a_port_staying_up_is_healthy(place: Place, images: Images) -> None:
    outcome = deploy(place, 1, images.v1, health="", port=None, env={"IDLE": "1"})
    assert outcome.event is DeploymentEvent.COMPLETE
    assert outcome.detail["healthy_s"] >= 1.0
    outcome = deploy(place, 2, images.v1, health="", port=None, env={"EXIT": "0"})
    assert outcome.reason == "not healthy: exit code 0; rolled back to 0000001"


def test_what_was_replaced_serves_nobody_at_the_verdict_and_goes_afterwards(place: Place, images: Images) -> None:
    deploy(place, 1, images.v1)
    journal = MemoryJournal()
    asyncio.run(place.target.deploy(request(2, images.v2), journal, Lines()))
    assert place.names(running=True) == ["web-1", "web-2"]
    assert {place.fetch(images.v1, "/version") for _ in range(5)} == {"v2"}
    current = asyncio.run(place.target.current("web", STAGING, {}))
    assert current is not None
    assert current.deployment == 2
    asyncio.run(place.target.retire(journal))
    asyncio.run(place.target.retire(journal))
    assert place.names() == ["web-2"]
    asyncio.run(place.target.deploy(request(3, images.v1), MemoryJournal(), Lines()))
    assert deploy(place, 4, images.v2).event is DeploymentEvent.COMPLETE  # and without: the next one does it
    assert place.names() == ["web-4"]


def test_the_next_deployment_and_the_end_of_what_was_replaced_do_not_hinder_each_other(
    place: Place, images: Images
) -> None:
    deploy(place, 1, images.v1)

    async def main() -> DeployOutcome:
        journal = MemoryJournal()
        await place.target.deploy(request(2, images.v2), journal, Lines())
        ending = asyncio.create_task(place.target.retire(journal))
        outcome = await deploy_wholly(place.target, request(3, images.v1), MemoryJournal(), Lines())
        await ending
        return outcome

    assert asyncio.run(main()).event is DeploymentEvent.COMPLETE
    assert place.names() == ["web-3"]


def test_leftovers_go_with_the_next_deployment_and_those_of_others_stay(place: Place, images: Images) -> None:
    deploy(place, 1, images.v1)
    deploy(place, 2, images.v1, service="shop")

    async def abandon() -> None:
        going = request(3, images.v2, env={"SLOW": "1000"})
        task = asyncio.create_task(place.target.deploy(going, MemoryJournal(), Lines()))
        await until(lambda: "web-3" in place.names())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(abandon())
    assert place.names() == ["shop-2", "web-1", "web-3"]
    current = asyncio.run(place.target.current("web", STAGING, {}))
    assert current is not None
    assert current.deployment == 1
    assert deploy(place, 4, images.v2).event is DeploymentEvent.COMPLETE
    assert place.names() == ["shop-2", "web-4"]


def test_two_services_deployed_at_once_share_one_network(place: Place, images: Images) -> None:
    async def main() -> list[DeployOutcome]:
        going = [request(n, images.v1, service=f"web{n}") for n in (1, 2, 3)]
        return await asyncio.gather(*(place.target.deploy(each, MemoryJournal(), Lines()) for each in going))

    assert {outcome.event for outcome in asyncio.run(main())} == {DeploymentEvent.COMPLETE}
    assert place.networks() == [place.network]


def test_remove_takes_the_service_and_then_the_network(place: Place, images: Images) -> None:
    deploy(place, 1, images.v1)
    deploy(place, 2, images.v1, service="shop")
    asyncio.run(place.target.remove("web", STAGING, {}))
    assert (place.names(), place.networks()) == (["shop-2"], [place.network])
    asyncio.run(place.target.remove("shop", STAGING, {}))
    assert (place.names(), place.networks()) == ([], [])


def test_explain_tells_the_last_lines_of_what_runs(place: Place, images: Images) -> None:
    going, journal = request(1, images.v1, env={"SAY": "listening"}), MemoryJournal()
    asyncio.run(place.target.deploy(going, journal, Lines()))
    lines = asyncio.run(place.target.explain(going, journal))
    assert lines == [f"{place.network}-web-1: running", "  listening"]


def test_a_verdict_is_given_again_without_doing_anything(place: Place, images: Images) -> None:
    going, journal = request(1, images.v1), MemoryJournal()
    first = asyncio.run(place.target.deploy(going, journal, Lines()))
    before = place.ids()
    assert asyncio.run(place.target.deploy(going, journal, Lines())) == first
    assert place.ids() == before
