"""The report of a job, the check of its outputs, and dry runs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from cli_help import picture, run, stub_restorers
from PIL import Image
from stub_restorer import StubRestorer

from gpen_core.batch.crops import crop
from gpen_core.batch.histogram import SIZES
from gpen_core.batch.tally import SAMPLE, SHOWN, Tally
from gpen_core.faces.face import Face
from gpen_core.pictures import from_array


@pytest.fixture
def finished(tmp_path, monkeypatch, capsys):
    """A job of four pictures, one of them bad: the function that runs another command on it."""
    stub_restorers(monkeypatch)
    for number in range(3):
        picture(tmp_path / "in" / f"{number}.png", (60, 50))
    (tmp_path / "in" / "<b>.png").write_text("x")
    more = ["--job", tmp_path / "job", "--model", "GPEN-BFR-256-lite"]
    assert run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", *more)[0] == 1
    return lambda action, *more: run(capsys, "job", action, tmp_path / "job", *more)


# --- report ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def after(self, word):
        return self.words[self.words.index(word) + 1]


def test_the_report_holds_everything_and_asks_no_network(tmp_path, finished):
    text = (tmp_path / "job" / "report.html").read_text("utf-8")
    page = Page(text)
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert len(links) == 6 and all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert not re.search(r"https?:|url\(|@import|<script", text)
    assert page.after("inputs") == "4" and page.after("failed") == "1"
    assert any(word.endswith("<b>.png") for word in page.words) and "b" not in {tag for tag, _ in page.tags}
    assert [attributes["height"] for tag, attributes in page.tags if tag == "rect"].count("120") == 2  # one bar of each histogram


def test_the_page_fits_a_telephone(tmp_path, finished):
    """Its width is the device's, empty bars at the ends are left out, and many bars move in a frame of their own."""
    page = Page((tmp_path / "job" / "report.html").read_text("utf-8"))
    assert ("meta", {"name": "viewport", "content": "width=device-width"}) in page.tags
    frames = [number for number, (tag, attributes) in enumerate(page.tags) if attributes.get("class") == "wide"]
    assert [page.tags[number + 1][0] for number in frames] == ["svg", "svg"]
    assert [attributes["class"] for tag, attributes in page.tags if tag == "table"] == ["short", "short", "long", "long"]
    assert "<32" in page.words and "<8" not in page.words and "0.95" in page.words and "0.90" not in page.words


def test_a_report_of_an_unfinished_job_says_what_is_left(tmp_path, finished):
    next((tmp_path / "job" / "records").glob("*.done.jsonl")).unlink()
    code, out, _ = finished("report")
    assert code == 0 and out == f"{tmp_path / 'job' / 'report.html'}\n"
    page = Page((tmp_path / "job" / "report.html").read_text("utf-8"))
    assert page.after("left") == "4"


def record(number: int, change: float) -> dict:
    face = {"box": [0, 0, number % 900, 2000], "score": number % 10 / 10, "status": "restored"}
    return {"input": f"{number}.png", "output": "o", "seconds": 1.0, "error": None, "faces": [face] * 2, "change": change, "bytes": 5}


def test_a_tally_does_not_grow_and_keeps_the_extremes():
    tally = Tally()
    for number in range(2000):
        tally.add(record(number, (number * 7919 % 2000) / 2000))
        tally.add({"input": "x", "error": "bad", "seconds": 0})
    assert [one["change"] for one in tally.most] == [(1999 - index) / 2000 for index in range(SHOWN)]
    assert [one["change"] for one in tally.least] == [index / 2000 for index in range(SHOWN)]
    assert len(tally.sample) == SAMPLE and len(tally.errors) == 200 and tally.failed == 2000
    assert sum(tally.sizes) == sum(tally.scores) == 4000
    assert tally.sizes[0] == 2 * 3 * 8  # widths 0 to 7, thrice in 2000
    other = Tally()
    for number in reversed(range(2000)):
        other.add(record(number, 0.5))
    assert [(one["input"], face) for one, face in other.sample] == [(one["input"], face) for one, face in tally.sample]


def test_names_that_are_no_text_are_drawn_like_others():
    """Half a letter from a Windows name, and a byte that is no UTF-8 from a Linux one."""
    for name in ("\ud83d.png", "\udcff.png"):
        tally = Tally()
        tally.add({**record(5, 0.5), "input": name})
        assert [one["input"] for one, _ in tally.sample] == [name] * 2


def test_sizes_are_counted_between_the_bars_ends():
    tally = Tally()
    for side in (*SIZES, 7, 1e6):
        tally.add({**record(int(side), 0), "faces": [{"box": [0, 0, side, side + 1], "score": 1.0, "status": "kept"}]})
    assert tally.sizes == [1] * len(SIZES) + [2] and tally.scores[-1] == len(SIZES) + 2 and tally.faces == {"kept": len(SIZES) + 2}


