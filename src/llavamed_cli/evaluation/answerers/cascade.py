"""A cascade answers: a router sends the picture to an expert, the expert describes it, a text model answers from that.

What the expert does not say is lost, and the answerer cannot look again: a cascade shows what a description is worth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.endpoint.asking import Asker
from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.evaluation.answerers.cascade_file import CascadePlan, Expert
from llavamed_cli.records import IMAGE_MARKER, Answer, Question, Turn

if TYPE_CHECKING:
    from PIL.Image import Image

    from llavamed_cli.model.clip import Clip
    from llavamed_cli.model.load import LoadedModel

FINDINGS_NAMED = 3
DESCRIPTION_TOKENS = 256
AT_ONCE = 32
"""Questions answered at once by a text model on this machine."""


class Cascade:
    """Answers as a cascade's file says.

    Args:
        load_model: opens a LLaVA; one that is asked for again is best kept. load_clip: opens a CLIP.
        open_asker: connects to the server of the answerer, where that is one.
    """

    def __init__(
        self,
        plan: CascadePlan,
        load_model: Callable[[str], LoadedModel],
        load_clip: Callable[[Path], Clip],
        *,
        max_new_tokens: int,
        open_asker: Callable[[], AbstractContextManager[Asker[Question]]] | None = None,
    ) -> None:
        self._plan = plan
        self._load_model = load_model
        self._load_clip = lru_cache(maxsize=None)(load_clip)
        self._max_new_tokens = max_new_tokens
        self._open_asker = open_asker
        self._described: dict[Path, tuple[Expert, str]] = {}
        self.decoding = (
            f"a cascade of {len(plan.experts)} expert(s) and a text model that sees descriptions alone, greedily, "
            f"at most {max_new_tokens} new tokens"
        )

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """One batch: all pictures are described before the first answer, so that each model is loaded once."""
        return [tuple(questions)]

    def prompt(self, question: Question) -> str:
        """What the text model is asked; before the picture was described, with a gap."""
        expert, description = self._described.get(question.picture, (self._plan.experts[0], "..."))
        fields = {"label": expert.label, "description": description, "question": question.text}
        return self._plan.prompt.format(**fields)

    def answer(self, batch: Sequence[Question]) -> Iterator[Answer | None]:
        """Describe every picture, then answer. Raises PictureError, ModelError, EndpointError."""
        self._describe(dict.fromkeys(question.picture for question in batch))
        if self._plan.served is not None:
            yield from self._served(batch)
            return
        from llavamed_cli.model.answer_many import answer_many
        from llavamed_cli.model.generate import Prompt

        model = self._load_model(str(self._plan.answerer))
        for start in range(0, len(batch), AT_ONCE):
            some = batch[start : start + AT_ONCE]
            asked = [self.prompt(question).replace(IMAGE_MARKER, "") for question in some]
            prompts = [Prompt((Turn(speaker="human", text=text),)) for text in asked]
            for question, made in zip(
                some, answer_many(model, prompts, max_new_tokens=self._max_new_tokens), strict=True
            ):
                yield Answer(question_id=question.id, text=made.text, confidence=made.confidence)

    def _served(self, batch: Sequence[Question]) -> Iterator[Answer | None]:
        assert self._open_asker is not None
        asked = [replace(question, text=self.prompt(question)) for question in batch]
        with self._open_asker() as asker:
            for question, answered in zip(asked, asker.answers(asked), strict=True):
                text = answered.text
                yield None if text is None else Answer(question_id=question.id, text=text.strip())

    def _describe(self, pictures: dict[Path, None]) -> None:
        from llavamed_cli.model.images import open_picture

        of_expert: dict[str, list[Path]] = defaultdict(list)
        for picture in pictures:
            of_expert[self._route(open_picture(picture)).name].append(picture)
        for expert in self._plan.experts:
            for picture in of_expert[expert.name]:
                self._described[picture] = (expert, self._look(expert, open_picture(picture)))

    def _look(self, expert: Expert, picture: Image) -> str:
        if expert.clip is not None:
            clip = self._load_clip(expert.clip)
            (shares,) = clip.shares(clip.pictures([picture]), clip.texts(expert.findings)[0]).tolist()
            ranked = sorted(zip(shares, expert.findings, strict=True), reverse=True)[:FINDINGS_NAMED]
            return ", ".join(f"{finding} ({share:.0%})" for share, finding in ranked)
        from llavamed_cli.model.generate import Prompt, answer_batch

        turn = Turn(speaker="human", text=f"{IMAGE_MARKER}\n{expert.prompt}")
        (made,) = answer_batch(
            self._load_model(str(expert.model)), [Prompt((turn,), (picture,))], max_new_tokens=DESCRIPTION_TOKENS
        )
        return made.text

    def _route(self, picture: Image) -> Expert:
        experts = self._plan.experts
        if self._plan.clip is not None:
            clip = self._load_clip(self._plan.clip)
            texts = clip.texts([expert.label for expert in experts])[0]
            return experts[int(clip.shares(clip.pictures([picture]), texts)[0].argmax())]
        if self._plan.classifier is None:
            return experts[0]
        label = self._classify(picture)
        return next((expert for expert in experts if expert.label == label), experts[-1])

    @cached_property
    def _classify(self) -> Callable[[Image], str]:
        """Names a picture's class; one that no expert has as its label goes to the last expert."""
        import torch
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        folder = self._plan.classifier
        try:
            model = AutoModelForImageClassification.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, weights_only=True
            ).eval()
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
            raise ModelError(f"no image classifier can be loaded: {first_line(error)}", where=str(folder)) from error

        def classify(picture: Image) -> str:
            with torch.inference_mode():
                logits = model(**processor(images=picture, return_tensors="pt")).logits
            return str(model.config.id2label[int(logits[0].argmax())])

        return classify
