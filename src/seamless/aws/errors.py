"""From what botocore raises to errors of ours, each of which says what to do next.

SeamlessError
├── ConfigError          no credentials, no region, no such profile: nothing was asked of AWS
├── UnavailableError     no answer, or none that tells anything, such as AWS's own trouble
    │   ├── AwsThrottledError   too many calls
    │   └── AwsExpiredError     the credentials are over, and there are no fresh ones
└── AwsError             AWS says no, with its code: what was asked for was not done
    └── AwsDeniedError   the credentials may not do it; the message names the permission
"""

from __future__ import annotations

from typing import Any, Final

from seamless.errors import ConfigError, SeamlessError, UnavailableError

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and botocore's own list of retried codes
THROTTLED: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottledException",
        "RequestThrottled",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "SlowDown",
        "PriorRequestNotComplete",
        "TransactionInProgressException",
    }
)
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_UNKNOWN_TO_AWS: Final = frozenset(
    {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch"}
)
_DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "NotAuthorized"}
)
_LOGIN_HINT: Final = "set aws.profile or aws.assume_role, or give the agent credentials; seamless doctor tells"


class AwsError(SeamlessError):
    """AWS refused a call. `aws_code` is its error code, e.g. "ClusterNotFoundException"."""

    code = "aws"

    def __init__(self, message: str, aws_code: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.aws_code = aws_code


class AwsDeniedError(AwsError):
    """The credentials may not make this call. `permission` is the IAM action, e.g. "ecs:UpdateService"."""

    def __init__(self, message: str, aws_code: str, permission: str) -> None:
        super().__init__(message, aws_code, hint=f"allow {permission}; docs/aws.md has the whole policy")
        self.permission = permission


class AwsThrottledError(UnavailableError):
    """AWS takes no more calls now. This one was not carried out."""


class AwsExpiredError(UnavailableError):
    """The credentials are over. This call was not carried out."""


def translate(error: Exception, permission: str) -> SeamlessError | None:
    """What to raise instead of an exception of botocore's, None when it is none that is expected.

    `permission` is the IAM action of the call, such as "ecs:UpdateService".
    """
    from botocore import exceptions as sdk
    from botocore.parsers import ResponseParserError

    match error:
        case sdk.ClientError():
            assuming = error.operation_name == "AssumeRole"  # for the call's credentials
            return _refusal(error.response, "sts:AssumeRole" if assuming else permission)
        case sdk.ProfileNotFound():
            return ConfigError(f"AWS: {_sentence(error)}", hint="aws.profile names a profile of ~/.aws/config")
        case sdk.NoRegionError():
            return ConfigError(
                "AWS: no region is set", hint='set region in [aws] or in the environment, e.g. "eu-west-1"'
            )
        case sdk.NoCredentialsError() | sdk.PartialCredentialsError():
            return ConfigError("AWS: no credentials were found", hint=_LOGIN_HINT)
        case sdk.UnauthorizedSSOTokenError() | sdk.SSOTokenLoadError() | sdk.TokenRetrievalError():
            return ConfigError(f"AWS: the log-in of the profile is over: {_sentence(error)}", hint="aws sso login")
        case sdk.CredentialRetrievalError():
            return UnavailableError(f"AWS: credentials cannot be had: {_sentence(error)}", hint=_LOGIN_HINT)
        case ResponseParserError():
            return UnavailableError(f"what answers {permission} is not AWS, as it seems: {_sentence(error)}")
        case sdk.HTTPClientError() | sdk.ConnectionError():
            return UnavailableError(f"AWS does not answer {permission}: {_sentence(error)}")
        case sdk.ParamValidationError():
            return AwsError(f"AWS takes no such {permission}: {' '.join(str(error).split())}", "ParamValidation")
        case sdk.BotoCoreError():
            return ConfigError(f"AWS: {_sentence(error)}", hint=_LOGIN_HINT)
        case _:
            return None


def _refusal(response: Any, permission: str) -> SeamlessError:
    code = str(response.get("Error", {}).get("Code", ""))
    message = _line(str(response.get("Error", {}).get("Message") or "no message"))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in THROTTLED or status == 429:
        return AwsThrottledError(f"AWS is throttling {permission}: {message}")
    if code in _EXPIRED:
        return AwsExpiredError(f"AWS: the credentials have expired: {message}", hint=_LOGIN_HINT)
    if code in _UNKNOWN_TO_AWS:
        return ConfigError(f"AWS does not know these credentials: {message}", hint=_LOGIN_HINT)
    if code in _DENIED:
        return AwsDeniedError(f"AWS: not allowed to call {permission}: {message}", code, permission)
    if status >= 500:
        return UnavailableError(f"AWS has trouble with {permission}: {code or status}: {message}")
    return AwsError(f"AWS refuses {permission}: {message}", code)


def _sentence(error: Exception) -> str:
    return _line(str(error)).rstrip(".")


def _line(text: str) -> str:
    return " ".join(text.split())[:500]
