"""What a data set's card (its README.md, as the Hugging Face Hub has it) says of its licence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llavamed_cli.corpus.sources.fields import license_name

CARD = "README.md"
MAX_CARD_BYTES = 2**22
UNTOLD = ("other", "unknown")
"""What cards write where they name no licence."""


def folder_license(folder: Path) -> str | None:
    """The licence that the card in a folder states; None if there is no card, or it states none."""
    card = folder / CARD
    if not card.is_file() or card.stat().st_size > MAX_CARD_BYTES:
        return None
    return card_license(card.read_text(encoding="utf-8", errors="replace"))


def card_license(text: str) -> str | None:
    """The licence in the header of a card."""
    from huggingface_hub import DatasetCard

    try:
        return stated_license(DatasetCard(text, ignore_metadata_errors=True).data.get("license"))
    except Exception:  # a header that is no YAML, or not a card's: it states nothing
        return None


def stated_license(value: Any) -> str | None:
    """A card's licence, or its licences joined."""
    listed = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
    named = [name for item in listed if item.lower() not in UNTOLD and (name := license_name(item))]
    return " / ".join(named) or None
