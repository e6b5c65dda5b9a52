"""The error tree: what each says, its exit code, and that every kind is raised by something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llavamed_cli import errors
from llavamed_cli.conversation_format import parse_sample
from llavamed_cli.corpus.build_options import TeacherOptions
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.screening.captions import CaptionQuality
from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.pmc_metadata import ArticleId
from llavamed_cli.corpus.sources.polite_http import Patience
from llavamed_cli.corpus.teacher.open_model import open_model_teacher
from llavamed_cli.corpus.teacher.teaching import Taught
from llavamed_cli.endpoint import pacing
from llavamed_cli.errors import LlavamedError
from llavamed_cli.files import require_file
from llavamed_cli.model.images import open_picture
from llavamed_cli.model.load import load_model
from llavamed_cli.progress import Silent
from llavamed_cli.records import Figure, Source
from llavamed_cli.run_record import begin_run
from llavamed_cli.training.checkpoint import load_checkpoint
from llavamed_cli.training.checkpoint_place import Place


def _strange_folder(folder: Path) -> None:
    (folder / "strange").write_text("x")
    begin_run(folder, "align", options={}, inputs={}, seed=0)


def _damaged_checkpoint(folder: Path) -> None:
    (folder / "checkpoints" / "step-000001").mkdir(parents=True)
    load_checkpoint(Place(folder, ""))


def _no_server(folder: Path) -> None:
    with PmcCloud("http://127.0.0.1:9/", folder, concurrency=1, patience=Patience(tries=1)) as cloud:
        cloud.newest(ArticleId(7))


def _no_teacher(folder: Path) -> None:
    options = TeacherOptions(name="m", base_url="http://127.0.0.1:9/v1")
    figure = Figure(id="f", picture=folder / "f.png", caption="A CT.", source=Source(kind="pairs"))
    candidate = Candidate(figure=figure, image="f.png", sha256="0" * 64, quality=CaptionQuality(1.0, {}))
    with open_model_teacher(
        options,
        messages=lambda figure: [{"role": "user", "content": figure.caption}],
        parse=lambda text, figure: Taught(),
        journal=folder / "journal.sqlite",
        progress=Silent(),
        patience=pacing.Patience(tries=1, refused_for=0.1),
    ) as teacher:
        list(teacher.teach([candidate]))


RAISED_BY: dict[type[LlavamedError], Callable[[Path], object]] = {
    errors.UsageError: lambda folder: require_file(folder / "absent", "data"),
    errors.OutputFolderError: _strange_folder,
    errors.DataError: lambda folder: parse_sample({}),
    errors.PictureError: lambda folder: open_picture(folder / "absent.png"),
    errors.FetchError: _no_server,
    errors.EndpointError: _no_teacher,
    errors.ModelError: lambda folder: load_model(str(folder / "absent"), device="cpu"),
    errors.TrainingError: _damaged_checkpoint,
}


def _below(kind: type[LlavamedError]) -> set[type[LlavamedError]]:
    return {found for child in kind.__subclasses__() for found in (child, *_below(child))}


def test_the_docstring_draws_the_whole_tree() -> None:
    names = {kind.__name__ for kind in _below(LlavamedError)}
    assert names == {kind.__name__ for kind in RAISED_BY}
    drawn = str(errors.__doc__)
    assert all(name in drawn for name in names)


@pytest.mark.parametrize("kind", RAISED_BY, ids=lambda kind: kind.__name__)
def test_every_kind_is_raised_by_something(kind: type[LlavamedError], tmp_path: Path) -> None:
    with pytest.raises(LlavamedError) as raised:
        RAISED_BY[kind](tmp_path)
    assert type(raised.value) is kind
    assert raised.value.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)


def test_an_error_says_where_what_and_what_next() -> None:
    error = LlavamedError("it broke", where="a.jsonl:3", hint="Mend it.")
    assert str(error) == "a.jsonl:3: it broke\n  Mend it."
    assert str(LlavamedError("it broke")) == "it broke"


def test_only_the_first_line_of_a_strangers_error_is_quoted() -> None:
    assert errors.first_line(ValueError("\nfirst\nsecond")) == "first"
    assert errors.first_line(KeyError()) == "KeyError"
