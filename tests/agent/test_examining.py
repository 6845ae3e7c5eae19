"""`check` and `doctor`: what is wrong is found, named by its key, and comes with what mends it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.repositories import Repository
from seamless.agent import doctor
from seamless.agent.checking import Checker
from seamless.agent.doctor import examine
from seamless.config import config_from, load_config
from seamless.errors import UnavailableError
from seamless.executors.engine import Engine
from seamless.findings import Finding
from seamless.forges.git import GitForge
from seamless.paths import SYSTEM_CONFIG
from seamless.secretrefs import SecretUnreadableError

COMPOSE = "services:\n  tests:\n    image: {image}\n  db:\n    image: {image}\n"


def found(tmp_path: Path, *, offline: bool = False) -> dict[str, Finding]:
    checker = Checker(GitForge(tmp_path / "mirrors"), tmp_path / "scratch")
    findings = asyncio.run(checker.check(tmp_path / "seamless.toml", offline=offline))
    assert all(finding.mend for finding in findings if finding.level in ("warning", "error"))
    assert list((tmp_path / "scratch").iterdir() if (tmp_path / "scratch").exists() else []) == []
    return {finding.subject: finding for finding in findings}


@pytest.mark.parametrize(
    ("text", "subject", "what"),
    [
        ("[services.x]\nprot = 1\n", "services.x.prot", "no such parameter; did you mean port?"),
        ("[services.x]\nprot = 1\n", "services.x.repo", "is required, but not set"),
        ("[", "seamless.toml", "end of document: invalid initial character for a key part"),
        ('[services."a b"]\nrepo = "./x"\n', 'services."a b"', "a service's name is 1 to 63"),
    ],
)
def test_a_wrong_file_is_told_key_by_key(tmp_path: Path, text: str, subject: str, what: str) -> None:
    (tmp_path / "seamless.toml").write_text(text)
    finding = found(tmp_path)[subject]
    assert finding.level == "error"
    assert finding.what.startswith(what)
    assert str(tmp_path / "seamless.toml") in str(finding.mend)


def test_what_lies_on_this_host_is_looked_at_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "a long secret")
    (tmp_path / "seamless.toml").write_text(
        '[services.x]\nrepo = "https://127.0.0.1:1/x"\nimage = "none"\n'
        'secrets = { A = { env = "THERE" }, B = { env = "NOT_THERE" } }\nfiles = { "/a" = "/nowhere/a" }\n'
        f'git = {{ key = "{tmp_path}/seamless.toml", token = {{ file = "/nowhere/token" }} }}\n'
    )
    findings = found(tmp_path, offline=True)
    assert {subject: finding.level for subject, finding in findings.items()} == {
        "seamless.toml": "ok",
        "services.x.secrets.A": "ok",
        "services.x.secrets.B": "error",
        "services.x.git.token": "error",
        'services.x.files."/a"': "error",
        "services.x.git.key": "ok",
    }
    assert "a long secret" not in str(findings)


@pytest.mark.parametrize("offline", [True, False])
def test_a_secret_that_cannot_be_looked_at_from_here_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    asked: list[str] = []

    def read(places: Sequence[str]) -> dict[str, str | SecretUnreadableError]:
        asked.extend(places)
        return dict.fromkeys(places, "a long secret")

    monkeypatch.setattr("seamless.secretrefs._connected", {"ssm": read})
    (tmp_path / "seamless.toml").write_text(
        '[services.x]\nrepo = "/nowhere"\nsecrets = { A = { ssm = "/a" }, B = { secretsmanager = "b" } }\n'
        '[environments.production]\ntarget = "ecs"\ncluster = "prod"\n'
        '[services.x.environments.production]\nsecrets = { C = { ssm = "/c" } }\n'
    )
    findings = found(tmp_path, offline=offline)
    assert {key: findings[f"services.x.{key}"].level for key in ("secrets.A", "secrets.B")} == {
        "secrets.A": "not_checked" if offline else "ok",
        "secrets.B": "not_checked",
    }
    of_task = findings["services.x.environments.production.secrets.C"]
    assert of_task.what == '{ ssm = "/c" } is read by ECS; a deployment looks that it is there'
    assert asked == ([] if offline else ["/a"])


@pytest.mark.engine
def test_what_lies_elsewhere_is_looked_at_too(
    tmp_path: Path, busybox_image: str, new_repository: Callable[[str], Repository]
) -> None:
    good = new_repository("good")
    good.commit({"Dockerfile": "FROM scratch\n", "c.yml": COMPOSE.format(image=busybox_image)}, "first")
    bad = new_repository("bad")
    privileged = COMPOSE.format(image=busybox_image) + "    privileged: true\n"
    bad.commit({"sub/Dockerfile": "FROM scratch\n", "sub/c.yml": privileged}, "first")
    service = '[services.{name}]\nrepo = "{repo}"\n{more}\n'
    test = '[services.{name}.integration_test]\ncompose_file = "{file}"\ntest_service = "{service}"\n'
    (tmp_path / "seamless.toml").write_text(
        f'[pipeline]\nimage = "{busybox_image}"\n'
        + service.format(name="good", repo=good.path, more="")
        + test.format(name="good", file="c.yml", service="tests")
        + service.format(name="branch", repo=good.path, more='branch = "nowhere"')
        + service.format(name="folder", repo=good.path, more='path = "nowhere"')
        + service.format(name="dockerfile", repo=bad.path, more="")
        + service.format(name="compose", repo=bad.path, more='path = "sub"')
        + test.format(name="compose", file="c.yml", service="tests")
        + service.format(name="tester", repo=good.path, more="")
        + test.format(name="tester", file="c.yml", service="none")
        + service.format(name="gone", repo=f"{tmp_path}/gone", more='image = "127.0.0.1:1/none:1"')
    )
    findings = found(tmp_path)
    said = {subject: (finding.level, finding.what) for subject, finding in findings.items()}
    assert said["seamless.toml"] == ("ok", "is a valid configuration of 7 services")
    assert said["pipeline.image"] == ("ok", f"{busybox_image} is on this engine")
    assert said["services.gone.image"][0] == "error"
    assert said["services.good.repo"] == (
        "ok",
        "reachable, with main, a Dockerfile and a Compose file that is accepted",
    )
    assert said["services.branch.branch"] == ("error", f"{good.path} has no branch nowhere")
    assert said["services.folder.path"] == ("error", "there is no folder nowhere")
    assert said["services.dockerfile.build.dockerfile"] == ("error", "there is no Dockerfile")
    assert "services.db.privileged" in said["services.compose.integration_test.compose_file"][1]
    assert said["services.tester.integration_test.test_service"][1] == "c.yml has no service none; it has db, tests"
    assert said["services.gone.repo"][0] == "error"


@pytest.mark.parametrize(("file", "level"), [(SYSTEM_CONFIG, "not_checked"), (Path("/home/a/c.toml"), "error")])
def test_nobody_is_sent_to_the_group_docker_where_the_agent_is_a_user_of_its_own(
    monkeypatch: pytest.MonkeyPatch, file: Path, level: str
) -> None:
    async def closed(*_: object) -> None:
        raise UnavailableError(
            "this user may not open it", hint="add the user to the group docker"
        ) from PermissionError

    monkeypatch.setattr(Engine, "connect", closed)
    (finding,) = asyncio.run(doctor._engine(config_from({}, file)))
    assert finding.level == level
    assert ("docker" in str(finding.mend)) == (level == "error")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("1.9", "error"),
        ("2.0.1", "warning"),
        ("v2.1.0-rc1", "ok"),
        ("2.1", "ok"),
        ("", "warning"),
        ("none", "warning"),
    ],
)
def test_versions(text: str, level: str) -> None:
    finding = doctor._version("git", "git", text, (2, 0), [((2, 0), (2, 1), "loses commits")], "git")
    assert finding.level == level
    assert finding.mend is not None or level == "ok"


def examined(tmp_path: Path, text: str = "") -> dict[str, list[Finding]]:
    file = tmp_path / "seamless.toml"
    file.write_text(f'[agent]\ndata_dir = "{tmp_path}/data"\nsocket = "{tmp_path}/s/agent.sock"\n{text}')
    by_subject: dict[str, list[Finding]] = {}
    for finding in asyncio.run(examine(load_config(file))):
        assert finding.mend is not None or finding.level in ("ok", "not_checked")
        by_subject.setdefault(finding.subject, []).append(finding)
    return by_subject


@pytest.mark.engine
def test_this_host_is_able(tmp_path: Path) -> None:
    by_subject = examined(tmp_path)
    for subject in ("engine", "buildkit", "compose", "git"):
        assert [finding.level for finding in by_subject[subject]] == ["ok"], by_subject[subject]
    assert {"disk", "clock", "permissions"} <= set(by_subject)


def test_a_host_without_anything_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    by_subject = examined(tmp_path)
    for subject in ("engine", "buildkit", "compose", "git"):
        (finding,) = by_subject[subject]
        assert finding.level == "error"
        assert any(word in str(finding.mend) for word in ("install", "start")), finding


def test_an_old_git_and_files_that_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\necho git version 2.30.2\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    key = tmp_path / "key"
    key.write_text("key")
    key.chmod(0o644)
    text = f'[services.x]\nrepo = "ssh://h/x"\nimage = "i"\ngit = {{ key = "{key}" }}\n'
    by_subject = examined(tmp_path, text)
    assert by_subject["git"][0].what == "git 2.30.2 is too old: Seamless needs 2.38"
    mends = [str(finding.mend) for finding in by_subject["permissions"]]
    assert f"chmod 0700 {tmp_path}/data" in mends
    assert f"chmod 0600 {key}" in mends


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LITTLE_SPACE", 2**62)
    assert doctor._space("the data directory", tmp_path / "not" / "yet").level == "warning"
    monkeypatch.setattr(doctor, "_LITTLE_SPACE", 0)
    monkeypatch.setattr(doctor, "_LITTLE_FILES", 0)
    assert doctor._space("the data directory", tmp_path).level == "ok"
