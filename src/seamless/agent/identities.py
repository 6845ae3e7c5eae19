"""Whether a repository's address still leads where it did: a name that was given up may be anybody's now."""

from __future__ import annotations

from seamless.agent.store import Store
from seamless.errors import RefusedError
from seamless.forges import Repository
from seamless.forges.github import GitHub


async def confirm_identity(store: Store, github: GitHub, repository: Repository) -> None:
    """Asks GitHub for the repository's number, which stays when it is renamed or transferred; the first is kept.

    Raises RefusedError for another repository than before, GitHubError when GitHub does not tell.
    """
    before = await store.repositories.id_of(repository.url)
    now = await github.identify(repository)
    if before is None:
        await store.repositories.identify(repository.url, now.id)
    elif before != now.id:
        raise RefusedError(
            f"{now.name} is another repository than before (number {now.id}, was {before}), so it is not run",
            hint="set repo to where it is now; or, if this is the one, take its services out for a moment",
        )
