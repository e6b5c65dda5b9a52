"""Words that answers are compared without, or in one form: articles, numbers, and the VQA challenge's contractions.

The contractions (Antol et al. 2015, its evaluation code) are built from the full forms instead of a list of pairs. A
word is written out by putting back the apostrophe that it lacks; where it has two, one of them must be there. The forms
with a capital I ("Im", "Ive", "Id've") are left out: they are looked up after lower-casing, and never met.
"""

from __future__ import annotations

ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(value) for value, word in enumerate(_NUMBERS)}
CHINESE_DIGITS = {**{word: str(value) for value, word in enumerate("零一二三四五六七八九十")}, "两": "2"}

_ONE_APOSTROPHE = (
    "ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't needn't oughtn't "
    "shan't shouldn't wasn't weren't won't wouldn't "
    "could've might've must've not've should've they've we've what've where've who've would've you've "
    "he'd how'd it'd someone'd something'd there'd they'd where'd who'd you'd "
    "how'll it'll somebody'll someone'll something'll they'll what'll who'll why'll you'll "
    "there're they're what're why're you're "
    "he's how's somebody's someone's that's there's what's when's where's who's why's "
    "ma'am o'clock y'all 'twas"
)
_TWO_APOSTROPHES = (
    "couldn't've hadn't've mightn't've shouldn't've wouldn't've "
    "he'd've it'd've she'd've somebody'd've someone'd've something'd've there'd've they'd've we'd've who'd've you'd've "
    "y'all'll y'all'd've 'ow's'at"
)
_WRONG_WAY_ROUND = {"somebody'd": "somebodyd"}
"""One pair of the list takes the apostrophe away."""


def _lacking_one(word: str) -> list[str]:
    return [word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'"]


CONTRACTIONS: dict[str, str] = {
    **{short: word for word in (_ONE_APOSTROPHE + " " + _TWO_APOSTROPHES).split() for short in _lacking_one(word)},
    **_WRONG_WAY_ROUND,
}
