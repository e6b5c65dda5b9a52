"""Which licences a data set may be made of: `--license commercial`, `any`, or a list."""

from __future__ import annotations

from dataclasses import dataclass

from llavamed_cli.errors import UsageError

KNOWN = ("CC0", "CC BY", "CC BY-SA", "CC BY-ND", "CC BY-NC", "CC BY-NC-SA", "CC BY-NC-ND", "TDM")
"""The names of PMC's `license_code`, which `licenses.normalise_license` gives as well."""
COMMERCIAL = frozenset(["CC0", "CC BY", "CC BY-SA"])
"""May be used commercially and changed, as a cropped or converted picture is; SA binds what is made of it to itself."""


@dataclass(frozen=True)
class LicensePolicy:
    """names: the licences that are accepted; None accepts all, also what states none and third parties' figures."""

    names: frozenset[str] | None = None

    def accepts(self, license: str | None) -> bool:
        """Whether a figure or an article under `license` may be used."""
        return self.names is None or license in self.names


ANY_LICENSE = LicensePolicy()


def parse_license_policy(text: str) -> LicensePolicy:
    """Read `commercial`, `any`, or licences with commas between them, e.g. "CC0, CC BY".

    Raises:
        UsageError: a licence that PMC does not know.
    """
    if text.strip().lower() == "any":
        return ANY_LICENSE
    if text.strip().lower() == "commercial":
        return LicensePolicy(COMMERCIAL)
    by_letters = {_letters(name): name for name in KNOWN}
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if _letters(part) not in by_letters]
    if unknown or not wanted:
        raise UsageError(
            f"--license {text}: {', '.join(unknown) or 'nothing'} is no licence that is known here",
            hint=f"Give commercial, any, or a list of: {', '.join(KNOWN)}.",
        )
    return LicensePolicy(frozenset(by_letters[_letters(part)] for part in wanted))


def _letters(name: str) -> str:
    """ "cc-by-nc" and "CC BY-NC" alike."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
