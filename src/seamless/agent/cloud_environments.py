"""Environments in AWS: planned, made, changed, shown and taken down, each as one CloudFormation stack."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from seamless import wire_environments
from seamless.agent.access import Role
from seamless.agent.environment_facts import ecs_name, find_place, services_here, total_cost, wanted_facts
from seamless.agent.operations import Operations
from seamless.agent.resources import Resources
from seamless.agent.store.rows import to_time
from seamless.aws.cluster import names_in, running_definition, services_of
from seamless.aws.ecr import repository_arn
from seamless.aws.environment import difference, facts_of, render, rendered_body, renew, touched
from seamless.aws.facts import Facts
from seamless.aws.fargate import MEMORY_BY_CPU
from seamless.aws.network import Network, find_entrance, find_network
from seamless.aws.sessions import Account
from seamless.aws.stacks import CHANGEABLE, UP, Stack, StackEvent, Stacks
from seamless.config import Place
from seamless.config.values import AWS_REGION
from seamless.errors import NotFoundError, RefusedError, SeamlessError, UsageError
from seamless.model import Actor, Environment

_REGION: Final = re.compile(AWS_REGION)
_CLUSTER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TAG: Final = "seamless:environment"
_SENT_MAX: Final = 51200  # bytes of a template that goes with the call
_BUCKET_MAX: Final = 1_000_000  # of one that lies in S3


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an environment is, and what is there."""

    environment: Environment
    account: Account
    region: str
    cluster: str
    services: Sequence[str]  # that the configuration puts there
    stacks: Stacks
    stack: Stack | None
    template: Mapping[str, Any] | None
    known: Facts | None

    @property
    def stack_name(self) -> str:
        return f"seamless-{self.cluster}"


