"""`seamless doctor` on AWS: who we are there, what we may do, and whether clusters, services and ECR are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from seamless.aws.cluster import active_services
from seamless.aws.ecr import region_of
from seamless.aws.errors import AwsDeniedError
from seamless.aws.permissions import PERMISSIONS, Permission, Purpose, Scope, resources_of
from seamless.aws.sessions import Account, Clouds
from seamless.config import Aws, Config, Place, SecretRef
from seamless.errors import SeamlessError
from seamless.findings import Finding, error, failed, not_checked, ok, warning
from seamless.model import Environment

_MEND: Final = "see docs/aws.md"
_ALLOW: Final = "allow {}; docs/aws.md has the whole policy"


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
    images = _images_accesses(config)
    for one in _in_ecs(config):
        account = clouds.account(one.place.access)
        purposes: set[Purpose] = {"deploy", "images"} if one.place.access in images else {"deploy"}
        found += await _examine(account, one.subject, purposes, replace(scope, cluster=one.place.cluster), sample)
        found += await _cluster(account, one)
        if "images" in purposes:
            found.append(await _ecr(account, one.subject))
            images.discard(one.place.access)
    others: set[Purpose] = set(_other_purposes(config, images))
    if others or (config.aws != Aws() and not found):
        account = clouds.account(config.aws)
        found += await _examine(account, "aws", others, scope, sample)
        if "images" in others:
            found.append(await _ecr(account, "aws"))
    return found or [not_checked("aws", "nothing in the configuration uses AWS")]


@dataclass(frozen=True)
class _InEcs:
    """One cluster of ECS that is deployed to."""

    environment: Environment
    subject: str  # where it is configured
    place: Place
    services: Mapping[str, str]  # in ECS -> their names here


def _in_ecs(config: Config) -> Iterator[_InEcs]:
    """Each environment that is in ECS, and each other place that services of it have for themselves."""
    for environment, settings in config.environments.items():
        if settings.target != "ecs":
            continue
        common = config.place_of(environment)
        places: dict[Place, dict[str, str]] = {common: {}}
        for name, parameters in config.services.items():
            if environment is Environment.PRODUCTION or parameters.use_staging:
                services = places.setdefault(config.place_of(environment, parameters), {})
                services[parameters.for_environment(environment).ecs.service or name] = name
        for place, services in places.items():
            first = next(iter(services.values()), "")
            subject = f"environments.{environment}"
            yield _InEcs(
                environment, subject if place == common else f"services.{first}.{subject}.ecs", place, services
            )


def _images_accesses(config: Config) -> set[Aws]:
    """Every account and region of ECR that is pushed to."""
    pushed = [
        one for one in config.services.values() if one.registry is None or region_of(one.registry.partition("/")[0])
    ]
    in_ecs = any(settings.target == "ecs" for settings in config.environments.values())
    return {config.images_access(one) for one in pushed} if in_ecs else set()


def _other_purposes(config: Config, images: set[Aws]) -> Iterator[Purpose]:
    """What `[aws]` itself is used for."""
    if config.aws in images:
        yield "images"
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
    return [*found, *(await _permissions(account, subject, identity, purposes, scope, sample) if purposes else [])]


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
    name = rest.partition("/")[0]
    try:
        answer = await account.call("iam", "get_role", RoleName=name)
    except AwsDeniedError:  # most roles have no path, and the guide's policy lets nobody look at all of them
        return f"arn:{identity.partition}:iam::{identity.account}:role/{name}"
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


async def _cluster(account: Account, one: _InEcs) -> list[Finding]:
    """The cluster, and the services that are deployed there."""
    cluster, services = one.place.cluster, one.services
    subject = f"{one.subject}.cluster"
    up = f"seamless env up {one.environment}" + ("" if one.subject.startswith("env") else f" --cluster {cluster}")
    try:
        answer = await account.call("ecs", "describe_clusters", clusters=[cluster])
        if not any(each["status"] == "ACTIVE" for each in answer["clusters"]):
            mend = f"{up}, or name the right cluster and region"
            return [error(subject, f"there is no active cluster {cluster} in {await account.region()}", mend)]
        there = {each["serviceName"] async for each in active_services(account, cluster, list(services))}
    except SeamlessError as problem:
        return [failed(subject, problem, mend=_MEND)]
    missing = [name for name in services if name not in there]
    found = [ok(subject, f"{cluster} with {len(services) - len(missing)} of {len(services)} services")]
    found += [
        error(
            f"services.{services[name]}",
            f"the cluster {cluster} has no service {name}",
            f"{up}, or set services.{services[name]}.ecs.service",
        )
        for name in missing
    ]
    return found


async def _ecr(account: Account, subject: str) -> Finding:
    subject = f"{subject}.ecr"
    try:
        answer = await account.call("ecr", "get_authorization_token")
    except SeamlessError as problem:
        return failed(subject, problem, mend=_MEND)
    return ok(subject, str(answer["authorizationData"][0]["proxyEndpoint"]))


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
