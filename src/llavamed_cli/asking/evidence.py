"""Where an answer looked, by occlusion: how likely the same answer is with a part of the picture, and without it.

This asks the model itself, at any precision, and what it tells is an effect. Attention maps cost nothing and tell
little: how they look says next to nothing about whether a LLaVA is right (arXiv 2605.08200), and some gradient maps
stay as they are when the weights are drawn anew (Adebayo et al. 2018, arXiv 1810.03292). The price is some 340 readings
of the prompt, and a map no finer than what is hidden at once.

Hiding a part (Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2) shows what is needed, and misses what is there
twice: of two masses each may go, and the answer stays. Showing it alone shows what is enough. The mean of both is that
of a part's first and last contribution, the two ends of its Shapley value; tests/benchmarks/evidence_accuracy.py
measures how much better it points.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from llavamed_cli.asking.placement import Placement, find_placement
from llavamed_cli.errors import UsageError
from llavamed_cli.model.answer_room import answer_room
from llavamed_cli.model.answer_text import answer_of
from llavamed_cli.model.generate import Prompt, prompt_ids
from llavamed_cli.progress import Bar, Progress, Silent
from llavamed_cli.records import IMAGE_MARKER

if TYPE_CHECKING:
    import numpy
    import torch

    from llavamed_cli.model.load import LoadedModel

PATCH, STEPS = 6, 12
"""A patch is a sixth of the view wide, and patches stand a twelfth of it apart: 169 of them where all of it is picture.
Wider or further apart, the map's peak misses small findings more often; narrower, a finding is never hidden whole."""
FAINT = 1.5
"""Odds that change by less than this factor say little: computing in bf16 instead of fp32 moved them by up to 1.25."""
LONG = 60.0
"""Seconds beyond which the time that a map takes is told beforehand."""
METHOD = (
    "Occlusion: one after the other, patches a sixth of the model's view wide are painted over with the colour around "
    "them, and shown alone on an even ground. A colour says how the odds of this very answer differ with and without "
    "the patch, by the mean of both ways."
)
LIMITS = (
    "It shows what moved the answer, not whether the answer is right, nor why. What is wider than a patch, or counts "
    "only together with something far from it, may leave no trace, and the map is no finer than a patch."
)


@dataclass(frozen=True)
class PictureMap:
    """What the parts of one picture do to an answer.

    effect: float [H, W] over the model's view, in nats of log-odds: above 0 what is there makes the answer likelier,
        below 0 less likely; NaN where the view shows no picture.
    placement: where the view lies on the picture.
    whole: the same for the picture as a whole, against an even ground of its mean colour.
    """

    effect: numpy.ndarray = field(repr=False)
    placement: Placement
    whole: float

    @property
    def strongest(self) -> float:
        """The largest effect in either direction."""
        import numpy

        return float(numpy.nanmax(numpy.abs(self.effect)))


@dataclass(frozen=True)
class Evidence:
    """What an answer rests on in each of the prompt's pictures. log_odds: of the answer, with nothing hidden."""

    question: str
    answer: str
    log_odds: float
    maps: tuple[PictureMap, ...]

    @property
    def probability(self) -> float:
        """Of the whole answer, word by word as it stands."""
        import numpy

        return float(1 / (1 + numpy.exp(-self.log_odds)))


def evidence_map(
    loaded: LoadedModel, prompt: Prompt, answer_ids: Sequence[int], *, progress: Progress | None = None
) -> Evidence:
    """Hide every part of every picture in turn, and show it alone, and see what becomes of an answer that was given.

    The same for the same weights and answer: nothing is drawn at random.

    Args:
        answer_ids: the answer's tokens, its end marker included where it has one.

    Raises:
        UsageError: no picture, or an answer without a token. ModelError, PictureError: the map could not be placed.
    """
    if not prompt.pictures:
        raise UsageError("a map of evidence needs a picture")
    if not answer_ids:
        raise UsageError("there is no answer of which to show the evidence")
    progress = progress or Silent()
    places = [find_placement(loaded, picture.size) for picture in prompt.pictures]
    views = loaded.pixels(list(prompt.pictures))  # float [pictures, 3, H, W]
    windows = [_windows(place.shows) for place in places]
    ask = _Asker(loaded, prompt, answer_ids)
    began = time.perf_counter()
    plain = float(ask.log_odds(views[None])[0])
    looks = sum(2 * len(some) + 1 for some in windows)
    expected = looks * (time.perf_counter() - began)
    if expected > LONG:
        progress.note(f"evidence: the prompt is read {looks} times, at most {expected / 60:.0f} minutes")
    maps = []
    with progress.bar("evidence", looks) as bar:
        for number, (place, some) in enumerate(zip(places, windows, strict=True)):
            tried = _tried(views[number], place.shows, some)
            odds = ask.with_picture(views, number, tried, bar)
            blank, hidden, alone = odds[0], odds[1::2], odds[2::2]
            effects = [(plain - without + with_it - blank) / 2 for without, with_it in zip(hidden, alone, strict=True)]
            maps.append(PictureMap(_spread(effects, some, place.shows), place, plain - blank))
    return Evidence(_words(prompt), ask.answer, plain, tuple(maps))


Window = tuple[int, int, int, int]
"""top, bottom, left, right in pixels of the view; half of it may lie beyond the picture."""