class Environments:
    def __init__(
        self, resources: Resources, operations: Operations, stacks: Callable[[Account], Stacks] = Stacks
    ) -> None:
        self._resources = resources
        self._operations = operations
        self._stacks = stacks

    # -- looking

    async def show(
        self, environment: Environment, region: str | None, cluster: str | None
    ) -> wire_environments.EnvironmentJSON:
        """The environment as it is in AWS now. Raises SeamlessError when AWS cannot be asked."""
        place = await self._look(environment, region, cluster)
        config = self._resources.config()
        settings = config.environments[environment]
        named = [config.place_of(environment, each).cluster for each in (None, *config.services.values())]
        return {
            "environment": environment,
            "target": settings.target,
            "region": place.region,
            "cluster": place.cluster,
            "configured": settings.target == "ecs" and place.cluster in named,
            "stack": None if place.stack is None else _stack_json(place.stack),
            "facts": None if place.known is None else place.known.to_json(),
            "services": await services_of(place.account, place.cluster),
            "configured_services": {
                name: ecs_name(environment, config.services[name], name) for name in place.services
            },
            "sizes": [{"cpu": cpu, "memory": list(memories)} for cpu, memories in MEMORY_BY_CPU.items()],
        }

    async def plan(
        self, actor: Actor, environment: Environment, asked: wire_environments.EnvironmentRequest
    ) -> wire_environments.EnvironmentPlanJSON:
        """What `up` would do. Everything that can be known to be wrong is refused here; nothing is changed."""
        self._operations.require(actor, Role.ADMIN, f"make the environment {environment}")
        place = await self._look(environment, asked.get("region"), asked.get("cluster"))
        return (await self._planned(place, asked))[0]

    # -- changing

    async def up(
        self, actor: Actor, environment: Environment, asked: wire_environments.EnvironmentRequest
    ) -> wire_environments.StackOperationJSON:
        """Begins what was planned. Raises RefusedError when the plan that was confirmed is not this one."""
        self._operations.require(actor, Role.ADMIN, f"make the environment {environment}")
        place = await self._look(environment, asked.get("region"), asked.get("cluster"))
        plan, template = await self._planned(place, asked)
        if asked.get("fingerprint") not in (None, plan["fingerprint"]):
            raise RefusedError(
                f"{environment} is not any more what it was when you looked", hint=f"seamless env up {environment}"
            )
        kept = {service["name"] for service in plan["facts"]["services"]}
        removed = {service.name for service in place.known.services} - kept if place.known is not None else set()
        await self._refuse_during_deployments(place, {*plan["deployed_anew"], *removed})
        since = _EVER if place.stack is None else await place.stacks.newest_event_at(place.stack.id)
        tags = {_TAG: environment, "seamless:cluster": place.cluster}
        sent = await self._sent(place, rendered_body(template), asked.get("bucket"))
        await self._audit(actor, "env_up", place, plan["action"])
        stack = place.stack
        if stack is None:
            stack = await place.stacks.create(place.stack_name, sent, tags)
        elif plan["action"] == "change":
            await place.stacks.update(stack, sent, tags)
        return {"stack": _stack_json(stack), "since": since.isoformat(), "action": plan["action"]}

    async def down(
        self, actor: Actor, environment: Environment, name: str, region: str | None, cluster: str | None
    ) -> wire_environments.StackOperationJSON:
        """Begins to delete the stack. Raises RefusedError when something lives on it that it does not own."""
        self._operations.require(actor, Role.ADMIN, f"take the environment {environment} down")
        if name != environment:
            raise UsageError(f"{name!r} is not the name of the environment {environment}", hint="nothing was changed")
        place = await self._look(environment, region, cluster)
        if place.stack is None:
            raise NotFoundError(
                f"{environment} has no stack {place.stack_name} in {place.region}",
                hint="what seamless env up did not make, seamless env down does not touch",
            )
        if place.stack.is_busy:
            raise _busy(place.stack, environment)
        if place.known is not None:
            await self._refuse_during_deployments(place, {service.name for service in place.known.services})
        owned = {service.name for service in place.known.services} if place.known is not None else set()
        strangers = sorted(set(await names_in(place.account, place.cluster)) - owned)
        if strangers:
            raise RefusedError(
                f"the cluster {place.cluster} also runs {', '.join(strangers)}, which the stack does not own",
                hint="delete these services first, or leave the environment up",
            )
        since = await place.stacks.newest_event_at(place.stack.id)
        await self._audit(actor, "env_down", place, "delete")
        await place.stacks.delete(place.stack)
        return {"stack": _stack_json(place.stack), "since": since.isoformat(), "action": "delete"}

    async def follow(
        self,
        environment: Environment,
        stack: str,
        since: datetime,
        action: str,
        region: str | None,
        cluster: str | None,
    ) -> AsyncIterator[wire_environments.StackProgressJSON]:
        """What happens to a stack, until it has come to rest; an error as the last line, since the answer has begun."""
        failures: list[str] = []
        try:
            stacks = self._stacks(self._resources.clouds.account(self._find(environment, region, cluster).access))
            async for step in stacks.follow(stack, since):
                if isinstance(step, StackEvent):
                    if step.is_failure and step.reason:
                        failures.append(f"{step.resource}: {step.reason}")
                    yield {"event": _event_json(step)}
                else:
                    ok = step.status == "DELETE_COMPLETE" if action == "delete" else step.status in UP
                    reasons = [] if ok else list(dict.fromkeys(failures))[:5] or [step.reason or "no reason is told"]
                    yield {"result": {"ok": ok, "status": step.status, "reasons": reasons}}
        except SeamlessError as error:
            yield {
                "error": {
                    "code": error.code,
                    "message": error.message,
                    "hint": error.hint or f"the stack goes on; seamless env show {environment}",
                    "exit_code": error.exit_code,
                }
            }

    # -- inside

    def _find(self, environment: Environment, region: str | None, cluster: str | None) -> Place:
        if region and not _REGION.fullmatch(region):
            raise UsageError(f"{region!r} cannot be a region", hint="such as us-east-1")
        if cluster and not _CLUSTER.fullmatch(cluster):
            raise UsageError(f"{cluster!r} cannot be a cluster", hint="letters, digits, dashes and underscores")
        return find_place(environment, region or None, cluster or None, self._resources.config())

    async def _look(self, environment: Environment, region: str | None, cluster: str | None) -> _Place:
        where = self._find(environment, region, cluster)
        account = self._resources.clouds.account(where.access)
        stacks = self._stacks(account)
        stack = await stacks.find(f"seamless-{where.cluster}")
        if stack is not None and stack.status == "DELETE_COMPLETE":
            stack = None
        template, known = None, None
        if stack is not None:
            if stack.tags.get(_TAG) != environment:
                raise RefusedError(
                    f"the stack {stack.name} is there, and is not that of {environment}",
                    hint="choose another name with --cluster; nothing was changed",
                )
            template = await stacks.template(stack.id)
            known = facts_of(template)
        services = services_here(environment, where, self._resources.config())
        region = await account.region()
        return _Place(environment, account, region, where.cluster, services, stacks, stack, template, known)

    async def _planned(
        self, place: _Place, asked: wire_environments.EnvironmentRequest
    ) -> tuple[wire_environments.EnvironmentPlanJSON, dict[str, Any]]:
        await self._refuse_what_cannot_change(place)
        network = await _network(place, asked)
        config = self._resources.config()
        facts = wanted_facts(
            place.environment,
            place.region,
            place.cluster,
            asked,
            place.known,
            network,
            config,
            {name: await self._repository(place, name) for name in place.services},
        )
        facts.check()
        facts = await _with_entrances(place, facts, network)
        anew = () if place.template is None else touched(place.template, facts)
        if place.template is None:
            template = render(facts)
        else:
            template = renew(place.template, facts, {name: await _running(place, name) for name in anew})
        changes = difference(place.template, template)
        action = "create" if place.stack is None else "change" if changes else "nothing"
        body = rendered_body(template)
        plan: wire_environments.EnvironmentPlanJSON = {
            "environment": place.environment,
            "region": place.region,
            "cluster": place.cluster,
            "stack": place.stack_name,
            "action": action,
            "facts": facts.to_json(),
            "changes": [{"action": what, "type": kind, "name": name} for what, kind, name in changes],
            "deployed_anew": list(anew),
            "monthly_usd": round(total_cost(facts), 2),
            "template": body,
            "fingerprint": hashlib.sha256(body.encode()).hexdigest(),
        }
        return plan, template

    async def _repository(self, place: _Place, service: str) -> str | None:
        """The repository of ECR that a service's image is pulled from: its name here, else its ARN; None: not ECR's."""
        config = self._resources.config()
        parameters = config.services[service]
        if parameters.registry is not None:
            return repository_arn(f"{parameters.registry}/{service}")
        if config.images_access(parameters) == place.account.access:
            return service
        registry = await self._resources.registries.of_service(parameters)
        return None if registry is None else repository_arn(f"{registry.prefix}/{service}")

    async def _refuse_what_cannot_change(self, place: _Place) -> None:
        if place.stack is None:
            answer = await place.account.call("ecs", "describe_clusters", clusters=[place.cluster])
            if any(one.get("status") == "ACTIVE" for one in answer["clusters"]):
                raise RefusedError(
                    f"there is a cluster {place.cluster} in {place.region} already, which Seamless did not make",
                    hint=f'to deploy to it, set [environments.{place.environment}] target = "ecs", '
                    f'cluster = "{place.cluster}"; to make another: --cluster NAME',
                )
            return
        if place.stack.is_busy:
            raise _busy(place.stack, place.environment)
        if place.stack.status not in CHANGEABLE:
            raise RefusedError(
                f"the stack {place.stack.name} is {place.stack.status}, which CloudFormation does not change",
                hint=f"seamless env down {place.environment}, then up again; or mend it in AWS's console",
            )

    async def _refuse_during_deployments(self, place: _Place, services: Collection[str]) -> None:
        """CloudFormation would pull a service (by its name in ECS) from under a deployment of it."""
        for name in place.services:
            if ecs_name(place.environment, self._resources.config().services[name], name) not in services:
                continue
            deployment = await self._resources.store.deployments.locked(name, place.environment)
            if deployment is not None:
                raise RefusedError(
                    f"{deployment.run} is being deployed to {place.environment}", hint=f"seamless show {deployment.run}"
                )

    async def _sent(self, place: _Place, body: str, bucket: str | None) -> dict[str, str]:
        """How the template goes to CloudFormation: with the call, or through a bucket when it is too large."""
        size = len(body.encode())
        if size <= _SENT_MAX:
            return {"TemplateBody": body}
        if bucket is None or size > _BUCKET_MAX:
            raise UsageError(
                f"the template has {size} bytes, and CloudFormation takes {_SENT_MAX} at once",
                hint="name an S3 bucket of this region for it: --bucket NAME",
            )
        key = f"seamless/{place.stack_name}/{hashlib.sha256(body.encode()).hexdigest()[:16]}.json"
        await place.account.call("s3", "put_object", Bucket=bucket, Key=key, Body=body.encode())
        base = place.account.access.endpoint_url or f"https://{bucket}.s3.{place.region}.amazonaws.com"
        folder = f"{base}/{bucket}" if place.account.access.endpoint_url else base
        return {"TemplateURL": f"{folder}/{key}"}

    async def _audit(self, actor: Actor, name: str, place: _Place, action: str) -> None:
        data = {"environment": place.environment, "stack": place.stack_name, "region": place.region, "action": action}
        await self._resources.store.events.add("action", name, actor=actor.name, origin=actor.origin, data=data)


