"""What a configuration file may say, and what comes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.configurations import load, problems, service
from seamless.config import Parameters, load_config
from seamless.errors import NotFoundError
from seamless.model import Environment, Trigger


def test_an_empty_file_is_a_valid_configuration(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert config.services == {}
    assert config.access is None
    assert {environment: config.environments[environment].target for environment in Environment} == {
        Environment.STAGING: "docker",
        Environment.PRODUCTION: "docker",
    }


def test_a_service_is_its_own_table_over_the_pipeline_over_the_defaults(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [pipeline]
        image = "node:20"
        unit_test = "npm test"
        install = "npm ci"
        env = { A = "pipeline", B = "pipeline" }
        secrets = { TOKEN = { env = "TOKEN" }, PLAIN = { env = "PLAIN" } }
        limits = { cpus = 4 }
        caches = ["/root/.npm"]
        environments.production.env.A = "pipeline's production"
        [services.payment]
        repo = "git@git.acme.example:payment.git"
        unit_test = ""
        stage_timeout = "1h30m"
        env = { B = "service" }
        secrets = { TOKEN = { file = "/run/token" } }
        caches = ["/cache"]
        environments.production.env.B = "production"
        environments.production.limits.memory = "512m"
        environments.staging.env.PLAIN = "no secret here"
        """,
    )
    payment = config.services["payment"]
    assert (payment.image, payment.install, payment.unit_test) == ("node:20", "npm ci", None)
    assert payment.env == {"A": "pipeline", "B": "service"}
    assert payment.secrets["TOKEN"].reference == '{ file = "/run/token" }'
    assert (payment.limits.cpus, payment.limits.memory) == (4.0, 2 * 1024**3)
    assert payment.caches == ["/cache"]
    assert payment.stage_timeout == 5400.0
    assert payment.triggers == [Trigger.MAIN, Trigger.PR_OPEN, Trigger.PR_SYNC]

    production = payment.for_environment(Environment.PRODUCTION)
    assert production.env == {"A": "pipeline's production", "B": "production"}
    assert (production.limits.cpus, production.limits.memory) == (4.0, 512 * 1024**2)
    assert set(production.secrets) == {"TOKEN", "PLAIN"}
    staging = payment.for_environment(Environment.STAGING)
    assert staging.env["PLAIN"] == "no secret here"
    assert set(staging.secrets) == {"TOKEN"}

    sources = config.parameter_sources("payment")
    assert {key: sources[key] for key in ("image", "unit_test", "env.A", "env.B", "limits.cpus", "limits.pids")} == {
        "image": "pipeline",
        "unit_test": "service",
        "env.A": "pipeline",
        "env.B": "service",
        "limits.cpus": "pipeline",
        "limits.pids": "default",
    }
    with pytest.raises(NotFoundError, match="there is no service gateway"):
        config.parameter_sources("gateway")


def test_a_variable_of_the_service_replaces_a_secret_of_the_pipeline_and_the_other_way_round(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [pipeline]
        env = { A = "plain" }
        secrets = { B = { env = "B" } }
        """
        + service('env = { B = "plain" }\nsecrets = { A = { env = "A" } }'),
    )
    assert config.services["payment"].env == {"B": "plain"}
    assert set(config.services["payment"].secrets) == {"A"}


def test_a_secret_reference_of_the_service_replaces_the_pipelines_as_a_whole(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [pipeline]
        git = { token = { env = "TOKEN" }, username = "dana" }
        build.secrets = { npmrc = { env = "NPMRC", expose = ["pr"] }, pip = { env = "PIP" } }
        """
        + service('git.token.file = "/run/token"\nbuild.secrets.npmrc.file = "/run/npmrc"'),
    )
    payment = config.services["payment"]
    assert payment.git.username == "dana"
    assert payment.git.token is not None
    assert payment.git.token.reference == '{ file = "/run/token" }'
    assert payment.build.secrets["npmrc"].reference == '{ file = "/run/npmrc" }'
    assert payment.build.secrets["npmrc"].expose == []
    assert payment.build.secrets["pip"].reference == '{ env = "PIP" }'


