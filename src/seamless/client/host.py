"""The part of the client that is about the agent and its host: what `seamless.client.Client` inherits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, cast

from seamless.client.transport import Transport

if TYPE_CHECKING:
    from seamless.wire import FindingJSON, GarbageJSON, VersionJSON
    from seamless.wire_github import DeviceJSON

_LONG_S: Final = 600.0  # for what goes through all repositories, or all data


class HostCalls(Transport):
    """One method for each endpoint; raises as `Client` does."""

    def version(self) -> VersionJSON:
        return cast("VersionJSON", self._get("version"))

    def reload(self) -> VersionJSON:
        """Makes the agent read its configuration again; raises ConfigError for one that is not in force."""
        return cast("VersionJSON", self._post("reload", {}))

    def artifacts(self, run: str, stage: str) -> Iterator[bytes]:
        """The gzipped tar of what a stage left; `run` is an id that the agent gave."""
        with self._stream(f"runs/{run}/stages/{stage}/artifacts", {}) as answer:
            yield from answer.iter_raw()

    def backup(self) -> Iterator[bytes]:
        """The bytes of a backup of the agent's data. Incomplete unless the iterator ends by itself."""
        with self._stream("backup", {}) as answer:
            yield from answer.iter_raw()

    def gc(self, *, dry_run: bool = False) -> list[GarbageJSON]:
        """Removes what was kept long enough, and tells what that was or would be."""
        asked = {"dry_run": str(dry_run).lower()}
        return cast("list[GarbageJSON]", self._send("POST", "gc", params=asked, timeout=_LONG_S).json())

    def doctor(self) -> list[FindingJSON]:
        """What the agent finds on its host."""
        return cast("list[FindingJSON]", self._send("GET", "doctor", timeout=_LONG_S).json())

    def check(self, *, offline: bool = False) -> list[FindingJSON]:
        """What is wrong with the agent's configuration file as it is now, and with all that it names."""
        asked = {"offline": str(offline).lower()}
        return cast("list[FindingJSON]", self._send("POST", "check", params=asked, timeout=_LONG_S).json())

    def test_notifications(self, name: str | None = None) -> list[FindingJSON]:
        """Has a test sent to one `[notify.NAME]`, or to all; what came of each."""
        return cast("list[FindingJSON]", self._post("notify/test", {"name": name}))

    def examine_github(self) -> list[FindingJSON]:
        """What the stored token may do for the services on GitHub."""
        return cast("list[FindingJSON]", self._send("GET", "github", timeout=_LONG_S).json())

    def log_in(self, token: str, *, store: bool = True) -> list[FindingJSON]:
        """Has GitHub's token tried, and stored; raises RefusedError for one that GitHub does not take."""
        asked = {"token": token, "store": store}
        return cast("list[FindingJSON]", self._send("POST", "github/token", json=asked, timeout=_LONG_S).json())

    def begin_device(self) -> DeviceJSON:
        """Begins OAuth's device flow."""
        return cast("DeviceJSON", self._send("POST", "github/device", timeout=_LONG_S).json())

    def end_device(self, device_code: str) -> list[FindingJSON] | None:
        """None while nobody has typed the code; else as `log_in`."""
        asked = {"device_code": device_code}
        answer = self._send("POST", "github/device/token", json=asked, timeout=_LONG_S)
        return cast("list[FindingJSON] | None", answer.json())

    def create_webhook(self, service: str) -> list[FindingJSON]:
        return cast("list[FindingJSON]", self._send("POST", f"services/{service}/webhook", timeout=_LONG_S).json())

    def check_webhook(self, service: str) -> list[FindingJSON]:
        """Has a ping sent, and says whether it arrived."""
        return cast(
            "list[FindingJSON]", self._send("POST", f"services/{service}/webhook/check", timeout=_LONG_S).json()
        )

    def delete_webhook(self, service: str) -> list[FindingJSON]:
        return cast("list[FindingJSON]", self._send("DELETE", f"services/{service}/webhook", timeout=_LONG_S).json())
