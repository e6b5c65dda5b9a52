"""A caption says all of the truth: the truth can be read back from it."""

from __future__ import annotations

import re

from llavamed_cli.phantoms import caption, draw_phantoms

ORGANS = {"X-ray": "the chest", "CT": "the abdomen", "MRI": "the brain", "histology": "tissue"}


def test_the_truth_can_be_read_back_from_the_caption() -> None:
    for phantom in draw_phantoms(300, split="train", seed=4):
        text = caption(phantom)
        assert text.startswith(f"A phantom {phantom.modality}")
        assert f" of {ORGANS[phantom.modality]} with " in text
        for name in ("mass", "cyst"):
            finding = phantom.truth.finding(name)
            match = re.search(rf"(one|two) (small|large) {name}(?:es|s)? on the (left|right)", text)
            assert (f"no {name}" in text) == (match is None) == (finding is None)
            if match and finding:
                assert match.groups() == ({1: "one", 2: "two"}[finding.count], finding.size, finding.side)
        assert ("without a scale bar" in text) == (not phantom.truth.scale_bar)


def test_captions_read_as_sentences() -> None:
    texts = {caption(phantom) for phantom in draw_phantoms(300, split="train", seed=4)}
    assert "A phantom MRI scan of the brain with no mass and no cyst, without a scale bar." in texts
    assert all("twos" not in text and "one large masses" not in text and text.endswith("bar.") for text in texts)
