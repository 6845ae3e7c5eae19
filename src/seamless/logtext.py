"""Text from outside (logs, commit subjects, branch names) made fit for a terminal; state words and glyphs.

Shared by CLI and TUI; standard library only. What a stage writes may hold sequences that drive the
user's terminal (clipboard, title, screen), or characters that hide or reorder what is shown. Colours
are all that comes through.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Final

GLYPHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "idle": "○",
        "in_progress": "▶",
        "awaiting_approval": "●",
        "success": "✔",
        "failure": "✘",
        "skipped": "–",
        "cancelled": "⊘",
        "on_hold": "⏸",
        "recorded": "○",  # deployments
        "rolled_back": "↩",
        "superseded": "⊘",
        "unknown": "?",
    }
)
ASCII_GLYPHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "idle": ".",
        "in_progress": ">",
        "awaiting_approval": "*",
        "success": "+",
        "failure": "x",
        "skipped": "-",
        "cancelled": "/",
        "on_hold": "=",
        "recorded": ".",
        "rolled_back": "<",
        "superseded": "/",
        "unknown": "?",
    }
)
_WORDS: Final = {"idle": "waiting", "in_progress": "running", "awaiting_approval": "waiting for approval"}


def glyphs(encoding: str | None) -> Mapping[str, str]:
    """State -> glyph, in ASCII for a terminal whose encoding (`sys.stdout.encoding`) lacks the others."""
    try:
        "".join(GLYPHS.values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_GLYPHS
    return GLYPHS


def word(state: str) -> str:
    """The word that people read for a state of a run, a stage or a deployment."""
    return _WORDS.get(state, state.replace("_", " "))


def because(said: str, reason: str | None) -> str:
    """What follows the word for a state: `: exit code 1`; after "cancelled", ` by ann` of `cancelled by ann`."""
    if not reason:
        return ""
    why = plain(reason)
    return why.removeprefix(said) if why.startswith(f"{said} ") else f": {why}"


# What begins an escape sequence: ESC, and of C1 the strings (DCS, SOS, OSC, PM, APC) and CSI.
_C1_STRINGS: Final = "\x90\x98\x9d\x9e\x9f"
_C1_CSI: Final = "\x9b"
# What is never shown: C0 without \t \n \r ESC, DEL, the rest of C1, and characters that cannot be seen, change
# the direction of writing, or end a line for some programs and not for others.
_UNSEEN: Final = (
    "\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x8f\x91-\x97\x99\x9a\x9c"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_SHOWN: Final = re.compile(f"[^\r\x1b{_C1_STRINGS}{_C1_CSI}{_UNSEEN}]+")
_NOT_SHOWN: Final = re.compile(f"[{_UNSEEN}]+")

# The bodies of sequences, looser than ECMA-48, so that no terminal sees a longer one than we do.
_PARAMETERS: Final = re.compile(r"[ -?]*")
_INTERMEDIATES: Final = re.compile(r"[ -/]*")
_STRING: Final = re.compile("[^\x07\x18\x1a\x1b\x9c\n]*")
_STRING_ENDS: Final = "\x07\x18\x1a\x9c"

_SGR_LIMIT: Final = 64  # characters of parameters; longer ones are no colour
_LINE_LIMIT: Final = 64 * 1024  # characters of a line that are held until it is known whether `\r` overwrites them
_RESET: Final = "\x1b[0m"

# SGR code -> (slot, what is written for it); None clears the slot. Blinking and hidden text is not let through.
_SLOTS: Final[Mapping[int, tuple[str, str | None]]] = {
    1: ("weight", "1"),
    2: ("weight", "2"),
    3: ("italic", "3"),
    4: ("underline", "4"),
    7: ("inverse", "7"),
    9: ("strike", "9"),
    21: ("underline", "21"),
    22: ("weight", None),
    23: ("italic", None),
    24: ("underline", None),
    27: ("inverse", None),
    29: ("strike", None),
    39: ("fore", None),
    49: ("back", None),
    **{code: ("fore", str(code)) for code in (*range(30, 38), *range(90, 98))},
    **{code: ("back", str(code)) for code in (*range(40, 48), *range(100, 108))},
}
_EXTENDED: Final[Mapping[int, str | None]] = {38: "fore", 48: "back", 58: None}  # with a colour as arguments
_EXTENDED_ARGUMENTS: Final[Mapping[str, int]] = {"5": 1, "2": 3}
_SGR: Final = re.compile(r"[0-9:;]*")
_STYLE: Final = re.compile(rf"\x1b\[([0-9:;]{{0,{_SGR_LIMIT}}})m")

Style = tuple[tuple[str, str], ...]  # (slot, SGR code)


class Sanitiser:
    """`feed` bytes as they come, cut anywhere, then `finish`; the returned texts together are what to show.

    - SGR colours and attributes stay, rewritten in one canonical form, and are reset before each line
      end: every line looks the same wherever it stands. With `colour=False` they go too.
    - All other escape sequences go, with what is in them; one that never ends is over at the line's end.
    - A `\\r` that is not part of a line end overwrites, as on a terminal: of a progress bar the last state
      remains. So the last line is returned when it has ended (`partial` shows it earlier), or in pieces
      when it is longer than 64 Ki characters; then such a `\\r` ends a line.
    - Invalid UTF-8 becomes U+FFFD; the 8-bit C1 controls are invalid UTF-8.
    """

    def __init__(self, *, colour: bool = True) -> None:
        self._colour = colour
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._state: Callable[[str, int], int] = self._in_text
        self._parameters = ""
        self._out: list[str] = []
        self._line: list[str] = []  # what is held of the current line
        self._line_size = 0  # characters of the current line, since its last \r
        self._overwrite = False  # a \r came: the next character begins the line anew
        self._style: Style = ()  # as the input wants it
        self._written: Style = ()  # as the line's output has it

    def feed(self, data: bytes) -> str:
        return self._feed(self._decoder.decode(data))

    def finish(self) -> str:
        """What is held when the input has ended."""
        return self._feed(self._decoder.decode(b"", final=True)) + self.partial

    @property
    def partial(self) -> str:
        """The line that has not ended yet, without what of it was returned already."""
        return "".join(self._line) + (_RESET if self._written else "")

    def _feed(self, text: str) -> str:
        at = 0
        while at < len(text):
            at = self._state(text, at)
        out = "".join(self._out)
        self._out.clear()
        return out

    # One method for each state of the input: takes in some of `text[at:]`, returns where the rest begins.

    def _in_text(self, text: str, at: int) -> int:
        if shown := _SHOWN.match(text, at):
            self._show(shown.group())
            return shown.end()
        if hidden := _NOT_SHOWN.match(text, at):
            return hidden.end()
        if style := _STYLE.match(text, at):  # most sequences are; this only saves the way through three states
            self._set_style(style.group(1))
            return style.end()
        char = text[at]
        if char == "\r":
            self._overwrite = True
        elif char == "\x1b":
            self._state = self._in_escape
        elif char == _C1_CSI:
            self._begin_csi()
        else:
            self._state = self._in_string
        return at + 1

    def _in_escape(self, text: str, at: int) -> int:
        char = text[at]
        if char == "[":
            self._begin_csi()
        elif char in "]PX^_":  # OSC, DCS, SOS, PM, APC
            self._state = self._in_string
        elif " " <= char <= "/":
            self._state = self._in_intermediates
        elif char != "\x1b":
            self._state = self._in_text
            return at + 1 if "0" <= char <= "~" else at
        return at + 1

    def _in_intermediates(self, text: str, at: int) -> int:
        at = _matched(_INTERMEDIATES, text, at)
        if at < len(text):
            self._state = self._in_text
            if "0" <= text[at] <= "~":
                at += 1
        return at

    def _begin_csi(self) -> None:
        self._parameters = ""
        self._state = self._in_csi

    def _in_csi(self, text: str, at: int) -> int:
        end = _matched(_PARAMETERS, text, at)
        self._parameters += text[at : min(end, at + _SGR_LIMIT + 1)]
        self._parameters = self._parameters[: _SGR_LIMIT + 1]
        if end < len(text):
            self._state = self._in_text
            if "@" <= text[end] <= "~":
                if text[end] == "m":
                    self._set_style(self._parameters)
                end += 1
        return end

    def _in_string(self, text: str, at: int) -> int:
        at = _matched(_STRING, text, at)
        if at < len(text):
            self._state = self._in_text
            if text[at] in _STRING_ENDS:
                at += 1
        return at

    def _show(self, text: str) -> None:
        """Takes in text without controls but \\t and \\n."""
        first, newline, rest = text.partition("\n")
        self._append(first)
        if newline:
            self._end_line()
            lines, newline, rest = rest.rpartition("\n")
            self._out += (lines, newline)
            self._append(rest)

    def _append(self, text: str) -> None:
        if not text:
            return
        if self._overwrite:
            style = self._style
            if self._line_size > _LINE_LIMIT:
                self._end_line()
            self._begin_line(style)
        if self._style != self._written:
            self._line.append(_sequence(self._written, self._style))
            self._written = self._style
        self._line.append(text)
        self._line_size += len(text)
        if self._line_size > _LINE_LIMIT:
            self._out += self._line
            self._line.clear()

    def _end_line(self) -> None:
        self._out += (self.partial, "\n")
        self._begin_line(())

    def _begin_line(self, style: Style) -> None:
        self._line.clear()
        self._line_size = 0
        self._overwrite = False
        self._style = style
        self._written = ()

    def _set_style(self, parameters: str) -> None:
        if self._colour and len(parameters) <= _SGR_LIMIT and _SGR.fullmatch(parameters):
            self._style = _restyled(self._style, parameters)


def plain(text: str) -> str:
    """One line without any control or colour, from whatever a commit's subject, an author or a branch is called."""
    sanitiser = Sanitiser(colour=False)
    shown = sanitiser.feed(text.replace("\r", " ").encode(errors="replace")) + sanitiser.finish()
    return " ".join(shown.split())


