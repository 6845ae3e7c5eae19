"""What is said of a configuration file that cannot be: every problem at once, each with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.configurations import load, problems, service
from seamless.config import load_config
from seamless.errors import ConfigError


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
