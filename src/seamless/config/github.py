"""How to get at repositories, and at GitHub."""

from __future__ import annotations

from pydantic import Field

from seamless.config import values as v
from seamless.config.secret import SecretRef
from seamless.config.table import Table
from seamless.github_names import API_URL, repository_name

_TOKEN_USER = "x-access-token"  # GitHub takes any name with a token


class Git(Table):
    """How to get at a private repository."""

    token: SecretRef | None = Field(
        default=None,
        description="password for https remotes; of a repository on GitHub also the API's token, before `github.token`",
    )
    username: v.Line = Field(default="git", description="user name that goes with `token`")
    key: v.Maybe[v.HostPath] = Field(default=None, description="private key for ssh remotes")
    known_hosts: v.Maybe[v.HostPath] = Field(default=None, description="host keys to trust for ssh remotes")


class GitHub(Table):
    """How to reach GitHub. Repositories elsewhere are used by git alone."""

    token: SecretRef | None = Field(
        default=None, description="for the API, and for cloning https remotes there; `seamless login` stores one"
    )
    api_url: v.GitHubApiUrl = Field(
        default=API_URL, description='for GitHub Enterprise Server such as `"https://ghe.acme.example/api/v3"`'
    )
    client_id: v.Maybe[v.Word] = Field(
        default=None, description="of your OAuth app, for `seamless login --device`; its device flow must be enabled"
    )

    def credentials_for(self, repo: str, git: Git) -> Git:
        """A service's credentials, with `token` where its repository is on this GitHub and it has none of its own."""
        if self.token is None or git.token is not None or repository_name(repo, self.api_url) is None:
            return git
        return git.model_copy(update={"token": self.token, "username": _TOKEN_USER})
