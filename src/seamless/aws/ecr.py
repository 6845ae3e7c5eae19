"""Images in ECR: where they are, the log-in, and repositories, which are made at the first push.

A repository's tags are immutable, and images are scanned when they are pushed. Its lifecycle policy expires what has no
tag, and nothing else: what has one is Seamless's own to delete, so that what runs or what a rollback needs is never
gone. A repository that was there already is left as it is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from seamless.aws.errors import AwsError
from seamless.aws.sessions import Account, Clouds
from seamless.config import Aws
from seamless.errors import UnavailableError

_FRESH: Final = timedelta(hours=1)  # that a token must be good for; ECR's are good for twelve
_CLOCKS_DIFFER: Final = timedelta(minutes=1)  # AWS's and ours, at most
_HOST: Final = re.compile(
    r"(?P<account>[0-9]{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)"
)
_LIFECYCLE: Final = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "Seamless: what has no tag",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": 7,
            },
            "action": {"type": "expire"},
        },
    ]
}
_NOT_THERE: Final = frozenset({"ImageNotFoundException", "RepositoryNotFoundException"})


@dataclass(frozen=True, slots=True)
class Login:
    """To a registry, until `expires_at`."""

    registry: str  # its host, "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    username: str
    password: str = field(repr=False)
    expires_at: datetime


def region_of(host: str) -> str | None:
    """The region of a registry of ECR, None for any other registry's host."""
    match = _HOST.fullmatch(host)
    return None if match is None else match["region"]


def account_of(host: str) -> str | None:
    """Whose registry of ECR a host is, None for any other registry's host."""
    match = _HOST.fullmatch(host)
    return None if match is None else match["account"]


def repository_arn(repository: str) -> str | None:
    """`<host>/<name>` of ECR -> its ARN; None for another registry's."""
    host, _, name = repository.partition("/")
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    from boto3 import Session

    region = match["region"]
    return f"arn:{Session().get_partition_for_region(region)}:ecr:{region}:{match['account']}:repository/{name}"


class Ecr:
    """The registries of ECR that these accounts reach; tokens are kept until shortly before they expire."""

    def __init__(self, clouds: Clouds) -> None:
        self._clouds = clouds
        self._logins: dict[Aws, Login] = {}

    async def login(self, access: Aws, host: str | None = None) -> Login:
        """To the account's own registry, or to one of ECR by its host. Raises as `Account.call`."""
        return await asyncio.to_thread(self.login_now, access, host)

    def login_now(self, access: Aws, host: str | None = None) -> Login:
        """As `login`, from a thread."""
        account = self._account(access, host)
        known = self._fresh(account)
        if known is None:
            known = self._logins[account.access] = _login(account.ask("ecr", "get_authorization_token"))
        return known

    async def ensure(self, access: Aws, repository: str, since: datetime, host: str | None = None) -> bool:
        """Makes a repository when it is not there; whether it was made. `repository`: its name, without the host.

        One that is younger than `since`, the begin of what needs it, was made for it as well: by an agent that may have
        died before the lifecycle policy.
        """
        account = self._account(access, host)
        try:
            answer = await account.call("ecr", "describe_repositories", repositoryNames=[repository])
        except AwsError as error:
            if error.aws_code != "RepositoryNotFoundException":
                raise
        else:
            if answer["repositories"][0]["createdAt"] >= since - _CLOCKS_DIFFER:
                await self._limit(account, repository)
            return False
        try:
            await account.call(
                "ecr",
                "create_repository",
                repositoryName=repository,
                imageTagMutability="IMMUTABLE",
                imageScanningConfiguration={"scanOnPush": True},
            )
        except AwsError as error:
            if error.aws_code != "RepositoryAlreadyExistsException":  # made by another run just now, or an answer lost
                raise
        await self._limit(account, repository)
        return True

    async def _limit(self, account: Account, repository: str) -> None:
        """Gives it its lifecycle policy; may be repeated."""
        await account.call(
            "ecr", "put_lifecycle_policy", repositoryName=repository, lifecyclePolicyText=json.dumps(_LIFECYCLE)
        )

    async def has_tag(self, access: Aws, repository: str, tag: str, host: str | None = None) -> bool:
        """Whether a tag is taken: an immutable one cannot be pushed again."""
        return await _tagged(self._account(access, host), repository, tag) is not None

    async def delete(self, access: Aws, repository: str, tag: str, digest: str, host: str | None = None) -> None:
        """Takes a tag off an image, which goes with its last one. A tag that is another image's by now is left alone.

        Raises as `Account.call`, and AwsError for what ECR does not delete, such as a part of another image.
        """
        account = self._account(access, host)
        if await _tagged(account, repository, tag) != digest:
            return
        answer = await account.call(
            "ecr", "batch_delete_image", repositoryName=repository, imageIds=[{"imageTag": tag}]
        )
        for failure in answer["failures"]:
            if failure["failureCode"] != "ImageNotFound":
                raise AwsError(
                    f"ECR does not delete {repository}:{tag}: {failure['failureReason']}", failure["failureCode"]
                )

    def _account(self, access: Aws, host: str | None) -> Account:
        region = None if host is None else region_of(host)
        return self._clouds.account(access if region is None else access.model_copy(update={"region": region}))

    def _fresh(self, account: Account) -> Login | None:
        known = self._logins.get(account.access)
        return known if known is not None and known.expires_at - datetime.now(UTC) > _FRESH else None


async def _tagged(account: Account, repository: str, tag: str) -> str | None:
    """The digest of the image that has a tag."""
    try:
        answer = await account.call("ecr", "describe_images", repositoryName=repository, imageIds=[{"imageTag": tag}])
    except AwsError as error:
        if error.aws_code in _NOT_THERE:
            return None
        raise
    return next((str(found["imageDigest"]) for found in answer["imageDetails"]), None)


def _login(answer: dict[str, object]) -> Login:
    found = answer["authorizationData"]
    if not isinstance(found, list) or not found:
        raise UnavailableError("ECR gave no authorization token")
    one = found[0]
    username, _, password = base64.b64decode(one["authorizationToken"]).decode().partition(":")
    registry = str(one["proxyEndpoint"]).partition("://")[2]
    return Login(registry, username, password, one["expiresAt"].astimezone(UTC))
