"""Nothing left: removes what a run made on the engine and the disk, once the run is over."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Final
from weakref import WeakValueDictionary

from seamless.agent.deploying import DeploymentJournal
from seamless.agent.resources import Resources
from seamless.config import Parameters
from seamless.errors import SeamlessError
from seamless.executors import LABEL_ROLE, LABEL_RUN, Found
from seamless.model import Environment, Run, StageName, utc_now
from seamless.stages.build import remove_image
from seamless.stages.compose_clearing import clear_project
from seamless.stages.integration import project_name
from seamless.transitions import DeploymentState, RunState, StageState

_KEEPERS: Final = frozenset({"deployment", "network"})  # roles that are nobody's run
_TURN_S: Final = 20.0
_KEPT_CHECK_TURNS: Final = 15
_log = logging.getLogger(__name__)


class Cleaner:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._again: dict[str, Run] = {}
        self._clearing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._retiring: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def clean(self, run: Run) -> None:
        """Idempotent. What cannot be removed now is tried again, also by the next agent."""
        self._again.pop(run.id, None)
        try:
            await self.remove_objects(run.id)
            await self._finish(run)
            await self._resources.workspaces.maintain(run)
        except (SeamlessError, OSError) as error:
            _log.warning("could not clean up after %s, and will try again: %s", run.id, error)
            self._again[run.id] = run

    async def remove_objects(self, run: str) -> None:
        """Containers, volumes and networks of a run whose stages have all ended, but for what it deployed.

        A shell that somebody has open over one of its workspaces is left to its own end.
        """
        await self.clear_tests(run)
        found = [item for item in await self._resources.executor.find() if item.labels.get(LABEL_RUN) == run]
        await self._remove(item for item in found if item.labels.get(LABEL_ROLE) != "shell")

    async def recover(self) -> None:
        """Cleans up after every run that is over and every crash, then keeps an eye on kept workspaces."""
        try:
            await self._remove_strays()
        except (SeamlessError, OSError):
            _log.exception("could not remove what earlier runs left; the next start of the agent tries again")
        for ended in await self._resources.store.runs.uncleaned():
            await self.clean(ended)
        for turn in itertools.count():
            for ended in list(self._again.values()):
                await self.clean(ended)
            if turn % _KEPT_CHECK_TURNS == 0:
                await self._discard_expired()
            await asyncio.sleep(_TURN_S)

    async def _discard_expired(self) -> None:
        try:
            await self._resources.workspaces.discard_views(await self._resources.store.workspaces.expired_views())
        except (SeamlessError, OSError):
            _log.exception("could not remove a workspace that was kept; it is tried again")

    async def _remove_strays(self) -> None:
        by_run: dict[str, list[Found]] = defaultdict(list)
        for item in await self._resources.executor.find():
            if item.labels.get(LABEL_ROLE) not in _KEEPERS and LABEL_RUN in item.labels:
                by_run[item.labels[LABEL_RUN]].append(item)
        # Asked afterwards: a run that has begun since the start made what was found.
        active = {run.id for run in await self._resources.store.runs.active()}
        for run, found in by_run.items():
            if run not in active:
                await self._remove(found)

    async def _remove(self, found: Iterable[Found]) -> None:
        """Containers first: they use the rest."""
        executor = self._resources.executor
        going = [item for item in found if item.labels.get(LABEL_ROLE) not in _KEEPERS]
        for kind, remove in (
            ("container", executor.remove),
            ("volume", executor.remove_view),
            ("network", executor.remove_network),
        ):
            await asyncio.gather(*(remove(item.name) for item in going if item.kind == kind))

    async def _finish(self, run: Run) -> None:
        resources = self._resources
        await resources.workspaces.keep_caches(run)
        keep_s = Parameters.model_validate(run.parameters).keep_failed
        if run.state is RunState.FAILURE and keep_s > 0:
            await resources.store.workspaces.keep_views(run.id, utc_now() + timedelta(seconds=keep_s))
        else:
            await resources.workspaces.discard(run)
        resources.workspaces.local_source(run.id).unlink(missing_ok=True)
        await resources.executor.remove_paths(
            [path for path in (resources.data_dir / "spool" / run.id, resources.work(run.id)) if path.exists()]
        )
        await self._remove_untrusted_image(run)
        await self.retire(run.id)
        await resources.store.runs.mark_cleaned(run.id)

    async def clear_tests(self, run: str) -> None:
        """Takes down the Compose project in which the run's tests have passed. Idempotent."""
        async with self._clearing.setdefault(run, asyncio.Lock()):
            stage = (await self._resources.store.runs.get(run)).stage(StageName.INTEGRATION_TEST)
            if stage is not None and stage.state is StageState.SUCCESS:
                await clear_project(project_name(self._resources.installation, run, stage.attempt))

    async def retire(self, run: str) -> None:
        """Ends what the run's completed deployments replaced. Idempotent."""
        async with self._retiring.setdefault(run, asyncio.Lock()):
            for environment, settings in self._resources.config().environments.items():
                deployment = await self._resources.store.deployments.of_run(run, Environment(environment))
                if deployment is not None and deployment.state is DeploymentState.SUCCESS:
                    journal = DeploymentJournal(self._resources.store, deployment)
                    await self._resources.targets[settings.target].retire(journal)

    async def _remove_untrusted_image(self, run: Run) -> None:
        """Nothing uses it after its run: it cannot be deployed. What lies in a registry is left to the housekeeping."""
        image = await self._resources.store.images.untrusted_of(run.id)
        if image is None or run.stage(StageName.DEPLOY_STAGING) is not None:
            return
        await remove_image(image, self._resources.installation)
        if image.ref.repository is None:
            await self._resources.store.images.mark_gone(image.id)
