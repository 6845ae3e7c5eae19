"""What git's complaint about a remote means, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from seamless.forges import RemoteProblem, RemoteUnavailableError
from seamless.forges.remotes import Remote, Transport, printable


@dataclass(frozen=True, slots=True)
class _Symptom:
    pattern: re.Pattern[str]
    problem: RemoteProblem
    meaning: str
    hint: str


def _symptom(problem: RemoteProblem, pattern: str, meaning: str, hint: str) -> _Symptom:
    return _Symptom(re.compile(pattern, re.IGNORECASE), problem, meaning, hint)


# The first that matches decides, so what is certain stands before what only sounds like it.
_SYMPTOMS: Final = (
    _symptom(
        RemoteProblem.REFUSED,
        r"host key verification failed|remote host identification has changed|no .* host key is known",
        "the host shows a key that is not the one known for it",
        "compare the host's key with the one its operator publishes, then correct the known_hosts file",
    ),
    _symptom(
        RemoteProblem.REFUSED,
        r"certificate|SSL_ERROR|unable to get local issuer",
        "the server's certificate is not trusted",
        "give the agent the CA bundle that signs it (agent.ca_bundle)",
    ),
    _symptom(
        RemoteProblem.STALLED,
        r"operation too slow|(?:connection|operation) timed out|timeout, server .* not responding|timed out after",
        "it stalled",
        "try again; look at the network between this host and the server",
    ),
    _symptom(
        RemoteProblem.UNREACHABLE,
        r"could not resolve|unable to look ?up|name or service not known|failed to connect|couldn't connect"
        r"|connection refused|no route to host|network is unreachable|unable to connect|connection reset"
        r"|connection closed|empty reply|error in the .*layer|returned error: (?:5\d\d|429)|gnutls|handshake",
        "it cannot be reached",
        "check the address, and that this host may connect there",
    ),
    _symptom(
        RemoteProblem.NOT_FOUND,
        r"repository .* not found|repository not found|returned error: (?:404|410)|does not appear to be a git"
        r"|no such repository|not exported|project you were looking for|does not exist|not a git repository"
        r"|not valid: is this a git repository",
        "there is no such repository, or these credentials may not see it",
        "check the URL, and what the token or key gives access to",
    ),
    _symptom(
        RemoteProblem.REFUSED,
        r"authentication failed|could not read (?:username|password)|terminal prompts disabled|permission denied"
        r"|access denied|returned error: 40[13]|invalid credentials|load key|too many authentication failures",
        "it refuses access",
        "check the service's git.token or git.key: present, not expired, and allowed to read this repository;"
        " for GitHub: seamless login",
    ),
    _symptom(
        RemoteProblem.UNREACHABLE,
        r"expected 'packfile'|early EOF|unexpected disconnect|hung up unexpectedly|bad pack header|RPC failed"
        r"|transfer closed with",
        "it broke off in the middle",
        "try again; look at the network between this host and the server",
    ),
)
_COMPLAINT: Final = re.compile(r"^(?:fatal|error|ssh|remote|git|curl)\b.*:", re.IGNORECASE)


def explain(remote: Remote, stderr: bytes) -> RemoteUnavailableError:
    """The error for a git that failed on `remote` and said this (in the C locale)."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr.decode(errors="replace")) if line.strip()]
    for symptom in _SYMPTOMS:
        for line in reversed(lines):
            if symptom.pattern.search(line):
                return _error(remote, symptom.problem, symptom.meaning, _hint(symptom, remote), said=line)
    complaints = [line for line in lines if _COMPLAINT.match(line)] or lines
    said = complaints[-1] if complaints else "nothing"
    return _error(remote, RemoteProblem.OTHER, "git failed", "run git ls-remote on it by hand", said=said)


def stalled(remote: Remote, how: str) -> RemoteUnavailableError:
    """The error for a git that had to be killed; `how` is for example "wrote nothing for 30 s"."""
    hint = "try again; look at the network between this host and the server"
    return _error(remote, RemoteProblem.STALLED, f"it stalled: git {how}", hint)


def killed(remote: Remote, signal_number: int) -> RemoteUnavailableError:
    """The error for a git that somebody else killed."""
    meaning = f"git was killed (signal {signal_number})"
    return _error(remote, RemoteProblem.OTHER, meaning, "try again; is there enough memory?")


def _hint(symptom: _Symptom, remote: Remote) -> str:
    if symptom.problem is RemoteProblem.REFUSED and remote.transport is Transport.LOCAL:
        return "let the agent's user read that folder"
    return symptom.hint


def _error(
    remote: Remote, problem: RemoteProblem, meaning: str, hint: str, *, said: str | None = None
) -> RemoteUnavailableError:
    quoted = "" if said is None else f" (git: {printable(said)})"
    return RemoteUnavailableError(f"cannot use {printable(remote.address)}: {meaning}{quoted}", problem, hint=hint)
