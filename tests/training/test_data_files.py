"""What DATA on the command line names, and where the pictures of each file lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from llavamed_cli.errors import UsageError
from llavamed_cli.training.data_files import DataFile, find_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path


def test_where_the_data_lies(folder: Path) -> None:
    file = folder / "align.jsonl"
    file.write_text("")
    elsewhere = folder / "pictures"
    assert find_data([folder], "align.jsonl", None) == [DataFile(path=file, images=folder / "images")]
    assert find_data([file], "align.jsonl", None) == [DataFile(path=file, images=folder / "images")]
    assert find_data([file], "align.jsonl", elsewhere) == [DataFile(path=file, images=elsewhere)]
    alone = folder / "pictures" / "data.json"
    elsewhere.mkdir()
    alone.write_text("[]")
    assert find_data([alone], "align.jsonl", None) == [DataFile(path=alone, images=elsewhere)]


def test_data_that_is_not_there(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"the folder has no instruct\.jsonl"):
        find_data([folder], "instruct.jsonl", None)
    with pytest.raises(UsageError, match="no such data file or folder"):
        find_data([folder / "absent"], "align.jsonl", None)


@pytest.mark.parametrize("name", ["../outside.png", "a/../../outside.png", "/etc/outside.png"])
def test_a_picture_name_does_not_leave_the_picture_folder(name: str, folder: Path) -> None:
    file = DataFile(path=folder / "data.jsonl", images=folder / "images")
    assert file.picture(name).parent == folder / "images" / "_outside_the_picture_folder_"
    assert file.picture("deep/inside.png") == folder / "images" / "deep" / "inside.png"