def _windows(shows: numpy.ndarray) -> list[Window]:
    """Patches whose middles cover all of the view that shows the picture, up to its edges."""
    import numpy

    ranges = []
    for axis, side in ((1, shows.shape[0]), (0, shows.shape[1])):
        lines = numpy.flatnonzero(shows.any(axis=axis))
        first, length = int(lines[0]), len(lines)
        width = min(length, round(side / PATCH))
        middles = numpy.linspace(first, first + length, 1 + -(-length * STEPS // side))
        starts = numpy.round(middles - width / 2).astype(int).tolist()
        ranges.append([(start, start + width) for start in starts])
    return [(*down, *across) for down in ranges[0] for across in ranges[1]]


def _cut(window: Window) -> tuple[slice, slice]:
    """Rows and columns of a window that are in the view. (A slice may end beyond it, and not begin before it.)"""
    top, bottom, left, right = window
    return slice(max(0, top), bottom), slice(max(0, left), right)


def _tried(view: torch.Tensor, shows: numpy.ndarray, windows: Sequence[Window]) -> Iterator[torch.Tensor]:
    """The view with the picture hidden as a whole; then for each window, with it hidden, and with it alone."""
    import torch

    shown = torch.from_numpy(shows)
    blank = torch.where(shown, view[:, shown].mean(1)[:, None, None], view)
    yield blank
    for window in windows:
        alone = blank.clone()
        alone[(slice(None), *_cut(window))] = view[(slice(None), *_cut(window))]
        yield _hidden(view, shown, window)
        yield alone


def _hidden(view: torch.Tensor, shown: torch.Tensor, window: Window) -> torch.Tensor:
    """A view with the picture behind a window in the median colour of a frame around it, a third of it thick."""
    import torch

    top, bottom, left, right = window
    thick = max(1, (bottom - top) // 3, (right - left) // 3)
    inside, frame = torch.zeros_like(shown), torch.zeros_like(shown)
    inside[_cut(window)] = True
    frame[_cut((top - thick, bottom + thick, left - thick, right + thick))] = True
    frame &= shown & ~inside
    colours = view[:, frame if frame.any() else shown]
    return torch.where(inside & shown, colours.median(dim=1).values[:, None, None], view)


def _spread(effects: Sequence[float], windows: Sequence[Window], shows: numpy.ndarray) -> numpy.ndarray:
    """Each pixel's effect: the mean over the windows that hid it, those with it in their middle counting most."""
    import numpy

    total, weight = numpy.zeros(shows.shape), numpy.zeros(shows.shape)
    for effect, window in zip(effects, windows, strict=True):
        top, bottom, left, right = window
        height, width = weight[_cut(window)].shape
        tent = numpy.outer(_tent(bottom - top), _tent(right - left))
        tent = tent[max(0, -top) :, max(0, -left) :][:height, :width]
        total[_cut(window)] += effect * tent
        weight[_cut(window)] += tent
    return numpy.where(shows, total / weight.clip(min=1e-9), numpy.nan).astype(numpy.float32)


def _tent(length: int) -> numpy.ndarray:
    import numpy

    return 1 - numpy.abs(numpy.arange(length) + 0.5 - length / 2) / (length / 2 + 0.5)


def _words(prompt: Prompt) -> str:
    return prompt.turns[-1].text.replace(IMAGE_MARKER, "").strip()


class _Asker:
    """One question and one answer, of which pictures are tried. at_once: so many rows in a batch."""

    def __init__(self, loaded: LoadedModel, prompt: Prompt, answer_ids: Sequence[int]) -> None:
        asked = prompt_ids(loaded, prompt)
        processor: Any = loaded.processor
        text = processor.tokenizer.decode(list(answer_ids), skip_special_tokens=True)
        self.answer = answer_of(text, loaded.chat.shape)
        self.at_once = max(1, answer_room(loaded).read // (len(asked) + len(answer_ids)))
        self._loaded = loaded
        self._ids = (*asked, *answer_ids[:-1])
        self._answer_ids = tuple(answer_ids)

    def with_picture(self, views: torch.Tensor, number: int, tried: Iterator[torch.Tensor], bar: Bar) -> list[float]:
        """The answer's log-odds with each of `tried` in the place of picture `number`. views: [pictures, 3, H, W]."""
        import torch

        odds: list[float] = []
        while some := list(islice(tried, self.at_once)):
            rows = views[None].repeat(len(some), 1, 1, 1, 1)
            rows[:, number] = torch.stack(some)
            odds += self.log_odds(rows).tolist()
            bar.advance(len(some))
        return odds

    def log_odds(self, views: torch.Tensor) -> torch.Tensor:
        """ln(p / (1 - p)) of the whole answer, for rows of pictures. views: float [rows, pictures, 3, H, W].

        Odds, because a model that is sure (p = 0.9999) loses a thousandth of p where it loses nine tenths of its odds.
        """
        import torch

        model: Any = self._loaded.model
        device = self._loaded.device
        ids = torch.tensor([self._ids], device=device).expand(len(views), -1)
        wanted = torch.tensor(self._answer_ids, device=device)[:, None]
        with torch.inference_mode():
            logits = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=views.flatten(0, 1).to(device, model.dtype),
                logits_to_keep=len(self._answer_ids),
                use_cache=False,
            ).logits
        sums = [row.double().log_softmax(-1).gather(-1, wanted).sum() for row in logits.cpu()]
        log_p = torch.stack(sums).clamp(max=-1e-15)
        return log_p - (-torch.expm1(log_p)).log()
