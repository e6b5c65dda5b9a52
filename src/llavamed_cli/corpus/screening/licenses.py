"""Licences by one name: "CC BY", "CC0", "CC BY-NC-ND"..., whatever address or prose they are given in.

The names are those of PMC's `license_code`. Versions are left out: what a builder filters on is what is permitted.
"""

from __future__ import annotations

import re

THIRD_PARTY = "third party"
"""A figure taken from somebody else's work: the article's licence does not cover it."""

_ADDRESS = re.compile(r"creativecommons\.org/licen[sc]es/(by(?:-(?:nc|nd|sa))*)", re.I)
_ZERO_ADDRESS = re.compile(r"creativecommons\.org/publicdomain/zero", re.I)
_CODE = re.compile(r"\bcc[\s_-]?by(?P<parts>(?:[\s_-]?(?:nc|nd|sa)\b|(?:nc|nd|sa)(?=nc|nd|sa|licen))*)", re.I)
_PROSE = re.compile(
    r"creative\s+commons[\s:,\"'“]*(?:by\s+)?attribution(?P<parts>(?:[\s,/-]+(?:and\s+)?"
    r"(?:non-?\s?commercial|no[\s-]?deriv\w*|share[\s-]?alike|nc|nd|sa)(?:\s+works)?)*)",
    re.I,
)
_ZERO_PROSE = re.compile(r"\bcc[\s-]?0\b|creative\s+commons\s+(?:zero|public\s+domain\s+dedication)", re.I)
_MINING = re.compile(r"/tdm/|\btdm\s+licen[sc]e", re.I)
_TERMS = (
    ("NC", re.compile(r"\bnc|non-?\s?commercial", re.I)),
    ("SA", re.compile(r"sa\b|share", re.I)),
    ("ND", re.compile(r"nd\b|deriv", re.I)),
)
_OWN = (
    r"(?!(?:\s+(?:of|from|by))?\s+(?:the\s+|his\s+|her\s+)?"
    r"(?:patient|parent|family|guardian|participant|author)s?\b(?!['’]s))"
)
_NOT_HIS = "(?<!patient['’]s )(?<!patients['’] )(?<!parents['’] )(?<!author['’]s )(?<!authors['’] )"
"""Those who are shown, and those who write, may permit; the figure is the article's own all the same."""
_SOMEBODY = r"(?:the\s+)?(?:refs?\b|references?\b|\[|[\w'’-]+(?:\s+and\s+[\w'’-]+)?,?\s+et\s+al\b)"
_BORROWED = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"\b(?:reproduced|reprinted|adapted|modified|redrawn|used|republished|taken)\b[^.]{{0,80}}?{_NOT_HIS}\bpermission\b{_OWN}",
        rf"\b(?:by|with)\s+(?:kind\s+)?permission\s+(?:of|from|by)\b{_OWN}",
        r"\b(?:reproduced|reprinted|republished|redrawn|adapted|adopted|modified)\s+(?:and\s+\w+\s+)?from\b",
        rf"\b(?:taken|updated|(?:figure|image|photograph|picture)s?)\s+from\s+{_SOMEBODY}",
        rf"\bcourtesy\b{_OWN}",
        r"(?:©|\bcopyright\b|\(c\)(?=\s(?:19|20)\d\d))(?!\W*(?:\(c\)\W*)?(?:(?:19|20)\d\d\W*)?(?:by\s+)?(?:the\s+)?authors?\b)",
        r"\b(?:image|photo(?:graph)?|figure|picture)s?\s+(?:credits?|source)\b|\bcredits?:|\bsource:\s*https?:",
        r"\((?:photo(?:graph)?|illustration|drawing)s?(?:\s+by|:)\s+[^)]+\)",
    )
)
_BORROWING = (
    *(
        "permission",
        "produced",
        "printed",
        "published",
        "redrawn",
        "adapted",
        "adopted",
        "modified",
        "from ref",
        "et al",
    ),
    *("from [", "courtesy", "copyright", "©", "(c) 19", "(c) 20", "credit", "source", "(photo", "(illus", "(drawing"),
)
"""One of these stands, in small letters, in whatever _BORROWED finds; few captions hold any."""
_CREDITED = re.compile(
    r"\b(?:photo\w*|image|figure|credit|source|picture|drawing|illustration)s?\b.{0,20}?(?::|\bby\b)", re.I
)
_AUTHORS = re.compile(r"\bauthors?\b|\bown work\b", re.I)


def normalise_license(text: str) -> str | None:
    """The licence that an address, a code or a paragraph of prose names; None where it names none.

    An attribution licence wins over a CC0 that stands beside it: publishers waive rights in the *data* that way.
    """
    if address := _ADDRESS.search(text):
        return _cc_by(address[1].replace("-", " "))
    for pattern in (_PROSE, _CODE):
        if named := pattern.search(text):
            return _cc_by(_spaced(named["parts"]))
    if _ZERO_ADDRESS.search(text) or _ZERO_PROSE.search(text):
        return "CC0"
    return "TDM" if _MINING.search(text) else None


def _spaced(parts: str) -> str:
    """ "ncnd" and "NC-ND" alike as "nc nd"."""
    if re.fullmatch(r"(?:nc|nd|sa)+", parts, re.I):
        return " ".join(re.findall("..", parts))
    return re.sub(r"[\s_/-]+", " ", parts)


def _cc_by(parts: str) -> str:
    terms = [name for name, pattern in _TERMS if pattern.search(parts)]
    return "-".join(["CC BY", *terms])


def is_borrowed(caption: str) -> bool:
    """Whether a caption says that the figure comes from elsewhere ("reproduced with permission", "adapted from")."""
    lower = caption.lower()
    if not any(word in lower for word in _BORROWING):
        return False
    return any(pattern.search(caption) for pattern in _BORROWED)


def is_credited(line: str) -> bool:
    """Whether a credit line (JATS `attrib`) names somebody as the maker; "Source: the authors" does not."""
    return _CREDITED.search(line) is not None and _AUTHORS.search(line) is None
