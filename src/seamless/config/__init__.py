"""The configuration: one TOML file, found, checked as a whole, and resolved for every service."""

from __future__ import annotations

from seamless.config.aws import Aws, EcsSettings, EnvironmentSettings, Place
from seamless.config.github import Git, GitHub
from seamless.config.loading import Config, Source, config_from, load_config
from seamless.config.models import (
    Access,
    Agent,
    Build,
    DeployParameters,
    IntegrationTest,
    Limits,
    Parameters,
    Registry,
    ServiceEnvironment,
)
from seamless.config.notify import NOTIFY_KINDS, Notify, NotifyEmail, NotifyWebhook
from seamless.config.secret import Secret, SecretRef
from seamless.config.values import format_duration, format_size, parse_duration, parse_size
from seamless.config.webhooks import Address, Webhooks, parse_address
from seamless.paths import CONFIG_VARIABLE, default_data_dir, default_socket, find_config

__all__ = [
    "CONFIG_VARIABLE",
    "NOTIFY_KINDS",
    "Access",
    "Address",
    "Agent",
    "Aws",
    "Build",
    "Config",
    "DeployParameters",
    "EcsSettings",
    "EnvironmentSettings",
    "Git",
    "GitHub",
    "IntegrationTest",
    "Limits",
    "Notify",
    "NotifyEmail",
    "NotifyWebhook",
    "Parameters",
    "Place",
    "Registry",
    "Secret",
    "SecretRef",
    "ServiceEnvironment",
    "Source",
    "Webhooks",
    "config_from",
    "default_data_dir",
    "default_socket",
    "find_config",
    "format_duration",
    "format_size",
    "load_config",
    "parse_address",
    "parse_duration",
    "parse_size",
]
