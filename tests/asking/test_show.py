from __future__ import annotations

import io

from PIL import Image

from llavamed_cli.asking.show import show_picture


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_coloured_half_blocks_where_it_is_a_terminal() -> None:
    stream = Terminal()
    picture = Image.new("RGB", (40, 40), (250, 10, 20))
    show_picture(picture, stream)
    shown = stream.getvalue()
    assert (shown.count("\n") > 5 and "▀" in shown) or "▄" in shown
    assert "\x1b[" in shown


def test_nothing_where_it_is_none() -> None:
    stream = io.StringIO()
    show_picture(Image.new("RGB", (8, 8)), stream)
    assert stream.getvalue() == ""
