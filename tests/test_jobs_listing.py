"""The list of a job: which inputs there are, in which order, and that no two share an output."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_help import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core.batch.listing import STDIN, Found, Listed, Names, inputs_of
from gpen_core.errors import SettingsError


def listed(tmp_path: Path, *inputs: Path, lists: tuple[Path, ...] = (), compare: bool = False, out: str = "out") -> list[Listed]:
    names = Names(tmp_path / "names.sqlite3")
    try:
        for root, found in inputs_of(inputs, lists, tmp_path / out):
            names.add(root, found)
        return list(names.ordered(compare))
    finally:
        names.close()


def names(jobs: list[Listed]) -> list[str]:
    return [job.name.as_posix() for job in jobs]


def test_a_folder_is_listed_in_order_whatever_the_order_on_disk(tmp_path, monkeypatch):
    for name in ("b.png", "a/2.png", "a/1.gif", "c.txt", ".hidden/x.png", "._b.png", "out/b.png"):
        picture(tmp_path / "in" / "x.png").rename(tmp_path / "in" / "y")
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / "y").rename(tmp_path / "in" / name)
    first = listed(tmp_path, tmp_path / "in", out="in/out")
    assert names(first) == ["a/1.png", "a/2.png", "b.png"]
    scan = os.scandir

    class Backwards:
        def __init__(self, folder):
            with scan(folder) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert listed(tmp_path, tmp_path / "in", out="in/out") == first


def test_several_inputs_wildcards_and_what_is_named_twice(tmp_path):
    for name in ("a/1.png", "b/1.png", "1.png", "2.png"):
        picture(tmp_path / name)
    one = listed(tmp_path, tmp_path / "a", tmp_path / "b", tmp_path / "?.png", tmp_path / "a" / ".." / "1.png")
    assert names(one) == ["a/1.png", "b/1.png", "1.png", "2.png"]


def test_a_link_to_an_input_is_the_same_input(tmp_path):
    picture(tmp_path / "in" / "a.png")
    try:
        (tmp_path / "in" / "b.png").symlink_to(tmp_path / "in" / "a.png")
        (tmp_path / "other").symlink_to(tmp_path / "in", target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    assert names(listed(tmp_path, tmp_path / "in", tmp_path / "other")) == ["in/a.png"]


def test_a_list_keeps_its_order_and_its_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    absolute = (tmp_path / "z" / "é.png").as_posix()
    (tmp_path / "list.txt").write_bytes("\ufeffz/2.jpg\r\n../y/1.png\n\n".encode() + f"{absolute}\nz/2.jpg\nclip.webm".encode())
    jobs = listed(tmp_path, lists=(tmp_path / "list.txt",))
    below_root = Path(absolute).relative_to(Path(absolute).anchor).as_posix()
    assert names(jobs) == ["z/2.jpg", "y/1.png", below_root, "clip.mkv"]
    assert [job.source for job in jobs] == [tmp_path / "z/2.jpg", tmp_path.parent / "y/1.png", Path(absolute), tmp_path / "clip.webm"]


def test_standard_input_is_a_list(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a.png\nb.png\n")))
    assert names(listed(tmp_path, lists=(STDIN,))) == ["a.png", "b.png"]


def test_what_is_missing_empty_or_unreadable_is_in_the_list(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "in").mkdir()

    def refused(folder):
        raise PermissionError(13, "Permission denied")

    (job,) = listed(tmp_path, tmp_path / "empty")
    assert "there are no pictures" in (job.error or "")
    monkeypatch.setattr(os, "scandir", refused)
    (job,) = listed(tmp_path, tmp_path / "in")
    assert "cannot be read (Permission denied)" in (job.error or "")


def test_an_input_in_the_output_folder_is_refused(tmp_path):
    for place in (picture(tmp_path / "out" / "in" / "a.png"), tmp_path / "out" / "in"):
        with pytest.raises(SettingsError, match="output folder"):
            listed(tmp_path, place)


@settings(max_examples=60, deadline=None)
@given(
    wanted=st.lists(
        st.sampled_from(["a.png", "A.png", "a-2.png", "a.gif", "s/a.png", "é.png", "e\u0301.png", "a-compare.png"]), max_size=12
    ),
    compare=st.booleans(),
)
def test_no_two_share_an_output_and_the_names_are_the_same_every_time(tmp_path_factory, wanted, compare):
    def made() -> list[Listed]:
        base = Names(tmp_path_factory.mktemp("names") / "names.sqlite3")
        for number, name in enumerate(wanted):
            base.add(0, Found(Path(f"/in/{number}"), Path(name), number.to_bytes(8, "big"), Path(f"/in/{number}")))
        jobs = list(base.ordered(compare))
        base.close()
        return jobs

    jobs = made()
    taken = [name.as_posix() for job in jobs for name in (job.name, job.sheet) if name is not None]
    assert len({name.casefold().replace("e\u0301", "é") for name in taken}) == len(taken)
    assert len(jobs) == len(wanted) and made() == jobs
    firsts = {name: job.name.as_posix() for job, name in reversed(list(zip(jobs, wanted, strict=True)))}
    assert not wanted or firsts[wanted[0]] == wanted[0].replace(".gif", ".png")


def test_many_inputs_that_want_one_name_are_numbered_quickly(tmp_path):
    base = Names(tmp_path / "names.sqlite3")
    for number in range(600):
        base.add(0, Found(Path(f"/{number}/a.png"), Path("a.png"), number.to_bytes(8, "big"), Path(f"/{number}/a.png")))
    asked: list[str] = []
    base._base.set_trace_callback(asked.append)
    assert names(list(base.ordered()))[-1] == "a-600.png"
    base.close()
    assert len(asked) < 600 * 6
