"""The steps of `seamless demo`, each by the command that a user would type."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Final

from rich.text import Text

from seamless.cli.outcomes import EXIT_CODES
from seamless.cli.session import Session
from seamless.cli.shop import Shop
from seamless.errors import SeamlessError

_ANSWERS_WITHIN_S: Final = 10.0
_PAY: Final = "/cgi-bin/pay?amount=100"


class DemoInterruptedError(SeamlessError):
    """The user interrupted the demo; what it made so far stays."""

    code = "interrupted"
    exit_code = 130


class Tour:
    """The steps of the demo. `pauses`: it waits for Enter before an approval."""

    def __init__(self, session: Session, shop: Shop, *, pauses: bool) -> None:
        self._console = session.console
        self._shop = shop
        self._pauses = pauses
        unwanted = ("SEAMLESS_SOCKET", "SEAMLESS_HOST")
        self._environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        self._environment["SEAMLESS_CONFIG"] = str(shop.config_file)
        self._export = f"export SEAMLESS_CONFIG={shlex.quote(str(shop.config_file))}"

    def take(self) -> None:
        began = time.monotonic()
        shop = self._shop
        self._title("A shop of three services, each a git repository: gateway, notification, payment")
        ports = shop.make()
        staging, production = (f"http://127.0.0.1:{ports[name]}{_PAY}" for name in ("staging", "production"))
        first = shop.git("payment", "rev-parse", "--short=7", "HEAD")
        print(f"in {shop.repositories}, all described by {shop.config_file}\n")
        self._show(self._export)
        self._seamless("agent", "start")

        self._title("gateway and notification go to production by themselves: auto_deploy = true")
        self._seamless("run", "notification", "--detach")
        self._seamless("run", "gateway")
        self._await("notification")

        self._title("payment takes the whole way, tested against what production runs, and waits for your word")
        self._seamless("run", "payment", ends_with=EXIT_CODES["awaiting_approval"])
        self._get(staging, '"fee": 3')
        self._approve()
        self._get(production, '"fee": 3')

        self._title("A second commit")
        self._commit("s/percent=3/percent=2/", "Lower the fee to 2 %")
        self._seamless("run", "payment", ends_with=EXIT_CODES["awaiting_approval"])
        self._approve()
        self._get(production, '"fee": 2')

        self._title("Back to the first: from now on payment is on hold, and production opens only on someone's word")
        self._seamless("rollback", "payment", "--to", first)
        self._get(production, '"fee": 3')
        self._seamless("status")
        self._how_to_go_on(time.monotonic() - began)

    def _title(self, text: str) -> None:
        self._console.print(Text(f"== {text}", "bold"))

    def _show(self, command: str) -> None:
        """A command as the user would type it."""
        self._console.print(Text(f"$ {command}", "cyan"))
        sys.stdout.flush()

    def _seamless(self, *arguments: str, ends_with: int = 0) -> None:
        self._show(f"seamless {shlex.join(arguments)}")
        code = subprocess.run([sys.executable, "-m", "seamless", *arguments], env=self._environment).returncode
        if code == DemoInterruptedError.exit_code:
            raise KeyboardInterrupt
        if code != ends_with:
            raise SeamlessError(
                f"seamless {shlex.join(arguments)} ended with {code}, and not with {ends_with}",
                hint=f"See {self._shop.data_dir / 'agent.log'}",
            )
        print()

    def _await(self, service: str) -> None:
        """Until the latest run of a service, which nobody follows, is over."""
        from seamless.cli.outcomes import EXIT_CODES

        session = Session(config=self._shop.config_file, socket=None, no_color=True)
        with session.agent() as agent:
            while (run := agent.run(service))["state"] not in EXIT_CODES:
                time.sleep(0.1)
        if run["state"] != "success":
            raise SeamlessError(f"{run['id']} is {run['state']}: {run['reason']}", hint=f"seamless show {run['id']}")

    def _approve(self) -> None:
        if self._pauses:
            input("Press Enter to approve it. ")
        self._seamless("approve", "payment")

    def _get(self, url: str, expected: str) -> None:
        self._show(f"curl -s {shlex.quote(url)}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=_ANSWERS_WITHIN_S) as response:
                answer = response.read().decode(errors="replace").strip()
        except OSError as error:
            raise SeamlessError(f"GET {url}: {error}") from None
        print(answer)
        if expected not in answer:
            raise SeamlessError(f"GET {url} did not answer {expected}")
        print()

    def _commit(self, edit: str, message: str) -> None:
        """Change the price in payment, and commit it: both as a user would."""
        self._show(f"cd {shlex.quote(str(self._shop.repositories / 'payment'))}")
        self._show(f"sed -i {edit} www/cgi-bin/pay")
        self._shop.edit("payment", "www/cgi-bin/pay", edit)
        self._show(f"git commit -am {shlex.quote(message)}")
        print(self._shop.git("payment", "commit", "-am", message) + "\n")

    def _how_to_go_on(self, took_s: float) -> None:
        self._title(f"That was the whole way, in {took_s:.0f} s. The shop stays up; go on with it:")
        here = Path(sys.executable).parent
        if shutil.which("seamless") is None:
            print(f'$ export PATH="{here}:$PATH"')
        print(f"$ {self._export}")
        for command, what in (
            ("seamless status", "the fleet"),
            ("seamless logs payment", "what its last run wrote"),
            ("seamless images payment", "what can be rolled back to"),
            ("seamless release payment", "end the hold"),
            ("seamless promote payment", "to production what staging runs"),
            (self._shop.down, "remove every trace of all this"),
        ):
            print(f"$ {command:<28}# {what}")
