from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from llavamed_cli.corpus.sources.jats_text import flatten, tidy

MML = 'xmlns:mml="http://www.w3.org/1998/Math/MathML"'
MATH = f"<mml:math {MML}><mml:mi>α</mml:mi><mml:mo>=</mml:mo><mml:mn>2</mml:mn></mml:math>"


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ("<p>10<sup>5</sup> cells, Ca<sup>2+</sup>, <sup>18</sup>F, m<sup>2</sup></p>", "10^5 cells, Ca2+, 18F, m2."),
        ("<p>10<sup>−5</sup> M, H<sub>2</sub>O</p>", "10^−5 M, H2O."),
        ("<title>A title</title><p>The text.</p>", "A title. The text."),
        ("<p>Seen <italic>in vivo</italic> [<xref ref-type='bibr'>12</xref>].</p>", "Seen in vivo."),
        ("<p>Seen<sup><xref ref-type='bibr'>1</xref>,<xref ref-type='bibr'>2</xref></sup> twice.</p>", "Seen twice."),
        ("<p>By <xref ref-type='bibr'>Smith et al., 2004</xref>.</p>", "By Smith et al., 2004."),
        ("<p>As in <xref ref-type='fig'>Figure 2</xref>.</p>", "As in Figure 2."),
        ("<p>One</p><p><bold>DOI:</bold> <ext-link>10.1/x</ext-link></p>", "One."),
        ("<p>A<!-- no --> b<?no no?> c</p>", "A b c."),
        ("<p>wide\u00a0space,\n new\u200b line , soft\u00adhyphen</p>", "wide space, new line, softhyphen."),
        ("<list><list-item><p>One</p></list-item><list-item><p>two</p></list-item></list>", "One. two."),
        (
            f"<p>At <alternatives><tex-math>\\alpha</tex-math>{MATH}</alternatives></p>",
            "At α=2.",
        ),
        ("<p>Before <fig><caption><p>not me</p></caption></fig> after.</p>", "Before after."),
        ("", ""),
    ],
)
def test_captions_become_clean_text(inner: str, text: str) -> None:
    assert flatten(etree.fromstring(f"<caption>{inner}</caption>")) == text


def test_named_characters_are_known_without_a_dtd() -> None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    text = "<!DOCTYPE p PUBLIC '-//X' 'x.dtd'><p>TGF-&beta; &gt; 2 &unknown; &#177; 1</p>"
    assert flatten(etree.fromstring(text, parser)) == "TGF-β > 2 ± 1"


@given(st.text(alphabet="a ,.()[];–1\n"))
def test_tidying_twice_is_tidying_once_more_at_most(text: str) -> None:
    once = tidy(text)
    assert once == " ".join(once.split())
    assert "".join(c for c in once if c.isalnum()) == "".join(c for c in text if c.isalnum())