def _matched(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


@lru_cache(1024)
def _sequence(before: Style, after: Style) -> str:
    codes = [code for _, code in after]
    return f"\x1b[{';'.join(['0', *codes] if before else codes)}m"


@lru_cache(1024)
def _restyled(before: Style, parameters: str) -> Style:
    """The style after an SGR sequence. Codes that are not known, and broken ones, change nothing."""
    style = dict(before)
    rest = iter(parameters.split(";"))
    for parameter in rest:
        code, *arguments = parameter.split(":")
        number = int(code or "0")
        if number == 0:
            style.clear()
        elif number in _EXTENDED:
            colour = _extended_colour(arguments) if arguments else _extended_colour_of(rest)
            slot = _EXTENDED[number]
            if slot is not None and colour is not None:
                style[slot] = f"{number};{colour}"
        elif number == 4 and arguments == ["0"]:
            style.pop("underline", None)
        elif number in _SLOTS:
            slot, value = _SLOTS[number]
            if value is None:
                style.pop(slot, None)
            else:
                style[slot] = value
    return tuple(style.items())


def _extended_colour_of(parameters: Iterator[str]) -> str | None:
    """`5;n` or `2;r;g;b`, taken from the parameters that follow."""
    kind = next(parameters, "")
    return _extended_colour([kind, *islice(parameters, _EXTENDED_ARGUMENTS.get(kind, 0))])


def _extended_colour(arguments: list[str]) -> str | None:
    """`5;n` or `2;r;g;b` from `5:n`, `2:r:g:b` or `2:space:r:g:b`."""
    kind, *numbers = arguments
    count = _EXTENDED_ARGUMENTS.get(kind, 0)
    numbers = numbers[-count:] if count else []
    if len(numbers) != count or not count or not all(n.isdigit() and int(n) < 256 for n in numbers):
        return None
    return ";".join((kind, *(str(int(n)) for n in numbers)))
