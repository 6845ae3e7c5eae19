"""What a configuration file may say, and what is said when it says something else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seamless.config import Aws, Config, EcsSettings, Parameters, Place, load_config
from seamless.errors import ConfigError, NotFoundError
from seamless.model import Environment, Trigger


def load(folder: Path, text: str) -> Config:
    file = folder / "seamless.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


def problems(folder: Path, text: str) -> list[str]:
    """The lines of the error, without the file's name, which every line must begin with."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    prefix = f"{folder}/seamless.toml: "
    lines = caught.value.message.splitlines()
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "notify.team: must say where to: exactly one of sns"),
        ('sns = "releases"', "notify.team.sns: must be a topic's ARN such as"),
        ('sns = "arn:aws:sns:eu-central-1:123456789012:x"\nservices = ["paymnt"]', "did you mean payment?"),
        ('sns = "arn:aws:sns:eu-central-1:123456789012:x"\nevents = ["fail"]', "did you mean failure?"),
    ],
)
def test_who_cannot_be_told_is_refused(tmp_path: Path, table: str, said: str) -> None:
    [found] = problems(tmp_path, service("") + f"[notify.team]\n{table}\n")
    assert said in found


def test_a_task_of_ecs_cannot_be_given_what_only_the_host_knows(tmp_path: Path) -> None:
    ecs = '[environments.production]\ntarget = "ecs"\ncluster = "prod"\n'
    secrets = "environments.production.secrets = {{ DB = {{ {} }}, OTHER = {{ ssm = '/x' }} }}"
    [found] = problems(tmp_path, service(secrets.format("env = 'DB'")) + ecs)
    assert found == (
        "services.payment.environments.production.secrets.DB: production is in ECS, which reads secrets from ssm or "
        "secretsmanager only"
    )
    load(tmp_path, service(secrets.format("secretsmanager = 'db:password'")) + ecs)
    load(tmp_path, service(secrets.format("env = 'DB'")))


def service(line: str) -> str:
    """A file whose only service is right but for `line`."""
    return f'[services.payment]\nrepo = "https://git.acme.example/payment"\n{line}\n'


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


