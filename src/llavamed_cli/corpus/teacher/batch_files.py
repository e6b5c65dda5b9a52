"""The two files of a batch: the requests that go up, and the answers that come down, each line held to its request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from llavamed_cli.corpus.teacher.batch_journal import Outcome
from llavamed_cli.endpoint.journal import Answered
from llavamed_cli.endpoint.prices import Price, Tokens
from llavamed_cli.endpoint.requests import QUOTED, TORN, NotAnAnswerError, Request, read_completion_object
from llavamed_cli.endpoint.server import record_fault

PATH = "/v1/chat/completions"
EXPIRED = "batch_expired"
MAY_PASS = (408, 409, 429)
"""Of the 4xx statuses: those that the same request need not meet again."""
_KEY = re.compile(r'"custom_id"\s*:\s*"([0-9a-f]{64})"')


def request_line(request: Request) -> bytes:
    """A request as a line of a batch's input."""
    line = {"custom_id": request.key, "method": "POST", "url": PATH, "body": request.body}
    return json.dumps(line).encode() + b"\n"


def read_outcomes(lines: Iterable[str], reserved: Mapping[str, int], price: Price | None) -> dict[str, Outcome]:
    """What came of each request that `lines` (of the output and the error file) tell about; of several, the first.

    Args:
        reserved: the keys that were asked, and what each may cost at worst: that is what it counts for where the server
            does not say how many tokens it took.
    """
    outcomes: dict[str, Outcome] = {}
    for line in lines:
        try:
            record = json.loads(line)
            key = record["custom_id"]
        except (ValueError, RecursionError, KeyError, TypeError):
            if (found := _KEY.search(line)) and found[1] in reserved:
                torn = Answered(text=None, fault=TORN, detail=line[:QUOTED], estimated=True)
                outcomes.setdefault(found[1], Outcome(torn, reserved[found[1]]))
            continue
        if key in reserved and key not in outcomes:
            outcomes[key] = _outcome(record, reserved[key], price)
    return outcomes


def _outcome(record: dict[str, Any], worst: int, price: Price | None) -> Outcome:
    response, failure = record.get("response"), record.get("error")
    status = response.get("status_code") if isinstance(response, dict) else None
    body = response.get("body") if isinstance(response, dict) else None
    if status == 200 and not failure:
        try:
            answered = read_completion_object(body, Tokens(0, 0))
        except NotAnAnswerError as error:
            return Outcome(None, why=str(error))
        if answered.estimated:
            return Outcome(answered, worst)
        return Outcome(answered, price.cost(Tokens(answered.read, answered.written)) if price else 0)
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        failure = body["error"]
    failure = failure if isinstance(failure, dict) else {}
    code, said = str(failure.get("code") or ""), str(failure.get("message") or "no message")[:QUOTED]
    if isinstance(status, int) and (fault := record_fault(status, code, said)):
        return Outcome(Answered(text=None, fault=fault[0], detail=fault[1]))
    if code == EXPIRED:
        return Outcome(None)
    hopeless = isinstance(status, int) and 400 <= status < 500 and status not in MAY_PASS
    return Outcome(None, why=f"{status or code}: {said}", hopeless=hopeless)
