"""Every git command that a forge runs, as data: nothing here starts anything.

Git sees nothing of the host's configuration and environment but what stands here. A password is
only ever in the environment of the one program that needs it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from seamless.forges import Credentials
from seamless.forges.remotes import Remote, Transport
from seamless.programs import LOCAL_UPLOAD_PACK, Program, base_environment

_CONFIG: Final[Mapping[str, str]] = {
    "core.attributesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.fsync": "committed",  # loose objects too: a merge that was recorded survives a power failure
    "core.hooksPath": "/dev/null",
    "core.symlinks": "true",
    "fetch.unpackLimit": "1",  # always a pack: it appears whole or not at all, so a commit has all its objects
    "gc.autoDetach": "false",
    "protocol.ext.allow": "never",
    "submodule.recurse": "false",
}
_ENVIRONMENT: Final[Mapping[str, str]] = {
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/nonexistent",  # set, so that curl does not look up where .netrc might be
}
_PROXIES: Final = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")

# Asked by git for the origin it stands under, and for no other (a redirect elsewhere gets nothing).
# printf is a shell's own, so the password does not become an argument.
_CREDENTIAL_HELPER: Final = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$SEAMLESS_GIT_USERNAME" "$SEAMLESS_GIT_PASSWORD"; }; f'
)
_SSH_CONNECT_S: Final = 15


def local(
    mirror: Path,
    *arguments: str,
    config: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Program:
    """A command on the mirror that needs no network."""
    environment = {**base_environment(), **_ENVIRONMENT, "GIT_DIR": str(mirror), **(env or {})}
    return Program(["git", *_options({**_CONFIG, **(config or {})}), *arguments], environment, cwd=mirror, stdin=stdin)


def init(folder: Path, object_format: str) -> Program:
    """Makes a bare repository that owes nothing to the host's templates."""
    arguments = ["init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", "--", str(folder)]
    return Program(["git", *arguments], {**base_environment(), **_ENVIRONMENT})


def read_tree(mirror: Path, commit: str, files: Path, index: Path) -> Program:
    """Makes `files` the commit's tree, going by what `index` says is there."""
    return _on_tree(mirror, files, index, "read-tree", "-u", "--reset", commit)


def clean(mirror: Path, files: Path, index: Path) -> Program:
    """Removes from `files` what `index` does not know, whatever it is."""
    return _on_tree(mirror, files, index, "clean", "--quiet", "-ffdx")


def _on_tree(mirror: Path, files: Path, index: Path, *arguments: str) -> Program:
    env = {"GIT_WORK_TREE": str(files), "GIT_INDEX_FILE": str(index)}
    return replace(local(mirror, *arguments, config={"checkout.workers": "2"}, env=env), cwd=files)