@pytest.mark.parametrize("box", [(30, 20, 50, 40), (-20, -20, 10, 10), (60, 60, 90, 90), (200, 200, 210, 210), (10, 10, 10, 10)])
def test_a_crop_is_a_square_that_shows_the_faces_middle(box):
    pixels = np.zeros((70, 70, 3), np.uint8)
    pixels[..., 0] = np.arange(70)[None, :] * 3
    pixels[..., 1] = np.arange(70)[:, None] * 3
    square = crop(from_array(pixels), box, 64)
    assert square.shape == (64, 64, 3)
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    if 0 <= x < 69 and 0 <= y < 69 and box[2] > box[0]:
        assert square[32, 32, :2] * 255 / 3 == pytest.approx([x, y], abs=1.5)


@pytest.mark.parametrize("box", [(25, 25, 45, 45), (30, 25, 40, 45), (25, 30, 45, 40)])
def test_a_crop_shows_a_third_more_than_the_faces_longer_side(box):
    pixels = np.zeros((70, 70, 3), np.uint8)
    pixels[..., 0] = np.arange(70)[None, :] * 3
    row = crop(from_array(pixels), box, 68)[34, :, 0] * 255 / 3
    assert row[[0, -1]] == pytest.approx([35 - 17, 35 + 17], abs=1.5)


# --- check -----------------------------------------------------------------------------------------------------------


def test_a_check_names_what_is_missing_or_broken(tmp_path, finished):
    code, out, _ = finished("check")
    assert code == 1 and "<b>.png" in out and "4 inputs, 1 problems" in out
    (tmp_path / "out" / "0.png").unlink()
    (tmp_path / "out" / "1.png").write_bytes((tmp_path / "out" / "1.png").read_bytes()[:-9])
    data = bytearray((tmp_path / "out" / "2.png").read_bytes())
    data[20:24] = b"\xff\xff\xff\xff"
    (tmp_path / "out" / "2.png").write_bytes(data)
    lines = finished("check")[1].splitlines()
    assert len(lines) == 5
    assert "is missing" in lines[0] and "bytes" in lines[1] and "damaged" in lines[2]
    assert "damaged" not in finished("check", "--quick")[1]
    told = json.loads(finished("check", "--json")[1])
    assert told["problems"] == 4 and len(told["first"]) == 4


def test_a_check_of_a_whole_job_is_0_and_of_an_unfinished_one_1(tmp_path, monkeypatch, capsys):
    stub_restorers(monkeypatch)
    for number in range(12):
        picture(tmp_path / "in" / f"{number:02}.png")
    more = ["--job", tmp_path / "job", "--model", "GPEN-BFR-256-lite"]
    assert run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", *more)[0] == 0
    assert run(capsys, "job", "check", tmp_path / "job")[:2] == (0, "all 12 inputs have their output\n")
    done = sorted((tmp_path / "job" / "records").iterdir())
    lines = done[0].read_bytes().splitlines(keepends=True)
    done[0].write_bytes(b"".join(lines[:-1]))
    done[1].unlink()
    code, out, _ = run(capsys, "job", "check", tmp_path / "job")
    assert code == 1 and "09.png: not done" in out and "shard 1: its 2 inputs are not done" in out


def test_no_job_is_wrong_usage(tmp_path, capsys):
    for action in ("check", "report"):
        code, out, err = run(capsys, "job", action, tmp_path)
        assert (code, out) == (2, "") and "there is no job" in err and err.count("\n") == 1


# --- dry runs --------------------------------------------------------------------------------------------------------


def test_a_dry_run_writes_a_sheet_of_faces_and_no_picture(tmp_path, monkeypatch, capsys):
    made = stub_restorers(monkeypatch)
    face = Face((4.0, 4.0, 12.0, 12.0), np.full((5, 2), 8, np.float32), 0.99)
    monkeypatch.setattr(StubRestorer, "detect", lambda self, picture: [face, face])
    for number in range(12):
        picture(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "v.mp4").write_bytes(b"x")
    command = ["restore", tmp_path / "in", "-o", tmp_path / "out", "--job", tmp_path / "job", "--dry-run"]
    code, out, err = run(capsys, *command)
    assert code == 1 and "12 of 13 inputs done, 1 failed, 24 faces found" in out and "v.mp4 is a video" in err
    assert not (tmp_path / "out").exists() and sum(restorer.calls for restorer in made) == 0
    assert made[0].options.model == "GPEN-BFR-256-lite"  # nothing is downloaded for it
    with Image.open(tmp_path / "job" / "faces.jpg") as sheet:
        assert sheet.size == (20 * 96, 2 * 96)
        assert sheet.getpixel((48, 48)) == pytest.approx((10, 20, 30), abs=4)
    assert run(capsys, "job", "check", tmp_path / "job")[1].count("\n") == 2  # the video, and the sum
    code, _, err = run(capsys, *command[:-1], "--model", "GPEN-BFR-256-lite")
    assert code == 2 and "dry_run True (now False)" in err
