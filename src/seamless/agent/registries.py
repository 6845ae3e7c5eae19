"""Where a service's images are pushed, and how to log in: `[registries]`, and ECR for what ECS deploys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from seamless.aws.ecr import Ecr, Login, account_of, region_of
from seamless.aws.errors import AwsError
from seamless.config import Aws, Config, Parameters
from seamless.errors import RefusedError, SeamlessError
from seamless.model import Environment, Image, ImageRef, Trust
from seamless.secretrefs import resolve, resolve_all
from seamless.stages.registry import Credentials, RegistryAuth, image_platforms, registry_host
from seamless.stages.registry_api import delete_manifest


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

    async def of_service(self, parameters: Parameters) -> Registry | None:
        """Its registry; without one ECR when an environment of it is in ECS, else None. Raises as `Account.call`."""
        if parameters.registry is not None:
            host = parameters.registry.partition("/")[0]
            is_ecr = region_of(host) is not None and host not in self._config().registries
            return Registry(parameters.registry, self._config().images_access(parameters) if is_ecr else None)
        environments = self._config().environments
        used = Environment if parameters.use_staging else (Environment.PRODUCTION,)
        if all(environments[each].target != "ecs" for each in used):
            return None
        access = self._config().images_access(parameters)
        return Registry((await self._ecr.login(access)).registry, access)

    async def ready(self, registry: Registry, service: str, tags: Sequence[str], since: datetime) -> tuple[bool, str]:
        """For a push to ECR: whether the repository was made just now, and the first of `tags` that is not taken.

        `since`: the begin of the run that pushes.
        """
        assert registry.access is not None
        name = registry.repository(service)
        host = registry.host if region_of(registry.host) else None
        if await self._ecr.ensure(registry.access, name, since, host):
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
            if host not in found and (login := await asyncio.to_thread(self._ecr_login, host)) is not None:
                found[host] = Credentials(login.username, login.password)
        return found

    async def delete(self, images: Sequence[Image]) -> None:
        """Takes images of one digest, whose service pushed them, out of their registry.

        ECR's by tag; elsewhere by digest, with every tag that it has. What is not there any more is no error. Raises
        RefusedError where that registry, or our account in it, does not delete, and UnavailableError.
        """
        ref = images[0].ref
        assert ref.repository is not None
        host = registry_host(ref.repository)
        in_ecr = None
        if host not in self._config().registries:
            in_ecr = await asyncio.to_thread(self._in_ecr, host)
        if in_ecr is None:
            known = await asyncio.to_thread(self.login, host)
            await delete_manifest(ref, None if known is None else Credentials(*known))
            return
        name = ref.repository.partition("/")[2]
        try:
            for image in images:
                await self._ecr.delete(in_ecr[0], name, image.tag, ref.digest, host if region_of(host) else None)
        except AwsError as error:
            raise RefusedError(error.message, hint=error.hint) from error

    def _ecr_login(self, host: str) -> Login | None:
        found = self._in_ecr(host)
        return None if found is None else found[1]

    def _in_ecr(self, host: str) -> tuple[Aws, Login] | None:
        """From a thread: the way to ECR's registry at that host, as the account that it is of, and the log-in; None
        when it is not ECR's.

        Where no account of ours is its owner it is another one's, which may let ours in. Behind a proxy ECR names
        another host than AWS's.
        """
        config = self._config()
        is_ecr = region_of(host) is not None
        if not is_ecr and all(each.target != "ecs" for each in config.environments.values()):
            return None
        ours = dict.fromkeys([config.images_access(), *(config.images_access(one) for one in config.services.values())])
        if len(ours) > 1 or not is_ecr:
            for access in ours:
                with contextlib.suppress(SeamlessError):
                    login = self._ecr.login_now(access, host if is_ecr else None)
                    if login.registry == host or (is_ecr and account_of(login.registry) == account_of(host)):
                        return access, login
        access = next(iter(ours))
        return (access, self._ecr.login_now(access, host)) if is_ecr else None

    def login(self, host: str) -> tuple[str, str] | None:
        """User name and password for a registry, from a thread; None when nothing is known of it."""
        known = self._config().registries.get(host)
        if known is not None:
            return known.username, resolve(known.password)
        found = self._ecr_login(host) if region_of(host) is not None else None
        return None if found is None else (found.username, found.password)

    async def platforms(self, image: ImageRef) -> Sequence[str] | None:
        """What an image in a registry runs on; None: it is not there. Raises UnavailableError."""
        auth = await self.auth(Trust.TRUSTED, registry_host(image.repository or ""))
        return await image_platforms(image, auth)
