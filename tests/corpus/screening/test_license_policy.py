from __future__ import annotations

import pytest

from llavamed_cli.corpus.screening.license_policy import KNOWN, parse_license_policy
from llavamed_cli.corpus.screening.licenses import THIRD_PARTY
from llavamed_cli.errors import UsageError


def test_any_accepts_all_and_what_is_not_stated() -> None:
    policy = parse_license_policy("any")
    assert all(policy.accepts(name) for name in (*KNOWN, THIRD_PARTY, None))


def test_commercial_is_what_may_be_sold_and_changed() -> None:
    policy = parse_license_policy("commercial")
    assert [name for name in (*KNOWN, THIRD_PARTY, None) if policy.accepts(name)] == ["CC0", "CC BY", "CC BY-SA"]


@pytest.mark.parametrize("text", ["CC0, CC BY-NC", "cc0,cc-by-nc", "cc by nc,CC0"])
def test_a_list_however_it_is_spelt(text: str) -> None:
    policy = parse_license_policy(text)
    assert [name for name in KNOWN if policy.accepts(name)] == ["CC0", "CC BY-NC"]
    assert not policy.accepts(None)


@pytest.mark.parametrize("text", ["", "MIT", "CC BY, GPL"])
def test_an_unknown_licence_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="CC BY-NC-ND"):
        parse_license_policy(text)
