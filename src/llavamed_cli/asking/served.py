"""Whether what was named is a server's model; what talks to servers is loaded only where it is."""

from __future__ import annotations

from dataclasses import dataclass

from llavamed_cli.errors import UsageError


@dataclass(frozen=True)
class ServedModel:
    """A model of a server. url: the server's address."""

    name: str
    url: str


def served_model(model: str | None, base_url: str | None) -> ServedModel | None:
    """The server's model that `--model openai:NAME`, or `--model NAME --base-url URL`, names; None for one here.

    Raises:
        UsageError: a server was named, and no model of it.
    """
    prefix, colon, rest = (model or "").partition(":")
    of_openai = bool(colon and prefix == "openai" and rest)
    if base_url is None and not of_openai:
        return None
    if not model or not model.strip():
        raise UsageError("a server is named, and no model of it", where="--base-url", hint="Add --model NAME.")
    from llavamed_cli.endpoint.server import resolve_url

    return ServedModel(rest if of_openai else model, resolve_url(base_url))
