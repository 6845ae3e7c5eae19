"""What an admin sets up with GitHub: its token, what that may do, and webhooks. All of it tells findings."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from seamless import findings
from seamless.agent.reporting import CHANNEL
from seamless.agent.resources import Resources
from seamless.agent.workspaces import repository_of
from seamless.config import Parameters, SecretRef
from seamless.errors import ConfigError, NotFoundError, RefusedError, SeamlessError, UsageError
from seamless.findings import Finding
from seamless.forges import Credentials, RemoteProblem, Repository
from seamless.forges.github import Access, GitHubError, Hook, HookDelivery, Permission, TokenAccess
from seamless.forges.github.device import DeviceCode, DeviceFlow
from seamless.github_names import repository_name, web_location
from seamless.model import Actor, Trigger, utc_now
from seamless.secretrefs import SECRET_MIN, resolve, write_secret

EVENTS: Final = ("push", "pull_request", "pull_request_review", "check_suite", "status")
_PATH: Final = "/webhooks/github"
_SCOPES: Final = "repo"  # what the device flow asks for: a classic scope has nothing narrower that sets statuses
_EXPIRES_SOON: Final = timedelta(days=14)
_PING_WITHIN_S: Final = 20.0
_PING_LOOK_S: Final = 1.0


def needed(parameters: Parameters) -> tuple[Permission, ...]:
    """What a service's token must be allowed for all that is configured."""
    wanted = [Permission.CONTENTS_READ, Permission.STATUSES_WRITE]
    if {Trigger.PR_OPEN, Trigger.PR_SYNC} & set(parameters.triggers):
        wanted.append(Permission.PULL_REQUESTS_READ)
    if parameters.auto_merge is not None:
        wanted.append(Permission.CONTENTS_WRITE)
    return tuple(wanted)


