"""A teacher behind an OpenAI-compatible endpoint, asked by chat calls, many in flight, each paid for once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.teacher.teaching import Drop, Taught
from llavamed_cli.endpoint.asking import Asker
from llavamed_cli.endpoint.journal import Answered
from llavamed_cli.endpoint.requests import CUT
from llavamed_cli.records import Figure

Parse = Callable[[str, Figure], Taught]


def taught(answered: Answered, figure: Figure, parse: Parse) -> Taught:
    """What an answer teaches. Of one that was cut, the last exchange goes too: where it stops is chance."""
    if answered.text is None:
        return Taught(drops=(Drop(answered.fault or "", answered.detail),))
    whole = parse(answered.text, figure)
    if answered.fault == CUT:
        return Taught(whole.exchanges[:-1], (*whole.drops, Drop(CUT)))
    return whole


@dataclass(frozen=True, kw_only=True)
class ChatTeacher:
    """A Teacher. parse: makes a checked conversation of an answer, of which the journal keeps the text alone."""

    asker: Asker[Figure]
    parse: Parse

    def teach(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Taught]]:
        """See Teacher. Raises EndpointError and KeyboardInterrupt, as `Asker.answers` does."""
        begun = deque[Candidate]()

        def figures() -> Iterator[Figure]:
            for candidate in candidates:
                begun.append(candidate)
                yield candidate.figure

        for answered in self.asker.answers(figures()):
            candidate = begun.popleft()
            yield candidate, taught(answered, candidate.figure, self.parse)

    def spent(self) -> dict[str, Any]:
        """See Teacher."""
        return self.asker.purse.spent()
