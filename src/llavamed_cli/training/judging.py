"""What validations found so far: which step was best, and whether it is time to give up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Judged:
    """last: the step that was validated last; 0 before the first. worse: validations since the best one."""

    last: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    worse: int = 0

    def after(self, step: int, loss: float) -> Judged:
        """With one more validation."""
        if loss < self.best_loss:
            return Judged(last=step, best_step=step, best_loss=loss)
        return replace(self, last=step, worse=self.worse + 1)

    def gives_up(self, patience: int) -> bool:
        """Whether `patience` validations in a row were no better; never where it is 0."""
        return 0 < patience <= self.worse
