"""The shapes of the API's JSON about GitHub; see `wire`."""

from __future__ import annotations

from typing import Required

from typing_extensions import TypedDict


class TokenRequest(TypedDict, total=False):
    """POST /v1/github/token"""

    token: Required[str]
    store: bool  # default: true; else it is only tried


class DeviceJSON(TypedDict):
    """POST /v1/github/device: a code for a person, and one to ask with."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in_s: float
    interval_s: float


class DeviceRequest(TypedDict):
    """POST /v1/github/device/token"""

    device_code: str
