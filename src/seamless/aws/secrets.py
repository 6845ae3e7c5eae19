"""Reads secrets from SSM's Parameter Store and from Secrets Manager: several with one request, kept for moments.

What is read is kept in memory for half a minute, so that the stages of a run that start together ask once. Nothing
that failed is kept.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from seamless.aws.errors import AwsDeniedError, AwsError
from seamless.aws.places import SecretPlace, secret_place
from seamless.aws.sessions import Account, Clouds
from seamless.config import Aws
from seamless.secretrefs import Reader, SecretUnreadableError

KEPT_S: Final = 30.0
_PARAMETERS_MAX: Final = 10  # of one GetParameters
_SECRETS_MAX: Final = 20  # of one BatchGetSecretValue
_ENCRYPTED_WITH: Final = "allow kms:Decrypt on the key that encrypts it; docs/aws.md has the whole policy"

Found = dict[str, "str | SecretUnreadableError"]
Ask = Callable[[Account, Sequence[str]], Found]


class AwsSecrets:
    """`readers` are what `secretrefs.connect` takes. They use what `[aws]` says at the time of each call."""

    def __init__(self, clouds: Clouds, access: Callable[[], Aws]) -> None:
        self._clouds = clouds
        self._access = access
        self._kept: dict[tuple[Aws, str, str], tuple[float, str]] = {}
        self._lock = threading.Lock()

    def readers(self) -> Mapping[str, Reader]:
        return {
            "ssm": lambda places: self._read("ssm", places, _parameters),
            "secretsmanager": lambda places: self._read("secretsmanager", places, _secrets),
        }

    def _read(self, source: str, places: Sequence[str], ask: Ask) -> Found:
        access, now = self._access(), time.monotonic()
        with self._lock:
            self._kept = {key: (until, value) for key, (until, value) in self._kept.items() if until > now}
            found: Found = {
                place: self._kept[access, source, place][1] for place in places if (access, source, place) in self._kept
            }
        for region, missing in _by_region((place for place in places if place not in found), access.region):
            found |= ask(self._clouds.account(access.model_copy(update={"region": region})), missing)
        with self._lock:
            for place, value in found.items():
                if isinstance(value, str):
                    self._kept.setdefault((access, source, place), (now + KEPT_S, value))
        return found


def _by_region(places: Iterator[str], ours: str | None) -> Iterator[tuple[str | None, list[str]]]:
    """Places by the region that their ARN names; names are of ours."""
    grouped: dict[str | None, list[str]] = {}
    for place in places:
        region = place.split(":")[3] if place.startswith("arn:") else ours
        grouped.setdefault(region, []).append(place)
    yield from grouped.items()


def _batches(places: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _parameters(account: Account, places: Sequence[str]) -> Found:
    """An answer tells names, so of one parameter in several versions each is asked for by itself."""
    plain = [place for place in places if not _version_of(place)]
    found: Found = {}
    for batch in (*_batches(plain, _PARAMETERS_MAX), *([place] for place in places if _version_of(place))):
        found |= _one_by_one_when_refused(_ask_parameters, account, batch)
    return found


def _version_of(place: str) -> str:
    """`/x:3` -> "3"; "" for none. An ARN has five colons of its own."""
    return ":".join(place.split(":")[6 if place.startswith("arn:") else 1 :])


def _one_by_one_when_refused(ask: Ask, account: Account, places: Sequence[str]) -> Found:
    """AWS refuses a whole batch for one of its members; which one, it tells when they are asked for singly."""
    try:
        return ask(account, places)
    except AwsError as error:
        if len(places) == 1:
            return {places[0]: _refused(error)}
    found: Found = {}
    for place in places:
        found |= _one_by_one_when_refused(ask, account, [place])
    return found


def _refused(error: AwsError) -> SecretUnreadableError:
    is_key = isinstance(error, AwsDeniedError) and "kms:" in error.message
    return SecretUnreadableError(f"cannot be read: {error.message}", _ENCRYPTED_WITH if is_key else error.hint)


def _ask_parameters(account: Account, places: Sequence[str]) -> Found:
    answer = account.ask("ssm", "get_parameters", Names=list(places), WithDecryption=True)
    values: Found = {}
    for parameter in answer["Parameters"]:
        names = [parameter["Name"], parameter.get("ARN")] if len(places) > 1 else places
        values |= dict.fromkeys(names, parameter["Value"])
    missing = f"is not in SSM's Parameter Store{_where(account)}"
    return {place: values.get(place) or SecretUnreadableError(missing, _put_parameter(place)) for place in places}


def _put_parameter(place: str) -> str:
    name = place.partition(":parameter")[2] if place.startswith("arn:") else place
    return f"aws ssm put-parameter --type SecureString --name {name.partition(':')[0]} --value …"


def _secrets(account: Account, places: Sequence[str]) -> Found:
    """Each secret is asked for once, however many of its keys are wanted."""
    wanted = {place: secret_place(place) for place in places}
    values: Found = {}
    for batch in _batches(list(dict.fromkeys(one.id for one in wanted.values())), _SECRETS_MAX):
        values |= _ask_batch(account, batch)
    return {place: _value_at(one, values[one.id]) for place, one in wanted.items()}


def _ask_batch(account: Account, ids: Sequence[str]) -> Found:
    if len(ids) > 1:
        try:
            answer = account.ask("secretsmanager", "batch_get_secret_value", SecretIdList=list(ids))
        except AwsError:
            pass  # it is a permission of its own, and refuses all for one
        else:
            values = {name: _text(one) for one in answer["SecretValues"] for name in (one["Name"], one["ARN"])}
            return {id: values[id] if id in values else _ask_secret(account, id) for id in ids}
    return {id: _ask_secret(account, id) for id in ids}


def _ask_secret(account: Account, id: str) -> str | SecretUnreadableError:
    try:
        return _text(account.ask("secretsmanager", "get_secret_value", SecretId=id))
    except AwsError as error:
        if error.aws_code != "ResourceNotFoundException":
            return _refused(error)
        hint = f"aws secretsmanager create-secret --name {id} --secret-string …"
        return SecretUnreadableError(f"is not in Secrets Manager{_where(account)}", hint)


def _text(answer: Mapping[str, Any]) -> str | SecretUnreadableError:
    value = answer.get("SecretString")
    return value if isinstance(value, str) else SecretUnreadableError("is binary, and no text")


def _value_at(place: SecretPlace, value: str | SecretUnreadableError) -> str | SecretUnreadableError:
    if place.key is None or isinstance(value, SecretUnreadableError):
        return value
    try:
        table = json.loads(value)
    except ValueError:
        table = None
    if not isinstance(table, dict):
        return SecretUnreadableError("names a key of a secret that is no JSON object")
    if not isinstance(table.get(place.key), str | int | float):
        return SecretUnreadableError(f"has no text at the key {place.key}")
    return str(table[place.key])


def _where(account: Account) -> str:
    return f" of {account.access.region}" if account.access.region else ""
