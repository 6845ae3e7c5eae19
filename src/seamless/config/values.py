"""The kinds of value that the configuration is made of: how each is written, checked and described.

Every validator raises ValueError with a text that follows the key's path, as in
`services.payment.branch: must be a branch's name such as "main"`.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Strict, ValidationInfo

from seamless.model import SERVICE_NAME, Environment, NoticeKind, Trigger

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_DURATION_UNITS_S: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION: Final = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,3})?[dhms])+")
_DURATION_MAX_S: Final = 3650 * 86400
_SIZE_UNITS: Final = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([kmgt])(?:ib)?")
_GIT_SCHEMES: Final = frozenset({"https", "http", "ssh", "git", "file"})
_SCP_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9_.][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?![-:])\S+")
_BRANCH_REFUSED: Final = re.compile(r"^[-/.]|[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|/\.|@\{|\.lock(?:/|$)|[/.]$|^@$|^$")
_KERNEL_PATHS: Final = ("/proc", "/sys", "/dev", "/.seamless")


@dataclass(frozen=True, slots=True)
class Words:
    """What a kind of value is called in the documentation. No effect on validation."""

    words: str


@dataclass(frozen=True, slots=True)
class FileContext:
    """Validation context of values that a person wrote into a file in `folder`.

    Without it (a stored snapshot, Python code) durations and sizes may be plain numbers.
    """

    folder: Path


def quoted(text: str) -> str:
    """The text in quotes for a message: shortened, and escaped where a terminal would act on it."""
    shown = text if len(text) <= 60 else f"{text[:57]}…"
    return f'"{shown}"' if shown.isprintable() else f'"{shown.encode("unicode_escape").decode()}"'


def parse_duration(text: str) -> float:
    """Seconds of "90s", "30m", "1h30m", "10d", "0.5s". Raises ValueError."""
    if _DURATION.fullmatch(text) is None:
        raise ValueError(f'must be a duration such as "90s", "30m", "2h" or "10d", not {quoted(text)}')
    parts = re.findall(r"([0-9.]+)([dhms])", text)
    return float(sum(float(number) * _DURATION_UNITS_S[unit] for number, unit in parts))


def format_duration(seconds: float) -> str:
    """As it would be written, in the largest unit that fits: 5400 -> "90m"."""
    for unit, length_s in _DURATION_UNITS_S.items():
        if seconds >= length_s and seconds % length_s == 0:
            return f"{seconds / length_s:.0f}{unit}"
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def parse_size(text: str) -> int:
    """Bytes of "512m", "2g", "1GiB" (units of 1024). Raises ValueError."""
    match = _SIZE.fullmatch(text.lower())
    if match is None:
        raise ValueError(f'must be a size such as "512m", "2g" or "1GiB", not {quoted(text)}')
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


def format_size(size: int) -> str:
    """As it would be written, in the largest unit that fits: 2 * 1024**3 -> "2g"."""
    for unit, length in reversed(_SIZE_UNITS.items()):
        if size >= length and size % length == 0:
            return f"{size // length}{unit}"
    return f"{size}"


def _read_duration(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(info.context, FileContext) and type(value) in (int, float):
        raise ValueError('must be a duration with its unit, in quotes, such as "30m", not a bare number')
    return value


def _read_size(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(info.context, FileContext) and type(value) in (int, float):
        raise ValueError('must be a size with its unit, in quotes, such as "512m", not a bare number')
    return value


def _bounded_duration(seconds: float) -> float:
    if not 0 <= seconds <= _DURATION_MAX_S:
        raise ValueError('must be between "0s" and "3650d"')
    return seconds


def _positive_duration(seconds: float) -> float:
    if seconds < 0.1:
        raise ValueError('must be at least "0.1s"')
    return seconds


def _size_between(low: str, high: str) -> AfterValidator:
    def check(size: int) -> int:
        if not parse_size(low) <= size <= parse_size(high):
            raise ValueError(f'must be between "{low}" and "{high}"')
        return size

    return AfterValidator(check)


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


def _empty_is_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _matching(pattern: str, what: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(f"must be {what}")
        return text

    return AfterValidator(check)


def _one_line(text: str) -> str:
    if not text or not text.isprintable() or text != text.strip():
        raise ValueError("must be one line of printable text")
    return text


def _not_reserved(name: str) -> str:
    if name.startswith("SEAMLESS_"):
        raise ValueError("names that begin with SEAMLESS_ belong to Seamless")
    return name


def _inside(text: str) -> str:
    """A path that cannot leave the folder it counts from. Symlinks are the reader's to resolve."""
    if text.startswith(("/", "~")) or ".." in text.split("/"):
        raise ValueError("must be a relative path that stays inside the checkout")
    if text.startswith("-") or not text.isprintable():
        raise ValueError('must be a printable path that does not begin with "-"')
    return posixpath.normpath(text) if text else text


def _inside_or_root(text: str) -> str:
    normal = _inside(text)
    return "" if normal == "." else normal


def _inside_file(text: str) -> str:
    if _inside_or_root(text) == "":
        raise ValueError("must name a file")
    return _inside(text)


