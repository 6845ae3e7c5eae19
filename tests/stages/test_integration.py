"""Integration tests as the run sees them: real Compose, real engine, and nothing left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.registry import LocalRegistry
from seamless.config import Limits
from seamless.errors import StageError
from seamless.executors.builder import compose_cli
from seamless.model import DigestKind, ImageRef, Trust
from seamless.stages.compose import resolve_model, run_integration
from seamless.stages.compose_clearing import clear_project
from seamless.stages.compose_file import read_compose_file
from seamless.stages.integration import (
    IntegrationPlan,
    PeerImage,
    find_peers,
    plan_integration,
)
from seamless.stages.registry import Credentials, push_image

from .conftest import TimeLimit, WriteTree, docker, inspect, leftovers, until


@dataclass
class Integration:
    """A checkout with a Compose file, run as the stage does it."""

    checkout: Path
    installation: str
    spool: Path
    run: str = "payment-7"
    attempt: int = 1
    images: dict[str, PeerImage] = field(default_factory=dict)
    mapping: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    auth: dict[str, Credentials] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.spool.parent / f"work-{self.run}-{self.attempt}"

    async def plan(self) -> IntegrationPlan:
        _, version = await compose_cli()
        file = read_compose_file(self.checkout, "compose.yml", version=version)
        resolved = await resolve_model(file, work_dir=self.work)
        return plan_integration(
            resolved,
            file=file,
            checkout=self.checkout,
            test_service="tests",
            named=find_peers(resolved["services"], self.mapping, self.images),
            images=self.images,
            service="payment",
            installation=self.installation,
            run=self.run,
            attempt=self.attempt,
            trust=Trust.TRUSTED,
            limits=self.limits,
        )

    async def perform(self, timeout_s: float = 90) -> IntegrationPlan:
        async def line(text: str) -> None:
            with open(self.spool, "a", encoding="utf-8") as file:
                file.write(f"-- {text}\n")

        planned = await self.plan()
        await run_integration(
            planned, spool=self.spool, registry_auth=self.auth, work_dir=self.work, timeout_s=timeout_s, line=line
        )
        await clear_project(planned.project)
        return planned

    def fails(self, timeout_s: float = 60) -> StageError:
        with pytest.raises(StageError) as error:
            asyncio.run(self.perform(timeout_s))
        assert not list(self.work.glob("**/*"))
        assert leftovers(self.installation) == []
        return error.value

    @property
    def output(self) -> str:
        return self.spool.read_text()


@pytest.fixture
def integration(write_tree: WriteTree, installation: str, spool: Path) -> Integration:
    return Integration(write_tree({}), installation, spool)


def write(integration: Integration, content: str, **files: str) -> None:
    for name, text in {"compose.yml": content, **files}.items():
        (integration.checkout / name).write_text(text)


SHOP = """
version: "3.8"
services:
  payments-api:
    image: is-replaced:1
    command: sh -c 'echo $$WHO serves; mkdir -p /www; echo $$WHO >/www/index.html; httpd -f -p 8080 -h /www'
    environment: {{WHO: candidate}}
    depends_on: {{migrate: {{condition: service_completed_successfully}}}}
    healthcheck: {{test: wget -q -O /dev/null http://localhost:8080/, interval: 0.3s, timeout: 5s, retries: 50}}
    ports: ["8080:8080"]
    container_name: shop
  migrate:
    image: {base}
    command: sh -c 'echo migrated >/data/state'
    volumes: [data:/data]
  tests:
    build: {{context: ., args: {{BASE: "{base}"}}}}
    image: {base}
    command:
      - sh
      - -c
      - test "$$(wget -q -O - http://payments-api:8080/)" = candidate; cat /data/state /fixtures/one; echo $${{NO}}done
    depends_on: {{payments-api: {{condition: service_healthy}}}}
    volumes: [data:/data, ./fixtures:/fixtures]
volumes: {{data: }}
"""


def container_of(project: str) -> str:
    """The id of the project's only container."""
    return docker("container", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={project}")


def wait_for_leftovers(installation: str, count: int) -> None:
    """Until so much of a project is there."""
    deadline = time.monotonic() + 60
    while len(leftovers(installation)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.engine
class TestRun:
    def test_a_shop_is_tested_and_gone(self, integration: Integration, base_image: str) -> None:
        (integration.checkout / "fixtures").mkdir()
        (integration.checkout / "fixtures/one").write_text("a fixture\n")
        dockerfile = "ARG BASE\nFROM $BASE\nRUN --mount=type=cache,target=/c echo built by BuildKit\n"
        write(integration, SHOP.format(base=base_image), Dockerfile=dockerfile)
        base_id = inspect(base_image)["Id"]
        integration.images = {"payment": PeerImage(ImageRef(base_id, DigestKind.IMAGE_ID), "c" * 40, "candidate")}
        integration.mapping = {"payments-api": "payment"}
        planned = asyncio.run(integration.perform())
        digests = {peer["compose_service"]: peer["digest"] for peer in planned.evidence["peers"]}
        assert digests == {"payments-api": base_id, "migrate": None, "tests": None}
        assert "\nmigrated\na fixture\ndone\n" in integration.output
        assert "built by BuildKit" in integration.output
        assert "candidate serves" in integration.output
        assert inspect(base_image)["Id"] == base_id, "the file's build took over a tag of the engine"
        assert not integration.work.exists()

    def test_a_peer_comes_from_its_registry(
        self, integration: Integration, base_image: str, registry: LocalRegistry
    ) -> None:
        named = f"{registry.host}/team/cart:1"
        docker("tag", base_image, named)
        pushing = push_image(
            f"{registry.host}/team/cart",
            "1",
            spool=integration.spool,
            auth=registry.auth,
            work_dir=integration.work,
            timeout_s=60,
        )
        ref = asyncio.run(pushing)
        docker("image", "rm", named)
        assert not docker("image", "ls", "--quiet", "--digests", "--filter", f"reference={registry.host}/*/*")
        integration.images = {"cart": PeerImage(ref, "d" * 40, "production")}
        integration.auth = registry.auth
        write(
            integration,
            f"""
services:
  cart: {{image: cart:dev, command: sleep 60}}
  tests: {{image: {base_image}, command: ping -c 1 cart, depends_on: [cart]}}
""",
        )
        # A ping needs NET_RAW, which is not given: that the name is known must do.
        assert integration.fails().message == "exit code 1"
        assert "PING cart (" in integration.output

    def test_the_tests_are_in_all_their_networks_by_all_their_names(
        self, integration: Integration, base_image: str
    ) -> None:
        look_up = "nslookup $$name | grep -q ^Name || exit 9"
        write(
            integration,
            f"""
services:
  web: {{image: {base_image}, command: sleep 60, networks: [front]}}
  db: {{image: {base_image}, command: sleep 60, networks: [back]}}
  tests:
    image: {base_image}
    command: sh -c 'for name in web db asker tests; do {look_up}; done; ls /sys/class/net'
    networks: {{front: {{}}, back: {{aliases: [asker]}}}}
    depends_on: [web, db]
networks: {{front: {{}}, back: {{}}}}
""",
        )
        asyncio.run(integration.perform())
        assert "\neth0\neth1\n" in integration.output

    def test_the_tests_exit_code_decides_and_the_others_are_heard(
        self, integration: Integration, base_image: str
    ) -> None:
        write(
            integration,
            f"""
services:
  api: {{image: {base_image}, command: sh -c 'echo the api breaks; exit 3'}}
  tests: {{image: {base_image}, command: sh -c 'sleep 1; echo FAILED >&2; exit 7', depends_on: [api], tty: true}}
""",
        )
        error = integration.fails()
        assert error.message == "exit code 7; api had ended with exit code 3"
        assert error.stage_exit_code == 7
        assert "FAILED" in integration.output
        assert "the api breaks" in integration.output.partition("-- output of api:")[2]

    @pytest.mark.parametrize(
        ("api", "reason"),
        [
            (
                "command: sleep 60, healthcheck: {test: 'echo no database; exit 1', interval: 0.2s, retries: 2}",
                "api never became healthy: its health check said no database",
            ),
            (
                "command: sh -c 'exit 4', healthcheck: {test: 'true', interval: 30s}",
                "api never became healthy: it ended with exit code 4",
            ),
            ("command: sleep 60", "the tests wait for api to be healthy, and it has no health check"),
            ("command: no-such-program", "api never became healthy: it ended with exit code 127"),
            ("command: sleep 60, user: nobody-there", "api could not be started: unable to find user nobody-there"),
        ],
    )
    def test_what_never_becomes_ready_is_named(
        self, integration: Integration, base_image: str, api: str, reason: str
    ) -> None:
        write(
            integration,
            f"""
services:
  api: {{image: {base_image}, {api}}}
  tests: {{image: {base_image}, command: echo ran, depends_on: {{api: {{condition: service_healthy}}}}}}
""",
        )
        assert reason in integration.fails().message
        assert "\nran\n" not in integration.output

    def test_what_another_service_waits_for_is_named_too(self, integration: Integration, base_image: str) -> None:
        write(
            integration,
            f"""
services:
  db:
    image: {base_image}
    command: sleep 60
    healthcheck: {{test: 'echo broken; exit 1', interval: 0.2s, retries: 2}}
  api: {{image: {base_image}, command: sleep 60, depends_on: {{db: {{condition: service_healthy}}}}}}
  tests: {{image: {base_image}, command: echo ran, depends_on: [api]}}
""",
        )
        assert integration.fails().message == "db never became healthy: its health check said broken"

    def test_a_time_out_says_what_it_waited_for(
        self, integration: Integration, base_image: str, time_limit: TimeLimit
    ) -> None:
        write(
            integration,
            f"""
services:
  api: {{image: {base_image}, command: sleep 600, healthcheck: {{test: 'false', interval: 300s}}}}
  tests: {{image: {base_image}, command: echo ran, depends_on: {{api: {{condition: service_healthy}}}}}}
""",
        )

        async def main() -> None:
            performing = asyncio.create_task(integration.perform(time_limit.length_s))
            await until(lambda: "waiting for api to be healthy" in integration.output)
            time_limit.run_out()
            await performing

        with pytest.raises(StageError) as error:
            asyncio.run(main())
        assert error.value.message == "timed out after 601s while waiting for api"

    def test_too_much_memory_is_said_to_be_that(self, integration: Integration, base_image: str) -> None:
        integration.limits = Limits(memory=16 * 2**20)
        write(integration, f"services: {{tests: {{image: {base_image}, command: 'sh -c \"tail /dev/zero\"'}}}}")
        error = integration.fails()
        assert error.message in ("out of memory", "exit code 137")

    def test_an_image_that_cannot_be_had_is_named(self, integration: Integration, base_image: str) -> None:
        write(
            integration,
            f"""
services:
  db: {{image: "no-such-host.invalid/db:1"}}
  tests: {{image: {base_image}, command: echo ran, depends_on: [db]}}
""",
        )
        assert "no-such-host.invalid" in integration.fails().message

    def test_a_build_that_fails_names_its_step(self, integration: Integration, base_image: str) -> None:
        write(integration, "services: {tests: {build: .}}", Dockerfile=f"FROM {base_image}\nRUN exit 5\n")
        message = integration.fails().message
        assert message.startswith("the build failed at step [")  # Compose 2 puts the service's name there
        assert message.endswith("2/2] RUN exit 5: exit code 5")

    def test_what_compose_itself_refuses_is_passed_on(self, integration: Integration) -> None:
        write(integration, "services: {tests: {image: x, ports: {}, links: 7}}")
        error = integration.fails()
        assert error.message.startswith("Compose refuses compose.yml: ")

    def test_hostile_files_never_get_as_far_as_the_engine(self, integration: Integration, base_image: str) -> None:
        write(integration, f"services: {{tests: {{image: {base_image}, privileged: true, volumes: ['/:/host']}}}}")
        error = integration.fails()
        assert "is refused for 2 things" in error.message
        assert integration.output == ""

    def test_interpolation_knows_nothing_of_the_host(
        self, integration: Integration, base_image: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET", "from-the-host")
        write(
            integration,
            f"""
services:
  tests:
    image: {base_image}
    command: sh -c 'echo "[$AWS_SECRET-$$AWS_SECRET-${{AWS_SECRET:-default}}]"'
    environment: [AWS_SECRET]
""",
            **{".env": "AWS_SECRET=from-a-file\n"},
        )
        asyncio.run(integration.perform())
        assert "[--default]" in integration.output

    def test_two_runs_at_once_do_not_meet(self, integration: Integration, base_image: str) -> None:
        write(
            integration,
            f"""
services:
  api:
    image: {base_image}
    container_name: api
    ports: ["18080:80"]
    command: sh -c 'hostname >/data/me; sleep 60'
    volumes: [data:/data]
  tests:
    image: {base_image}
    command: sh -c 'sleep 2; ls /data; touch /data/tested; test $$(ls /data | wc -l) = 2'
    volumes: [data:/data]
    depends_on: [api]
networks: {{default: {{name: fixed}}}}
volumes: {{data: {{name: fixed}}}}
""",
        )
        other = dataclasses.replace(integration, run="payment-8", spool=integration.spool.with_name("other"))
        other.spool.touch()

        async def both() -> None:
            await asyncio.gather(integration.perform(), other.perform())

        asyncio.run(both())

    def test_cancelling_takes_everything_down(self, integration: Integration, base_image: str) -> None:
        write(
            integration,
            f"""
services:
  api: {{image: {base_image}, command: sleep 1000, volumes: ["/anonymous"]}}
  tests: {{image: {base_image}, command: sleep 1000, depends_on: [api]}}
""",
        )

        async def cancelled() -> None:
            task = asyncio.create_task(integration.perform())
            await asyncio.to_thread(wait_for_leftovers, integration.installation, 3)
            task.cancel()
            await asyncio.sleep(0.3)
            task.cancel()  # impatient
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancelled())
        assert leftovers(integration.installation) == []
        assert not integration.work.exists()

    def test_what_a_dead_agent_left_is_cleared_by_name(self, integration: Integration, base_image: str) -> None:
        write(
            integration,
            """
services: {tests: {build: ., volumes: [data:/d, "/anonymous"]}}
volumes: {data: }
""",
            Dockerfile=f"FROM {base_image}\nCMD sleep 60\n",
        )
        planned = asyncio.run(integration.plan())
        compose, _ = asyncio.run(compose_cli())
        file = integration.spool.with_name("kept.json")
        file.write_text(json.dumps(planned.model))
        subprocess.run([*compose, "-f", str(file), "-p", planned.project, "up", "-d"], check=True, capture_output=True)
        assert len(leftovers(integration.installation)) == 4
        mounts = json.loads(docker("inspect", "--format", "{{json .Mounts}}", container_of(planned.project)))
        asyncio.run(clear_project(planned.project))
        asyncio.run(clear_project(planned.project))
        assert leftovers(integration.installation) == []
        assert len(mounts) == 2
        assert not {mount["Name"] for mount in mounts} & set(docker("volume", "ls", "--quiet").split())
