"""How stages end: one agent, a service for each way, all at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import DOCKERFILE
from harness.agents import Agent, stage_of, states_of
from harness.engine import docker, import_busybox
from harness.repositories import Repository
from seamless.transitions import RUN_ENDED
from seamless.wire import RunJSON

pytestmark = pytest.mark.engine

SECRET = "correct horse battery"
SHELL = """\
printf '%s|' "it's" 'a "quoted"' $'line' | tr '|' '\\n'
echo "grüße, мир 🚀" | cat
if true; then
  echo second line
fi
"""

NETWORK = "readlink /proc/self/ns/net"

# Service -> its parameters. `checks` runs are enough for all but those that are in FULL.
SERVICES = {
    "red": 'code_quality = "echo untidy; exit 3"\nunit_test = "sleep 1; echo tested; exit 4"\n'
    'build.dockerfile = "Slow"',
    "retry": 'unit_test = "echo attempt $SEAMLESS_ATTEMPT; test $SEAMLESS_ATTEMPT = 2"\nmax_attempts = 2',
    "slow": 'unit_test = "echo begun; sleep 1000"\nstage_timeout = "15s"',
    "late": 'install = "sleep 1000"\nunit_test = "true"\nrun_timeout = "5s"',
    "hungry": 'unit_test = "dd if=/dev/zero of=/dev/null bs=64M count=1"\nlimits.memory = "16MiB"',
    "shellless": 'unit_test = "true"\nimage = "{shellless}"',
    "imageless": 'unit_test = "true"\nimage = "127.0.0.1:9/there/is:none"',
    "folder": 'path = "services/pay"\ninstall = "cat name; pwd"\nunit_test = "cat name"',
    "astray": 'path = "no/such/folder"\nunit_test = "true"',
    "quotes": f"unit_test = {json.dumps(SHELL, ensure_ascii=False)}",
    "secret": 'unit_test = "echo the word is $WORD; echo -n $WORD | base64"\nsecrets.WORD = {{ env = "WORD" }}',
    "bare": 'unit_test = "env"\nenv = {{ COLOUR = "blue" }}',
    "imprecise": 'unit_test = "echo no secret"\nsecrets.WORD = {{ env = "NOT_SET_ANYWHERE" }}',
    "views": 'install = "echo dep > dep"\ncode_quality = "cat dep; echo lint > dep"\n'
    'unit_test = "sleep 1; cat dep; ls"',
    "network": f'install = "{NETWORK}"\ncode_quality = "{NETWORK}"\nunit_test = "{NETWORK}"',
    "tested": f'install = "{NETWORK}"\nunit_test = "{NETWORK}"',
    "unbuilt": 'build.dockerfile = "Nowhere"',
    "failing": 'build.dockerfile = "Failing"',
}
FULL = {"red", "unbuilt", "failing"}


@dataclass
class Fleet:
    agent: Agent
    runs: dict[str, RunJSON]

    def reason(self, service: str, stage: str) -> str:
        told = stage_of(self.runs[service], stage)
        assert told["state"] == "failure", told
        assert told["reason"] is not None
        return told["reason"]

    def log(self, service: str, stage: str) -> str:
        return self.agent.read_log(f"{service}-1", stage)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, busybox_image: str) -> Iterator[Fleet]:
    """Every service's first run, ended."""
    folder = tmp_path_factory.mktemp("fleet")
    repository = Repository(folder / "repository")
    dockerfile = DOCKERFILE.format(image=busybox_image)
    repository.commit(
        {
            "Dockerfile": dockerfile,
            "Slow": dockerfile + "RUN sleep 1000\n",
            "Failing": dockerfile + "RUN echo about to fail; exit 7\n",
            "services/pay/name": "pay\n",
        }
    )
    shellless = import_busybox(shell=False)
    agent = Agent(folder, busybox_image)
    tables = (
        f'[services.{name}]\nrepo = "{repository.path}"\n{text}\n'.replace("{shellless}", shellless).replace("{{", "{")
        for name, text in SERVICES.items()
    )
    agent.configure("\n".join(tables).replace("}}", "}"), agent="max_parallel_runs = 8")
    clean = False
    try:
        agent.start(WORD=SECRET, LEAK="from the agent")
        for name in SERVICES:
            agent.client.start_run(name, checks=name not in FULL)
        yield Fleet(agent, {name: agent.wait_run(f"{name}-1", RUN_ENDED) for name in SERVICES})
        clean = True
    finally:
        agent.finish(clean=clean)
        docker("image", "rm", "--force", shellless)


def test_both_checks_are_reported_and_the_first_failure_cancels_build(fleet: Fleet) -> None:
    run = fleet.runs["red"]
    assert run["state"] == "failure"
    assert run["reason"] == "code_quality: exit code 3; unit_test: exit code 4"
    assert states_of(run) == {
        "prepare": "success",
        "code_quality": "failure",
        "unit_test": "failure",
        "build": "cancelled",
        "integration_test": "skipped",
        "deploy_staging": "skipped",
        "deploy_production": "skipped",
    }
    assert [stage_of(run, name)["exit_code"] for name in ("code_quality", "unit_test")] == [3, 4]
    causes = {stage_of(run, name)["reason"] for name in ("build", "integration_test", "deploy_production")}
    assert causes <= {"code_quality failed", "unit_test failed"}  # whichever was first
    assert "untidy\n" in fleet.log("red", "code_quality")
    assert "tested\n" in fleet.log("red", "unit_test")


