"""Times, ages and sizes as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def moment(iso: str) -> datetime:
    """An ISO 8601 time of the API."""
    return datetime.fromisoformat(iso)


def seconds_between(start: str | None, end: str | None, now: datetime | None = None) -> float | None:
    """From `start` to `end`, or to `now` while there is no end; None before the start. Never negative."""
    if start is None:
        return None
    last = moment(end) if end else now or datetime.now(UTC)
    return max(0.0, (last - moment(start)).total_seconds())


def duration(seconds: float) -> str:
    """`4.1 s`, `3 m 12 s`, `2 h 5 m`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} m"


def age(seconds: float) -> str:
    """`40 s`, `10 m`, `2 h`, `3 d`: one unit, rounded down."""
    return next((f"{int(seconds // size)} {unit}" for size, unit in _UNITS if seconds >= size), "0 s")


def age_of(iso: str, now: datetime | None = None) -> str:
    """The age of a time of the API."""
    return age(seconds_between(iso, None, now) or 0.0)


def local_clock(iso: str) -> str:
    """`14:02:11`, local."""
    return moment(iso).astimezone().strftime("%H:%M:%S")


def local_time(iso: str) -> str:
    """`3 Dec 14:02`, local."""
    local = moment(iso).astimezone()
    return f"{local.day} {local:%b %H:%M}"