def test_every_problem_is_told_at_once_where_it_was_written(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        nonsense = 1
        [agent]
        max_parallel_runs = "4"
        [pipeline]
        stage_timeout = 30
        env = "A=1"
        limits = { cpus = 0 }
        [environments.prod]
        [environments.staging]
        target = "k8s"
        [services.payment]
        repo = "https://git.acme.example/payment"
        unit_tests = "npm test"
        cpus = 2
        use_staging = "yes"
        triggers = ["main", "pr_opened"]
        [services.gateway]
        repo = "https://git.acme.example/gateway"
        [services.Search]
        port = 70000
        """,
    )
    assert sorted(found) == sorted(
        [
            "nonsense: no such parameter; there are agent, registries, github, aws, environments, services, notify, "
            "retention, access, pipeline",
            "agent.max_parallel_runs: must be a whole number, not text",
            'pipeline.stage_timeout: must be a duration with its unit, in quotes, such as "30m", not a bare number',
            "pipeline.env: must be a table, not text",
            "pipeline.limits.cpus: must be more than 0",
            "environments.prod: no such name; there are staging, production",
            'environments.staging.target: "k8s" is not one of docker, ecs',
            "services.payment.unit_tests: no such parameter; did you mean unit_test?",
            "services.payment.cpus: no such parameter; did you mean limits.cpus?",
            "services.payment.use_staging: must be true or false, not text",
            'services.payment.triggers[1]: "pr_opened" is not one of main, pr_open, pr_sync; did you mean pr_open?',
            "services.Search: a service's name is 1 to 63 lower-case letters, digits and hyphens, "
            "no hyphen at its ends",
            "services.Search.repo: is required, but not set",
            "services.Search.port: must be at most 65535",
        ]
    )


WRONG_VALUES = {
    'repo = "-x"': "repo: must be a git URL",
    'repo = "ext::sh -c id"': "repo: must be a git URL",
    'repo = "ext::/bin/sh"': "repo: must be a git URL",
    'repo = "ftp://git.acme.example/x"': "repo: must be a git URL with",
    'repo = "payment"': "repo: must be a git URL",
    'repo = "ssh://-oProxyCommand=id/x"': "repo: must name a host",
    'repo = "-oProxyCommand=id@host:x"': "repo: must be a git URL",
    'repo = "https://dana:hunter22@git.acme.example/x"': "repo: must hold no user or password",
    'repo = "https://hunter22@git.acme.example/x"': "repo: must hold no user or password",
    'repo = "https://[x"': "repo: is not a well-formed URL",
    'branch = "-f"': "branch: must be a branch's name",
    'branch = "a..b"': "branch: must be a branch's name",
    'branch = ""': "branch: must be a branch's name",
    'path = "/etc"': "path: must be a relative path",
    'path = "a/../../b"': "path: must be a relative path",
    'build.dockerfile = "/Dockerfile"': "build.dockerfile: must be a relative path",
    'build.dockerfile = ""': "build.dockerfile: must name a file",
    'build.context = ".."': "build.context: must be a relative path",
    'integration_test = { compose_file = "../c.yml", test_service = "t" }': "integration_test.compose_file: must be a",
    'build.args.TOKEN = { env = "TOKEN" }': "build.args.TOKEN: a build argument cannot be a secret reference",
    "env.PORT = 3000": "env.PORT: must be text in quotes, not a whole number",
    'env.SEAMLESS_RUN = "x"': "env.SEAMLESS_RUN: names that begin with SEAMLESS_ belong to Seamless",
    'env."A B" = "x"': 'env."A B": must be the name of a variable',
    r'install = "a\u0000b"': "install: must not hold a NUL character",
    r'"\u001b[2J\u202e" = 1': r'"\x1b[2J\u202e": no such parameter',
    'secrets.TOKEN = "hunter22"': "secrets.TOKEN: must be a reference to a secret",
    "secrets.TOKEN = {}": "secrets.TOKEN: must name exactly one of env, file",
    'secrets.TOKEN = { env = "A", file = "/b" }': "secrets.TOKEN: must name exactly one of env, file",
    'secrets.TOKEN = { vault = "/x" }': "secrets.TOKEN.vault: no such parameter",
    'secrets.TOKEN = { env = "A", expose = ["fork"] }': 'secrets.TOKEN.expose[0]: "fork" is not one of pr',
    'env.TOKEN = "x"\nsecrets.TOKEN = { env = "A" }': "secrets.TOKEN: is in env as well",
    'image = "--privileged"': "image: must be an image",
    'user = "a b"': "user: must be a user",
    'caches = ["node_modules"]': "caches[0]: must be an absolute path in the container",
    'caches = ["/a", "/a"]': "caches: must not name the same thing twice",
    'files = { "/proc/x" = "/x" }': 'files."/proc/x": must not be below',
    'registry = "https://ghcr.io/acme"': "registry: must be a registry",
    'health = "healthz"': "health: must be a path",
    "publish = 8080\nuse_staging = false": "publish: needs port",
    'limits.memory = "1m"': 'limits.memory: must be between "6m" and "1024t"',
    'limits.memory = "2gb"': "limits.memory: must be a size",
    "limits.memory = 2048": "limits.memory: must be a size with its unit",
    "limits.cpus = inf": "limits.cpus: must be a finite number",
    'run_timeout = "2 hours"': 'run_timeout: must be a duration such as "90s", "30m", "2h" or "10d", not "2 hours"',
    'run_timeout = "0s"': 'run_timeout: must be at least "0.1s"',
    'run_timeout = "99999d"': 'run_timeout: must be between "0s" and "3650d"',
    "max_attempts = true": "max_attempts: must be a whole number, not true or false",
    'pull_request_stages = ["integration_test"]': "pull_request_stages: integration_test needs build as well",
    "port = 2024-01-01": "port: must be a whole number, not a date or time",
    'integration_test = { compose_file = "c.yml" }': "integration_test.test_service: is required",
    'integration_test = { compose_file = "c.yml", test_service = "t", map = { a = "paymnt" } }': (
        "integration_test.map.a: there is no service paymnt; did you mean payment?"
    ),
}


@pytest.mark.parametrize(("line", "said"), WRONG_VALUES.items())
def test_a_wrong_value_is_named_with_its_place_and_is_never_shown_where_it_may_be_a_secret(
    tmp_path: Path, line: str, said: str
) -> None:
    text = f"[services.payment]\n{line}\n" if line.startswith("repo") else service(line)
    [found] = problems(tmp_path, text)
    assert found.startswith(f"services.payment.{said}")
    assert "hunter22" not in found


def test_a_service_that_is_not_a_table_or_is_named_like_a_run(tmp_path: Path) -> None:
    assert problems(tmp_path, '[services]\npayment = "x"\n') == ["services.payment: must be a table, not text"]
    assert problems(tmp_path, "services = 3\npipeline = [1]\n") == [
        "services: must be a table, not a whole number",
        "pipeline: must be a table, not a list",
    ]
    repo = 'repo = "/srv/x.git"\n'
    assert problems(tmp_path, f"[services.api]\n{repo}[services.api-2]\n{repo}") == [
        "services.api-2: reads like run 2 of the service api; give it another name"
    ]


def test_one_port_of_the_host_leads_to_one_container(tmp_path: Path) -> None:
    assert problems(tmp_path, service("port = 80\npublish = 8080")) == [
        "services.payment.publish: port 8080 of this host is payment in staging's already, "
        "and payment in production wants it too"
    ]
    load(tmp_path, service("port = 80\npublish = 8080\nenvironments.staging.publish = 8081"))
    load(tmp_path, service("port = 80\npublish = 8080\nuse_staging = false"))
    other = '[services.gateway]\nrepo = "/srv/gateway.git"\nport = 80\nenvironments.production.publish = 8080\n'
    [found] = problems(tmp_path, service("port = 80\npublish = 8080\nuse_staging = false") + other)
    assert found.startswith("services.payment.publish: port 8080 of this host is gateway in production's already")


def test_a_data_directory_that_no_overlay_can_name_and_a_socket_path_that_the_kernel_refuses(tmp_path: Path) -> None:
    long = "/run/" + "x" * 120
    assert problems(tmp_path, f'[agent]\ndata_dir = "/srv/a:b"\nsocket = "{long}"\n') == [
        "agent.data_dir: must hold no comma, colon or backslash: overlay mounts cannot name such a path",
        "agent.socket: must be at most 107 bytes long to be a socket's path",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[agent]\npoll = \n", "line 2, column 8: invalid value"),
        (b"a = 1\na = 2\n", "line 2, column 6: cannot overwrite a value"),
        (b'[agent]\nx = "unclosed', "end of document: "),
        (b"a = " + b"[" * 5000, "is nested too deeply"),
        (b"a = " + b"9" * 5000, "not TOML: "),
        (b"[agent]\n# caf\xe9\n", "line 2: is not UTF-8 text"),
        (b"#" * 2**20 + b"\n", "is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_not_toml(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "seamless.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert caught.value.message.startswith(f"{file}: {said}")
    assert "\n" not in caught.value.message


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "seamless.toml"
    file.write_bytes(b"\xef\xbb\xbf[agent]\r\npoll = false\r\n")
    assert load_config(file).agent.poll is False


def test_a_data_directory_that_this_user_may_not_look_into_is_no_fault_of_the_file(tmp_path: Path) -> None:
    """Members of the socket's group read the configuration, and the data is the agent's alone."""
    file = tmp_path / "seamless.toml"
    file.write_text(f'[agent]\ndata_dir = "/{"x" * 300}"\n')  # which nobody may look into, root included
    assert load_config(file).github.token is None


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe.toml")
    missing = tmp_path / "missing.toml"
    for path, said, hint in (
        (tmp_path / "pipe.toml", "cannot be read: is neither a file nor a link to one", None),
        (Path("/dev/zero"), "cannot be read: is neither a file nor a link to one", None),
        (missing, "cannot be read: no such file or directory", f"seamless --config {missing} init writes one"),
        (tmp_path, "cannot be read: is a directory", "--config names a file"),
        (loop, "cannot be read: too many levels of symbolic links", None),
        (Path("/proc/self/mem"), "cannot be read: input/output error", None),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert (caught.value.message, caught.value.hint) == (f"{path}: {said}", hint)


def test_the_file_is_named_as_the_reader_would_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seamless.toml").write_text("[agent]\npol = true\n")
    with pytest.raises(ConfigError) as caught:
        load_config(Path("seamless.toml"))
    assert caught.value.message == "seamless.toml: agent.pol: no such parameter; did you mean poll?"
    monkeypatch.chdir("/")  # as the agent does: a path without its first stroke would lead nowhere
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "seamless.toml")
    assert caught.value.message.startswith(f"{tmp_path}/seamless.toml: ")


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


def test_an_ecs_environment_names_its_cluster_and_a_docker_one_nothing_of_aws(tmp_path: Path) -> None:
    text = """
        [aws]
        region = "eu-west-1"
        profile = "seamless"
        [environments.staging]
        target = "ecs"
        cluster = "staging"
        [environments.production]
        target = "ecs"
        cluster = "prod"
        region = "eu-central-1"
        assume_role = "arn:aws:iam::123456789012:role/deploy"
        [pipeline]
        ecs = { container = "app" }
        [services.payment]
        repo = "https://github.com/acme/payment"
        env = { NODE_ENV = "test" }
        [services.payment.environments.production]
        env = { LOG_LEVEL = "info" }
        ecs = { service = "payment-api", before_deploy = "npm run migrate" }
    """
    config = load(tmp_path, text)
    assert config.place_of(Environment.STAGING).access == Aws(region="eu-west-1", profile="seamless")
    assert config.place_of(Environment.PRODUCTION) == Place(
        Aws(region="eu-central-1", profile="seamless", assume_role="arn:aws:iam::123456789012:role/deploy"), "prod"
    )
    deploy = config.services["payment"].for_environment(Environment.PRODUCTION)
    assert deploy.ecs == EcsSettings(service="payment-api", container="app", before_deploy="npm run migrate")
    assert deploy.task_env == {"LOG_LEVEL": "info"}
    assert config.services["payment"].for_environment(Environment.STAGING).ecs == EcsSettings(container="app")
    assert problems(tmp_path, '[environments.staging]\ntarget = "ecs"') == [
        'environments.staging: needs cluster, the name of the ECS cluster, such as "prod"'
    ]
    assert problems(tmp_path, service('ecs = { before_deploy = "npm run migrate" }')) == [
        'services.payment.ecs.before_deploy: runs in environments with target = "ecs", and there is none'
    ]
    assert problems(tmp_path, '[environments.staging]\nregion = "eu-west-1"') == [
        'environments.staging: region is for environments with target = "ecs", and this one\'s is docker'
    ]


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


def test_a_service_may_be_in_a_cluster_of_its_own(tmp_path: Path) -> None:
    text = """
        [environments.production]
        target = "ecs"
        cluster = "prod"
        region = "eu-central-1"
        [services.payment]
        repo = "https://github.com/acme/payment"
        [services.payment.environments.production]
        ecs = { cluster = "pay", assume_role = "arn:aws:iam::123456789012:role/deploy" }
    """
    config = load(tmp_path, text)
    own = Place(Aws(region="eu-central-1", assume_role="arn:aws:iam::123456789012:role/deploy"), "pay")
    assert config.place_of(Environment.PRODUCTION, config.services["payment"]) == own
    assert config.place_of(Environment.PRODUCTION) == Place(Aws(region="eu-central-1"), "prod")
    assert config.images_access(config.services["payment"]) == own.access
    assert config.images_access() == Aws(region="eu-central-1")


def test_staging_and_production_cannot_be_one_service_of_ecs(tmp_path: Path) -> None:
    text = """
        [environments.staging]
        target = "ecs"
        cluster = "shop"
        [environments.production]
        target = "ecs"
        cluster = "shop"
        [services.payment]
        repo = "https://github.com/acme/payment"
        [services.mail]
        repo = "https://github.com/acme/mail"
        [services.mail.environments.staging]
        ecs = { service = "mail-staging" }
        [services.search]
        repo = "https://github.com/acme/search"
        use_staging = false
    """
    assert problems(tmp_path, text) == [
        "services.payment: staging and production are one and the same service of ECS, payment in the cluster shop; "
        "give one its own cluster or name"
    ]
