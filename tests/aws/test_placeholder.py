"""What a service runs until its first deployment, in real busybox; and how a deployment takes it away."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator

import pytest

from harness.engine import docker
from seamless.aws.placeholder import LABEL, command, without_placeholder
from seamless.targets.ecs_plan import Change, changed


@pytest.fixture
def container() -> Iterator[str]:
    name = f"seamless-test-placeholder-{uuid.uuid4().hex[:12]}"
    yield name
    docker("rm", "--force", name, check=False)


@pytest.mark.engine
@pytest.mark.parametrize("health", ["", "/healthz", "/api/v1/health/", "/it's up?full=yes"])
def test_the_placeholder_answers_its_port_and_its_health_path(busybox_image: str, container: str, health: str) -> None:
    docker("run", "--detach", "--network", "none", "--name", container, busybox_image, *command(3000, health))
    wait = 'for i in $(seq 100); do wget -q -O - "$0" && exit 0; sleep 0.1; done; exit 1'
    for path in ("/", health or "/"):
        address = f"http://127.0.0.1:3000{path.replace(' ', '%20')}"
        said = docker("exec", container, "sh", "-c", wait, address)
        assert said == "This service waits for its first deployment by Seamless."


def test_no_health_path_leads_out_of_the_placeholders_folder() -> None:
    assert "> /tmp/www/etc/passwd " in command(3000, "/%2e%2e/../etc/passwd")[-1]


@pytest.mark.engine
def test_the_placeholder_of_a_worker_waits_until_it_is_told_to_end(busybox_image: str, container: str) -> None:
    docker("run", "--detach", "--network", "none", "--name", container, busybox_image, *command(None, ""))
    assert docker("inspect", "--format", "{{.State.Running}}", container) == "true"
    subprocess.run(["docker", "stop", "--time", "30", container], check=True, capture_output=True, timeout=10)


def test_a_deployment_takes_away_what_only_the_placeholder_needs() -> None:
    container = {"name": "app", "image": "busybox", "command": ["sh"], "environment": [{"name": "A", "value": "b"}]}
    placeholder = {**container, "dockerLabels": {LABEL: "true"}}
    assert without_placeholder(placeholder) == {key: container[key] for key in ("name", "image", "environment")}
    labelled = {**container, "dockerLabels": {LABEL: "true", "team": "payments"}}
    assert without_placeholder(labelled)["dockerLabels"] == {"team": "payments"}


def test_a_container_that_is_no_placeholder_keeps_its_command() -> None:
    container = {"name": "app", "image": "busybox", "command": ["serve"], "dockerLabels": {"team": "payments"}}
    assert without_placeholder(container) == container


def test_the_first_deployment_to_ecs_runs_the_image_as_the_image_says() -> None:
    placeholder = {"name": "app", "image": "busybox", "command": ["sh"], "dockerLabels": {LABEL: "true"}}
    sidecar = {"name": "proxy", "image": "envoy", "command": ["envoy"]}
    new = changed({"containerDefinitions": [placeholder, sidecar]}, Change("app", "payment@sha256:1"))
    assert new["containerDefinitions"] == [{"name": "app", "image": "payment@sha256:1"}, sidecar]