@dataclass(frozen=True, slots=True)
class NetworkCommands:
    """The commands that talk to a remote, for one installation.

    `folder` holds the mirrors and the host keys met so far; no repository may be around it.
    """

    folder: Path
    low_speed_s: float
    ca_bundle: Path | None = None

    def list_refs(self, remote: Remote, patterns: Sequence[str] = ()) -> Program:
        """`git ls-remote`; asks the server for no more kinds of refs than the patterns need."""
        kinds = [option for option, prefix in _KINDS if any(pattern.startswith(prefix) for pattern in patterns)]
        if not all(pattern.startswith(tuple(prefix for _, prefix in _KINDS)) for pattern in patterns):
            kinds = []
        return self._list(remote, kinds, patterns)

    def list_branches_and_tags(self, remote: Remote) -> Program:
        return self._list(remote, [option for option, _ in _KINDS], ())

    def find_head(self, remote: Remote) -> Program:
        """Which branch the remote's HEAD stands for, and its commit."""
        return self._list(remote, ["--symref"], ["HEAD"])

    def fetch(self, remote: Remote, mirror: Path, refspecs: Sequence[str], *, prune: bool = False) -> Program:
        """Fetches into the mirror, nothing but what the refspecs name; progress on stderr."""
        options = ["--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance"]
        options += ["--force", "--progress", *(["--prune"] if prune else [])]
        arguments = ["fetch", *options, *_upload_pack(remote), "--", remote.address, *refspecs]
        return Program(
            ["git", *_options(self._config(remote)), *arguments],
            {**self._environment(remote), "GIT_DIR": str(mirror)},
            cwd=mirror,
        )

    def _list(self, remote: Remote, options: Sequence[str], patterns: Sequence[str]) -> Program:
        arguments = ["ls-remote", "--quiet", *options, *_upload_pack(remote), "--", remote.address, *patterns]
        return Program(
            ["git", *_options(self._config(remote)), *arguments],
            {**self._environment(remote), "GIT_CEILING_DIRECTORIES": str(self.folder)},
            cwd=self.folder,
        )

    def _config(self, remote: Remote) -> Mapping[str, str]:
        config = {**_CONFIG}
        if remote.transport is Transport.HTTP:
            config["http.followRedirects"] = "initial"
            config["http.lowSpeedLimit"] = "1"  # bytes a second; a server that packs sends a sign of life every 5 s
            config["http.lowSpeedTime"] = str(max(1, round(self.low_speed_s)))
            if remote.password is not None:
                config[f"credential.{remote.origin}.helper"] = _CREDENTIAL_HELPER
        return config

    def _environment(self, remote: Remote) -> Mapping[str, str]:
        environment = {**base_environment(), **_ENVIRONMENT}
        if remote.transport is Transport.HTTP:
            environment |= {name: os.environ[name] for name in _PROXIES if name in os.environ}
            if self.ca_bundle is not None:
                environment["GIT_SSL_CAINFO"] = str(self.ca_bundle)
            if remote.password is not None:
                environment["SEAMLESS_GIT_USERNAME"] = remote.username or ""
                environment["SEAMLESS_GIT_PASSWORD"] = remote.password
        if remote.transport is Transport.SSH:
            environment["GIT_SSH_VARIANT"] = "ssh"
            environment["GIT_SSH_COMMAND"] = shlex.join(ssh_command(remote.credentials, self.folder / "known_hosts"))
            if remote.credentials.key_file is None and "SSH_AUTH_SOCK" in os.environ:
                environment["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
        return environment


def ssh_command(credentials: Credentials, met_hosts: Path) -> list[str]:
    """How git is to call ssh. The agent's user's ~/.ssh/config stays in force for all that is not set here.

    A host key is checked against `credentials.known_hosts` if that is given. Without it, the first
    key that a host shows is kept in `met_hosts` and asked for from then on; what the user's own
    known_hosts says is respected.
    """
    command = ["ssh", "-oBatchMode=yes", f"-oConnectTimeout={_SSH_CONNECT_S}"]
    command += ["-oServerAliveInterval=10", "-oServerAliveCountMax=3", "-oControlPath=none"]
    if credentials.key_file is not None:
        command += ["-oIdentityAgent=none", "-oIdentitiesOnly=yes", "-i", _ssh_path(credentials.key_file)]
    if credentials.known_hosts is not None:
        command += ["-oStrictHostKeyChecking=yes", "-oGlobalKnownHostsFile=/dev/null"]
        command += [f'-oUserKnownHostsFile="{_ssh_path(credentials.known_hosts)}"']
    else:
        command += ["-oStrictHostKeyChecking=accept-new", "-oHashKnownHosts=no"]
        command += [f'-oUserKnownHostsFile="{_ssh_path(met_hosts)}" ~/.ssh/known_hosts']
    return command


_KINDS: Final = (("--heads", "refs/heads/"), ("--tags", "refs/tags/"))


def _options(config: Mapping[str, str]) -> list[str]:
    return [word for key, value in config.items() for word in ("-c", f"{key}={value}")]


def _upload_pack(remote: Remote) -> list[str]:
    return [f"--upload-pack={LOCAL_UPLOAD_PACK}"] if remote.transport is Transport.LOCAL else []


def _ssh_path(path: Path) -> str:
    return str(path).replace("%", "%%")
