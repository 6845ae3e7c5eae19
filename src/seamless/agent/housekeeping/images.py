"""Images that are too many: on the engine, and in the registry that they were pushed to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from seamless.agent.environments import settings_of
from seamless.agent.housekeeping.garbage import Garbage, Turn
from seamless.agent.resources import Resources
from seamless.config import Parameters
from seamless.errors import RefusedError, SeamlessError, StageError
from seamless.model import Environment, Image, ImageRef, short
from seamless.stages.build import remove_image

_DEFAULT_KEEP: Final[int] = Parameters.model_fields["keep_images"].default


async def images(resources: Resources, turn: Turn) -> AsyncIterator[Garbage]:
    """Those of one digest go together, since a registry deletes by digest.

    What a registry refused to delete is tried again only when somebody asks.
    """
    retention, services = resources.store.retention, resources.config().services
    for together in _by_digest(await retention.leaving_images()):

        async def finish(together: Sequence[Image] = together) -> bool:
            await _remove(resources, together)
            return True

        yield _garbage(together, "its removal was cut short", finish)
    for service in await retention.image_services():
        keep = services[service].keep_images if service in services else _DEFAULT_KEEP
        groups = _by_digest(await retention.old_images(service, keep, refused=turn.asked))
        there, unseen = await _run_by_ecs(resources, service, groups)
        for together in groups:
            if any(_is(image, release) for image in together for release in there):
                continue

            async def remove(
                together: Sequence[Image] = together, keep: int = keep, unseen: SeamlessError | None = unseen
            ) -> bool:
                if unseen is not None and together[0].ref.repository is not None:
                    raise unseen
                if not await retention.take_images(together, keep):
                    return False
                await _remove(resources, together)
                return True

            newest = together[-1]
            why = f"older than the {keep} that are kept" if newest.trusted else f"{newest.run} is over"
            yield _garbage(together, why, remove)


async def _run_by_ecs(
    resources: Resources, service: str, groups: Sequence[Sequence[Image]]
) -> tuple[list[ImageRef], SeamlessError | None]:
    """What ECS itself says that it runs of a service, by whomever it was deployed; and why nothing is known of that.

    Asked only when something would go from a registry: ECS pulls an image again for each task that it starts. The
    engine of this host keeps by itself what a container uses.
    """
    config = resources.config()
    parameters = config.services.get(service)
    if parameters is None or not any(group[0].ref.repository is not None for group in groups):
        return [], None
    found: list[ImageRef] = []
    for environment in Environment:
        if config.environments[environment].target != "ecs":
            continue
        try:
            settings = settings_of(config, parameters, environment)
            release = await resources.targets["ecs"].current(service, environment, settings)
        except StageError:  # there is no such cluster or service
            continue
        except SeamlessError as error:
            return [], error
        if release is not None:
            found.append(release.image)
    return found, None


def _is(image: Image, release: ImageRef) -> bool:
    """A task definition names a digest or, when it was written by hand, perhaps a tag only."""
    if release.digest:
        return release.digest == image.ref.digest
    return release.repository == f"{image.ref.repository}:{image.tag}"


async def _remove(resources: Resources, together: Sequence[Image]) -> None:
    """What was taken. Cut short, or where something does not answer, it is tried again the next time."""
    for image in together:
        await remove_image(image, resources.installation)
    if together[0].ref.repository is not None:
        try:
            await resources.registries.delete(together)
        except RefusedError as error:
            await resources.store.retention.keep_refused(together, error.reason)
            raise
    await resources.store.retention.let_go(together)


def _garbage(together: Sequence[Image], why: str, remove: Callable[[], Awaitable[bool]]) -> Garbage:
    newest = together[-1]
    place = "" if newest.ref.repository is None else f", in {newest.ref.repository}"
    return Garbage("image", f"{newest.service}@{short(newest.commit)}", f"{why}{place}", None, remove)


def _by_digest(found: Sequence[Image]) -> list[list[Image]]:
    """In the order of the oldest of each."""
    groups: dict[tuple[str, ImageRef], list[Image]] = defaultdict(list)
    for image in found:
        groups[image.service, image.ref].append(image)
    return list(groups.values())
