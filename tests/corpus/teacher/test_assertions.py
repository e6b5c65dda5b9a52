from __future__ import annotations

import pytest

from llavamed_cli.corpus.teacher.assertions import assertions
from llavamed_cli.corpus.words import WordGroups, Words

THINGS = WordGroups({"effusion": Words(("effusion",)), "fracture": Words(("fractur*",)), "mass": Words(("mass",))})


def read(sentence: str) -> dict[str, set[bool]]:
    found = assertions([sentence], THINGS)
    return {name: {True} & {bool(it.affirmed)} | {False} & {not it.denied} for name, it in found.items()}


@pytest.mark.parametrize(
    ("sentence", "affirmed", "denied"),
    [
        ("There is an effusion.", "effusion", ""),
        ("There is no effusion.", "", "effusion"),
        ("No effusion, mass, or fracture is seen.", "", "effusion mass fracture"),
        ("No evidence of a pleural effusion", "", "effusion"),
        ("The scan did not show any fractures.", "", "fracture"),
        ("It doesn't show a mass.", "", "mass"),
        ("A mass without effusion.", "mass", "effusion"),
        ("Without effusion but with a fracture.", "fracture", "effusion"),
        ("No effusion; a mass is seen.", "mass", "effusion"),
        ("No effusion was found, however a mass remains.", "mass", "effusion"),
        ("The effusion is absent.", "", "effusion"),
        ("A fracture was ruled out.", "", "fracture"),
        ("Effusion is not seen.", "", "effusion"),
        ("A mass, but no fracture, is visible.", "mass", "fracture"),
        ("Neither effusion nor fracture.", "", "effusion fracture"),
        ("A fracture cannot be excluded.", "fracture", ""),
        ("Not only an effusion but a mass.", "effusion mass", ""),
        ("No change of the mass.", "mass", ""),
        ("The lung shows no abnormality and the film of the other side of the same patient shows a mass.", "mass", ""),
        ("An effusion; elsewhere there is no effusion.", "effusion", "effusion"),
        ("A mass rather than an effusion.", "mass", "effusion"),
        ("Nothing to see.", "", ""),
    ],
)
def test_what_a_sentence_affirms_and_denies(sentence: str, affirmed: str, denied: str) -> None:
    expected: dict[str, set[bool]] = {}
    for names, holds in ((affirmed, True), (denied, False)):
        for name in names.split():
            expected.setdefault(name, set()).add(holds)
    assert read(sentence) == expected


def test_a_denial_of_another_word_denies_nothing_that_is_affirmed() -> None:
    growth = WordGroups({"growth": Words(("mass", "metasta*"))})
    known = assertions(["A mass without metastases."], growth)["growth"]
    assert known.bears_out_denial("metastasis") and not known.bears_out_denial("mass")
    assert assertions(["There are no metastases."], growth)["growth"].bears_out_denial("mass")
    assert not assertions(["A mass."], growth)["growth"].bears_out_denial("mass")
