"""Secrets from SSM and Secrets Manager: several at once, kept for moments, and clear when they cannot be had."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from harness.aws import ACCOUNT, REGION, Moto, Refusal, named
from seamless.aws.secrets import KEPT_S, AwsSecrets
from seamless.aws.sessions import Clouds
from seamless.config import Aws, SecretRef
from seamless.errors import ConfigError, UnavailableError
from seamless.secretrefs import connect, resolve, resolve_all

pytestmark = pytest.mark.fake

_DENIED = "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: {}"


@pytest.fixture(autouse=True)
def connected(clouds: Clouds, access: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamless.secretrefs._connected", {})
    connect(AwsSecrets(clouds, lambda: access).readers())


@pytest.fixture
def put(moto: Moto) -> Callable[[str, str], str]:
    """Puts a SecureString into SSM; returns its ARN."""

    def into_ssm(name: str, value: str) -> str:
        moto.client("ssm").put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
        return f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{name.removeprefix('/')}"

    return into_ssm


@pytest.fixture
def create(moto: Moto) -> Callable[..., str]:
    """Creates a secret of Secrets Manager; returns its ARN."""

    def into_secretsmanager(name: str, **value: object) -> str:
        arn: str = moto.client("secretsmanager").create_secret(Name=name, **value)["ARN"]
        return arn

    return into_secretsmanager


def test_parameters_are_decrypted_and_asked_for_ten_at_a_time(moto: Moto, put: Callable[[str, str], str]) -> None:
    for number in range(12):
        put(f"/payment/{number}", f"value {number}")
    found = resolve_all({f"S{number}": SecretRef(ssm=f"/payment/{number}") for number in range(12)})
    assert found == {f"S{number}": f"value {number}" for number in range(12)}
    assert [len(names) for names in named(moto.called("GetParameters"), "Names")] == [10, 2]


def test_a_parameter_may_be_named_by_its_arn_or_with_a_version(put: Callable[[str, str], str]) -> None:
    put("/payment/db", "the first")
    arn = put("/payment/db", "the second")
    refs = {
        "BY_ARN": SecretRef(ssm=arn),
        "FIRST": SecretRef(ssm="/payment/db:1"),
        "NEWEST": SecretRef(ssm="/payment/db"),
    }
    assert resolve_all(refs) == {"BY_ARN": "the second", "FIRST": "the first", "NEWEST": "the second"}


def test_what_was_read_is_kept_for_moments_and_no_longer(
    moto: Moto, put: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("/token", "the first")
    now = [1000.0]
    monkeypatch.setattr("seamless.aws.secrets.time.monotonic", lambda: now[0])
    assert resolve(SecretRef(ssm="/token")) == "the first"
    put("/token", "the second")
    now[0] += KEPT_S - 1
    assert resolve(SecretRef(ssm="/token")) == "the first"
    assert len(moto.called("GetParameters")) == 1
    now[0] += 2
    assert resolve(SecretRef(ssm="/token")) == "the second"


def test_a_parameter_that_is_not_there_is_told_with_the_command_that_makes_it(put: Callable[[str, str], str]) -> None:
    put("/there", "value of it")
    with pytest.raises(ConfigError) as refused:
        resolve_all({"A": SecretRef(ssm="/there"), "B": SecretRef(ssm="/none:3")})
    assert refused.value.message == 'the secret { ssm = "/none:3" } is not in SSM\'s Parameter Store of eu-central-1'
    assert refused.value.hint == "aws ssm put-parameter --type SecureString --name /none --value …"


def test_what_was_missing_is_asked_for_again(moto: Moto, put: Callable[[str, str], str]) -> None:
    with pytest.raises(ConfigError):
        resolve(SecretRef(ssm="/late"))
    put("/late", "here I am")
    assert resolve(SecretRef(ssm="/late")) == "here I am"


def test_the_one_that_may_not_be_read_is_found_among_many(moto: Moto, put: Callable[[str, str], str]) -> None:
    put("/allowed", "value of it")
    put("/forbidden", "value of it")
    denied = Refusal("AccessDeniedException", _DENIED.format("ssm:GetParameters"))
    moto.refuse("GetParameters", denied)  # both of them
    moto.before("GetParameters", lambda: moto.refuse("GetParameters", denied))  # after the first
    with pytest.raises(ConfigError) as refused:
        resolve_all({"A": SecretRef(ssm="/allowed"), "B": SecretRef(ssm="/forbidden")})
    assert '{ ssm = "/forbidden" } cannot be read' in refused.value.message
    assert "not authorized to perform: ssm:GetParameters" in refused.value.message
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("allow ssm:GetParameters")
    assert named(moto.called("GetParameters"), "Names") == [["/allowed", "/forbidden"], ["/allowed"], ["/forbidden"]]


def test_a_key_that_may_not_be_used_is_named(moto: Moto) -> None:
    moto.refuse("GetParameters", Refusal("AccessDeniedException", _DENIED.format("kms:Decrypt on resource: arn:…")))
    with pytest.raises(ConfigError) as refused:
        resolve(SecretRef(ssm="/encrypted"))
    assert str(refused.value.hint).startswith("allow kms:Decrypt")


def test_aws_in_trouble_is_no_fault_of_the_configuration(moto: Moto) -> None:
    moto.refuse("GetParameters", *[Refusal("InternalServerError", "oops", 400)] * 1)
    with pytest.raises(ConfigError, match="oops"):
        resolve(SecretRef(ssm="/x"))


def test_no_answer_is_unavailable_and_names_the_reference(clouds: Clouds, moto: Moto) -> None:
    nobody = Aws(region=REGION, endpoint_url="http://127.0.0.1:9")
    connect(AwsSecrets(clouds, lambda: nobody).readers())
    with pytest.raises(UnavailableError, match=r'^the secret \{ ssm = "/x" \} cannot be read: AWS does not answer'):
        resolve(SecretRef(ssm="/x"))


def test_secrets_are_asked_for_together_and_once_for_all_their_keys(moto: Moto, create: Callable[..., str]) -> None:
    create("prod/db", SecretString=json.dumps({"user": "payment", "password": "hunter2222", "port": 5432123}))
    arn = create("stripe", SecretString="sk_live_1234")
    refs = {
        "USER": SecretRef(secretsmanager="prod/db:user"),
        "PASSWORD": SecretRef(secretsmanager="prod/db:password"),
        "PORT": SecretRef(secretsmanager="prod/db:port"),
        "STRIPE": SecretRef(secretsmanager=arn),
    }
    assert resolve_all(refs) == {
        "USER": "payment",
        "PASSWORD": "hunter2222",
        "PORT": "5432123",
        "STRIPE": "sk_live_1234",
    }
    assert named(moto.called("BatchGetSecretValue"), "SecretIdList") == [["prod/db", arn]]
    assert moto.called("GetSecretValue") == []


def test_without_the_right_to_batches_they_are_asked_for_singly(moto: Moto, create: Callable[..., str]) -> None:
    create("one", SecretString="value one")
    create("two", SecretString="value two")
    moto.refuse("BatchGetSecretValue", Refusal("AccessDeniedException", "no"))
    refs = {"ONE": SecretRef(secretsmanager="one"), "TWO": SecretRef(secretsmanager="two")}
    assert resolve_all(refs) == {"ONE": "value one", "TWO": "value two"}


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("none", r"is not in Secrets Manager of eu-central-1$"),
        ("text:password", r"names a key of a secret that is no JSON object$"),
        ("json:nothing", r"has no text at the key nothing$"),
        ("json:table", r"has no text at the key table$"),
        ("binary", r"is binary, and no text$"),
        ("deleted", r"cannot be read: .*marked (for deletion|deleted)"),
        ("short", r"has fewer than 6 characters$"),
    ],
)
def test_a_secret_that_cannot_be_had_says_why(moto: Moto, create: Callable[..., str], place: str, said: str) -> None:
    create("text", SecretString="hunter2222")
    create("json", SecretString=json.dumps({"table": {}}))
    create("binary", SecretBinary=b"\x00\x01\x02\x03\x04\x05")
    create("deleted", SecretString="hunter2222")
    create("short", SecretString="abc")
    moto.client("secretsmanager").delete_secret(SecretId="deleted")
    with pytest.raises(ConfigError, match=said) as refused:
        resolve_all({"A": SecretRef(secretsmanager=place), "B": SecretRef(secretsmanager="text")})
    assert f'{{ secretsmanager = "{place}" }}' in refused.value.message
    assert "hunter2222" not in refused.value.message