def _container_path(text: str) -> str:
    if not text.startswith("/") or text == "/" or posixpath.normpath(text) != text or not text.isprintable():
        raise ValueError('must be an absolute path in the container, such as "/root/.npm"')
    if any(text == path or text.startswith(f"{path}/") for path in _KERNEL_PATHS):
        raise ValueError(f"must not be below {', '.join(_KERNEL_PATHS)}")
    return text


def _host_path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    if not value or not value.isprintable():
        raise ValueError("must be a path of the host")
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError("its ~ names no home folder of this host") from error
    if isinstance(info.context, FileContext):
        path = Path(os.path.abspath(info.context.folder / path))
    if not path.is_absolute():
        raise ValueError("must be an absolute path of the host")
    return path


def _branch(name: str) -> str:
    if _BRANCH_REFUSED.search(name):
        raise ValueError('must be a branch\'s name such as "main"')
    return name


def _ref_pattern(pattern: str) -> str:
    if not pattern.startswith(("refs/heads/", "refs/tags/")) or _BRANCH_REFUSED.search(pattern.replace("*", "x")):
        raise ValueError('must be a pattern of full names such as "refs/tags/v*" or "refs/heads/release/*"')
    return pattern


def _watch_pattern(pattern: str) -> str:
    """A pattern of .gitignore, but for what is anchored: it always counts from the repository's root."""
    path = pattern.removeprefix("!")
    if not path or path.startswith(("/", "~", "-", "!", "#")) or ".." in path.split("/") or not path.isprintable():
        raise ValueError('must be a path or pattern in the repository such as "libs/shared" or "**/*.proto"')
    return pattern


def _repository(value: str, info: ValidationInfo) -> str:
    """A git URL, an scp-like address, or a path of the host (made absolute)."""
    if value.startswith(("/", "~", "./", "../")):
        return str(_host_path(value, info))
    if value.startswith("-") or not value.isprintable() or " " in value or "::" in value.partition("/")[0]:
        raise ValueError("must be a git URL (https, ssh, git, file), user@host:path, or a path; no other transport")
    if "://" not in value:
        if _SCP_ADDRESS.fullmatch(value) is None:
            raise ValueError('must be a git URL, user@host:path, or a path that begins with "/", "./" or "~/"')
        return value
    try:
        parts = urlsplit(value)
        host, password, _ = parts.hostname or "", parts.password, parts.port
    except ValueError:
        raise ValueError("is not a well-formed URL") from None
    if parts.scheme not in _GIT_SCHEMES:
        raise ValueError("must be a git URL with https, http, ssh, git or file")
    if password is not None or (parts.scheme in {"https", "http"} and parts.username is not None):
        raise ValueError("must hold no user or password; set git.username and git.token")
    if (not host and parts.scheme != "file") or host.startswith("-") or (parts.username or "").startswith("-"):
        raise ValueError("must name a host")
    return value


def _service_name(name: str) -> str:
    if SERVICE_NAME.fullmatch(name) is None:
        raise ValueError("a service's name is 1 to 63 lower-case letters, digits and hyphens, no hyphen at its ends")
    return name


def _sorted(table: dict[Any, Any]) -> dict[Any, Any]:
    """Two tables with the same content are stored as the same bytes."""
    return dict(sorted(table.items()))


def _distinct(items: list[Any]) -> list[Any]:
    if len(set(items)) != len(items):
        raise ValueError("must not name the same thing twice")
    return items


def _refuse_reference(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError(
            "a build argument cannot be a secret reference: it would stay in the image's history; use build.secrets"
        )
    return value


Maybe = Annotated[T | None, BeforeValidator(_empty_is_none)]  # "" takes a default back
Sorted = Annotated[dict[K, T], AfterValidator(_sorted)]
Distinct = Annotated[list[T], AfterValidator(_distinct)]

Text = Annotated[str, Words("text"), AfterValidator(_without_nul)]
Line = Annotated[str, Words("text"), AfterValidator(_one_line)]
Script = Annotated[str, Words("shell script"), AfterValidator(_without_nul)]
Duration = Annotated[
    float,
    Words("duration"),
    BeforeValidator(_read_duration),
    AfterValidator(_bounded_duration),
    AfterValidator(_positive_duration),
]
DurationOrZero = Annotated[float, Words("duration"), BeforeValidator(_read_duration), AfterValidator(_bounded_duration)]
MemorySize = Annotated[int, Words("size"), BeforeValidator(_read_size), _size_between("6m", "1024t")]
LogSize = Annotated[int, Words("size"), BeforeValidator(_read_size), _size_between("64k", "1024t")]
SizeOrZero = Annotated[int, Words("size"), BeforeValidator(_read_size), _size_between("0k", "1024t")]
Port = Annotated[int, Words("port"), Ge(1), Le(65535)]

ServiceName = Annotated[str, Words("service"), AfterValidator(_service_name)]
EnvironmentName = Annotated[Environment, Words("environment"), Strict(False)]
NoticeName = Annotated[NoticeKind, Words("event"), Strict(False)]
PushTrigger = Literal[Trigger.MAIN, Trigger.PR_OPEN, Trigger.PR_SYNC]

HostVariable = Annotated[
    str,
    Words("variable"),
    _matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable: letters, digits and underscores"),
]
# docs.aws.amazon.com: PutParameter and CreateSecret. A secret's name has no colon, so what follows one is a JSON key.
ParameterName = Annotated[
    str,
    Words("parameter"),
    _matching(
        r"(?:arn:aws[a-z-]*:ssm:[a-z0-9-]+:[0-9]{12}:parameter)?[A-Za-z0-9_./-]{1,1011}(?::[A-Za-z0-9_.-]{1,100})?",
        'a parameter\'s name such as "/payment/db", or its ARN',
    ),
]
SecretId = Annotated[
    str,
    Words("secret"),
    _matching(
        r"(?:arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:)?[A-Za-z0-9/_+=.@-]{1,512}(?::[^:]{1,256})?",
        'a secret\'s name such as "prod/payment", or its ARN',
    ),
]
TopicArn = Annotated[
    str,
    Words("ARN"),
    _matching(
        r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?",
        'a topic\'s ARN such as "arn:aws:sns:eu-central-1:123456789012:releases"',
    ),
]
EnvName = Annotated[HostVariable, AfterValidator(_not_reserved)]
BuildArgument = Annotated[str, Words("text"), BeforeValidator(_refuse_reference), AfterValidator(_without_nul)]
Word = Annotated[
    str, Words("name"), _matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "a name: letters, digits and any of _ . -")
]
MaybeWord = Annotated[
    str, Words("name"), _matching(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*)?", "a name: letters, digits and any of _ . -")
]

