from __future__ import annotations

import time

import pytest

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.screening.modality import find_modality


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
        ("Bitewing and panoramic views of the molars.", "X-ray"),
        ("HR-pQCT of the distal radius.", "CT"),
        ("Tractography of the corpus callosum.", "MRI"),
        ("Sagittal T2* map of the knee, spin echo.", "MRI"),
        ("Transrectal sonogram of the prostate, B mode.", "ultrasound"),
        ("68Ga-DOTATATE uptake in the pancreas.", "PET"),
        ("Lymphoscintigraphy of the left leg (99mTc).", "PET"),
        ("Laryngoscopic view of the cords.", "endoscopy"),
        ("Nailfold capillaroscopy.", "dermoscopy"),
        ("Indocyanine green angiography of the choroid.", "fundus"),
        ("Semithin section, methylene blue.", "histopathology"),
        ("Lesion at necropsy.", "gross pathology"),
        ("Scanning electron image of the cochlea.", "microscopy"),
        ("Fibroblasts expressing green fluorescent protein (GFP).", "microscopy"),
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
    [
        "Structure by X-ray diffraction.",
        "The Ct value of the PCR.",
        "Embedded in OCT compound.",
        "The act of seeing.",
        "A bottle of PET film, a PET bottle.",
        "The gastric fundus.",
        "Two children with macroscopic haematuria.",
        "Binding of the drug to CT-DNA.",
        "Relative fluorescence intensity of the dye.",
    ],
)
def test_words_that_only_look_alike_tell_nothing(caption: str, domain: Domain) -> None:
    assert find_modality(caption, (), domain) is None


def test_a_caption_outweighs_mentions_and_a_second_modality_makes_it_unclear(domain: Domain) -> None:
    found = find_modality("CT of the lung.", ["The MRI was normal.", "On MRI nothing."], domain)
    assert found is not None and (found.name, found.clear) == ("CT", True)
    both = find_modality("CT (A) and MRI (B).", (), domain)
    assert both is not None and not both.clear


@pytest.mark.parametrize(
    "caption",
    [
        "Forest plot of CT studies.",
        "Survival curves of the groups found by MRI.",
        "Flow chart of the patients who had an endoscopy.",
        "Timeline of the treatment. CT, computed tomography; TEE, transesophageal echocardiography.",
        "(A) Domain structure: a cytoplasmic tail (CT) at the end. (B) The CT in other species.",
        "Diagram of participant flow. MRI indicates magnetic resonance imaging; CT, computed tomography.",
        "Correlation between FDG uptake and age.",
        "Southern blot; the membrane was exposed to X-ray film.",
        "Erythematous rash over the chest and abdomen.",
        "",
    ],
)
def test_a_figure_may_be_of_no_modality(caption: str, domain: Domain) -> None:
    assert find_modality(caption, (), domain) is None


def test_a_picture_beside_charts_is_found_but_not_clear(domain: Domain) -> None:
    found = find_modality("(A) H&E section of the lung. (B) Histogram of the counts. (C) Survival curves.", (), domain)
    assert found is not None and (found.name, found.clear) == ("histopathology", False)


def test_two_hints_are_enough_where_nothing_names_a_modality_and_one_is_not(domain: Domain) -> None:
    found = find_modality("Stained sections of the tibia.", (), domain)
    assert found is not None and (found.name, found.evidence) == ("histopathology", ("Stained", "sections"))
    assert find_modality("Sections of the tibia.", (), domain) is None
    assert find_modality("Stained tibia, deeply staining.", (), domain) is None  # one word twice


def test_three_hints_are_enough_beside_a_chart(domain: Domain) -> None:
    caption = "a. Immunostaining is perinuclear{} in the mutant. b. Immunoblots of the extracts."
    found = find_modality(caption.format(" and punctate"), (), domain)
    assert found is not None and (found.name, found.clear) == ("microscopy", False)
    assert find_modality(caption.format(""), (), domain) is None


def test_what_something_is_laid_over_speaks_only_where_nothing_else_does(domain: Domain) -> None:
    found = find_modality("Raclopride images superimposed on the mean T1-weighted MRI of the group.", (), domain)
    assert found is not None and (found.name, found.clear) == ("PET", False)
    alone = find_modality("Lesions of all patients overlaid on a T1-weighted MRI template.", (), domain)
    assert alone is not None and (alone.name, alone.clear) == ("MRI", True)


