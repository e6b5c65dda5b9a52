"""Whether a map of evidence points at what was asked about, on phantoms, whose findings are known to the pixel.

    python tests/benchmarks/evidence_accuracy.py MODEL_FOLDER [PHANTOMS]

MODEL_FOLDER was trained on phantoms (tests/end_to_end/test_phantoms_are_seen.py leaves one). Of all findings that the
model rightly says are there, how often the map's peak lies in one (a peak at random: the share of the picture), and
how well the map tells a finding's pixels from others (AUROC). By occlusion as `ask --evidence` does it; by hiding
alone; and by gradient times input at the picture's tokens. Then the sanity check of Adebayo et al. 2018: the rank
correlation of a map with that of weights drawn anew, from the last layer downwards.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from scipy.stats import rankdata, spearmanr

from llavamed_cli.asking import evidence
from llavamed_cli.asking.evidence import PictureMap, evidence_map
from llavamed_cli.asking.placement import find_placement
from llavamed_cli.model.generate import Prompt, answer_batch, prompt_ids
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.phantoms import Finding, draw_phantoms
from llavamed_cli.records import Turn

LAYERS = ("lm_head", "language_model.norm", "layers.3", "layers.2", "layers.1", "layers.0", "projector", "vision")


@dataclass(frozen=True)
class Case:
    prompt: Prompt
    answer: tuple[int, ...]
    finding: Finding

    def inside(self, one: PictureMap) -> numpy.ndarray:
        """Which pixels of the view lie in the finding."""
        rows, columns = one.effect.shape
        place = one.placement
        y, x = numpy.mgrid[0:rows, 0:columns] + 0.5
        x = place.left + x * (place.right - place.left) / columns
        y = place.top + y * (place.bottom - place.top) / rows
        return numpy.any([numpy.hypot(x - d.x, y - d.y) <= d.radius for d in self.finding.places], axis=0)


def cases(loaded: LoadedModel, count: int) -> Iterator[Case]:
    for phantom in draw_phantoms(count, split="test", seed=11):
        for finding in phantom.truth.findings:
            turn = Turn(speaker="human", text=f"<image>\nIs there a {finding.name}?")
            prompt = Prompt((turn,), (phantom.picture,))
            (answer,) = answer_batch(loaded, [prompt], max_new_tokens=8)
            if answer.text.lower().startswith("yes"):
                yield Case(prompt, answer.token_ids, finding)


def occlusion(loaded: LoadedModel, case: Case) -> PictureMap:
    return evidence_map(loaded, case.prompt, case.answer).maps[0]


def hiding(loaded: LoadedModel, case: Case) -> PictureMap:
    """Every patch hidden, and none shown alone."""
    place = find_placement(loaded, case.prompt.pictures[0].size)
    views = loaded.pixels(list(case.prompt.pictures))
    windows = evidence._windows(place.shows)
    ask = evidence._Asker(loaded, case.prompt, case.answer)
    hidden = [evidence._hidden(views[0], torch.from_numpy(place.shows), window) for window in windows]
    plain, *odds = ask.log_odds(torch.stack([views[0], *hidden])[:, None]).tolist()
    return PictureMap(evidence._spread([plain - value for value in odds], windows, place.shows), place, 0.0)


def gradient(loaded: LoadedModel, case: Case) -> PictureMap:
    """The gradient of the answer's log-odds by the picture's tokens, times the tokens."""
    model: Any = loaded.model
    ids = torch.tensor([(*prompt_ids(loaded, case.prompt), *case.answer[:-1])])
    pixels = loaded.pixels(list(case.prompt.pictures))
    tokens = torch.cat(list(model.model.get_image_features(pixel_values=pixels).pooler_output))
    tokens = tokens.detach().requires_grad_()
    embedded = model.get_input_embeddings()(ids).detach().clone()
    embedded[ids == loaded.chat.image_token_id] = tokens
    logits = model(inputs_embeds=embedded, logits_to_keep=len(case.answer)).logits[0].double()
    log_p = logits.log_softmax(-1).gather(-1, torch.tensor(case.answer)[:, None]).sum()
    (slope,) = torch.autograd.grad(log_p - torch.log(-torch.expm1(log_p)), tokens)
    side = round(len(tokens) ** 0.5)
    values = (slope * tokens).sum(-1).detach().reshape(side, side).double().numpy()
    place = find_placement(loaded, case.prompt.pictures[0].size)
    return PictureMap(numpy.kron(values, numpy.ones((place.shows.shape[0] // side,) * 2)), place, 0.0)


def auroc(values: numpy.ndarray, inside: numpy.ndarray) -> float:
    ranks = rankdata(values.ravel())[inside.ravel()]
    positive, negative = inside.sum(), (~inside).sum()
    return float((ranks.sum() - positive * (positive + 1) / 2) / (positive * negative))


def points(loaded: LoadedModel, found: list[Case]) -> None:
    for name, method in (("occlusion", occlusion), ("hiding alone", hiding), ("gradient x input", gradient)):
        began = time.perf_counter()
        rows = []
        for case in found:
            one = method(loaded, case)
            inside = case.inside(one)
            peak = one.effect == one.effect.max()
            rows.append((len(case.finding.places), inside[peak].mean(), auroc(one.effect, inside), inside.mean()))
        seconds = (time.perf_counter() - began) / len(found)
        for count in (1, 2):
            some = numpy.array([row[1:] for row in rows if row[0] == count])
            hit, area, share = some.mean(0)
            print(
                f"{name}, {count} of a kind ({len(some)} pictures): peak inside {hit:.2f} (at random {share:.2f}), "
                f"AUROC {area:.3f}, {seconds:.2f} s a map"
            )


def sanity(loaded: LoadedModel, found: list[Case]) -> None:
    before = [occlusion(loaded, case).effect for case in found]
    again = [occlusion(loaded, case).effect for case in found]
    print("same weights: equal" if all(map(numpy.array_equal, before, again)) else "same weights: DIFFERENT")
    generator = torch.Generator().manual_seed(0)
    model: Any = loaded.model
    for layer in LAYERS:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if layer in name or (layer == "lm_head" and "embed_tokens" in name):
                    shuffled = torch.randperm(weight.numel(), generator=generator)
                    weight.copy_(weight.flatten()[shuffled].view_as(weight))
        ranks = [
            spearmanr(one.ravel(), occlusion(loaded, case).effect.ravel())[0]
            for one, case in zip(before, found, strict=True)
        ]
        size = numpy.abs(ranks).mean()
        print(f"drawn anew down to {layer}: rank correlation {numpy.mean(ranks):+.2f}, of size {size:.2f}")


def main() -> None:
    loaded = load_model(sys.argv[1], device="cpu", precision="fp32")
    found = list(cases(loaded, int(sys.argv[2]) if len(sys.argv) > 2 else 40))
    points(loaded, found)
    sanity(loaded, found[:12])


if __name__ == "__main__":
    main()