async def _network(place: _Place, asked: wire_environments.EnvironmentRequest) -> Network:
    vpc, subnets = asked.get("vpc"), asked.get("subnets") or []
    known = place.known
    if known is None:
        return await find_network(place.account, vpc, subnets)
    if vpc not in (None, known.vpc):
        raise RefusedError(
            f"{place.environment} is in {known.vpc}, and cannot move to {vpc}",
            hint="make another environment with --cluster, and take this one down",
        )
    if not subnets:
        return Network(known.vpc, known.subnets, known.public_address)
    return await find_network(place.account, known.vpc, subnets)


async def _with_entrances(place: _Place, facts: Facts, network: Network) -> Facts:
    """With the security groups of the load balancers before public services."""
    services = [
        replace(service, reached_from=await find_entrance(place.account, service.target_group, network))
        if service.target_group is not None
        else service
        for service in facts.services
    ]
    return replace(facts, services=tuple(services))


async def _running(place: _Place, service: str) -> Mapping[str, Any]:
    """The task definition that a service runs now. Raises RefusedError when the service is gone."""
    found = await running_definition(place.account, place.cluster, service)
    if found is None:
        raise RefusedError(
            f"the stack owns a service {service} that is not in the cluster {place.cluster} any more",
            hint=f"seamless env up {place.environment} --remove {service}, then up again",
        )
    return found


def _busy(stack: Stack, environment: Environment) -> RefusedError:
    return RefusedError(
        f"the stack {stack.name} is changing: {stack.status}", hint=f"seamless env show {environment} --follow"
    )


def _stack_json(stack: Stack) -> wire_environments.StackJSON:
    return {
        "id": stack.id,
        "name": stack.name,
        "status": stack.status,
        "reason": stack.reason,
        "changed_at": to_time(stack.changed_at),
    }


def _event_json(event: StackEvent) -> wire_environments.StackEventJSON:
    return {
        "at": to_time(event.at),
        "resource": event.resource,
        "type": event.type,
        "status": event.status,
        "reason": event.reason,
    }