def test_a_failed_stage_is_tried_again_as_often_as_is_allowed(fleet: Fleet) -> None:
    stage = stage_of(fleet.runs["retry"], "unit_test")
    assert (stage["state"], stage["attempt"]) == ("success", 2)
    lines = fleet.log("retry", "unit_test").splitlines()
    assert lines.count("attempt 1") == lines.count("attempt 2") == 1


def test_a_stage_that_takes_too_long_is_ended(fleet: Fleet) -> None:
    assert fleet.reason("slow", "unit_test") == "timed out after 15s"
    assert "begun\n" in fleet.log("slow", "unit_test")


def test_a_run_that_takes_too_long_is_ended(fleet: Fleet) -> None:
    assert fleet.reason("late", "prepare") == "the run timed out after 5s"


def test_out_of_memory_is_told(fleet: Fleet) -> None:
    reason = fleet.reason("hungry", "unit_test")
    assert reason.removeprefix("killed (exit code 137), most likely ") == "out of memory (limit 16 MiB)"


def test_an_image_without_a_shell_is_told(fleet: Fleet) -> None:
    assert "has no /bin/sh" in fleet.reason("shellless", "unit_test")


def test_an_image_that_cannot_be_had_is_told(fleet: Fleet) -> None:
    reason = fleet.reason("imageless", "unit_test")
    assert "127.0.0.1:9/there/is:none cannot be had" in reason
    assert "[registries]" in reason


def test_a_service_in_a_sub_folder_runs_there(fleet: Fleet) -> None:
    assert fleet.log("folder", "prepare").endswith("pay\n/workspace/services/pay\n")
    assert "pay\n" in fleet.log("folder", "unit_test")


def test_a_sub_folder_that_is_not_there_is_told(fleet: Fleet) -> None:
    assert "the commit has no folder no/such/folder" in fleet.reason("astray", "prepare")


def test_commands_are_shell_scripts_with_all_that_belongs_to_them(fleet: Fleet) -> None:
    log = fleet.log("quotes", "unit_test")
    assert 'it\'s\na "quoted"\n' in log
    assert log.endswith("grüße, мир 🚀\nsecond line\n")


def test_secrets_reach_the_command_and_not_the_log(fleet: Fleet) -> None:
    assert fleet.runs["secret"]["state"] == "success"
    log = fleet.log("secret", "unit_test")
    assert "the word is " in log
    assert SECRET not in log
    assert "Y29ycmVjdCBob3JzZ" not in log
    database = (fleet.agent.data_dir / "seamless.db").read_bytes()
    assert SECRET.encode() not in database


def test_a_command_sees_its_own_environment_only(fleet: Fleet) -> None:
    variables = dict(line.split("=", 1) for line in fleet.log("bare", "unit_test").splitlines() if "=" in line)
    assert variables["CI"] == "true"
    assert variables["COLOUR"] == "blue"
    assert variables["SEAMLESS_RUN"] == "bare-1"
    assert variables["SEAMLESS_STAGE"] == "unit_test"
    assert "LEAK" not in variables
    assert "WORD" not in variables


def test_a_secret_that_is_not_there_is_told(fleet: Fleet) -> None:
    assert "NOT_SET_ANYWHERE" in fleet.reason("imprecise", "prepare")


def test_stages_see_what_prepare_wrote_and_not_each_other(fleet: Fleet) -> None:
    assert fleet.runs["views"]["state"] == "success"
    assert "lint" not in fleet.log("views", "unit_test")
    assert "dep\n" in fleet.log("views", "unit_test")


def test_a_missing_dockerfile_is_told(fleet: Fleet) -> None:
    assert "Nowhere" in fleet.reason("unbuilt", "build")
    assert states_of(fleet.runs["unbuilt"])["deploy_staging"] == "skipped"


def test_a_build_that_fails_shows_what_it_said(fleet: Fleet) -> None:
    fleet.reason("failing", "build")
    assert "about to fail" in fleet.log("failing", "build")


def test_a_failed_stage_keeps_its_workspace(fleet: Fleet) -> None:
    assert (fleet.agent.data_dir / "views" / "red-1-unit_test-1" / "upper").is_dir()
    assert not Path(fleet.agent.data_dir / "views" / "quotes-1-unit_test-1").exists()


def test_stages_that_run_together_have_a_network_each_and_the_first_check_takes_over_that_of_prepare(
    fleet: Fleet,
) -> None:
    prepare, code_quality, unit_test = (
        fleet.log("network", stage) for stage in ("prepare", "code_quality", "unit_test")
    )
    (namespace,) = (line for line in prepare.splitlines() if line.startswith("net:"))
    assert code_quality.strip() == namespace
    assert unit_test.startswith("net:")
    assert unit_test.strip() != namespace
    assert fleet.log("tested", "unit_test").strip() in fleet.log("tested", "prepare").splitlines()
