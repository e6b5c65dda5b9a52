"""Options that several commands share, declared once so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

GENERAL = "Everywhere"

Seed = Annotated[int, typer.Option(help="Seed of every random choice.", rich_help_panel=GENERAL)]
Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu.", rich_help_panel=GENERAL)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=GENERAL)]
Quiet = Annotated[bool, typer.Option("--quiet", help="No notes, no bars.", rich_help_panel=GENERAL)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a fault.", rich_help_panel=GENERAL)]
Out = Annotated[Path, typer.Option(help="The folder to write; it is itself the result.", show_default=False)]
Images = Annotated[Path | None, typer.Option(help="Folder of the pictures that a data FILE names.", show_default=False)]
