"""Which lines of a log are in sight, and which one is marked: a page that is moved over the log.

The place is the offset of the line on top and a row of it, so that nothing depends on how many lines there are. Every
move ends with a page that is full, as far as there are lines.
"""

from __future__ import annotations

from seamless.tui.loglines import Rows
from seamless.tui.logsource import Line, Lines, LineSource


class Page:
    def __init__(self, lines: Lines, rows: Rows) -> None:
        self.lines = lines
        self.source: LineSource = lines
        self.rows = rows
        self.height = 1
        self.window: list[Line] = []  # from the line on top on, enough to fill the page
        self.top_row = 0
        self.mark = 0  # the marked line's offset

    @property
    def place(self) -> tuple[int, int]:
        return self.window[0].offset if self.window else 0, self.top_row

    @property
    def is_full(self) -> bool:
        return sum(self._count(line) for line in self.window) - self.top_row >= self.height

    def in_sight(self) -> list[Line]:
        found, rows = [], -self.top_row
        for line in self.window:
            if rows >= self.height:
                break
            found.append(line)
            rows += self._count(line)
        return found

    @property
    def is_at_end(self) -> bool:
        seen = self.in_sight()
        return bool(seen) and self.source.is_last(seen[-1])

    @property
    def _shows_end(self) -> bool:
        rows = sum(self._count(line) for line in self.window) - self.top_row
        return self.source.is_last(self.window[-1]) and rows <= self.height

    @property
    def marked_number(self) -> int:
        """Of the marked line among those in sight."""
        return next((number for number, line in enumerate(self.in_sight()) if line.offset == self.mark), 0)

    def _count(self, line: Line) -> int:
        return len(self.rows.of(line))

    # Moving

    async def show_from(self, offset: int, row: int = 0, *, mark: int | None = None) -> None:
        """`mark`: the line to be marked from then on."""
        lines = await self.source.forward(offset, self.height + 1)
        is_full = sum(self._count(line) for line in lines) - row >= self.height
        last = [] if is_full else await self.source.backward(self.lines.size, self.height)
        self.mark = self.mark if mark is None else mark  # once nothing can stop the move any more
        if is_full:
            self.window, self.top_row = lines, row
            self._keep_mark_in_sight()
        else:
            self.end_with(last, mark=False)

    async def show_end(self, *, mark: bool = True) -> None:
        self.end_with(await self.source.backward(self.lines.size, self.height), mark=mark)

    def end_with(self, lines: list[Line], *, mark: bool) -> None:
        """Show these, which are the last ones: as many as there is room for. `mark` the last one."""
        if mark and lines:
            self.mark = lines[-1].offset
        left = self.height
        first = 0
        for number in range(len(lines) - 1, -1, -1):
            left -= self._count(lines[number])
            if left <= 0:
                first = number
                break
        self.window, self.top_row = lines[first:], max(0, -left)
        self._keep_mark_in_sight()

    async def scroll(self, rows: int) -> None:
        if not self.window or (rows > 0 and self._shows_end):
            return
        row = self.top_row + rows
        if row < 0:
            for line in reversed(await self.source.backward(self.window[0].offset, -row)):
                row += self._count(line)
                if row >= 0:
                    await self.show_from(line.offset, row)
                    return
            await self.show_from(0)
            return
        for line in await self.source.forward(self.window[0].offset, row + self.height + 1):
            if row < (count := self._count(line)):
                await self.show_from(line.offset, row)
                return
            row -= count
        await self.show_end(mark=False)

    async def go_to(self, offset: int) -> None:
        """With some lines before it in sight."""
        before = await self.source.backward(offset, self.height // 3) if offset else []
        await self.show_from(before[0].offset if before else offset, mark=offset)

    async def move_mark(self, lines: int) -> None:
        """By one line up or down, or a few."""
        seen, at = self.in_sight(), self.marked_number + lines
        if not 0 <= at < len(seen):
            await self.scroll(lines)
            seen = self.in_sight()
            at = len(seen) - 1 if lines > 0 else 0
        if seen:
            self.mark = seen[at].offset

    async def turn(self, pages: int) -> None:
        """By half a page; the mark stays where it is on the page."""
        at, before = self.marked_number, self.place
        await self.scroll(pages * max(1, self.height // 2))
        seen = self.in_sight()
        if seen and before == self.place:
            self.mark = seen[-1 if pages > 0 else 0].offset
        elif seen:
            self.mark = seen[min(at, len(seen) - 1)].offset

    def _keep_mark_in_sight(self) -> None:
        offsets = [line.offset for line in self.in_sight()]
        if offsets and self.mark not in offsets:
            self.mark = next((offset for offset in offsets if offset >= self.mark), offsets[-1])
