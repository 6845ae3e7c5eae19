"""A registry's own API, for what neither Docker's programs nor the engine do: deleting.

Sources: https://distribution.github.io/distribution/spec/api/ (deleting an image) and …/spec/auth/token/;
https://docs.docker.com/reference/cli/dockerd/#insecure-registries for which registries need no TLS.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import ssl
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seamless.errors import RefusedError, UnavailableError
from seamless.model import ImageRef
from seamless.stages.engine_api import ask_engine
from seamless.stages.registry import DOCKER_HUB, Credentials, registry_host

if TYPE_CHECKING:
    import httpx

_CERTIFICATES: Final = Path("/etc/docker/certs.d")  # the engine's, by registry
_DOCKER_HUB_API: Final = "registry-1.docker.io"
_TIMEOUT_S: Final = 30.0
# Harbor says NOT_FOUND.
_NOT_THERE: Final = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"})
_PARAMETER: Final = re.compile(r'([a-z_]+)="([^"]*)"', re.I)


async def delete_manifest(image: ImageRef, credentials: Credentials | None) -> None:
    """Deletes it, with every tag that names it; one that is not there any more is no error.

    The engine's word is taken for how a registry is reached: its insecure registries, its certificates. Raises
    RefusedError when the registry lets nobody delete, or not these credentials, and UnavailableError when it is not
    known what it would say.
    """
    import httpx  # here, since it is an eighth of an idle agent's memory

    assert image.repository is not None, "an image of the engine has no manifest"
    host = registry_host(image.repository)
    path = f"/v2/{image.repository.removeprefix(f'{host}/')}/manifests/{image.digest}"
    insecure = await _is_insecure(host)
    tls = await asyncio.to_thread(_tls, host, insecure=insecure)
    address = _DOCKER_HUB_API if host == DOCKER_HUB else host
    async with httpx.AsyncClient(verify=tls, timeout=_TIMEOUT_S, trust_env=not insecure) as client:
        try:
            try:
                answer = await _delete(client, f"https://{address}{path}", credentials)
            except httpx.ConnectError:
                if not insecure:
                    raise
                answer = await _delete(client, f"http://{address}{path}", credentials)
        except httpx.HTTPError as error:
            raise UnavailableError(f"the registry {host} does not answer: {error or type(error).__name__}") from error
    _judge(answer, host)


async def _delete(client: httpx.AsyncClient, url: str, credentials: Credentials | None) -> httpx.Response:
    answer = await client.delete(url)
    if answer.status_code != HTTPStatus.UNAUTHORIZED:
        return answer
    authorization = await _authorization(client, answer, credentials)
    return answer if authorization is None else await client.delete(url, headers={"Authorization": authorization})


async def _authorization(
    client: httpx.AsyncClient, challenged: httpx.Response, credentials: Credentials | None
) -> str | None:
    """What answers a registry's challenge; None when there is nothing to answer with."""
    basic = None if credentials is None else _basic(credentials)
    for challenge in challenged.headers.get_list("WWW-Authenticate"):
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_PARAMETER.findall(rest))
        if scheme.lower() == "basic":
            return basic
        if scheme.lower() == "bearer" and "realm" in asked:
            if urlsplit(asked["realm"]).scheme != "https" and challenged.url.scheme == "https":
                return None  # a password that goes by TLS elsewhere is not sent without
            wanted = {key: asked[key] for key in ("service", "scope") if key in asked}
            given = await client.get(
                asked["realm"], params=wanted, headers={} if basic is None else {"Authorization": basic}
            )
            if given.is_server_error:
                raise UnavailableError(f"{given.url.host} gives no token: HTTP {given.status_code}")
            token = _json(given).get("token") or _json(given).get("access_token")
            return f"Bearer {token}" if token else None
    return None


def _basic(credentials: Credentials) -> str:
    return f"Basic {base64.b64encode(f'{credentials.username}:{credentials.password}'.encode()).decode()}"


def _judge(answer: httpx.Response, host: str) -> None:
    status = answer.status_code
    errors = _json(answer).get("errors") or []
    codes = {str(one.get("code")) for one in errors if isinstance(one, Mapping)}
    if answer.is_success or (status == HTTPStatus.NOT_FOUND and codes & _NOT_THERE):
        return
    said = f"HTTP {status}" + (f" {', '.join(sorted(codes))}" if codes else "")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED:
        raise UnavailableError(f"the registry {host} has trouble: {said}")
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT):
        raise UnavailableError(f"the registry {host} wants to be asked later: {said}")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise RefusedError(
            f"the registry {host} does not let us delete: {said}",
            hint="give its user of [registries] the right to delete",
        )
    raise RefusedError(
        f"the registry {host} does not delete: {said}", hint="allow deletion there, or leave it to rules of its own"
    )


def _json(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}


async def _is_insecure(host: str) -> bool:
    """Whether the engine takes it without a certificate that can be verified, or without TLS."""
    known: Mapping[str, Any] = (await ask_engine("GET", "/info")).body.get("RegistryConfig") or {}
    index = (known.get("IndexConfigs") or {}).get(host)
    if index is not None:
        return not index["Secure"]
    networks = [ipaddress.ip_network(each) for each in known.get("InsecureRegistryCIDRs") or []]
    return any(address in network for address in await _addresses(host) for network in networks)


async def _addresses(host: str) -> Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """None for a name that only a proxy knows, as the engine has it."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(urlsplit(f"//{host}").hostname, None)
    except OSError:
        return []
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]


def _tls(host: str, *, insecure: bool) -> ssl.SSLContext:
    """As the engine has it: its certificates beside the system's, and for an insecure registry no verification."""
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        for authority in _CERTIFICATES.joinpath(host).glob("*.crt"):
            context.load_verify_locations(authority)
        for certificate in _CERTIFICATES.joinpath(host).glob("*.cert"):
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    except OSError as error:  # an SSLError is one
        raise UnavailableError(f"the certificates in {_CERTIFICATES / host} cannot be used: {error}") from error
    return context
