"""Environments in ECS: whose account, which cluster, and what cannot be there."""

from __future__ import annotations

from pathlib import Path

from harness.configurations import load, problems, service
from seamless.config import Aws, EcsSettings, Place
from seamless.model import Environment


def test_an_ecs_environment_names_its_cluster_and_a_docker_one_nothing_of_aws(tmp_path: Path) -> None:
    text = """
        [aws]
        region = "eu-west-1"
        profile = "seamless"
        [environments.staging]
        target = "ecs"
        cluster = "staging"
        [environments.production]
        target = "ecs"
        cluster = "prod"
        region = "eu-central-1"
        assume_role = "arn:aws:iam::123456789012:role/deploy"
        [pipeline]
        ecs = { container = "app" }
        [services.payment]
        repo = "https://github.com/acme/payment"
        env = { NODE_ENV = "test" }
        [services.payment.environments.production]
        env = { LOG_LEVEL = "info" }
        ecs = { service = "payment-api", before_deploy = "npm run migrate" }
    """
    config = load(tmp_path, text)
    assert config.place_of(Environment.STAGING).access == Aws(region="eu-west-1", profile="seamless")
    assert config.place_of(Environment.PRODUCTION) == Place(
        Aws(region="eu-central-1", profile="seamless", assume_role="arn:aws:iam::123456789012:role/deploy"), "prod"
    )
    deploy = config.services["payment"].for_environment(Environment.PRODUCTION)
    assert deploy.ecs == EcsSettings(service="payment-api", container="app", before_deploy="npm run migrate")
    assert deploy.task_env == {"LOG_LEVEL": "info"}
    assert config.services["payment"].for_environment(Environment.STAGING).ecs == EcsSettings(container="app")
    assert problems(tmp_path, '[environments.staging]\ntarget = "ecs"') == [
        'environments.staging: needs cluster, the name of the ECS cluster, such as "prod"'
    ]
    assert problems(tmp_path, service('ecs = { before_deploy = "npm run migrate" }')) == [
        'services.payment.ecs.before_deploy: runs in environments with target = "ecs", and there is none'
    ]
    assert problems(tmp_path, '[environments.staging]\nregion = "eu-west-1"') == [
        'environments.staging: region is for environments with target = "ecs", and this one\'s is docker'
    ]


def test_a_service_may_be_in_a_cluster_of_its_own(tmp_path: Path) -> None:
    text = """
        [environments.production]
        target = "ecs"
        cluster = "prod"
        region = "eu-central-1"
        [services.payment]
        repo = "https://github.com/acme/payment"
        [services.payment.environments.production]
        ecs = { cluster = "pay", assume_role = "arn:aws:iam::123456789012:role/deploy" }
    """
    config = load(tmp_path, text)
    own = Place(Aws(region="eu-central-1", assume_role="arn:aws:iam::123456789012:role/deploy"), "pay")
    assert config.place_of(Environment.PRODUCTION, config.services["payment"]) == own
    assert config.place_of(Environment.PRODUCTION) == Place(Aws(region="eu-central-1"), "prod")
    assert config.images_access(config.services["payment"]) == own.access
    assert config.images_access() == Aws(region="eu-central-1")


def test_staging_and_production_cannot_be_one_service_of_ecs(tmp_path: Path) -> None:
    text = """
        [environments.staging]
        target = "ecs"
        cluster = "shop"
        [environments.production]
        target = "ecs"
        cluster = "shop"
        [services.payment]
        repo = "https://github.com/acme/payment"
        [services.mail]
        repo = "https://github.com/acme/mail"
        [services.mail.environments.staging]
        ecs = { service = "mail-staging" }
        [services.search]
        repo = "https://github.com/acme/search"
        use_staging = false
    """
    assert problems(tmp_path, text) == [
        "services.payment: staging and production are one and the same service of ECS, payment in the cluster shop; "
        "give one its own cluster or name"
    ]


def test_a_task_of_ecs_cannot_be_given_what_only_the_host_knows(tmp_path: Path) -> None:
    ecs = '[environments.production]\ntarget = "ecs"\ncluster = "prod"\n'
    secrets = "environments.production.secrets = {{ DB = {{ {} }}, OTHER = {{ ssm = '/x' }} }}"
    [found] = problems(tmp_path, service(secrets.format("env = 'DB'")) + ecs)
    assert found == (
        "services.payment.environments.production.secrets.DB: production is in ECS, which reads secrets from ssm or "
        "secretsmanager only"
    )
    load(tmp_path, service(secrets.format("secretsmanager = 'db:password'")) + ecs)
    load(tmp_path, service(secrets.format("env = 'DB'")))
