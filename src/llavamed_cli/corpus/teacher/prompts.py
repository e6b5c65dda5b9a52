"""What a teacher that is a model is asked: the domain's task, its examples, and the text of one figure.

A teacher sees no picture, only the caption and sentences that mention it; what is shown here is what its answers are
held against. The figure's label is kept from it: a number that no one who looks at the picture could know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Exchange
from llavamed_cli.corpus.teacher.brief import Brief
from llavamed_cli.errors import UsageError
from llavamed_cli.records import Figure

MOST_MENTIONS, MOST_CHARACTERS = 12, 4000
"""Of the sentences that mention a figure, the first so many: all of them in 99 of 100 figures of 135 PMC articles."""
QUESTION, ANSWER = "User", "Assistant"


def messages(figure: Figure, domain: Domain) -> list[dict[str, str]]:
    """The chat that asks for a conversation about `figure`, in OpenAI's form.

    Raises:
        UsageError: the domain says nothing to a teacher.
    """
    brief = require_brief(domain)
    asked = [{"role": "system", "content": brief.system.strip()}]
    for example in brief.examples:
        asked.append({"role": "user", "content": _material(example.caption, example.mentions, brief)})
        asked.append({"role": "assistant", "content": write_dialogue(example.dialogue)})
    asked.append({"role": "user", "content": _material(*text_shown(figure), brief)})
    return asked


def require_brief(domain: Domain) -> Brief:
    """What the domain tells a teacher. Raises UsageError if it tells nothing."""
    if domain.brief is None:
        raise UsageError(
            f"the domain {domain.name} has no [teacher] section, which a teacher that is a model needs",
            hint="Add one to its file (domains/biomedical.toml shows the form), or use --teacher rules.",
        )
    return domain.brief


def text_shown(figure: Figure) -> tuple[str, tuple[str, ...]]:
    """The caption, and as many mentions as a teacher is shown."""
    shown: list[str] = []
    length = 0
    for mention in figure.mentions[:MOST_MENTIONS]:
        length += len(mention)
        if length > MOST_CHARACTERS:
            break
        shown.append(mention)
    return figure.caption, tuple(shown)


def write_dialogue(exchanges: Iterable[Exchange]) -> str:
    """A conversation in the form that a teacher is asked to keep to, and that dialogue.py reads."""
    return "\n\n".join(f"{QUESTION}: {question}\n\n{ANSWER}: {answer}" for question, answer in exchanges)


def _material(caption: str, mentions: Sequence[str], brief: Brief) -> str:
    """The text of one figure, by the domain's templates."""
    text = brief.caption.strip().replace("{caption}", caption)
    if mentions:
        listed = "\n".join(f"- {mention}" for mention in mentions)
        text += "\n\n" + brief.mentions.strip().replace("{mentions}", listed)
    return text
