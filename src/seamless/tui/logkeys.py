"""The keys of the log view."""

from __future__ import annotations

from textual.binding import Binding, BindingType

# What opens a field is done before the next key is looked at, so that this one is for the field. Only where it does not
# matter that such a key overtakes those before it, which their widget has still to do.
KEYS: list[BindingType] = [
    Binding("slash", "screen.log_search", "Search", id="log_search", priority=True),
    Binding("ampersand", "screen.log_filter", "Filter", id="log_filter", priority=True),
    Binding("n", "again(1)", "Next match", show=False, id="log_next"),
    Binding("N", "again(-1)", "Previous match", show=False, id="log_previous"),
    Binding("e", "first_error", "First error", id="log_error"),
    Binding("t", "screen.log_time", "To a time", show=False, id="log_time", priority=True),
    Binding("colon", "screen.log_line", "To a line", show=False, id="log_line", priority=True),
    Binding("f", "follow", "Follow/pause", show=False, id="log_follow"),
    Binding("w", "wrap", "Wrap", show=False, id="log_wrap"),
    Binding("s", "screen.log_save", "Save to a file", show=False, id="log_save"),
    Binding("y", "copy_line", "Copy line", show=False, id="log_copy"),
    Binding("j,down", "move(1)", "Down", show=False, id="log_down"),
    Binding("k,up", "move(-1)", "Up", show=False, id="log_up"),
    Binding("ctrl+d,pagedown,space", "page(1)", "Page down", show=False, id="log_page_down"),
    Binding("ctrl+u,pageup", "page(-1)", "Page up", show=False, id="log_page_up"),
    Binding("g,home", "begin", "Beginning", show=False, id="log_begin"),
    Binding("G,end", "end", "End, and follow", show=False, id="log_end"),
    Binding("right", "sideways(1)", "Right", show=False, id="log_right"),
    Binding("left", "sideways(-1)", "Left", show=False, id="log_left"),
    Binding("0", "sideways(0)", "Left edge", show=False, id="log_left_edge"),
]