def test_an_empty_compose_file_takes_the_integration_test_back(tmp_path: Path) -> None:
    pipeline = '[pipeline]\nintegration_test = { compose_file = "compose.yml", test_service = "tests" }\n'
    with_test = load(tmp_path, pipeline + service(""))
    assert with_test.services["payment"].integration_test is not None
    without = load(tmp_path, pipeline + service('integration_test = { compose_file = "" }'))
    assert without.services["payment"].integration_test is None


def test_a_run_keeps_its_parameters_as_json(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        service(
            'env = { B = "2", A = "1" }\nport = 80\ngit.key = "key"\nbuild.secrets.npmrc.file = "npmrc"\n'
            'environments.production = { limits = { cpus = 1 } }\nkeep_failed = "0s"\npoll_interval = "0.2s"\n'
        ),
    )
    payment = config.services["payment"]
    stored = json.dumps(payment.model_dump(mode="json"))
    again = Parameters.model_validate(json.loads(stored))
    assert again == payment
    assert json.dumps(again.model_dump(mode="json")) == stored
    assert again.for_environment(Environment.PRODUCTION).limits.memory == payment.limits.memory
    assert list(payment.env) == ["A", "B"], "the order in which a table is written does not change what is stored"


def test_paths_of_the_host_count_from_the_files_folder_or_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/dana")
    text = '[agent]\ndata_dir = "data"\nsocket = "~/agent.sock"\n[services.payment]\nrepo = "../payment"\n'
    config = load(tmp_path, text)
    assert config.agent.data_dir == tmp_path / "data"
    assert config.agent.socket == Path("/home/dana/agent.sock")
    assert config.services["payment"].repo == str(tmp_path.parent / "payment")


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "seamless.toml"
    file.write_bytes(b"\xef\xbb\xbf[agent]\r\npoll = false\r\n")
    assert load_config(file).agent.poll is False


def test_a_data_directory_that_this_user_may_not_look_into_is_no_fault_of_the_file(tmp_path: Path) -> None:
    """Members of the socket's group read the configuration, and the data is the agent's alone."""
    file = tmp_path / "seamless.toml"
    file.write_text(f'[agent]\ndata_dir = "/{"x" * 300}"\n')  # which nobody may look into, root included
    assert load_config(file).github.token is None


def test_a_working_directory_that_is_gone_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert problems(tmp_path, "x = 1")[0].startswith("x: no such parameter")
    assert load(tmp_path, "").file == tmp_path / "seamless.toml"


def test_importing_the_configuration_loads_no_heavy_library() -> None:
    code = (
        "import sys, seamless.config; print(sorted({'docker', 'boto3', 'httpx', 'fastapi', 'rich'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


GITHUB = """
[github]
token = { env = "GITHUB_TOKEN" }
[services.a]
repo = "https://github.com/acme/a"
[services.b]
repo = "https://github.com/acme/b"
git = { token = { env = "TOKEN_OF_B" }, username = "b" }
[services.c]
repo = "https://github.com.evil.example/acme/c"
[services.d]
repo = "git@github.com:acme/d.git"
"""


def test_githubs_token_is_for_repositories_there_that_have_none_of_their_own(tmp_path: Path) -> None:
    services = load(tmp_path, GITHUB).services
    tokens = {name: service.git.token and service.git.token.place for name, service in services.items()}
    assert tokens == {"a": "GITHUB_TOKEN", "b": "TOKEN_OF_B", "c": None, "d": "GITHUB_TOKEN"}
    assert services["a"].git.username == "x-access-token"
    assert services["b"].git.username == "b"
    enterprise = GITHUB.replace("[github]", '[github]\napi_url = "https://ghe.acme.example/api/v3"')
    assert load(tmp_path, enterprise).services["a"].git.token is None