def test_only_a_caption_that_names_its_modality_is_clear(domain: Domain) -> None:
    hinted = find_modality("Stained sections of the tibia.", (), domain)
    mentioned = find_modality("Remission after four months.", ["A CT showed smaller lesions (Figure 1)."], domain)
    both = find_modality("A hypodense lesion, mean size 4 cm.", ["On CT it did not enhance (Figure 1)."], domain)
    named = find_modality("CT of a hypodense lesion.", (), domain)
    assert [found and (found.name, found.clear) for found in (hinted, mentioned, both, named)] == [
        ("histopathology", False),
        ("CT", False),
        ("CT", False),
        ("CT", True),
    ]


def test_hints_decide_between_modalities_that_are_named(domain: Domain) -> None:
    plain = find_modality("Immunohistochemistry and confocal images of the brain.", (), domain)
    coloured = find_modality(
        "Immunohistochemistry and confocal images of the brain (red), merged with its axons (green).", (), domain
    )
    assert plain is not None and plain.name == "histopathology"
    assert coloured is not None and coloured.name == "microscopy"


def test_mentions_are_asked_where_the_caption_says_nothing(domain: Domain) -> None:
    mentions = ["After six months a CT showed smaller lesions (Figure 1)."]
    found = find_modality("Partial remission after four months.", mentions, domain)
    assert found is not None and (found.name, found.evidence) == ("CT", ("CT",))
    assert find_modality("Mean volume of lesions, P < 0.05.", mentions, domain) is None
    assert find_modality("Timeline of the remission.", mentions, domain) is None
    several = ["The rash (Figure 1) and the histology (Figure 2) were typical."]
    assert find_modality("An itching rash on the forearm.", several, domain) is None


def test_the_article_s_title_is_believed_where_something_in_the_caption_fits_it(domain: Domain) -> None:
    title = "Doe J. Sodium magnetic resonance imaging of the brain at 3 T. Journal (2020)"
    found = find_modality("Two maps of one volunteer, in slices.", (), domain, article=title)
    assert found is not None and (found.name, found.clear) == ("MRI", False)
    assert found.evidence == ("magnetic resonance", "maps", "slices")
    assert find_modality("Two maps of one volunteer, in slices.", (), domain) is None
    for caption in ("A volunteer.", "Plot of the maps of all slices.", "Mean of all slices, P < 0.05.", ""):
        assert find_modality(caption, (), domain, article=title) is None
    named = find_modality("CT of the brain.", (), domain, article=title)
    assert named is not None and (named.name, named.clear, named.evidence) == ("CT", True, ("CT",))
    mentioned = find_modality("Slices of the brain.", ["A CT was done (Figure 1)."], domain, article=title)
    assert mentioned is not None and mentioned.name == "CT"


def test_a_modality_that_is_named_goes_before_one_that_is_hinted_at(domain: Domain) -> None:
    found = find_modality("MRI of wild-type embryos, transverse sections. Scale bar, 1 mm.", (), domain)
    assert found is not None and found.name == "MRI"


def test_on_a_chart_many_words_count_as_one(domain: Domain) -> None:
    assert find_modality("Scatter plots of [11C]CUMI, [11C]ABP, [11C]BTA and [11C]DASB.", (), domain) is None


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("Activation foci of all subjects, whole-brain analysis, cluster-level family-wise error.", "MRI"),
        ("T2\u2010weighted images of the knee.", "MRI"),
        ("PET data in the space of the individual's MRI, voxel by voxel.", "PET"),
        ("Reference-free 2D class averages of the complex.", "microscopy"),
    ],
)
def test_brain_maps_and_particles_are_pictures(caption: str, name: str, domain: Domain) -> None:
    found = find_modality(caption, (), domain)
    assert found is not None and found.name == name


def test_a_hostile_caption_is_read_in_time(domain: Domain) -> None:
    started = time.process_time()
    for unit in ("x-", "CT, ", "a (", "A and ", "Fig. 1, ", "MRI indicates m ", "overlaid on a ", "overlaid on -"):
        find_modality((unit * 20_000)[:20_000], ((unit * 20_000)[:20_000],), domain, article=(unit * 500)[:500])
    assert time.process_time() - started < 5
