from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llavamed_cli.corpus.batches import FigureList
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.screening.stages import Rejection, ScreeningRules, screen_batch
from llavamed_cli.records import Figure, Source

CAPTION = "Axial CT of the chest showing a nodule in the left lobe."


def figure(picture: Path, caption: str = CAPTION) -> Figure:
    return Figure(id="f", picture=picture, caption=caption, source=Source(kind="pairs", file="p.jsonl", line=7))


def screen(item: Figure, domain: Domain, min_quality: float) -> Candidate | Rejection:
    """What becomes of one figure; its picture is staged beside it."""
    rules = ScreeningRules(domain=domain, min_quality=min_quality)
    (outcome,) = screen_batch(FigureList((item,)), rules, item.picture.parent / "staged")
    return outcome


def test_a_good_figure_passes_with_what_was_found_out(
    tmp_path: Path, draw: Callable[..., Path], domain: Domain
) -> None:
    screened = screen(figure(draw(tmp_path / "a.png")), domain, min_quality=0.5)
    assert isinstance(screened, Candidate)
    assert screened.modality is not None and screened.modality.name == "CT"
    assert screened.quality.score > 0.5


@pytest.mark.parametrize(
    ("caption", "size", "stage", "reason"),
    [
        ("", (64, 64), "caption", "no caption"),
        ("Figure 1", (64, 64), "caption", "caption too short"),
        ("word " * 5_000, (64, 64), "caption", "caption too long"),
        ("A graph of the mean of n = 5, P < 0.05, plotted.", (64, 64), "caption", "caption quality below 0.3"),
        (CAPTION, (64, 31), "header", "picture too small"),
    ],
)
def test_each_failing_stage_says_why_and_where(
    caption: str,
    size: tuple[int, int],
    stage: str,
    reason: str,
    tmp_path: Path,
    draw: Callable[..., Path],
    domain: Domain,
) -> None:
    rejected = screen(figure(draw(tmp_path / "a.png", size=size), caption), domain, min_quality=0.3)
    assert isinstance(rejected, Rejection)
    assert (rejected.stage, rejected.reason, rejected.where) == (stage, reason, "p.jsonl:7")
    assert rejected.detail


def test_a_missing_or_empty_picture_is_found_before_pixels(tmp_path: Path, domain: Domain) -> None:
    absent = screen(figure(tmp_path / "none.png"), domain, 0)
    assert isinstance(absent, Rejection) and absent.reason == "no picture file"
    (tmp_path / "empty.png").touch()
    empty = screen(figure(tmp_path / "empty.png"), domain, 0)
    assert isinstance(empty, Rejection) and (empty.stage, empty.reason) == ("header", "unreadable picture")
    assert empty.to_json()["detail"] == "empty.png: the file is empty"


def test_a_poor_caption_is_told_what_lowered_it(tmp_path: Path, draw: Callable[..., Path], domain: Domain) -> None:
    rejected = screen(figure(draw(tmp_path / "a.png"), "Forest plot of the included studies."), domain, 0.9)
    assert isinstance(rejected, Rejection) and rejected.detail is not None
    assert "chart -0.20" in rejected.detail
