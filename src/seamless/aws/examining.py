"""`seamless doctor` on AWS: who we are there, what we may do, and whether clusters, services and ECR are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from seamless.aws.errors import AwsDeniedError
from seamless.aws.permissions import PERMISSIONS, Permission, Purpose, Scope, resources_of
from seamless.aws.sessions import Account, Clouds
from seamless.config import Config, Parameters, SecretRef
from seamless.errors import SeamlessError
from seamless.findings import Finding, error, failed, not_checked, ok, warning
from seamless.model import Environment

_MEND: Final = "see docs/aws.md"
_ALLOW: Final = "allow {}; docs/aws.md has the whole policy"
_SERVICES_MAX: Final = 10  # of one DescribeServices


@dataclass(frozen=True, slots=True)
class _Identity:
    """The caller, as STS tells it."""

    arn: str
    account: str

    @property
    def partition(self) -> str:
        return self.arn.split(":")[1]

    @property
    def is_root(self) -> bool:
        return self.arn.endswith(":root")


async def examine_aws(config: Config, clouds: Clouds) -> list[Finding]:
    """Everything about AWS that the configuration uses, each way to reach it by itself. Raises nothing."""
    found: list[Finding] = []
    sample = next(iter(config.services), "seamless")
    scope = Scope(parameter=_first(config, "ssm"), secret=_first(config, "secretsmanager"))
    in_ecs = [one for one, settings in config.environments.items() if settings.target == "ecs"]
    for environment in in_ecs:
        access = config.aws_of(environment)
        purposes: set[Purpose] = {"deploy", "images"}
        subject = f"environments.{environment}"
        cluster = config.environments[environment].cluster or "*"
        found += await _examine(clouds.account(access), subject, purposes, replace(scope, cluster=cluster), sample)
        found += await _environment(clouds.account(access), config, environment)
    others: set[Purpose] = set(_other_purposes(config))
    if others:
        found += await _examine(clouds.account(config.aws), "aws", others, scope, sample)
    return found or [not_checked("aws", "nothing in the configuration uses AWS")]


def _other_purposes(config: Config) -> Iterator[Purpose]:
    """What `[aws]` itself is used for."""
    if any(ref.ssm or ref.secretsmanager for ref in _references(config)):
        yield "secrets"
    if any(place.sns is not None for place in config.notify.values()):
        yield "notify"


def _first(config: Config, source: str) -> str | None:
    """The name of the first secret that is read from there, as its ARN ends; None when there is none."""
    for ref in _references(config):
        if ref.source == source:
            name = ref.place.split(":", 5)[-1] if ref.place.startswith("arn:") else ref.place
            name = name.removeprefix("parameter").removeprefix("secret:").removeprefix("/")
            return name.partition(":")[0]  # without a version, or the key of a secret in JSON
    return None


def _references(config: Config) -> Iterator[SecretRef]:
    """Secrets that the agent reads itself; those of tasks are read by ECS."""
    yield from (registry.password for registry in config.registries.values())
    for parameters in config.services.values():
        yield from parameters.secrets.values()
        yield from parameters.build.secrets.values()
        if parameters.git.token is not None:
            yield parameters.git.token


async def _examine(account: Account, subject: str, purposes: set[Purpose], scope: Scope, sample: str) -> list[Finding]:
    """Identity, region and permissions of one way to reach AWS. `sample` is a service whose resources are meant."""
    try:
        region = await account.region()
        caller = await account.call("sts", "get_caller_identity")
    except SeamlessError as problem:
        return [failed(subject, problem, mend=_MEND)]
    identity = _Identity(caller["Arn"], caller["Account"])
    found = [ok(subject, f"{identity.arn} in {region}, account {identity.account}")]
    if identity.is_root:
        return [
            *found,
            warning(subject, "the agent uses the account's root user", "make a role or user with docs/aws.md's policy"),
        ]
    scope = replace(scope, partition=identity.partition, region=region, account=identity.account)
    return [*found, *await _permissions(account, subject, identity, purposes, scope, sample)]


async def _permissions(
    account: Account,
    subject: str,
    identity: _Identity,
    purposes: set[Purpose],
    scope: Scope,
    sample: str,
) -> list[Finding]:
    """What is missing, one finding each; simulated, so that nothing is done to find out."""
    subject = f"{subject}.permissions"
    try:
        source = await _policy_source(account, identity)
        missing: list[tuple[str, bool]] = []
        for one in PERMISSIONS:
            if one.purpose in purposes:
                resources = [_concrete(each, sample) for each in resources_of(one, scope)]
                denied = await _denied(account, source, one, resources) if resources else []
                missing += [(action, one.optional) for action in denied]
    except AwsDeniedError as problem:
        why = f"{identity.arn} may not ask IAM ({problem.permission})"
        return [not_checked(subject, why, _ALLOW.format(problem.permission))]
    except SeamlessError as problem:
        return [not_checked(subject, f"IAM cannot be asked: {problem.message}", problem.hint or _MEND)]
    if not missing:
        count = sum(len(one.actions) for one in PERMISSIONS if one.purpose in purposes)
        return [ok(subject, f"all {count} actions that {_and(sorted(purposes))} need")]
    return [
        warning(subject, f"{action} is not allowed; something is told less well without it", _ALLOW.format(action))
        if optional
        else error(subject, f"{action} is not allowed", _ALLOW.format(action))
        for action, optional in missing
    ]


async def _policy_source(account: Account, identity: _Identity) -> str:
    """The user or role whose policies count. A session's ARN leaves out the role's path, so IAM is asked for it."""
    kind, _, rest = identity.arn.split(":", 5)[5].partition("/")
    if kind != "assumed-role":
        return identity.arn
    answer = await account.call("iam", "get_role", RoleName=rest.partition("/")[0])
    return str(answer["Role"]["Arn"])


def _concrete(resource: str, sample: str) -> str:
    """`…:service/prod/*` -> `…:service/prod/payment`: a policy that names the services is as good as one for all."""
    return f"{resource[:-1]}{sample}" if resource.endswith(("/*", ":*")) else resource


async def _denied(account: Account, source: str, one: Permission, resources: list[str]) -> list[str]:
    """Actions that are not allowed, each with the resource that was meant."""
    context = []
    if one.passed_to is not None:
        key = "iam:PassedToService"
        context = [{"ContextKeyName": key, "ContextKeyType": "string", "ContextKeyValues": [one.passed_to]}]
    results = await account.pages(
        "iam",
        "simulate_principal_policy",
        "EvaluationResults",
        PolicySourceArn=source,
        ActionNames=list(one.actions),
        ResourceArns=resources,
        ContextEntries=context,
    )
    denied = [result for result in results if result["EvalDecision"] != "allowed"]
    return list(
        dict.fromkeys(_told(result["EvalActionName"], result.get("EvalResourceName", "*")) for result in denied)
    )


def _told(action: str, resource: str) -> str:
    return action if resource == "*" else f"{action} on {resource}"


async def _environment(account: Account, config: Config, environment: Environment) -> list[Finding]:
    """The cluster, the services that are deployed there, and ECR."""
    cluster = config.environments[environment].cluster
    assert cluster is not None, "the configuration has one for every ecs environment"
    subject = f"environments.{environment}.cluster"
    services = {
        parameters.for_environment(environment).ecs.service or name: name
        for name, parameters in config.services.items()
        if _deploys(parameters, environment)
    }
    try:
        answer = await account.call("ecs", "describe_clusters", clusters=[cluster])
        if not any(one["status"] == "ACTIVE" for one in answer["clusters"]):
            mend = f"seamless env up {environment}, or name the right cluster and region"
            return [error(subject, f"there is no active cluster {cluster} in {await account.region()}", mend)]
        missing = await _missing(account, cluster, list(services))
    except SeamlessError as problem:
        return [failed(subject, problem, mend=_MEND)]
    found = [ok(subject, f"{cluster} with {len(services) - len(missing)} of {len(services)} services")]
    found += [
        error(
            f"services.{services[name]}",
            f"the cluster {cluster} has no service {name}",
            f"seamless env up {environment}, or set services.{services[name]}.ecs.service",
        )
        for name in missing
    ]
    return [*found, await _ecr(account, environment)]


def _deploys(parameters: Parameters, environment: Environment) -> bool:
    return environment is Environment.PRODUCTION or parameters.use_staging


async def _missing(account: Account, cluster: str, names: list[str]) -> list[str]:
    active: set[str] = set()
    for start in range(0, len(names), _SERVICES_MAX):
        batch = names[start : start + _SERVICES_MAX]
        answer = await account.call("ecs", "describe_services", cluster=cluster, services=batch)
        active |= {one["serviceName"] for one in answer["services"] if one["status"] == "ACTIVE"}
    return [name for name in names if name not in active]


async def _ecr(account: Account, environment: Environment) -> Finding:
    subject = f"environments.{environment}.ecr"
    try:
        answer = await account.call("ecr", "get_authorization_token")
    except SeamlessError as problem:
        return failed(subject, problem, mend=_MEND)
    return ok(subject, str(answer["authorizationData"][0]["proxyEndpoint"]))


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
