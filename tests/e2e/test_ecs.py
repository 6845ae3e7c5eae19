"""A whole agent that deploys to ECS: the registry is a real one, ECS is scripted and answers over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import Shop, until
from harness.agents import stage_of
from harness.aws_server import serving
from harness.ecs_rows import Row
from harness.registry import LocalRegistry, local_registry
from harness.scripted_ecs import REGION, ScriptedEcs
from targets.ecs_playing import DEFINITION

pytestmark = [pytest.mark.engine, pytest.mark.fake]

QUICK = (Row(0, "going"), Row(5, "completed", running=2))
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTING",
    "AWS_SECRET_ACCESS_KEY": "of-a-test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with local_registry(tmp_path / "registry") as one:
        yield one


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> ScriptedEcs:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    one = ScriptedEcs(DEFINITION)
    one.tick_s = 4.0
    return one


def configure(shop: Shop, endpoint: str, registry: LocalRegistry) -> None:
    password = shop.agent.folder / "password"
    password.write_text("secret")
    shop.configure(
        f'registry = "{registry.host}/acme"\nuse_staging = false\necs = {{ container = "app" }}\n'
        '[services.web.environments.production]\nenv = { LOG_LEVEL = "info" }\n',
        more=f'[registries."{registry.host}"]\nusername = "acme"\npassword = {{ file = "{password}" }}\n'
        f'[environments.production]\ntarget = "ecs"\ncluster = "prod"\nregion = "{REGION}"\n'
        f'endpoint_url = "{endpoint}"\n',
    )


def test_from_a_push_to_ecs_and_back(shop: Shop, ecs: ScriptedEcs, registry: LocalRegistry) -> None:
    agent, client = shop.agent, shop.agent.client
    with serving(lambda: ecs) as endpoint:
        configure(shop, endpoint, registry)
        agent.start()
        planned = agent.cli("run", "web", "--plan").stdout
        assert "deploy_production ecs, after an approval" in planned
        assert "app: environment LOG_LEVEL: info, another value before" in planned
        assert ecs.calls("RegisterTaskDefinition") == []

        waiting = agent.run("web")
        approval = client.run("web-1")["approval"]
        assert approval is not None
        assert f"→ {registry.host}/acme/web@sha256:" in str(approval["task_definition"])
        ecs.scripts = [QUICK]
        done = agent.approve("web-1")
        assert (done["state"], ecs.primary["taskDefinition"][-5:]) == ("success", "web:2"), done["reason"]
        assert "2 tasks run web:2" in stage_of(done, "deploy_production")["detail"]["note"]

        ecs.deploy_from_outside()
        until(lambda: (production := client.status("web")[0]["production"]) and production["drift"])
        assert "runs web:3 registered by user/dana, and web-1 deployed web:2" in agent.cli("status").stdout

        shop.commit({"hello": "again\n"})
        agent.run("web")
        ecs.scripts = [[Row(0, "going")]]
        client.approve("web-2")
        agent.wait_log("web-2", "deploy_production", "web:4: 0 of 2 tasks run")
        agent.kill()
        agent.start()
        ecs.scripts = [QUICK]
        rollback = client.rollback(waiting["commit"][:12], environment="production")
        superseded = agent.wait_run("web-2", ["cancelled"])
        assert str(superseded["reason"]).startswith(f"superseded by the rollback {rollback['id']}")
        assert "rolled back to web:3" in str(stage_of(superseded, "deploy_production")["reason"])
        again = agent.wait_run(rollback["id"])
        assert (again["state"], ecs.primary["taskDefinition"][-5:]) == ("success", "web:2")
        assert len(ecs.stops) == 1
        updates = [each["taskDefinition"][-5:] for each in ecs.calls("UpdateService")]
        assert updates == ["web:2", "web:4", "web:2"]
        hold = client.status("web")[0]["hold"]
        assert hold is not None
        log = agent.read_log("web-2", "deploy_production")
        assert log.count("registered the task definition web:4") == 1
