"""A cascade answers: a router sends the picture to an expert, the expert describes it, a text model answers from that.

What the expert does not say is lost, and the answerer cannot look again: a cascade shows what a description is worth.
All pictures are described before the first answer, so that each model is loaded once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.endpoint.asking import Asker
from llavamed_cli.errors import DataError
from llavamed_cli.evaluation.answerers.cascade_file import CascadePlan, Expert
from llavamed_cli.evaluation.answerers.descriptions import Description, Descriptions
from llavamed_cli.records import IMAGE_MARKER, Answer, Question, Turn

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from llavamed_cli.model.clip import Clip
    from llavamed_cli.model.load import LoadedModel

FINDINGS_NAMED = 3
DESCRIPTION_TOKENS = 256
AT_ONCE = 32
"""Questions answered, or pictures described, at once by a model on this machine: what an interruption loses."""
NOT_DESCRIBED = "..."


class Cascade:
    """Answers as a cascade's file says.

    Args:
        load_model: opens a LLaVA; one that is asked for again is best kept. load_clip: opens a CLIP.
        open_asker: connects to the server of the answerer, where that is one.
        kept: the file of descriptions, with which an interrupted run goes on.
    """

    def __init__(
        self,
        plan: CascadePlan,
        load_model: Callable[[str], LoadedModel],
        load_clip: Callable[[Path], Clip],
        *,
        max_new_tokens: int,
        open_asker: Callable[[], AbstractContextManager[Asker[Question]]] | None = None,
        kept: Path | None = None,
    ) -> None:
        self._plan = plan
        self._experts = {expert.name: expert for expert in plan.experts}
        self._load_model = load_model
        self._load_clip = lru_cache(maxsize=None)(load_clip)
        self._read = lru_cache(maxsize=None)(self._read_texts)
        self._max_new_tokens = max_new_tokens
        self._open_asker = open_asker
        self._kept = kept
        self._pictures: dict[str, Path] = {}
        self.decoding = _told(plan, max_new_tokens)

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """As many as are answered at once; for a server all, which sees to many by itself."""
        self._pictures |= {question.image: question.picture for question in questions}
        size = len(questions) if self._plan.served is not None else AT_ONCE
        return [tuple(questions[start : start + size]) for start in range(0, len(questions), size)]

    def prompt(self, question: Question) -> str:
        """What the text model is asked; while the picture is not described, with a gap."""
        made = self._descriptions.found.get(question.image)
        expert = self._plan.experts[0] if made is None else self._expert(made)
        return self._plan.prompt.format(
            label=expert.label,
            description=NOT_DESCRIBED if made is None else made.text,
            question=question.text,
        ).replace(IMAGE_MARKER, "")

    def answer(self, batch: Sequence[Question]) -> Iterator[Answer | None]:
        """Describe all pictures that are not yet, then answer. Raises PictureError, ModelError, EndpointError."""
        self._pictures |= {question.image: question.picture for question in batch}
        self._describe({image: file for image, file in self._pictures.items() if image not in self._descriptions.found})
        if self._plan.served is not None:
            yield from self._served(batch)
            return
        from llavamed_cli.model.answer_many import answer_many
        from llavamed_cli.model.generate import Prompt

        model = self._load_model(str(self._plan.answerer))
        prompts = [Prompt((Turn(speaker="human", text=self.prompt(question)),)) for question in batch]
        answers = answer_many(model, prompts, max_new_tokens=self._max_new_tokens)
        for question, made in zip(batch, answers, strict=True):
            yield Answer(question_id=question.id, text=made.text, confidence=made.confidence)

    def _served(self, batch: Sequence[Question]) -> Iterator[Answer | None]:
        assert self._open_asker is not None
        asked = [replace(question, text=self.prompt(question)) for question in batch]
        with self._open_asker() as asker:
            for question, answered in zip(asked, asker.answers(asked), strict=True):
                text = answered.text
                yield None if text is None else Answer(question_id=question.id, text=text.strip())

    def _describe(self, pictures: Mapping[str, Path]) -> None:
        from llavamed_cli.model.images import open_picture

        of_expert: dict[str, list[str]] = defaultdict(list)
        for image, file in pictures.items():
            of_expert[self._route(open_picture(file)).name].append(image)
        for expert in sorted(self._plan.experts, key=_place):
            images = of_expert[expert.name]
            for start in range(0, len(images), AT_ONCE):
                some = images[start : start + AT_ONCE]
                texts = self._look(expert, [open_picture(pictures[image]) for image in some])
                self._descriptions.keep(
                    Description(image=image, expert=expert.name, text=text)
                    for image, text in zip(some, texts, strict=True)
                )

    def _look(self, expert: Expert, pictures: Sequence[Image]) -> list[str]:
        if expert.clip is not None:
            return self._name_findings(expert.clip, expert.findings, pictures)
        from llavamed_cli.model.answer_many import answer_many
        from llavamed_cli.model.generate import Prompt

        asked = f"{IMAGE_MARKER}\n{str(expert.prompt).replace(IMAGE_MARKER, '').strip()}"
        prompts = [Prompt((Turn(speaker="human", text=asked),), (picture,)) for picture in pictures]
        model = self._load_model(str(expert.model))
        return [made.text for made in answer_many(model, prompts, max_new_tokens=DESCRIPTION_TOKENS)]

    def _name_findings(self, folder: Path, findings: tuple[str, ...], pictures: Sequence[Image]) -> list[str]:
        said = []
        for picture in pictures:
            ranked = sorted(zip(self._shares(folder, picture, findings), findings, strict=True), reverse=True)
            said.append(", ".join(f"{finding} ({share:.0%})" for share, finding in ranked[:FINDINGS_NAMED]))
        return said

    def _route(self, picture: Image) -> Expert:
        experts = self._plan.experts
        if self._plan.clip is not None:
            shares = self._shares(self._plan.clip, picture, tuple(expert.label for expert in experts))
            return experts[max(range(len(shares)), key=shares.__getitem__)]
        if self._plan.classifier is None:
            return experts[0]
        label = self._classify(picture)
        return next((expert for expert in experts if expert.label == label), experts[-1])

    def _shares(self, folder: Path, picture: Image, texts: tuple[str, ...]) -> list[float]:
        clip = self._load_clip(folder)
        shares: list[float] = clip.shares(clip.pictures([picture]), self._read(folder, texts))[0].tolist()
        return shares

    def _read_texts(self, folder: Path, texts: tuple[str, ...]) -> torch.Tensor:
        """Float [texts, width]. Raises DataError where one is cut, for what is cut off may tell it from the others."""
        vectors, truncated = self._load_clip(folder).texts(texts)
        if any(truncated):
            raise DataError(f"this CLIP cannot read {texts[truncated.index(True)]!r} whole", where=str(self._plan.file))
        return vectors

    def _expert(self, made: Description) -> Expert:
        if made.expert not in self._experts:
            raise DataError(f"{made.image} was described by {made.expert}, whom the file does not name")
        return self._experts[made.expert]

    @cached_property
    def _descriptions(self) -> Descriptions:
        return Descriptions(self._kept)

    @cached_property
    def _classify(self) -> Callable[[Image], str]:
        from llavamed_cli.evaluation.answerers.picture_classes import load_classifier

        assert self._plan.classifier is not None
        return load_classifier(self._plan.classifier, [expert.label for expert in self._plan.experts])


def _told(plan: CascadePlan, max_new_tokens: int) -> str:
    """How answers come about, in words."""
    router = "a CLIP chooses" if plan.clip else "a classifier chooses"
    chosen = f"{router} one of {len(plan.experts)} experts, which" if len(plan.experts) > 1 else "an expert"
    answerer = f"{plan.served} (temperature 0)" if plan.served else f"{Path(str(plan.answerer)).name} (greedy)"
    return (
        f"a cascade: {chosen} describes the picture in at most {DESCRIPTION_TOKENS} new tokens or names "
        f"{FINDINGS_NAMED} findings; {answerer} never sees the picture and answers from that, at most {max_new_tokens} "
        "new tokens"
    )


def _place(expert: Expert) -> str:
    """Where an expert's model lies: those that share one look one after the other."""
    return str(expert.model or expert.clip)
