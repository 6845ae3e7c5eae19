"""Calls of AWS's API: one method for all of them, from the event loop, in threads of its own.

    account = clouds.account(config.place_of(environment).access)
    answer = await account.call("ecs", "describe_services", cluster="prod", services=["payment"])

Read calls and calls that may be repeated are retried by the SDK (its `standard` mode: throttling, lost
connections, AWS's own errors, with back-off and jitter). A call that must have its effect at most once is made with
`once=True`: then only an answer which says that nothing was done (throttling) is followed by another try, and after
an UnavailableError the caller must look at what there is before it calls again.

Credentials come from where the SDK finds them (environment, profile, single sign-on, the host's role). They are
refreshed before they expire, also those of `assume_role`, so a client may be kept for as long as the agent lives. When
AWS says that they are over all the same, they are looked for once more: somebody may have logged in again.
"""

from __future__ import annotations

import asyncio
import functools
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from seamless import __version__
from seamless.aws.errors import AwsExpiredError, AwsThrottledError, translate
from seamless.config import Aws

_THREADS: Final = 8
_CONNECT_TIMEOUT_S: Final = 5
_READ_TIMEOUT_S: Final = 20
_ATTEMPTS: Final = 6
_THROTTLED_PAUSES_S: Final = (0.5, 1, 2, 4, 8)
# IAM's prefix of an action where it is not the SDK's name of the service.
_IAM_PREFIX: Final = {"elbv2": "elasticloadbalancing"}


T = TypeVar("T")


class Clouds:
    """All accounts that this agent uses. May be made before it is known whether AWS is used at all."""

    def __init__(self) -> None:
        self._accounts: dict[Aws, Account] = {}

    def account(self, access: Aws) -> Account:
        """The one for these settings; asks nothing yet."""
        access = Aws.model_validate(access.model_dump(include=set(Aws.model_fields)))
        if access not in self._accounts:
            self._accounts[access] = Account(access)
        return self._accounts[access]

    def close(self) -> None:
        """Waits for no call: those that are under way end with the process."""
        for account in self._accounts.values():
            account.close()


class Account:
    """One way to reach AWS: region, credentials and address. All methods may be called at any time, also at once.

    Its threads are its own: where one account does not answer, the calls of the others go on.
    """

    def __init__(self, access: Aws) -> None:
        self.access = access
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aws")
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, bool], Any] = {}

    async def call(self, service: str, operation: str, /, *, once: bool = False, **parameters: Any) -> dict[str, Any]:
        """One call, such as `("ecs", "describe_services", cluster=…)`; its answer as the SDK gives it.

        Raises AwsError (AwsDeniedError) when AWS says no, ConfigError when there is no way to ask, and
        UnavailableError when it is not known what AWS would say, or with `once` whether it was done. An
        AwsThrottledError was not.
        """
        pauses = iter(_THROTTLED_PAUSES_S if once else ())
        while True:
            try:
                return await self._in_thread(functools.partial(self.ask, service, operation, once=once, **parameters))
            except AwsThrottledError:
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))

    def ask(self, service: str, operation: str, /, *, once: bool = False, **parameters: Any) -> dict[str, Any]:
        """As `call`, from a thread, and without its repetition of throttled calls that are made once."""

        def asked(client: Any) -> dict[str, Any]:
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
            answer.pop("ResponseMetadata", None)
            return answer

        return self._with_client(service, operation, asked, once=once)

    async def pages(self, service: str, operation: str, key: str, /, **parameters: Any) -> list[Any]:
        """What a listing holds below `key`, all pages of it. Raises as `call`."""

        def listed(client: Any) -> list[Any]:
            return [item for page in client.get_paginator(operation).paginate(**parameters) for item in page[key]]

        return await self._in_thread(functools.partial(self._with_client, service, operation, listed))

    async def region(self) -> str:
        """The one that is in force, wherever it was set. Raises ConfigError when there is none."""

        def named(client: Any) -> str:
            return str(client.meta.region_name)

        return await self._in_thread(functools.partial(self._with_client, "ecs", "*", named))

    def close(self) -> None:
        """As `Clouds.close`."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def _with_client(self, service: str, operation: str, work: Callable[[Any], T], *, once: bool = False) -> T:
        """The work's result; its exceptions as ours. Done again with fresh credentials when they were over."""
        for again in (True, False):
            try:
                return work(self._client(service, once))
            except Exception as error:
                ours = translate(error, permission_of(service, operation))
                if ours is None:
                    raise
                if not (again and isinstance(ours, AwsExpiredError)):
                    raise ours from error
            with self._lock:
                self._session = None
                self._clients.clear()
        raise AssertionError("the second time returns or raises")

    def _client(self, service: str, once: bool) -> Any:
        with self._lock:  # making a client is not safe from several threads; using one is
            client = self._clients.get((service, once))
            if client is None:
                client = self._clients[service, once] = self._make_client(service, once)
            return client

    def _make_client(self, service: str, once: bool) -> Any:
        from botocore.config import Config

        if self._session is None:
            self._session = _session(self.access)
        return self._session.client(
            service,
            endpoint_url=self.access.endpoint_url,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 1 if once else _ATTEMPTS},
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
                parameter_validation=True,
                user_agent_extra=f"seamless/{__version__}",
            ),
        )


def permission_of(service: str, operation: str) -> str:
    """The IAM action of an operation: ("ecs", "update_service") -> "ecs:UpdateService"."""
    return f"{_IAM_PREFIX.get(service, service)}:{''.join(part.capitalize() for part in operation.split('_'))}"


def _session(access: Aws) -> Any:
    """A session of boto3 whose credentials renew themselves."""
    import boto3

    session = boto3.Session(profile_name=access.profile, region_name=access.region)
    if access.assume_role is None:
        return session

    from botocore.credentials import CredentialProvider, DeferredRefreshableCredentials
    from botocore.session import Session

    sts = session.client("sts", endpoint_url=access.endpoint_url)

    def refresh() -> dict[str, str]:
        given = sts.assume_role(RoleArn=access.assume_role, RoleSessionName="seamless")["Credentials"]
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }

    class AssumedRole(CredentialProvider):
        METHOD = "seamless-assume-role"

        def load(self) -> Any:
            return DeferredRefreshableCredentials(refresh, self.METHOD)

    assuming = Session()
    assuming.get_component("credential_provider").insert_before("env", AssumedRole())
    return boto3.Session(botocore_session=assuming, region_name=session.region_name)
