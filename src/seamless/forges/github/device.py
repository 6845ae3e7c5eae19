"""GitHub's OAuth device flow: a person types a code into a browser, and we get a token.

https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps#device-flow
Calls block: make them from a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from seamless.errors import RefusedError
from seamless.forges import RemoteProblem
from seamless.forges.github import GitHubError
from seamless.forges.remotes import printable
from seamless.github_names import web_location

_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """`user_code` is for the person, `device_code` for `token`; asked no more often than every `interval_s`."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in_s: float
    interval_s: float


class DeviceFlow:
    """`client_id` is of an OAuth app whose device flow is enabled."""

    def __init__(self, api_url: str, client_id: str, *, ca_bundle: Path | None = None) -> None:
        self._place = f"{urlsplit(api_url).scheme}://{web_location(api_url)}"
        self._client_id = client_id
        self._ca_bundle = ca_bundle

    def begin(self, scopes: str) -> DeviceCode:
        """Raises RefusedError for an app that GitHub does not take, GitHubError when it does not answer."""
        told = self._post("/login/device/code", {"scope": scopes})
        if "device_code" not in told:
            raise self._refusal(told)
        return DeviceCode(
            device_code=str(told["device_code"]),
            user_code=str(told["user_code"]),
            verification_uri=str(told["verification_uri"]),
            expires_in_s=float(told["expires_in"]),
            interval_s=float(told.get("interval", 5)),
        )

    def token(self, device_code: str) -> str | None:
        """The token; None while the person has not typed the code. Raises RefusedError when that will not come."""
        told = self._post("/login/oauth/access_token", {"device_code": device_code, "grant_type": _GRANT})
        if "access_token" in told:
            return str(told["access_token"])
        if told.get("error") in ("authorization_pending", "slow_down"):
            return None
        raise self._refusal(told)

    def _post(self, path: str, data: Mapping[str, str]) -> Mapping[str, Any]:
        import httpx

        try:
            answer = httpx.post(
                self._place + path,
                data={"client_id": self._client_id, **data},
                headers={"Accept": "application/json"},
                timeout=_TIMEOUT_S,
                verify=True if self._ca_bundle is None else str(self._ca_bundle),
            )
            told = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            message = f"{self._place} does not answer ({type(error).__name__})"
            hint = "check the network, and github.api_url"
            raise GitHubError(message, RemoteProblem.UNREACHABLE, hint=hint) from None
        if not isinstance(told, dict) or answer.status_code >= 500:
            raise GitHubError(f"{self._place} answers {answer.status_code}", RemoteProblem.UNREACHABLE)
        return told

    def _refusal(self, told: Mapping[str, Any]) -> RefusedError:
        said = printable(str(told.get("error_description") or told.get("error") or told.get("message") or "no reason"))
        hint = "github.client_id must be an OAuth app's whose device flow is enabled; then: seamless login --device"
        return RefusedError(f"{self._place} gives no token: {said}", hint=hint)
