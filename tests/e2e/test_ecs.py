"""A whole agent that deploys to ECS: the registry is a real one, ECS is scripted and answers over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Shop, until
from harness.agents import stage_of
from harness.aws_server import serving
from harness.ecs_rows import Row, Stopped
from harness.registry import LocalRegistry, local_registry
from harness.scripted_ecs import REGION, ScriptedEcs
from seamless.cli.session import user_name
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


def configure(shop: Shop, endpoint: str, registry: LocalRegistry, ecs: str = "", service: str = "") -> None:
    """`ecs` and `service`: TOML of [services.web.ecs] and [services.web] beyond what each test needs."""
    password = shop.agent.folder / "password"
    password.write_text("secret")
    shop.configure(
        f'registry = "{registry.host}/acme"\nuse_staging = false\necs = {{ container = "app"{ecs} }}\n{service}\n'
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


MIGRATING = ', before_deploy = "npm run migrate"'
UNATTENDED = 'auto_deploy = true\ndeploy_timeout = "5s"'
CRASH = Stopped("Essential container in task exited", exit_code=3, lines=("starting", "no database"))
BREAKER = {"enable": True, "rollback": True}


def renewed(ecs: ScriptedEcs, *scripts: Sequence[Row], **settings: Any) -> ScriptedEcs:
    """The far end as it was at the beginning."""
    other = ScriptedEcs(DEFINITION, **settings)
    other.tick_s, other.scripts, other.network = 2 * ecs.tick_s, list(scripts), {"subnets": ["subnet-1"]}
    return other


def test_why_a_deployment_failed_is_told_where_its_user_looks(
    shop: Shop, ecs: ScriptedEcs, registry: LocalRegistry
) -> None:
    agent = shop.agent
    failed = Row(3, "rollback", failed=4, reason="ECS deployment circuit breaker: tasks failed to start.", task=CRASH)
    far_end = renewed(ecs, [Row(0, "going"), failed], breaker=BREAKER)
    with serving(lambda: far_end) as endpoint:
        configure(shop, endpoint, registry, MIGRATING, UNATTENDED)
        agent.start()
        far_end.task_takes_s = 3.0
        far_end.task_ends = [{"exitCode": 1, "lines": ["no table users"]}, {"exitCode": 0, "lines": ["1 migration"]}]
        migration = agent.cli("run", "web")
        assert migration.returncode == 1
        assert "seamless: no table users\n" in migration.stdout
        assert "before_deploy: exit code 1; the service was not changed\n" in migration.stdout
        assert far_end.calls("UpdateService") == []

        done = agent.cli("run", "web")
        assert done.returncode == 1
        told = done.stdout.partition("✘ web-2 failed in deploy_production after ")[2].splitlines()
        assert told[0].partition(": ")[2] == "app: exit code 3; ECS rolled back to web:1"
        assert told[1:-1] == [
            "  ECS: ECS deployment circuit breaker: tasks failed to start.",
            "  circuit breaker: 4 failed tasks, its threshold is 3",
            "  task task2: EssentialContainerExited: Essential container in task exited",
            "    app: exit code 3",
            "  the last lines of app:",
            "    starting",
            "    no database",
        ]
        assert "\n".join(told[1:-1]) in agent.cli("show", "web-2").stdout
        log = agent.read_log("web-2", "deploy_production")
        assert "seamless: 1 migration\nseamless: before_deploy: exit code 0\n" in log
        assert log.endswith("seamless: deploy_production: app: exit code 3; ECS rolled back to web:1\n")
        assert len(far_end.calls("UpdateService")) == 1


@pytest.mark.exhaustive
def test_whatever_ecs_does_the_run_says_what_became_of_the_service(
    shop: Shop, ecs: ScriptedEcs, registry: LocalRegistry
) -> None:
    agent, client = shop.agent, shop.agent.client
    far_end = ecs
    with serving(lambda: far_end) as endpoint:
        configure(shop, endpoint, registry, service=UNATTENDED)
        agent.start()

        def run(other: ScriptedEcs) -> tuple[int, str]:
            """Exit code, and the line that says how the run ended, without its times."""
            nonlocal far_end
            far_end = other
            done = agent.cli("run", "web")
            last = next(line for line in done.stdout.splitlines() if line[:1] in "✔✘")
            return done.returncode, last.partition(": ")[2]

        head = shop.commit()[:7]
        never, gives_up = [Row(0, "going")], [Row(0, "going"), Row(3, "failed", task=CRASH)]
        assert run(renewed(ecs, [Row(0, "completed")], desired=0)) == (
            0,
            f"production has {head}; the service is scaled to 0, so nothing runs that could prove it",
        )
        assert run(renewed(ecs, gives_up)) == (1, "app: exit code 3; ECS gave the deployment up; rolled back to web:1")
        assert run(renewed(ecs, [Row(0, "going"), Row(3, "outside")])) == (
            1,
            "another deployment took its place: web:3, registered by user/dana",
        )
        assert run(renewed(ecs, never)) == (
            1,
            "not stable after 5 s: 0 of 2 tasks run, 2 starting; rolled back to web:1",
        )
        without_list = renewed(ecs, never, gives_up)
        without_list.lists_service_deployments = False
        assert run(without_list)[1].endswith("; went back to web:1, which ECS gave up as well")
        troubled = renewed(ecs, QUICK)
        troubled.throttles_each, troubled.stale_reads, troubled.stale_updates = True, 2, True
        assert run(troubled) == (0, f"production runs {head}")
        assert len(troubled.calls("UpdateService")) == 1
        denied = renewed(ecs, QUICK)
        denied.faults["UpdateService"] = ["denied"]
        assert "(allow ecs:UpdateService; docs/aws.md has the whole policy)" in run(denied)[1]

        far_end = renewed(ecs, never)
        started = client.start_run("web")["id"]
        agent.wait_log(started, "deploy_production", "web:2: 0 of 2 tasks run")
        client.cancel(started, why="")
        cancelled = stage_of(agent.wait_run(started, ["cancelled"]), "deploy_production")
        assert cancelled["reason"] == f"cancelled by {user_name()}; rolled back to web:1"
        assert far_end.primary["taskDefinition"].endswith("web:1")
