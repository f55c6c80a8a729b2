"""Which names are one file: the file system is asked; and outputs that would fall together are noticed wherever they may go."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stub_restorer import StubRestorer

from gpen_core.batch.run import plan_outputs, run_batch


def picture(path: Path, colour=(10, 20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), colour).save(path)
    return path


def tells_capitals_apart(folder: Path) -> bool:
    (folder / "probe").write_text("")
    return not (folder / "PROBE").exists()


@pytest.fixture
def sensitive(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    if not tells_capitals_apart(folder):
        pytest.skip("this file system does not tell capitals apart")
    (folder / "probe").unlink()
    return folder


def test_two_files_whose_names_differ_in_capitals_are_both_done(sensitive, tmp_path):
    picture(sensitive / "P.png", (1, 1, 1))
    picture(sensitive / "p.png", (2, 2, 2))
    jobs = plan_outputs([sensitive], tmp_path / "out")
    # The output may go to a file system that does not tell them apart.
    assert [job.target.name for job in jobs] == ["P.png", "p-2.png"]
    assert [result.error for result in run_batch(jobs, StubRestorer())] == [None, None]
    assert [np.asarray(Image.open(job.target))[-1, -1, 0] for job in jobs] == [1, 2]


def test_both_are_overwritten_in_place(sensitive):
    for colour, name in enumerate(("P.png", "p.png")):
        picture(sensitive / name, (colour,) * 3)
    jobs = plan_outputs([sensitive], sensitive)
    assert [job.target for job in jobs] == [job.source for job in jobs]
    assert [result.error for result in run_batch(jobs, StubRestorer(), overwrite=True)] == [None, None]
    assert [np.asarray(Image.open(job.source))[-1, -1, 0] for job in jobs] == [0, 1]


@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.text("aAbBéÉ\u0301e", min_size=1, max_size=3), min_size=1, max_size=6, unique=True))
def test_every_file_is_done_and_no_two_outputs_fall_together_anywhere(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    for name in names:
        (folder / f"{name}.png").write_bytes(b"x")
    files = {entry.inode() for entry in os.scandir(folder)}
    for out in (folder.parent / "elsewhere", folder):
        jobs = plan_outputs([folder], out)
        assert len(jobs) == len(files)
        if out != folder:
            assert len({unicodedata.normalize("NFC", job.target.name.casefold()) for job in jobs}) == len(files)


def test_a_file_with_two_names_is_done_once_and_that_is_said(tmp_path, caplog):
    a, link = picture(tmp_path / "a.png"), tmp_path / "b.png"
    try:
        link.symlink_to(a)
    except OSError:
        pytest.skip("no links may be made here")
    assert [job.source for job in plan_outputs([tmp_path], tmp_path / "out")] == [a]
    assert str(link) in caplog.text and "the same file" in caplog.text
    caplog.clear()
    assert len(plan_outputs([a, a, tmp_path / "." / "a.png"], tmp_path / "out")) == 1 and not caplog.text


def test_hard_links_are_files_of_their_own(tmp_path):
    """An output takes the place of one name; what stands under the other stays."""
    a, other = picture(tmp_path / "a.png"), tmp_path / "b.png"
    other.hardlink_to(a)
    before = a.read_bytes()
    jobs = plan_outputs([tmp_path], tmp_path)
    assert [job.target for job in jobs] == [a, other]
    (job,) = plan_outputs([a], a)
    assert [result.error for result in run_batch([job], StubRestorer(), overwrite=True)] == [None]
    assert other.read_bytes() == before != a.read_bytes()


def test_an_input_reached_by_another_way_is_not_overwritten_by_the_output_of_another(tmp_path):
    a = picture(tmp_path / "in" / "a.png")
    foreign = picture(tmp_path / "x" / "a.png")
    try:
        (tmp_path / "way").symlink_to(tmp_path / "in", target_is_directory=True)
    except OSError:
        pytest.skip("no links may be made here")
    jobs = plan_outputs([foreign, a], tmp_path / "way")
    assert [job.target.name for job in jobs] == ["a-2.png", "a.png"]
