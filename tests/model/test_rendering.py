"""Strangers' templates: in a sandbox, in one sentence, in bounded time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from llavamed_cli.errors import ModelError
from llavamed_cli.model import rendering
from llavamed_cli.model.chat import ChatFormat
from llavamed_cli.model.tiny import byte_tokenizer
from llavamed_cli.records import IMAGE_MARKER, Turn

ASK = "{{ messages[0].content }}"
LLAVA_HF = (  # the template of llava-hf/llava-1.5-7b-hf, which looks for typed parts alone
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def chat(template: str) -> ChatFormat:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE_MARKER]}, replace_extra_special_tokens=False)
    return ChatFormat(tokenizer, template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ messages.__init__.__globals__ }}", "access to attribute '__init__'"),
        ("{{ messages.append(1) }}" + ASK, "access to attribute 'append'"),
        ("{% include '/etc/passwd' %}" + ASK, "no loader"),
        ("{% import 'os' as os %}" + ASK, "no loader"),
        ("{% for a in range(10 ** 9) %}{% endfor %}", "Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ raise_exception('only for the brave') }}", "refuses this conversation: only for the brave"),
        ("nothing of the question", "leaves the question's words out"),
        ("", "has no chat template"),
        (ASK + "{% for a in range(9999) %}{{ 'x' * 200 }}{% endfor %}", "characters for two short messages"),
    ],
)
def test_a_hostile_or_broken_template_is_one_sentence(template: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        chat(template)


def test_a_template_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "SECONDS_TO_TRY", 0.05)
    began = time.monotonic()
    with pytest.raises(ModelError, match="did not end within"):
        chat("{% for a in range(9999) %}{% for b in range(2000) %}{% endfor %}{% endfor %}" + ASK)
    assert time.monotonic() - began < 5


def test_a_template_reads_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    with pytest.raises(ModelError):
        chat(f"{{{{ cycler.__init__.__globals__.os.open('{secret}').read() }}}}")


def test_a_template_of_typed_parts_alone_is_given_typed_parts() -> None:
    talk = [
        Turn(speaker="human", text="<image>\nWhat is it?"),
        Turn(speaker="gpt", text="A lung."),
        Turn(speaker="human", text="Sure?"),
    ]
    text = chat(LLAVA_HF).render(talk, open_answer=True)
    assert text == "USER: <image>\nWhat is it? ASSISTANT: A lung. USER: Sure? ASSISTANT:"
    two = chat(LLAVA_HF).render([Turn(speaker="human", text="<image>\n<image>\nAlike?")], open_answer=True)
    assert two == "USER: <image>\n<image>\nAlike? ASSISTANT:"
