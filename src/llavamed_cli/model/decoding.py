"""How the next token is chosen: greedily, so that the same question gets the same answer, or drawn by a seed.

Drawing adds Gumbel noise to the logits and takes the largest, which is a draw from their softmax (Maddison et al. 2014,
"A* Sampling"). The noise comes from a generator of its own, so that no global seed is touched, and is drawn on the CPU,
so that a seed means the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llavamed_cli.errors import UsageError

if TYPE_CHECKING:
    import torch
    from transformers import LogitsProcessorList


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """temperature: 0 is greedy. top_p: draw from the fewest tokens that hold this probability together.

    Raises:
        UsageError: a value beyond its range, or a top_p without a temperature, which would do nothing.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"an answer has at least one token, not {self.max_new_tokens}", where="--max-new-tokens")
        if not 0 <= self.temperature <= 100:
            raise UsageError(f"expected a number from 0 to 100, not {self.temperature:g}", where="--temperature")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"expected a share above 0 and up to 1, not {self.top_p:g}", where="--top-p")
        if self.top_p < 1 and self.temperature == 0:
            raise UsageError(
                "a greedy answer takes the likeliest token whatever --top-p says", hint="Give a --temperature above 0."
            )

    def processors(self) -> LogitsProcessorList:
        """What `generate` is to apply before it takes the largest logit."""
        import torch
        from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

        if self.temperature == 0:
            return LogitsProcessorList()
        generator = torch.Generator().manual_seed(self.seed)

        class Gumbel(LogitsProcessor):
            def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
                noise = -torch.empty(scores.shape).exponential_(generator=generator).log()
                return scores + noise.to(scores.device)

        chosen = LogitsProcessorList([TemperatureLogitsWarper(float(self.temperature))])
        if self.top_p < 1:
            chosen.append(TopPLogitsWarper(self.top_p))
        chosen.append(Gumbel())
        return chosen
