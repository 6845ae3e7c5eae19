"""Notices as e-mail, by SMTP (RFC 5321)."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import threading
from contextlib import suppress
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from seamless.config import Notify, NotifyEmail
from seamless.errors import ProgrammingError, SeamlessError, UnavailableError, UsageError
from seamless.notifiers import words_of
from seamless.notifiers.notices import Notice
from seamless.secretrefs import resolve

_TIMEOUT_S: Final = 15.0  # for each answer
_WHOLE_S: Final = 60.0  # for the whole conversation
_SUBJECT_MAX: Final = 200


class EmailNotifier:
    """Implements `notifiers.Notifier`."""

    async def send(self, place: Notify, notice: Notice) -> None:
        if place.email is None:
            raise ProgrammingError("a place without a mail server came to the e-mails")
        await _apart(place.email, message_of(place.email, notice))


def message_of(place: NotifyEmail, notice: Notice) -> EmailMessage:
    """The same notice has the same Message-ID, by which mail programs show it once."""
    message = EmailMessage()
    message["Subject"] = " ".join(f"[seamless] {notice.title}".split())[:_SUBJECT_MAX]
    message["From"] = place.sender
    message["To"] = ", ".join(place.to)
    message["Date"] = format_datetime(datetime.fromisoformat(notice.at))
    message["Message-ID"] = f"<{notice.id}.seamless@{place.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice.text)
    return message


async def _apart(place: NotifyEmail, message: EmailMessage) -> None:
    """In a thread that the agent's end does not wait for, as it does for those of asyncio.to_thread."""
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if not end.done():
            end.set_result(None) if error is None else end.set_exception(error)

    def work() -> None:
        failure: Exception | None = None
        try:
            _send(place, message)
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, failure)

    threading.Thread(target=work, name=f"mail to {place.host}", daemon=True).start()
    try:
        await asyncio.wait_for(end, _WHOLE_S)
    except TimeoutError:
        raise UnavailableError(f"{place.host} was not done after {_WHOLE_S:.0f} s") from None


def _send(place: NotifyEmail, message: EmailMessage) -> None:
    password = None if place.password is None else resolve(place.password)
    try:
        with _connected(place) as server:
            if place.username is not None and password is not None:
                server.login(place.username, password)
            refused = server.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        raise _told(place, error) from None
    if refused:
        raise UsageError(f"{place.host} does not take mail for {', '.join(refused)}", hint="see email.to")


def _connected(place: NotifyEmail) -> smtplib.SMTP:
    if place.tls == "implicit":
        return smtplib.SMTP_SSL(place.host, place.port, timeout=_TIMEOUT_S, context=ssl.create_default_context())
    server = smtplib.SMTP(place.host, place.port, timeout=_TIMEOUT_S)
    try:
        if place.tls == "starttls":
            server.starttls(context=ssl.create_default_context())
    except BaseException:
        server.close()
        raise
    return server


def _told(place: NotifyEmail, error: Exception) -> SeamlessError:
    """5xx of sender, recipients or content stays as it is; all else may pass."""
    if isinstance(error, TimeoutError) or "timed out" in str(error):  # smtplib wraps it when it waits for a greeting
        return UnavailableError(f"{place.host} has not answered for {_TIMEOUT_S:.0f} s")
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=recipients):
            final = all(code >= 500 for code, _ in recipients.values())
            message = f"{place.host} does not take mail for {', '.join(recipients)}"
            return UsageError(message, hint="see email.to") if final else UnavailableError(message)
        case smtplib.SMTPAuthenticationError():
            return UnavailableError(
                f"{place.host} does not accept the log-in of {place.username}", hint="see email.password"
            )
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=said):
            text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            message = f"{place.host} answered {code}: {' '.join(text.split())[:200]}"
            kind = (
                UsageError
                if isinstance(error, smtplib.SMTPSenderRefused | smtplib.SMTPDataError) and code >= 500
                else UnavailableError
            )
            return kind(message)
        case smtplib.SMTPNotSupportedError():
            return UnavailableError(
                f"{place.host} offers no STARTTLS", hint='email.tls = "implicit", or "none" on this host'
            )
        case _:
            if isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException):  # which is one, too
                reason = words_of(error)
            else:
                reason = str(error) or type(error).__name__
            return UnavailableError(f"{place.host} cannot be used: {reason}")
