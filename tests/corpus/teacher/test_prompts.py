from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llavamed_cli.corpus.domain import Domain, known_domains, load_domain
from llavamed_cli.corpus.teacher.dialogue import read_dialogue
from llavamed_cli.corpus.teacher.prompts import MOST_CHARACTERS, MOST_MENTIONS, messages, text_shown, write_dialogue
from llavamed_cli.errors import UsageError
from llavamed_cli.records import Figure, Source


def figure(caption: str, *mentions: str) -> Figure:
    return Figure(
        id="f", picture=Path("x"), caption=caption, mentions=mentions, label="Figure 7", source=Source(kind="pairs")
    )


@pytest.mark.parametrize("name", known_domains())
def test_a_prompt_holds_the_task_eight_examples_and_the_figures_text(name: str) -> None:
    domain = load_domain(name)
    asked = messages(figure("A {mentions} of {caption}.", "It is seen."), domain)
    assert [message["role"] for message in asked] == ["system", *["user", "assistant"] * 8, "user"]
    assert asked[-1]["content"].endswith(
        "A {mentions} of {caption}.\n\nWhat the article says of the image:\n- It is seen."
    )
    assert "Figure 7" not in asked[-1]["content"]
    assert "article" not in messages(figure("A mass."), domain)[-1]["content"]


@pytest.mark.parametrize("name", known_domains())
def test_the_examples_pass_the_checks_that_answers_must(name: str) -> None:
    domain = load_domain(name)
    assert domain.brief is not None
    for example in domain.brief.examples:
        taught = read_dialogue(write_dialogue(example.dialogue), figure(example.caption, *example.mentions), domain)
        assert taught.drops == ()
        assert taught.exchanges == example.dialogue and len(example.dialogue) == 3


@pytest.mark.parametrize("name", known_domains())
def test_the_users_of_the_examples_give_nothing_away(name: str) -> None:
    """A user's turn names no number and no finding that has not come up before."""
    brief = load_domain(name).brief
    assert brief is not None
    for example in brief.examples:
        said = ""
        for question, answer in example.dialogue:
            told = {name for *_, names in brief.findings.named(said) for name in names}
            asked = {name for *_, names in brief.findings.named(question) for name in names}
            known = {amount.key for amount in brief.units.amounts(said)}
            assert {amount.key for amount in brief.units.amounts(question)} <= known
            assert asked <= told or question.startswith(("Is there any", "What about", "Does the heart")), question
            said += f" {question} {answer}"


def test_the_examples_show_the_kinds_of_pictures_that_the_paper_names(domain: Domain) -> None:
    from llavamed_cli.corpus.screening.modality import find_modality

    assert domain.brief is not None
    found = [find_modality(example.caption, example.mentions, domain) for example in domain.brief.examples]
    names = [modality.name for modality in found if modality]
    assert sorted(names) == sorted(["CXR"] * 2 + ["CT"] + ["gross pathology"] * 2 + ["histopathology"] * 2 + ["MRI"])


def test_so_many_mentions_are_shown() -> None:
    many = figure("A mass.", *(f"Sentence {number}." for number in range(40)))
    assert text_shown(many)[1] == many.mentions[:MOST_MENTIONS]
    long = figure("A mass.", "x" * (MOST_CHARACTERS - 5), "y" * 5, "z")
    assert text_shown(long)[1] == long.mentions[:2]


def test_a_domain_that_tells_a_teacher_nothing_is_refused(domain: Domain) -> None:
    with pytest.raises(UsageError, match=r"no \[teacher\] section"):
        messages(figure("A mass."), replace(domain, brief=None))
