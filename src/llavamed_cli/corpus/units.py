"""Numbers and measurements in text: 5 cm and 50 mm are one, "3 x 4 cm" are two, and "T2" is a name.

Signs are passed over, and so is "one", which is a pronoun more often than a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

NUMBER_WORDS = {
    word: number
    for number, word in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=2
    )
}

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.·]\d+)?|[.·]\d+"
_TIMES = re.compile(r"(?<=\d)\s*[x×*]\s*(?=\d)")
_MAGNIFIED = re.compile(r"(?<=\d)[x×](?!\w)|(?<!\w)[x×](?=\d)")
_JOINS = re.compile(r"\s*(?:[-–—×/,±~]|to|and|by|or)\s*")
_POWER = re.compile(r"(?<=[^\W\d_])\^(?=\d)")
_LIST_ITEM = re.compile(r"^\s*\d{1,2}[.)]\s", re.M)
_SIGNS = str.maketrans({"µ": "μ", "²": "2", "³": "3", "^": " ", "\N{NO-BREAK SPACE}": " ", "\N{THIN SPACE}": " "})


@dataclass(frozen=True)
class Amount:
    """A number as it is said in a text.

    value: in the unit of its kind, or bare. kind: what its unit measures ("length"); "name" of a word that holds a
    digit, such as "T2", whose value is that word; None without a unit that is known.
    """

    said: str
    value: float | str
    kind: str | None = None

    @property
    def key(self) -> tuple[str | None, str]:
        """Equal for equal amounts; of a number, its first six digits count."""
        return self.kind, self.value if isinstance(self.value, str) else f"{self.value:.6g}"


@dataclass(frozen=True)
class Units:
    """What units are known: by what they measure, each as a multiple of one of them.

    A unit that holds a capital is read as it is written, others in any case; a plural s is allowed.
    """

    kinds: Mapping[str, Mapping[str, float]]

    @cached_property
    def _sizes(self) -> dict[str, tuple[str, float]]:
        return {
            unit.translate(_SIGNS): (kind, size) for kind, units in self.kinds.items() for unit, size in units.items()
        }

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        known = "|".join(map(_unit_pattern, sorted(self._sizes, key=len, reverse=True))) or "(?!)"
        return re.compile(
            rf"(?<![\w.])(?:(?P<number>{_NUMBER})(?:[\s-]{{0,2}}(?P<unit>{known})(?![^\W\d_]))?(?!\w)"
            rf"|(?P<name>(?=\w*\d)(?=\d*[^\W\d])\w+(?:\.\d+)*)|(?P<word>(?i:{'|'.join(NUMBER_WORDS)}))(?!\w))"
        )

    def amounts(self, text: str) -> list[Amount]:
        """The amounts in `text`, in order. A unit holds for the numbers joined to its own: "3 to 5 cm"."""
        text = _plain(text)
        matches = list(self._pattern.finditer(text))
        amounts: list[Amount] = []
        unit, begins = None, len(text)
        for match in reversed(matches):
            if match["unit"]:
                unit = match["unit"]
            elif not (match["number"] and unit and _JOINS.fullmatch(text, match.end(), begins)):
                unit = None
            begins = match.start()
            amounts.append(self._amount(match, unit))
        return amounts[::-1]

    def bare_numbers(self, text: str) -> Iterator[Amount]:
        """Every number in `text` as if no unit stood behind it."""
        for match in self._pattern.finditer(_plain(text)):
            if match["number"] or match["word"]:
                yield self._amount(match, None)

    def _amount(self, match: re.Match[str], unit: str | None) -> Amount:
        if match["name"]:
            return Amount(match["name"], match["name"].lower(), "name")
        if match["word"]:
            return Amount(match["word"], NUMBER_WORDS[match["word"].lower()])
        value = float(match["number"].replace(",", "").replace("·", "."))
        if unit is None:
            return Amount(match["number"], value)
        kind, size = self._size(unit)
        return Amount(f"{match['number']} {unit}", value * size, kind)

    def _size(self, unit: str) -> tuple[str, float]:
        unit = re.sub(r"[\s-]+", " ", unit)
        spellings = (unit, unit.lower(), unit.removesuffix("s"), unit.lower().removesuffix("s"))
        return next(self._sizes[spelling] for spelling in spellings if spelling in self._sizes)


def _plain(text: str) -> str:
    """`text` with one way of writing for signs that have several, and without the numbers of a list's items."""
    text = _LIST_ITEM.sub("", _POWER.sub("", text).translate(_SIGNS))
    return _MAGNIFIED.sub(" ", _TIMES.sub(" × ", text))


def _unit_pattern(unit: str) -> str:
    pattern = r"[\s-]+".join(map(re.escape, unit.split()))
    pattern += "s?" if unit[-1].isalpha() else ""
    return f"(?i:{pattern})" if unit == unit.lower() else pattern
