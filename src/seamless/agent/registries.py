"""Where a service's images are pushed, and how to log in: `[registries]`, and ECR for what ECS deploys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seamless.aws.ecr import Ecr, region_of
from seamless.config import Aws, Config, Parameters
from seamless.errors import SeamlessError
from seamless.model import Environment, ImageRef, Trust
from seamless.secretrefs import resolve, resolve_all
from seamless.stages.registry import Credentials, RegistryAuth, image_platforms, registry_host


@dataclass(frozen=True, slots=True)
class Registry:
    """What a service pushes to: "<host>/<path>", and whether that is ECR."""

    prefix: str
    access: Aws | None  # how to reach ECR; None for another registry

    @property
    def host(self) -> str:
        return self.prefix.partition("/")[0]

    def repository(self, service: str) -> str:
        """The name in its registry, without the host."""
        _, slash, path = self.prefix.partition("/")
        return f"{path}{slash}{service}"


class Registries:
    def __init__(self, config: Callable[[], Config], ecr: Ecr) -> None:
        self._config = config
        self._ecr = ecr

    def access(self) -> Aws:
        """The account of ECR: `[aws]`'s, and when that says nothing an environment's, production's before staging's."""
        config = self._config()
        if config.aws != Aws():
            return config.aws
        order = (Environment.PRODUCTION, Environment.STAGING)
        return next((config.aws_of(each) for each in order if config.environments[each].target == "ecs"), config.aws)

    async def of_service(self, parameters: Parameters) -> Registry | None:
        """Its registry; without one ECR when an environment of it is in ECS, else None. Raises as `Account.call`."""
        if parameters.registry is not None:
            host = parameters.registry.partition("/")[0]
            is_ecr = region_of(host) is not None and host not in self._config().registries
            return Registry(parameters.registry, self.access() if is_ecr else None)
        environments = self._config().environments
        used = Environment if parameters.use_staging else (Environment.PRODUCTION,)
        if all(environments[each].target != "ecs" for each in used):
            return None
        return Registry((await self._ecr.login(self.access())).registry, self.access())

    async def ready(self, registry: Registry, service: str, tags: Sequence[str]) -> tuple[bool, str]:
        """For a push to ECR: whether the repository was made just now, and the first of `tags` that is not taken."""
        assert registry.access is not None
        name = registry.repository(service)
        host = registry.host if region_of(registry.host) else None
        if await self._ecr.ensure(registry.access, name, host):
            return True, tags[0]
        for tag in tags[:-1]:
            if not await self._ecr.has_tag(registry.access, name, tag, host):
                return False, tag
        return False, tags[-1]

    async def auth(self, trust: Trust, *hosts: str) -> RegistryAuth:
        """The credentials of `[registries]` and of those `hosts` that are ECR's, resolved now.

        None for what a stranger wrote, which could name any image. Raises as `resolve_all` and `Account.call`.
        """
        if trust is Trust.UNTRUSTED:
            return {}
        known = self._config().registries
        passwords = await asyncio.to_thread(resolve_all, {host: one.password for host, one in known.items()})
        found = {host: Credentials(one.username, passwords[host]) for host, one in known.items()}
        for host in hosts:
            if host not in found and (login := await self._ecr_login(host)) is not None:
                found[host] = login
        return found

    async def _ecr_login(self, host: str) -> Credentials | None:
        if region_of(host) is None and not await self._is_own(host):
            return None
        login = await self._ecr.login(self.access(), host if region_of(host) else None)
        return Credentials(login.username, login.password)

    async def _is_own(self, host: str) -> bool:
        """Whether it is the registry that ECR itself names, which is another host behind a proxy."""
        if all(each.target != "ecs" for each in self._config().environments.values()):
            return False
        try:
            return (await self._ecr.login(self.access())).registry == host
        except SeamlessError:
            return False

    def login(self, host: str) -> tuple[str, str] | None:
        """User name and password for a registry, from a thread; None when nothing is known of it."""
        known = self._config().registries.get(host)
        if known is not None:
            return known.username, resolve(known.password)
        if region_of(host) is None:
            return None
        found = self._ecr.login_now(self.access(), host)
        return found.username, found.password

    async def platforms(self, image: ImageRef) -> Sequence[str] | None:
        """What an image in a registry runs on; None: it is not there. Raises UnavailableError."""
        auth = await self.auth(Trust.TRUSTED, registry_host(image.repository or ""))
        return await image_platforms(image, auth)
