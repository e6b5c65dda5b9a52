"""One answer while it is made: its text in pieces, and what is known of it in the end.

The model works in a thread of its own, by transformers' `generate`, so that the answer is the one that everybody else
gets from the same folder; whoever reads the pieces may stop at any of them, and the model stops too. Keys and values of
what was read are handed on, so that the next answer costs only what is new in its prompt.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Literal

from llavamed_cli.errors import ModelError
from llavamed_cli.model.answer_text import answer_of, answer_pieces
from llavamed_cli.model.decoding import Decoding
from llavamed_cli.model.generate import Generated, Prompt, end_ids, ending, prompt_ids, read_answer
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.yes_no import divide

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import Cache

FIRST_STEPS = 16
"""Steps whose whole distribution is kept: an answer's first word comes within them, after a role that the model writes
itself in some formats."""
BEGINNINGS = 3
HALF_A_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class KeptCache:
    """What a model has read. ids: the tokens whose keys and values lie in the cache; pictures: those among them."""

    cache: Cache = field(repr=False)
    ids: tuple[int, ...]
    pictures: tuple[Image, ...] = field(repr=False)


class RunningAnswer:
    """Iterate over `pieces()` once; afterwards the rest is known, also when they were left early.

    generated: None where the model failed or was stopped before its first token. finish: how it ended.
    to_first: seconds until the first token. reused: tokens that the cache already held. kept: for the next answer.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompt: Prompt,
        decoding: Decoding,
        *,
        kept: KeptCache | None = None,
        begun: Sequence[int] = (),
    ) -> None:
        """Args:
            kept: what an earlier answer left; it is used up.
            begun: tokens with which the answer has to begin.

        Raises:
            DataError: the prompt cannot be written in the model's chat format.
        """
        self._began = time.perf_counter()
        self.prompt = prompt
        self.prompt_ids = prompt_ids(loaded, prompt)
        self.generated: Generated | None = None
        self.finish: Literal["end", "length", "interrupted"] = "interrupted"
        self.to_first: float | None = None
        self.reused = 0
        self.kept = kept
        self._loaded = loaded
        self._decoding = decoding
        self._begun = tuple(begun)
        self._taken = 0

    def pieces(self) -> Iterator[str]:
        """The answer's text as it comes. Closing it early stops the model."""
        watch = _Watch(self._began)
        stop = Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._generate(watch, stop)
            except BaseException as error:  # handed to the caller's thread below
                failures.append(error)
            finally:
                watch.tokens.put(None)

        thread = Thread(target=work, daemon=True)
        thread.start()
        try:
            yield from answer_pieces(self._texts(watch), self._loaded.chat.shape)
        finally:
            stop.set()
            thread.join()
            if not failures:
                self._finish(watch)
        if failures:
            raise _explained(failures[0], self._loaded)

    def _texts(self, watch: _Watch) -> Iterator[str]:
        """What each token adds to the text; a character of several tokens comes with its last one."""
        processor: Any = self._loaded.processor
        ids, text, shown = list(self._begun), "", ""
        while (token := watch.tokens.get()) is not None:
            ids.append(token)
            self._taken += 1
            text = processor.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            if len(text) > len(shown) and not text.endswith(HALF_A_CHARACTER):
                yield text[len(shown) :]
                shown = text
        if len(text) > len(shown):
            yield text[len(shown) :]

    def _generate(self, watch: _Watch, stop: Event) -> None:
        import torch
        from transformers import StoppingCriteria

        class Stopped(StoppingCriteria):
            def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
                return torch.full((input_ids.shape[0],), stop.is_set(), dtype=torch.bool, device=input_ids.device)

        model: Any = self._loaded.model
        kept, self.kept = self.kept, None
        ids = (*self.prompt_ids, *self._begun)
        cache, reused, pictures = _reuse(kept, ids, self.prompt.pictures, self._loaded)
        self.reused = reused
        row = torch.tensor([ids], device=self._loaded.device)
        inputs = {"input_ids": row, "attention_mask": torch.ones_like(row)}
        if pictures:
            inputs["pixel_values"] = self._loaded.pixels(list(pictures)).to(self._loaded.device, model.dtype)
        endings = ending(self._loaded, len(self.prompt_ids))
        endings["stopping_criteria"].append(Stopped())
        watching = model.get_output_embeddings().register_forward_hook(watch.see)
        try:
            with torch.inference_mode():
                model.generate(
                    **inputs,
                    **{_cache_keyword(): cache},
                    do_sample=False,
                    num_beams=1,
                    max_new_tokens=self._decoding.max_new_tokens,
                    logits_processor=self._decoding.processors(),
                    streamer=watch,
                    **endings,
                )
        finally:
            watching.remove()
        held = (*ids, *watch.ids)[: cache.get_seq_length()]
        self.kept = KeptCache(cache, held, self.prompt.pictures)

    def _finish(self, watch: _Watch) -> None:
        """Read the whole answer: as much as was taken, which is less than was made where it was stopped."""
        import torch

        if not self._taken:
            return
        self.to_first = watch.to_first
        made = [*self._begun, *watch.ids[: self._taken]]
        probabilities = torch.tensor([0.0] * len(self._begun) + watch.log_probabilities[: self._taken])
        generated = read_answer(self._loaded, torch.tensor(made), probabilities)
        length = len(generated.token_ids)
        if length < len(made) or made[-1] in end_ids(self._loaded) or self._stop_text_in(made):
            self.finish = "end"
        elif self._taken >= self._decoding.max_new_tokens:
            self.finish = "length"
        self.generated = self._with_first_step(generated, watch)

    def _stop_text_in(self, made: Sequence[int]) -> bool:
        processor: Any = self._loaded.processor
        stop = self._loaded.chat.shape.stop
        return stop is not None and stop in processor.tokenizer.decode(made, skip_special_tokens=True)

    def _with_first_step(self, generated: Generated, watch: _Watch) -> Generated:
        """With what stood to choose where the answer's own words begin."""
        processor: Any = self._loaded.processor
        words, shape = processor.tokenizer, self._loaded.chat.shape
        for step, logits in enumerate(watch.first_logits if not self._begun else ()):
            if answer_of(words.decode(watch.ids[: step + 1], skip_special_tokens=True), shape):
                likeliest = logits.softmax(-1).topk(BEGINNINGS)
                before = tuple(watch.ids[:step])
                beginnings = tuple(
                    ((*before, int(token)), float(probability))
                    for probability, token in zip(likeliest.values, likeliest.indices, strict=True)
                )
                return replace(generated, yes_no=divide(logits, words), beginnings=beginnings)
        return generated


