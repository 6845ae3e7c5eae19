"""The fleet, lists and parameters as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from seamless.config import Build, EcsSettings, IntegrationTest, Limits, Parameters
from seamless.config.table import Table
from seamless.rendering.tables import (
    DURATIONS,
    SIZES,
    images_table,
    parameters_table,
    runs_table,
    services_table,
    status_table,
)

from .fake_agent import run, stage
from .rendered import ANN, at, service, shown

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.usefixtures("home")  # local times are UTC's


def release(sha: str, deployed_at: str, state: str = "success") -> dict[str, Any]:
    return {
        "commit": sha,
        "digest": "sha256:1",
        "run": "x-1",
        "deployed_at": deployed_at,
        "address": None,
        "drift": None,
        "state": state,
    }


def test_the_fleet() -> None:
    waiting = run(
        "inventory-19", "awaiting_approval", stages=[stage("deploy_staging", "success", ended_at=at("13:54:20"))]
    )
    running = run(
        "payment-43",
        "in_progress",
        stages=[stage("unit_test", "in_progress", started_at=at("14:02:16.100")), stage("build")],
    )
    red = {"since": at("09:00:00"), "run": "search-8", "stage": "code_quality", "reason": "exit code 1"}
    hold = {"why": "duplicate e-mails", "by": "bob", "since": at("09:00:00"), "commit": "0c35e04aaa"}
    fleet = [
        service("catalogue"),
        service(
            "gateway",
            last=run("gateway-1", "success"),
            head={"commit": "fc010d4aa", "seen_at": at("12:00:00")},
            staging=release("fc010d4aa", at("12:00:00")),
            production=release("fc010d4aa", "2026-12-02T12:00:00+00:00"),
        ),
        service("inventory", waiting=waiting),
        service("notification", hold=hold, production=release("0c35e04aa", at("14:02:10"), "unknown")),
        service("payment", running=[running, run("payment-44")]),
        service("search", red_since=red, problem="the repository cannot be reached"),
    ]
    assert shown(status_table(cast(Any, fleet), ANN)) == (
        "service       head     staging        production             now\n"
        "catalogue     -        -              -                      no runs yet\n"
        "gateway       fc010d4  fc010d4   2 h  fc010d4           1 d  ✔\n"
        "inventory     -        -              -                      ● waiting for approval  inventory-19  (8 m)\n"
        "notification  -        -              0c35e04 unknown  10 s  "
        "⏸ on hold since 0c35e04 was restored (bob)\n"
        "payment       -        -              -                      "
        "▶ payment-43 unit_test 3.9 s  ·  ▶ payment-44 queued\n"
        "search        -        -              -                      "
        "✘ red for 5 h: search-8 code_quality, exit code 1  ·  ? the repository cannot be reached"
    )


def test_lists() -> None:
    runs = [
        run(state="success", started_at=at("14:01:00"), ended_at=at("14:01:41"), subject="日本語" * 20),
        run("payment-41", "in_progress", started_at=at("14:02:00"), ref="refs/pull/17/head", subject=""),
    ]
    assert shown(runs_table(cast(Any, runs), ANN)) == (
        "run         state      trigger  ref   commit   age   took    by   subject\n"
        'payment-42  ✔ success  manual   main  9f3c2ab  10 s  41.0 s  you  "' + "日本語" * 8 + '…"\n'
        "payment-41  ▶ running  manual   #17   9f3c2ab  10 s  20 s    you"
    )
    image = {
        "service": "payment",
        "commit": "9f3c2abaa",
        "digest": "sha256:0123456789abcdef",
        "ref": "reg/payment@sha256:0123456789abcdef",
        "tag": "t",
        "built_at": at("13:00:00"),
        "run": "payment-42",
        "deployable": True,
        "environments": ["staging", "production"],
    }
    assert shown(images_table(cast(Any, [image]), ANN)) == (
        "commit   built    run         runs in              deployable  image\n"
        "9f3c2ab  1 h ago  payment-42  staging, production  yes         reg/payment@sha256:0123456789ab"
    )
    listed = {"name": "payment", "repo": "/srv/shop.git", "path": "payment", "branch": "main", "triggers": ["main"]}
    assert shown(services_table(cast(Any, [listed]))) == (
        "service  branch  triggers  repository\npayment  main    main      /srv/shop.git (payment)"
    )


def test_parameters_are_shown_as_one_writes_them() -> None:
    values = {
        "image": None,
        "install": "npm ci\nnpm run x",
        "caches": ["/a", "/b"],
        "files": {"/etc/pip.conf": "/srv/pip.conf"},
        "build": {"args": {}, "target": "", "context": "."},
        "secrets": {"TOKEN": {"env": "T", "expose": ["pr"]}},
        "environments": {"production": {"publish": 8080, "port": None, "limits": {"memory": 3 * 2**29}}},
        "stage_timeout": 5400.0,
    }
    sources = {
        "image": "default",
        "install": "service",
        "caches": "pipeline",
        'files."/etc/pip.conf"': "service",
        "build.args": "default",
        "build.target": "service",
        "build.context": "default",
        "secrets.TOKEN": "service",
        "environments.production.publish": "service",
        "environments.production.port": "default",
        "environments.production.limits.memory": "service",
        "stage_timeout": "pipeline",
    }
    assert shown(parameters_table(values, sources, ANN)) == (
        "parameter                              from      value\n"
        "image                                  default   -\n"
        "install                                service   'npm ci\\nnpm run x'\n"
        "caches                                 pipeline  [/a, /b]\n"
        'files."/etc/pip.conf"                  service   /srv/pip.conf\n'
        "build.target                           service   ''\n"
        "build.context                          default   .\n"
        "secrets.TOKEN                          service   { env = T, expose = [pr] }\n"
        "environments.production.publish        service   8080\n"
        "environments.production.limits.memory  service   1536m\n"
        "stage_timeout                          pipeline  90m"
    )


@pytest.mark.parametrize(("words", "known"), [("duration", DURATIONS), ("size", SIZES)])
def test_every_parameter_with_a_unit_is_known_as_such(words: str, known: frozenset[str]) -> None:
    tables: list[type[Table]] = [Parameters, Limits, EcsSettings, Build, IntegrationTest]
    found = {
        name
        for table in tables
        for name, field in table.model_fields.items()
        if f"Words(words='{words}')" in repr([field.annotation, field.metadata])
    }
    assert found == known
