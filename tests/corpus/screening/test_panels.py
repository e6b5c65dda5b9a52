from __future__ import annotations

import time

import pytest
from PIL import Image

from llavamed_cli.corpus.screening.panels import Panels, PanelText, find_panels, split_panels


@pytest.mark.parametrize(
    ("caption", "labels"),
    [
        ("(A) Axial. (B, C) Coronal. (A) again.", "ABC"),
        ("a) Axial; b) coronal", "ab"),
        ("A. Axial view. B. Coronal view.", "AB"),
        ("A, axial view; B, coronal view", "AB"),
        ("Growth of cells a. Stained cells are shown. b. Unstained cells are shown.", "ab"),
        ("Bone after four weeks. a Representative scans. b–d Histology. e Serum levels.", "abcde"),
        ("Localisation. a: Overview; bar = 100 μm. b-f: Detail; bar = 10 μm.", "abcdef"),
        ("Chest X-ray (A) and computed tomography (B,C) showed oedema.", "ABC"),
        ("(A and D) Wild-type, (B & E) mutant, (C to F) rescued.", "ABCDEF"),
        ("Lung (A, ×200) and liver (B, ×200) stained.", "AB"),
        ("A. Left panel: survival. B–D: sections. C. Higher magnification. D. A nodule.", "ABCD"),
        ("Cells (A) were stained. The plot in B sums up the doses (C) and times (D).", "ABCD"),
    ],
)
def test_panels_are_named_by_letters(caption: str, labels: str) -> None:
    assert find_panels(caption).labels == tuple(labels)


@pytest.mark.parametrize(
    "caption",
    [
        "A nodule in lobe B of the lung (arrow).",
        "Atoms of carbon (C) and oxygen (O) in the crystal (P < 0.05, n = 5).",
        "Skin (S) and thymus (T), but not liver (L), of these mice.",
        "A CT scan of the chest. B cells were absent, see Fig. 2A.",
        "The mass in the left lung (asterisk) and the right lung.",
        "",
    ],
)
def test_letters_that_are_no_run_from_a_are_no_panels(caption: str) -> None:
    assert find_panels(caption) == Panels()


def test_primed_letters_are_panels_of_their_own() -> None:
    assert find_panels("(a–c) Sections; (a', b') the same, enlarged.").labels == ("a", "a′", "b", "b′", "c")


@pytest.mark.parametrize(
    ("caption", "labels"),
    [
        ("Left: before. Right: after.", ("left", "right")),
        ("Top row, before; bottom row, after.", ("top", "bottom")),
        ("The lung before (left) and after treatment (right).", ("left", "right")),
        ("The left panel shows the lung alone.", ()),
    ],
)
def test_panels_are_named_by_places_where_no_letters_are(caption: str, labels: tuple[str, ...]) -> None:
    assert find_panels(caption).labels == labels


def test_each_panel_has_its_text_and_what_is_said_of_all_leads() -> None:
    panels = find_panels(
        "CT of the chest. (A, B) The left lung. (B) It holds a nodule, as in (A); arrow. (C) The heart"
    )
    assert panels.lead == "CT of the chest."
    assert panels.texts == (
        PanelText("A", "The left lung."),
        PanelText("B", "The left lung. It holds a nodule, as in (A); arrow."),
        PanelText("C", "The heart."),
    )


def test_texts_before_their_labels_are_told_apart_where_nothing_follows() -> None:
    panels = find_panels(
        "Both were imaged. Ultrasound of the thyroid showed nodules (A), and enlarged lymph nodes (B)."
    )
    assert panels.lead == "Both were imaged."
    assert panels.texts == (
        PanelText("A", "Ultrasound of the thyroid showed nodules."),
        PanelText("B", "enlarged lymph nodes."),
    )


@pytest.mark.parametrize(
    "caption",
    [
        "Chest X-ray (A) and computed tomography of the lung (B) showed oedema.",  # who showed it?
        "Tumour cells were positive for GATA3 (A) and HER2 (B).",  # too little for the second
        "Expression in wild-type (A and C) and mutant mice (B and D), in the brain (A and B) and gut (C and D).",
    ],
)
def test_texts_that_cannot_be_told_apart_are_not_guessed(caption: str) -> None:
    panels = find_panels(caption)
    assert len(panels.labels) >= 2
    assert panels.texts == ()


def test_a_picture_is_split_with_its_caption() -> None:
    picture = Image.new("RGB", (20, 10), "red")
    picture.paste("blue", (10, 0, 20, 10))
    panels = find_panels("MRI of the head. (A) Axial view. (B) Coronal view.")
    split = split_panels(picture, [(0, 0, 10, 10), (10, 0, 20, 10)], panels)
    assert split is not None
    assert [text for text, _ in split] == [
        PanelText("A", "MRI of the head. Axial view."),
        PanelText("B", "MRI of the head. Coronal view."),
    ]
    assert [part.getpixel((0, 0)) for _, part in split] == [(255, 0, 0), (0, 0, 255)]


def test_nothing_is_split_where_the_numbers_differ_or_the_texts_are_unknown() -> None:
    picture, boxes = Image.new("L", (20, 10)), [(0, 0, 10, 10), (10, 0, 20, 10)]
    assert split_panels(picture, boxes[:1], find_panels("(A) Axial view. (B) Coronal view.")) is None
    assert split_panels(picture, boxes, find_panels("(A) Axial view. (B) Coronal view. (C) Sagittal.")) is None
    assert split_panels(picture, boxes, find_panels("X-ray (A) and scan (B) showed it.")) is None
    assert split_panels(picture, boxes, Panels()) is None


@pytest.mark.parametrize("unit", ["a,", "(A", "A. ", "A and ", "left: ", "(A, ", "and "])
def test_a_hostile_caption_is_read_in_time(unit: str) -> None:
    started = time.process_time()
    find_panels((unit * 20_000)[:20_000])
    assert time.process_time() - started < 3
