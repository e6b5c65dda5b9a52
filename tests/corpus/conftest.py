"""What the corpus room's tests share: small pictures and a small article."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from llavamed_cli.corpus.domain import Domain, load_domain

ARTICLE = """<?xml version="1.0"?>
<!DOCTYPE article PUBLIC "-//NLM//DTD JATS 1.0//EN" "http://example.invalid/archivearticle.dtd">
<article xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:ali="http://www.niso.org/schemas/ali/1.0/">
<front><journal-meta><journal-title>Chest Letters</journal-title></journal-meta><article-meta>
<article-id pub-id-type="pmc">77</article-id><article-id pub-id-type="doi">10.1/x</article-id>
<title-group><article-title>A <italic>rare</italic> nodule</article-title></title-group>
<contrib-group><contrib contrib-type="author">
<name><surname>Lee</surname><given-names>Ann B</given-names></name></contrib>
</contrib-group><pub-date><year>2020</year></pub-date>
<permissions><license><ali:license_ref>https://creativecommons.org/licenses/by/4.0/</ali:license_ref></license>
</permissions>
</article-meta></front>
<body><sec><p>The film (<xref ref-type="fig" rid="F1">Fig. 1</xref>) shows a round nodule in the left upper lobe.
It grew. A mass is seen on the right as well (Figs. 1-3).</p>
<fig id="F1"><label>Figure 1.</label><caption><title>Chest X-ray of the patient</title>
<p>The arrow shows a round nodule of 10<sup>2</sup> mm in the left upper lobe
<xref ref-type="bibr" rid="b1">[4]</xref>.</p>
</caption><graphic xlink:href="fx1"/></fig></sec></body>
<floats-group><fig id="F2"><label>Figure 2.</label><caption>
<p>Axial CT of the chest. A large mass lies in the right lobe.
Reproduced with permission from Smith.</p></caption><graphic xlink:href="fx2.tif"/></fig>
<fig id="F3"><label>Figure 3.</label><caption><p>Survival curve.</p></caption></fig></floats-group>
</article>"""


@pytest.fixture(scope="session")
def domain() -> Domain:
    return load_domain("biomedical")


@pytest.fixture
def draw() -> Callable[..., Path]:
    """Write a picture of coloured noise: `draw(path, size=(64, 48), mode="RGB", seed=1)`."""

    def write(path: Path, *, size: tuple[int, int] = (64, 48), mode: str = "RGB", seed: int = 0) -> Path:
        noise = random.Random(seed).randbytes(size[0] * size[1] * 3)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", size, noise).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def article_folder(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    """An article with three figures: one with a JPEG, one whose TIFF lies there as a PNG, one that names no picture."""
    folder = tmp_path / "PMC77"
    draw(folder / "fx1.jpg", seed=1)
    draw(folder / "fx2.png", seed=2)
    (folder / "article.nxml").write_text(ARTICLE, encoding="utf-8")
    return folder