def _explained(error: BaseException, loaded: LoadedModel) -> BaseException:
    """A device without memory left in our words; anything else as it is."""
    import torch

    if not isinstance(error, torch.OutOfMemoryError):
        return error
    return ModelError(
        f"the memory of {loaded.device} does not hold this conversation",
        hint="Ask with fewer pictures or turns, a lower --max-new-tokens, --precision 4bit, or --device cpu.",
    )


class _Watch:
    """Stands between the model and whoever reads: `generate` puts every token here, the head every step's logits.

    Of a step only the chosen token's log-probability is kept, and the first few whole.
    """

    def __init__(self, began: float) -> None:
        self.tokens: SimpleQueue[int | None] = SimpleQueue()
        self.ids: list[int] = []
        self.log_probabilities: list[float] = []
        self.first_logits: list[torch.Tensor] = []
        self.to_first: float | None = None
        self._began = began
        self._seen: deque[torch.Tensor] = deque()
        self._prompt_passed = False

    def see(self, head: Any, taken: Any, logits: torch.Tensor) -> None:
        """A forward hook of the head. logits: [1, positions, vocabulary]."""
        self._seen.append(logits[0, -1])

    def put(self, tokens: torch.Tensor) -> None:
        """What `generate` calls, first with the prompt and then with every token."""
        if not self._prompt_passed:
            self._prompt_passed = True
            return
        token = int(tokens.reshape(-1)[0])
        if self.to_first is None:
            self.to_first = time.perf_counter() - self._began
        self.ids.append(token)
        self.tokens.put(token)
        logits = self._seen.popleft().float()
        self.log_probabilities.append(float(logits.log_softmax(-1)[token]))
        if len(self.first_logits) < FIRST_STEPS:
            self.first_logits.append(logits.cpu())

    def end(self) -> None:
        """What `generate` calls when all is done."""


def _cache_keyword() -> str:
    """What `generate` calls the cache it is given: renamed in transformers 5.24, which warns of the old name."""
    import transformers
    from packaging.version import Version

    return "cache" if Version(transformers.__version__) >= Version("5.24") else "past_key_values"


def _reuse(
    kept: KeptCache | None, ids: tuple[int, ...], pictures: tuple[Image, ...], loaded: LoadedModel
) -> tuple[Cache, int, tuple[Image, ...]]:
    """A cache that holds the beginning of `ids`, how many of them, and the pictures that are still to be looked at."""
    from transformers import DynamicCache

    model: Any = loaded.model
    if kept is not None:
        shared, seen = _shared(kept, ids, pictures, loaded)
        surplus = kept.cache.get_seq_length() - shared
        if shared > 0 and _crop(kept.cache, surplus):
            return kept.cache, shared, pictures[seen:]
    return DynamicCache(config=model.config.get_text_config()), 0, pictures


def _shared(kept: KeptCache, ids: tuple[int, ...], pictures: tuple[Image, ...], loaded: LoadedModel) -> tuple[int, int]:
    """How many tokens, and how many pictures, two prompts begin with alike. One token at least is left to be read."""
    most = min(len(kept.ids), len(ids) - 1)
    length = next((place for place in range(most) if kept.ids[place] != ids[place]), most)
    image, size = loaded.chat.image_token_id, loaded.image_length
    starts = [place for place, token in enumerate(ids) if token == image][::size]
    for number, start in enumerate(starts):
        known = number < len(kept.pictures) and kept.pictures[number] is pictures[number]
        if start >= length or not known or start + size > length:
            return min(length, start), number
    return length, len(starts)


def _crop(cache: Cache, surplus: int) -> bool:
    """Forget the last `surplus` tokens. False where the cache cannot: a sliding window that has slid, a state."""
    if surplus == 0:
        return True
    try:
        cache.crop(-surplus)
    except (RuntimeError, ValueError):
        return False
    return True
