"""The configuration that `seamless init` writes, as text. Pure: what asks and writes is `cli/init.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seamless.cli.unit import UNIT_NAME

FORGES: Final = ["git", "github"]
TARGETS: Final = ["docker", "ecs"]
_TEMPLATE: Final = """\
# Seamless's configuration. The agent reads it again when it changes; `seamless check` tells what is wrong with it.
# Every key: docs/configuration.md

[agent]                       # the daemon on the build host
{agent}
# max_parallel_runs = 4       # runs that execute a stage at a time
{webhooks}
[pipeline]                    # defaults for every service; any key of a service may stand here
# image = "node:20"           # the commands run in this image
# install = "npm ci"          # prepares the workspace
# code_quality = "npm run lint"
# unit_test = "npm test"
use_staging = {staging:15} # {staging_why}
auto_deploy = {auto_deploy:15} # {auto_deploy_why}
{forge}
# [registries."ghcr.io"]      # log-ins, to pull and to push
# username = "acme"
# password = {{ file = "{credentials}ghcr" }} # every secret is a reference, never the secret itself

{environments}
# [access]                    # not set: whoever may open the socket may do all
# operators = ["dana"]        # run, cancel, rerun, roll back staging
# approvers = ["robin"]       # also approve, reject, release, promote, roll back production
# admins = ["alex"]           # also configuration, environments, gc, shell

# Services: seamless service add https://github.com/acme/payment
"""
_FORGE_LINES: Final = {
    "git": """\
# poll_interval = "60s"       # how often a repository is asked for new commits
# git = {{ key = "{credentials}deploy_key" }} # for private repositories by ssh
""",
    "github": """\
# poll_interval = "60s"       # how often a repository is asked for new commits
# GitHub's token for private repositories, commit statuses and merging: seamless login (docs/github.md)
""",
}
_WEBHOOKS: Final = """
[agent.webhooks]              # for GitHub to tell of a push at once: seamless webhook create SERVICE
listen = "127.0.0.1:8787"     # behind a reverse proxy with TLS
public_url = {url}
secret = {{ file = {secret} }} # generated
"""
_ENVIRONMENTS: Final = {
    "docker": """\
# [environments.production]   # not set: this host's Docker Engine
# target = "docker"
""",
    "ecs": """\
[environments.production]
target = "ecs"
cluster = "production"        # made by: seamless env up production
""",
}
_STAGING_IN_ECS: Final = """\
[environments.staging]
target = "ecs"
cluster = "staging"           # made by: seamless env up staging

"""


@dataclass(frozen=True, slots=True)
class Answers:
    """What `init` asks, or takes as options."""

    data_dir: str
    socket: str | None  # None: the user's own place
    forge: str
    staging: bool
    auto_deploy: bool
    target: str = "docker"
    region: str = ""  # of AWS; "" for none
    webhooks: str = ""  # how GitHub reaches the agent; "" for polling only


def render(answers: Answers) -> str:
    """The configuration's text."""
    credentials = f"/run/credentials/{UNIT_NAME}/secret_" if answers.socket else "~/.config/seamless/"
    agent = [f"data_dir = {_quoted(answers.data_dir)}"]
    if answers.socket is not None:
        agent.append(f"socket = {_quoted(answers.socket)}")
    return _TEMPLATE.format(
        agent="\n".join(agent),
        webhooks=_webhooks(answers),
        environments=_environments(answers),
        forge=_FORGE_LINES[answers.forge].format(credentials=credentials),
        credentials=credentials,
        staging=json.dumps(answers.staging),
        staging_why="staging first" if answers.staging else "straight to production",
        auto_deploy=json.dumps(answers.auto_deploy),
        auto_deploy_why="production without an approval" if answers.auto_deploy else "production after an approval",
    )


def _webhooks(answers: Answers) -> str:
    secret = str(Path(answers.data_dir, "credentials", "webhook-secret"))
    return _WEBHOOKS.format(url=_quoted(answers.webhooks), secret=_quoted(secret)) if answers.webhooks else ""


def _environments(answers: Answers) -> str:
    aws = f"[aws]\nregion = {_quoted(answers.region)}\n\n" if answers.region else ""
    staging = _STAGING_IN_ECS if answers.target == "ecs" and answers.staging else ""
    return aws + staging + _ENVIRONMENTS[answers.target]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