class GitHubSetup:
    """`reload` makes the configuration anew, for a token that was stored where none was before."""

    def __init__(self, resources: Resources, reload: Callable[[Actor], Awaitable[None]]) -> None:
        self._resources = resources
        self._reload = reload

    # -- the token

    async def store_token(self, token: str, who: Actor) -> list[Finding]:
        """Keeps a token that GitHub takes, 0600, and says what it may do. Raises RefusedError for one that it does
        not take, ConfigError when it cannot be stored."""
        target = self._token_file()
        found = await self._judge(token)
        await asyncio.to_thread(_write_secret, target, token)
        if self._resources.config().github.token is None:
            await self._reload(who)
        await self._resources.store.events.add(
            "action", "login", actor=who.name, origin=who.origin, data={"place": str(target)}
        )
        await self._resources.store.outbox.hurry(CHANNEL)
        return [findings.ok("token", f"stored in {target}, readable for the agent alone"), *found]

    async def check_token(self, token: str) -> list[Finding]:
        """As `store_token`, without keeping it."""
        return await self._judge(token)

    def _token_file(self) -> Path:
        config = self._resources.config()
        reference = config.github.token
        if reference is None:
            return config.agent.login_token_file
        if reference.file is None:
            raise UsageError(
                f"github.token is {reference.reference}, which is not a file",
                hint="change the token there, or take github.token out of the configuration",
            )
        return reference.file

    async def _judge(self, token: str) -> list[Finding]:
        if len(token) < SECRET_MIN or not token.isascii() or not token.isprintable() or " " in token:
            raise UsageError("that is no token", hint="a token is one word, such as ghp_… or github_pat_…")
        login = await self._resources.github.login_of(token)
        host = web_location(self._resources.config().github.api_url)
        found = [findings.ok("token", f"{host} takes it, as {login}" if login else f"{host} takes it")]
        for name, parameters in self._services().items():
            own = self._written_token(name)
            if own is None:
                found += await self._judge_service(name, parameters, Credentials(token=token))
        return found

    def _services(self) -> Mapping[str, Parameters]:
        """Those on GitHub."""
        config = self._resources.config()
        return {name: one for name, one in config.services.items() if self._resources.github.hosts(one.repo)}

    def _written_token(self, service: str) -> SecretRef | None:
        """A service's own token, not the one that it has of `github.token`."""
        config = self._resources.config()
        token = config.services[service].git.token
        return None if token == config.github.token else token

    # -- findings

    async def examine(self) -> list[Finding]:
        """For `seamless doctor`: each service on GitHub, and what its token may do there."""
        services = self._services()
        if not services:
            return []
        parts = await asyncio.gather(*(self._examine(name, one) for name, one in services.items()))
        return [finding for part in parts for finding in part]

    async def _examine(self, name: str, parameters: Parameters) -> list[Finding]:
        subject = f"services.{name}"
        if parameters.git.token is None:
            why = "there is no token for GitHub: no commit statuses, no pull requests"
            return [findings.not_checked(subject, why, "seamless login")]
        try:
            repository = await asyncio.to_thread(repository_of, parameters.repo, parameters.git)
        except SeamlessError as error:
            return [findings.failed(subject, error, mend="seamless login")]
        return await self._judge_service(name, parameters, repository.credentials)

    async def _judge_service(self, name: str, parameters: Parameters, credentials: Credentials) -> list[Finding]:
        subject = f"services.{name}"
        try:
            access = await self._resources.github.access(Repository(parameters.repo, credentials))
        except GitHubError as error:
            return [_unreadable(subject, error)]
        repo = repository_name(parameters.repo, self._resources.config().github.api_url)
        return list(_told(subject, str(repo), access, needed(parameters)))

    # -- OAuth's device flow

    def device_flow(self) -> DeviceFlow:
        """Raises UsageError without a client id."""
        config = self._resources.config()
        if config.github.client_id is None:
            raise UsageError(
                "github.client_id is not set",
                hint="make an OAuth app on GitHub, enable its device flow, and set github.client_id to its client id",
            )
        return DeviceFlow(config.github.api_url, config.github.client_id, ca_bundle=config.agent.ca_bundle)

    async def begin_device(self) -> DeviceCode:
        return await asyncio.to_thread(self.device_flow().begin, _SCOPES)

    async def end_device(self, device_code: str, who: Actor) -> list[Finding] | None:
        """None while nobody has typed the code."""
        token = await asyncio.to_thread(self.device_flow().token, device_code)
        return None if token is None else await self.store_token(token, who)

    # -- webhooks

    async def create_webhook(self, service: str) -> list[Finding]:
        """One webhook for the service's repository; one that is there already gets our secret and events."""
        repository, url = await self._webhook_of(service)
        secret = await asyncio.to_thread(self._webhook_secret)
        for hook in await self._resources.github.hooks(repository):
            if hook.url == url:
                await self._resources.github.update_hook(repository, hook.id, url, secret, EVENTS)
                return [findings.ok("webhook", f"{url} was there, and has the secret and the events of now")]
        made = await self._resources.github.create_hook(repository, url, secret, EVENTS)
        return [findings.ok("webhook", f"{url} made (number {made.id}), for {', '.join(EVENTS)}")]

    async def check_webhook(self, service: str) -> list[Finding]:
        """Looks at the webhook, has its ping sent again, and waits for what came of it, there and here."""
        repository, url = await self._webhook_of(service)
        hook = await self._our_hook(repository, url)
        mend = f"seamless webhook create {service}"
        if hook is None:
            return [findings.error("webhook", f"the repository has none for {url}", mend)]
        found = []
        if not hook.active:
            found.append(findings.error("webhook", "it is switched off", mend))
        missing = set() if "*" in hook.events else set(EVENTS) - set(hook.events)
        if missing:
            found.append(findings.error("webhook", f"it does not send {', '.join(sorted(missing))}", mend))
        return [
            *(found or [findings.ok("webhook", f"{url} sends {', '.join(hook.events)}")]),
            await self._ping(repository, hook),
        ]

    async def _ping(self, repository: Repository, hook: Hook) -> Finding:
        """GitHub sends a ping when a webhook is made, and keeps deliveries for three days: without one, a new one."""
        github = self._resources.github
        before = await github.deliveries(repository, hook.id)
        ping = next((delivery for delivery in before if delivery.event == "ping"), None)
        arrivals = 0 if ping is None else await self._arrivals(ping.guid)
        try:
            if ping is not None:
                await github.redeliver(repository, hook.id, ping.id)
        except RefusedError:
            ping, arrivals = None, 0
        if ping is None:
            await github.ping_hook(repository, hook.id)
        known = {delivery.id for delivery in before}
        deadline = time.monotonic() + _PING_WITHIN_S
        while time.monotonic() < deadline:
            for delivery in await github.deliveries(repository, hook.id):
                is_ours = delivery.event == "ping" if ping is None else delivery.guid == ping.guid
                if is_ours and delivery.id not in known:
                    return _judge_ping(delivery, has_arrived=await self._arrivals(delivery.guid) > arrivals)
            await asyncio.sleep(_PING_LOOK_S)
        return findings.error("ping", f"GitHub has not sent one within {_PING_WITHIN_S:.0f} s", "try again")

    async def _arrivals(self, guid: str) -> int:
        """How often a delivery has come here."""
        delivery = await self._resources.store.deliveries.by_guid(guid)
        return 0 if delivery is None else 1 + delivery.copies

    async def delete_webhook(self, service: str) -> list[Finding]:
        """Takes it away; services of the same repository lose it too."""
        repository, url = await self._webhook_of(service)
        hook = await self._our_hook(repository, url)
        if hook is None:
            return [findings.ok("webhook", f"the repository has none for {url}")]
        await self._resources.github.delete_hook(repository, hook.id)
        sharing = sorted(
            name for name, one in self._services().items() if one.repo == repository.url and name != service
        )
        also = f"; {', '.join(sharing)} had it too" if sharing else ""
        return [findings.ok("webhook", f"{url} is deleted{also}")]

    async def _our_hook(self, repository: Repository, url: str) -> Hook | None:
        return next((hook for hook in await self._resources.github.hooks(repository) if hook.url == url), None)

    async def _webhook_of(self, service: str) -> tuple[Repository, str]:
        """The repository, and the URL that its webhook has. Raises UsageError."""
        config = self._resources.config()
        parameters = config.services.get(service)
        if parameters is None:
            raise NotFoundError(f"there is no service {service}", hint="seamless service list")
        if not self._resources.github.hosts(parameters.repo):
            raise UsageError(f"the repository of {service} is not on {web_location(config.github.api_url)}")
        settings = config.agent.webhooks
        if settings is None or settings.public_url is None:
            hint = "set agent.webhooks.listen, .secret and .public_url; see docs/github.md"
            raise UsageError("agent.webhooks.public_url is not set: GitHub cannot know where to send", hint=hint)
        repository = await asyncio.to_thread(repository_of, parameters.repo, parameters.git)
        return repository, settings.public_url.rstrip("/") + _PATH

    def _webhook_secret(self) -> str:
        """The configured one; a file that is not there yet gets one that is generated."""
        settings = self._resources.config().agent.webhooks
        assert settings is not None
        if settings.secret.file is not None and not settings.secret.file.exists():
            _write_secret(settings.secret.file, secrets.token_hex(32))
        return resolve(settings.secret)


