"""Publishing to SNS topics, wherever their ARNs say they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from seamless.aws.errors import AwsError
from seamless.aws.sessions import Clouds
from seamless.config import Aws
from seamless.errors import UsageError

# Of Publish: what no later attempt changes.
_NEVER_TAKEN: Final = frozenset(
    {"InvalidParameter", "InvalidParameterValue", "ParamValidation", "ParameterValueInvalid"}
)
_GONE: Final = frozenset({"NotFound", "NotFoundException"})


class Topics:
    """Uses the credentials of `[aws]` as they are at the time of each call."""

    def __init__(self, clouds: Clouds, access: Callable[[], Aws]) -> None:
        self._clouds = clouds
        self._access = access

    async def publish(self, region: str, parameters: Mapping[str, Any]) -> None:
        """Raises SeamlessError; UsageError for a message that the topic will never take."""
        account = self._clouds.account(self._access().model_copy(update={"region": region}))
        try:
            await account.call("sns", "publish", **parameters)
        except AwsError as error:
            if error.aws_code in _NEVER_TAKEN:
                raise UsageError(error.message, hint=error.hint) from error
            if error.aws_code in _GONE:
                name = parameters["TopicArn"].rpartition(":")[2]
                hint = f"aws sns create-topic --name {name} --region {region}"
                raise AwsError(f"AWS has no topic {parameters['TopicArn']}", error.aws_code, hint=hint) from error
            raise
