"""The training answer that is nearest to a prediction, as LLaVA-Med's run_eval.py chooses it, over an index of words.

The nearest is the one of which the prediction holds the largest share of words, the first of the best. run_eval.py
compares with every candidate in turn; here only those are counted that share a word, and mostly none need to be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence


class Candidates:
    """Training answers, normalised by `reference.normalize`, in the order that decides ties. At least one."""

    def __init__(self, answers: Sequence[str]) -> None:
        self._answers = tuple(answers)
        self._words = [frozenset(answer.split()) for answer in answers]
        self._first = {answer: place for place, answer in reversed([*enumerate(answers)])}
        self._holding: dict[str, list[int]] = defaultdict(list)
        for place, words in enumerate(self._words):
            for word in words:
                self._holding[word].append(place)
        self._by_rarest: dict[str, list[int]] = defaultdict(list)
        for place, words in enumerate(self._words):  # under one word only: who says all of it says that one too
            if words:
                self._by_rarest[min(words, key=lambda word: (len(self._holding[word]), word))].append(place)

    def is_nearest(self, answer: str, words: Collection[str]) -> bool:
        """Whether `nearest` is this answer."""
        place, said = self._first.get(answer), {*words}
        if place is None:
            return False
        wanted = self._words[place]
        if said.isdisjoint(wanted):
            return place == 0 and not any(word in self._holding for word in said)
        if wanted <= said:
            return not any(
                rival < place and self._words[rival] <= said for word in said for rival in self._by_rarest.get(word, ())
            )
        return self.nearest(said) == answer

    def nearest(self, words: Collection[str]) -> str:
        """The candidate nearest to a prediction of these words; the first of all where no word is shared."""
        shared: dict[int, int] = defaultdict(int)
        for word in {*words}:
            for place in self._holding.get(word, ()):
                shared[place] += 1
        best, largest = 0, 0.0
        for place, count in shared.items():
            share = count / len(self._words[place])
            if share > largest or (share == largest and place < best):
                best, largest = place, share
        return self._answers[best]
