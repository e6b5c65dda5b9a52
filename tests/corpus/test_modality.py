from __future__ import annotations

import pytest

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.modality import find_modality


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("Chest X-ray of a child.", "CXR"),
        ("Posteroanterior chest radiograph with a nodule.", "CXR"),
        ("Radiograph of the left hand.", "X-ray"),
        ("Axial CT of the abdomen.", "CT"),
        ("T2-weighted MRI of the brain.", "MRI"),
        ("Abdominal ultrasonography, Doppler mode.", "ultrasound"),
        ("FDG-PET of the whole body.", "PET"),
        ("Colonoscopy showed a polyp.", "endoscopy"),
        ("Dermoscopic view of a naevus.", "dermoscopy"),
        ("Color fundus photograph of the right eye.", "fundus"),
        ("SD-OCT of the macula.", "OCT"),
        ("Section stained with hematoxylin and eosin.", "histopathology"),
        ("Gross specimen with a white cut surface.", "gross pathology"),
        ("Confocal microscopy of neurons.", "microscopy"),
    ],
)
def test_a_modality_is_told_by_its_words(caption: str, name: str, domain: Domain) -> None:
    found = find_modality(caption, (), domain)
    assert found is not None
    assert found.name == name
    assert found.clear
    assert all(word in caption for word in found.evidence)


@pytest.mark.parametrize(
    "caption",
    ["Structure by X-ray diffraction.", "The Ct value of the PCR.", "Embedded in OCT compound.", "The act of seeing."],
)
def test_words_that_only_look_alike_tell_nothing(caption: str, domain: Domain) -> None:
    assert find_modality(caption, (), domain) is None


def test_a_caption_outweighs_mentions_and_a_second_modality_makes_it_unclear(domain: Domain) -> None:
    found = find_modality("CT of the lung.", ["The MRI was normal.", "On MRI nothing."], domain)
    assert found is not None and (found.name, found.clear) == ("CT", True)
    both = find_modality("CT (A) and MRI (B).", (), domain)
    assert both is not None and not both.clear


def test_a_chart_about_pictures_is_none_of_them(domain: Domain) -> None:
    found = find_modality("Forest plot of CT studies.", (), domain)
    assert found is not None and not found.clear
