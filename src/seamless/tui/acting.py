"""What a user does to a service or a run, from wherever one is shown. The agent decides; its refusals are shown as the
CLI shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType

from seamless.errors import RefusedError, SeamlessError
from seamless.logtext import plain, word
from seamless.model import COMMAND_STAGES, NEEDS, StageName, short
from seamless.rendering.runs import approval_facts, header
from seamless.transitions import RUN_ENDED
from seamless.tui.dialogs import Answer, Dialog, Question
from seamless.tui.room import Room

if TYPE_CHECKING:
    from seamless.client import Client
    from seamless.wire import RunJSON

T = TypeVar("T")


class ActingRoom(Room):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "approve", "Approve", id="approve"),
        Binding("x", "reject", "Reject", show=False, id="reject"),
        Binding("r", "run", "Run", id="run"),
        Binding("R", "rerun", "Rerun", id="rerun"),
        Binding("c", "cancel", "Cancel run", id="cancel"),
        Binding("b", "rollback", "Roll back", id="rollback"),
        Binding("p", "promote", "Promote", show=False, id="promote"),
        Binding("H", "hold", "Hold", show=False, id="hold"),
        Binding("U", "release", "Release the hold", show=False, id="release"),
        Binding("l", "show_run", "Log", show=False, id="show_run"),
        Binding("S", "shell", "Shell in a failed stage", show=False, id="shell"),
    ]

    @property
    def service(self) -> str | None:
        """What the actions on services are about."""
        return None

    @property
    def run_name(self) -> str | None:
        """What the actions on runs are about."""
        return None

    @property
    def stage_name(self) -> str | None:
        return None

    async def attempt(self, question: Callable[[Client], T]) -> T | None:
        """The agent's answer; what it refuses is shown, and None returned."""
        try:
            return await self.home.ask(question)
        except SeamlessError as error:
            self.complain(error)
            return None

    async def question(self, question: Question) -> Answer | None:
        self.app.clear_notifications()  # they would lie over it
        return await self.app.push_screen_wait(Dialog(question))

    def open_run(self, run: str) -> None:
        from seamless.tui.run import RunRoom

        if isinstance(self, RunRoom):
            self.app.switch_screen(RunRoom(run))
        else:
            self.app.push_screen(RunRoom(run))

    def _named(self, name: str | None, what: str) -> str | None:
        if name is None:
            self.complain(SeamlessError(f"there is no {what} here"))
        return name

    def action_show_run(self) -> None:
        if name := self._named(self.run_name, "run"):
            self.open_run(name)

    @work
    async def action_approve(self) -> None:
        """Shows what the approval would let through."""
        name = self.run_name if self.listing_is_of_runs else self.service
        if not (name := self._named(name or self.run_name, "run")):
            return
        waiting = await self.attempt(lambda agent: _waiting(agent, name))
        if waiting is not None:
            from seamless.tui.approval import approve

            await approve(self, waiting)

    listing_is_of_runs = False

    @work
    async def action_reject(self) -> None:
        name = self.run_name if self.listing_is_of_runs else self.service
        if not (name := self._named(name or self.run_name, "run")):
            return
        waiting = await self.attempt(lambda agent: _waiting(agent, name))
        if waiting is not None:
            await self.reject(waiting)

    async def reject(self, run: RunJSON) -> None:
        answer = await self.question(
            Question(
                f"Reject {run['id']}?",
                approval_facts(run, self.home.viewer())[:3],
                do="Reject",
                word="Why? It is kept with the run.",
                word_needed=True,
            )
        )
        if answer is None:
            return
        rejected = await self.attempt(lambda agent: agent.reject(run["id"], answer.word))
        if rejected:
            self.say(f"{run['id']} is rejected")

    @work
    async def action_run(self) -> None:
        if not (service := self._named(self.service, "service")):
            return
        answer = await self.question(
            Question(
                f"Run the pipeline for {service}",
                do="Run",
                word="Branch, tag or commit; nothing for the service's branch:",
                choices={
                    "checks": "only prepare, code_quality and unit_test",
                    "staging": "deploy another ref than the branch to staging",
                    "rebuild": "build a new image although there is one",
                },
            )
        )
        if answer is None:
            return
        ticked = answer.ticked
        started = await self.attempt(
            lambda agent: agent.start_run(
                service,
                ref=answer.word or None,
                checks="checks" in ticked,
                staging="staging" in ticked,
                rebuild="rebuild" in ticked,
            )
        )
        if started:
            self.open_run(started["id"])

    @work
    async def action_rerun(self) -> None:
        if not (name := self._named(self.run_name, "run")) or not (run := await self._read(name)):
            return
        stages = [stage["name"] for stage in run["stages"]]
        failed = next((stage["name"] for stage in run["stages"] if stage["state"] == "failure"), None)
        chosen = self.stage_name or failed
        lines = [header(run, self.home.viewer()), Text("It is a new run, on today's parameters.", "dim")]
        if failed:
            lines.append(Text(f"It failed in {failed}.", "dim"))
        answer = await self.question(
            Question(
                f"Run {run['id']} again?",
                lines,
                do="Rerun all",
                other=f"From {chosen}" if chosen in stages and NEEDS[StageName(chosen)] else None,
            )
        )
        if answer is None:
            return
        from_stage = chosen if answer.button == "other" else None
        if started := await self.attempt(lambda agent: agent.rerun(run["id"], from_stage=from_stage)):
            self.open_run(started["id"])

    @work
    async def action_cancel(self) -> None:
        if not (name := self._named(self.run_name, "run")) or not (run := await self._read(name)):
            return
        if run["state"] in RUN_ENDED:
            self.complain(RefusedError(f"{run['id']} has ended already: {run['state']}"))
            return
        answer = await self.question(
            Question(
                f"Cancel {run['id']}?",
                [
                    header(run, self.home.viewer()),
                    Text("A deploy that has begun is rolled back first.", "dim"),
                ],
                do="Cancel the run",
                leave="Go back",
                word="Why? (may stay empty)",
            )
        )
        if answer and (cancelled := await self.attempt(lambda agent: agent.cancel(run["id"], answer.word))):
            done = cancelled["state"] == "cancelled"
            self.say(f"{run['id']} is {'cancelled' if done else 'being cancelled'}")

    def action_rollback(self) -> None:
        from seamless.tui.rollback import RollbackRoom

        if service := self._named(self.service, "service"):
            self.app.push_screen(RollbackRoom(service))

    @work
    async def action_promote(self) -> None:
        if not (service := self._named(self.service, "service")):
            return
        found = await self.attempt(lambda agent: agent.status(service))
        if not found:
            return
        staging, production, hold = found[0]["staging"], found[0]["production"], found[0]["hold"]
        lines = [
            Text(f"staging runs     {short(staging['commit']) if staging else 'nothing'}"),
            Text(f"production runs  {short(production['commit']) if production else 'nothing'}"),
        ]
        choices = {"rewritten": "although production's commit is not among the ancestors"}
        if hold:
            lines.append(Text(f"on hold          {plain(hold['why'])}", "yellow"))
            choices = {"release": "end the hold, once this deployment has succeeded", **choices}
        answer = await self.question(
            Question(f"Deploy to production what staging runs of {service}?", lines, do="Promote", choices=choices)
        )
        if answer is None:
            return
        started = await self.attempt(
            lambda agent: agent.promote(
                service, release="release" in answer.ticked, allow_rewritten="rewritten" in answer.ticked
            )
        )
        if started:
            self.open_run(started["id"])

    @work
    async def action_hold(self) -> None:
        if not (service := self._named(self.service, "service")):
            return
        answer = await self.question(
            Question(
                f"Put {service} on hold?",
                [Text("Its production then opens only on someone's word.", "dim")],
                do="Hold",
                word="Why? It is shown with the service.",
                word_needed=True,
            )
        )
        if answer is None:
            return
        held = await self.attempt(lambda agent: agent.hold(service, answer.word))
        if held:
            self.say(f"{service} is on hold")

    @work
    async def action_release(self) -> None:
        if not (service := self._named(self.service, "service")):
            return
        status = self.home.fleet.get(service)
        hold = status["hold"] if status else None
        if hold is None:
            self.complain(RefusedError(f"{service} is not on hold"))
            return
        why = Text(f"It is on hold: {plain(hold['why'])} ({self.home.viewer().call(hold['by'])})")
        if await self.question(Question(f"End the hold of {service}?", [why], do="Release")):
            try:
                await self.home.ask(lambda agent: agent.release(service))
                self.say(f"{service} is not on hold any more")
            except SeamlessError as error:
                self.complain(error)

    @work
    async def action_shell(self) -> None:
        """Only in a run of which a command failed: the terminal is not given away for a refusal."""
        if not (name := self._named(self.run_name, "run")) or not (run := await self._read(name)):
            return
        states = {stage["name"]: stage["state"] for stage in run["stages"] if stage["name"] in COMMAND_STAGES}
        failed = next((stage for stage, state in states.items() if state == "failure"), None)
        if failed is None:
            self.complain(RefusedError(f"no command of {run['id']} failed, and a shell opens where one did"))
            return
        stage = self.stage_name or failed
        if states.get(stage) in ("failure", "success"):
            self.home.run_command("shell", run["id"], stage)
            return
        why = f"{stage} of {run['id']} is {word(states[stage])}" if stage in states else f"{stage} runs no commands"
        self.complain(RefusedError(f"{why}: there is no workspace to look into", hint=f"{failed} failed"))

    async def _read(self, name: str) -> RunJSON | None:
        return await self.attempt(lambda agent: agent.run(name))


def _waiting(agent: Client, name: str) -> RunJSON:
    """The run that waits, by its id or its service."""
    run = agent.run(name)
    if run["state"] == "awaiting_approval":
        return run
    found = agent.runs(service=run["service"], state="awaiting_approval", limit=1) if name == run["service"] else []
    if not found:
        raise RefusedError(f"{run['id']} is not waiting for approval: it is {run['state']}")
    return found[0]