def _write_secret(target: Path, value: str) -> None:
    """Raises ConfigError."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(target, value)
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written by the agent: {(error.strerror or str(error)).lower()}",
            hint="let its user write there, name another file in the configuration, or use systemd's credentials",
        ) from error


def _told(subject: str, repo: str, access: TokenAccess, wanted: tuple[Permission, ...]) -> list[Finding]:
    by = {state: [each.value for each in wanted if access.access.get(each) is state] for state in Access}
    found = []
    if by[Access.GRANTED]:
        found.append(findings.ok(subject, f"{repo}: {', '.join(by[Access.GRANTED])}"))
    for each in by[Access.MISSING]:
        mend = f"give the token {each} for {repo}" + ("" if access.scopes is None else " (scope repo)")
        found.append(findings.error(subject, f"{repo}: the token may not: {each}", mend))
    if by[Access.NOT_CHECKED]:
        why = f"{repo}: {', '.join(by[Access.NOT_CHECKED])}; reading cannot tell, its first use will"
        found.append(findings.not_checked(subject, why))
    if access.expires_at is not None and access.expires_at - utc_now() < _EXPIRES_SOON:
        found.append(findings.warning(subject, f"the token expires {access.expires_at:%Y-%m-%d}", "seamless login"))
    return found


def _unreadable(subject: str, error: GitHubError) -> Finding:
    if error.problem in (RemoteProblem.REFUSED, RemoteProblem.NOT_FOUND):
        return findings.failed(subject, error, mend="seamless login")
    return findings.not_checked(subject, error.message)


def _judge_ping(delivery: HookDelivery, *, has_arrived: bool) -> Finding:
    answer = f"{delivery.status_code} {delivery.status}"
    if has_arrived:
        sent = "sent again" if delivery.redelivery else "sent"
        return findings.ok("ping", f"{sent} by GitHub, and arrived here: answered {answer}")
    mend = "agent.webhooks.public_url must lead to agent.webhooks.listen, from the internet; see docs/github.md"
    if 200 <= delivery.status_code < 300:
        return findings.error("ping", f"did not arrive here, though something answered {answer}", mend)
    if delivery.status_code == 401:
        mend = "the secrets differ: seamless webhook create gives GitHub the one of agent.webhooks.secret"
    return findings.error("ping", f"did not arrive: {answer}", mend)