IMAGE_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._/:@-]*"
ImageName = Annotated[str, Words("image"), _matching(IMAGE_NAME, 'an image such as "node:20"')]
MaybeImageName = Annotated[str, Words("image"), _matching(f"(?:{IMAGE_NAME})?", 'an image such as "node:20"')]
ContainerUser = Annotated[
    str,
    Words("user[:group]"),
    _matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?", 'a user such as "node" or "1000:1000"'),
]
Platform = Annotated[
    str,
    Words("platform"),
    _matching(r"(?:[a-z0-9]+/[a-z0-9]+(?:/[a-z0-9.]+)?)?", 'a platform such as "linux/amd64"'),
]
HealthPath = Annotated[str, Words("HTTP path"), _matching(r"(?:/[\x21-\x7e]*)?", 'a path such as "/healthz"')]

AWS_REGION: Final = r"[a-z]{2,3}(?:-[a-z]+)+-[0-9]"
TARGET_GROUP_ARN: Final = r"arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:targetgroup/[^/]+/[^/]+"
AwsRegion = Annotated[str, Words("region"), _matching(AWS_REGION, 'a region such as "eu-central-1"')]
RoleArn = Annotated[
    str,
    Words("ARN"),
    _matching(
        r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+",
        'a role\'s ARN such as "arn:aws:iam::123456789012:role/deploy"',
    ),
]
HttpUrl = Annotated[
    str, Words("URL"), _matching(r"https?://[A-Za-z0-9.\[\]:-]+(?:/\S*)?", 'a URL such as "https://ecs.example.com"')
]
GitHubApiUrl = Annotated[
    str,
    Words("URL"),
    _matching(
        r"(?:https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?|http://(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?)(?:/[\w./-]*)?",
        'an https URL such as "https://api.github.com" or "https://ghe.acme.example/api/v3"',
    ),
]
EcsName = Annotated[
    str, Words("name"), _matching(r"[A-Za-z0-9_-]{1,255}", "a name in ECS: letters, digits, hyphens and underscores")
]

_HOST = r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?"
RegistryHost = Annotated[
    str, Words("host"), _matching(_HOST, 'a registry\'s host such as "ghcr.io" or "127.0.0.1:5000", without https://')
]
RegistryPrefix = Annotated[
    str,
    Words("registry"),
    _matching(rf"{_HOST}(?:/[a-z0-9][a-z0-9._-]*)*", 'a registry such as "ghcr.io/acme", without https://'),
]

CheckoutFile = Annotated[str, Words("path in the checkout"), AfterValidator(_inside_file)]
CheckoutFolder = Annotated[str, Words("path in the checkout"), AfterValidator(_inside)]
CheckoutRoot = Annotated[str, Words("path in the checkout"), AfterValidator(_inside_or_root)]
CheckoutPattern = Annotated[str, Words("pattern in the checkout"), AfterValidator(_inside_file)]
WatchPattern = Annotated[str, Words("pattern in the repository"), AfterValidator(_watch_pattern)]
RefPattern = Annotated[str, Words("pattern of refs"), AfterValidator(_ref_pattern)]
ContainerPath = Annotated[str, Words("path in the container"), AfterValidator(_container_path)]
HostPath = Annotated[Path, Words("path of the host"), BeforeValidator(_host_path)]
Branch = Annotated[str, Words("branch"), AfterValidator(_branch)]
RepositoryUrl = Annotated[str, Words("git URL or path"), AfterValidator(_repository)]
