"""What happens behind the page's buttons, without gradio."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from gpen_core import FaceRestorer, RestoreOptions, read_picture
from gpen_core.errors import GpenError, SettingsError
from gpen_core.pictures import from_array, write_picture
from gpen_page import models, work
from gpen_page.engine import Cancelled, Engine, Job

LITE = "GPEN-BFR-256-lite"
OPTIONS = RestoreOptions(model=LITE, precision="fp32", look_closer=False)


@pytest.fixture
def two(tmp_path, portrait):
    """A picture of two faces, named as people name pictures."""
    face = np.asarray(Image.open(portrait))[20:180, 100:260]
    path = tmp_path / "日本 été हिन्दी.png"
    Image.fromarray(np.concatenate([face, face], axis=1)).save(path)
    return path


def test_faces_are_found_drawn_and_switched_on(engine, two):
    found = work.find(engine, two, OPTIONS, Job())
    assert (found.faces, found.on, found.note, found.failed) == (2, [0, 1], "2 faces found.", False)
    assert found.picture.shape == (160, 320, 3) and found.picture.dtype == np.uint8
    assert (found.picture != np.asarray(Image.open(two))).any()  # boxes and numbers


def test_the_setting_which_faces_switches_them(engine, two):
    assert work.find(engine, two, RestoreOptions(model=LITE, faces="1,7", look_closer=False), Job()).on == [1]


def test_only_the_faces_switched_on_are_restored(engine, two, tmp_path):
    (done,) = work.restore(engine, [two], OPTIONS, {two: [1]}, tmp_path / "out", Job())
    before, after = read_picture(two).pixels, read_picture(done.file).pixels
    (face,) = [
        f.face for f in FaceRestorer(RestoreOptions(model=LITE, precision="fp32", look_closer=False, faces="1"))(read_picture(two)).faces
    ]
    half = slice(0, 160) if face.box[0] < 160 else slice(160, 320)
    other = slice(160, 320) if face.box[0] < 160 else slice(0, 160)
    assert (before[:, half] != after[:, half]).any()
    core = other.start + 30, other.stop - 30  # a soft edge may reach over
    np.testing.assert_array_equal(before[:, core[0] : core[1]], after[:, core[0] : core[1]])
    assert done.line.startswith(f"{two.name}: 1 of 1 face restored with {LITE} in ") and done.file.name == two.name


def test_a_picture_without_a_face_switched_on_is_left_alone(engine, two, tmp_path):
    (done,) = work.restore(engine, [two], OPTIONS, {two: []}, tmp_path / "out", Job())
    assert done.failed and done.file is None and "no face is switched on" in done.line


def test_the_result_is_what_the_core_makes_of_the_file(engine, portrait, tmp_path):
    """16 bit and alpha too: the work begins with the uploaded file, not with what the page shows."""
    pixels = np.asarray(Image.open(portrait)).astype(np.uint16) * 257
    alpha = np.tile(np.arange(320, dtype=np.uint16) * 200 + 7, (320, 1))
    source = write_picture(from_array(np.dstack([pixels, alpha])), tmp_path / "deep.png")
    (done,) = work.restore(engine, [source], OPTIONS, {}, tmp_path / "out", Job())
    expected = FaceRestorer(OPTIONS)(read_picture(source)).image
    made = read_picture(done.file)
    assert made.form.dtype == np.uint16
    np.testing.assert_array_equal(np.rint(made.alpha * 65535).astype(int), alpha)
    np.testing.assert_allclose(made.pixels, expected.pixels, atol=1 / 65535)


def test_previews_have_one_size(engine, portrait, tmp_path):
    (done,) = work.restore(engine, [portrait], RestoreOptions(model=LITE, output_size="factor", factor=2), {}, tmp_path, Job())
    before, after = done.previews()
    assert before.shape == after.shape == (640, 640, 3)


def test_a_preview_is_not_larger_than_a_page(monkeypatch):
    monkeypatch.setattr(work, "LONGEST", 100)
    assert work.preview(from_array(np.zeros((400, 200, 4), np.uint8))).shape == (100, 50, 3)


def test_a_preview_shows_the_pixels_on_grey_where_they_are_transparent():
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(work.preview(from_array(pixels)), pixels)
    half = np.full((20, 30, 1), 51, np.uint8)  # a fifth
    expected = np.rint((pixels / 255 * 0.2 + 0.5 * 0.8) * 255)
    np.testing.assert_allclose(work.preview(from_array(np.dstack([pixels, half]))), expected, atol=1)
    assert work.preview(from_array(pixels), like=from_array(np.zeros((40, 60, 3), np.uint8))).shape == (40, 60, 3)


def test_no_face_is_said_and_the_picture_shown(engine, tmp_path):
    path = write_picture(from_array(np.full((64, 64, 3), 90, np.uint8)), tmp_path / "empty.png")
    found = work.find(engine, path, OPTIONS, Job())
    assert (found.faces, found.on, found.failed) == (0, [], False) and found.note.startswith("No face was found.")
    np.testing.assert_array_equal(found.picture, np.full((64, 64, 3), 90))


def test_files_of_one_name_do_not_replace_each_other(engine, portrait, tmp_path):
    paths = [tmp_path / name / "a.png" for name in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        shutil.copy(portrait, path)
    done = work.restore(engine, paths, OPTIONS, {}, tmp_path / "out", Job())
    assert len({item.file for item in done}) == 2 and [item.source for item in done] == paths


def test_one_bad_file_stops_no_other_and_names_no_folder(engine, portrait, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture at all")
    first, second = work.restore(engine, [bad, portrait], OPTIONS, {}, tmp_path / "out", Job())
    assert (first.failed and first.line.startswith("bad.png")) or "bad.png" in first.line
    assert str(tmp_path) not in first.line and "Traceback" not in first.line
    assert not second.failed and second.file.is_file()
    found = work.find(engine, bad, OPTIONS, Job())
    assert found.failed and "bad.png" in found.note and str(tmp_path) not in found.note


def test_an_archive_is_refused_before_any_work_and_stops_no_other(engine, portrait, tmp_path, monkeypatch):
    import tarfile

    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as opened:
        opened.add(portrait, "x.png")
    monkeypatch.setattr("gpen_core.batch.run.restore_tar", lambda *given, **more: pytest.fail("it was opened"))
    refused, other = work.restore(engine, [archive, portrait], OPTIONS, {}, tmp_path / "out", Job())
    assert refused.failed and refused.file is None and refused.line == "a.tar: the page takes no archives; restore it on the command line."
    assert not other.failed and [path.name for path in (tmp_path / "out").iterdir()] == [other.file.name]


def test_a_bug_is_one_line(engine, portrait, monkeypatch, caplog):
    monkeypatch.setattr(work, "read_picture", lambda path: 1 / 0)
    found = work.find(engine, portrait, OPTIONS, Job())
    assert found.failed and "\n" not in found.note and "bug" in found.note and "ZeroDivisionError" in caplog.text


def test_the_model_is_loaded_once_and_shared_by_settings(engine, portrait, tmp_path, monkeypatch):
    from gpen_page import engine as module

    work.restore(engine, [portrait], OPTIONS, {}, tmp_path / "a", Job())
    monkeypatch.setattr(module, "load_network", lambda *a, **k: pytest.fail("loaded again"))
    for number, strength in enumerate((0.5, 0.25)):
        options = RestoreOptions(model=LITE, precision="fp32", look_closer=False, strength=strength)
        (done,) = work.restore(engine, [portrait], options, {}, tmp_path / f"b{number}", Job())
        assert not done.failed


class Stopping(Job):
    """Cancels itself when it is told of the first face."""

    def report(self, done, total, what, preview=None):
        super().report(done, total, what, preview)
        if done == 1 and what.startswith("face "):
            self.cancel()


def test_cancel_keeps_the_faces_that_are_done(engine, two, portrait, tmp_path):
    done = work.restore(engine, [two, portrait], OPTIONS, {}, tmp_path / "out", Stopping())
    assert len(done) == 1  # the second file is not begun
    assert "1 of 2 faces restored" in done[0].line and done[0].line.endswith("Cancelled before the end.")
    assert done[0].file.is_file()


def test_whoever_waits_can_cancel(engine, portrait, tmp_path):
    """One restoration at a time; those that wait hear that they wait, and end when they are cancelled."""
    said, waits = [], threading.Event()

    def show(share, text):
        said.append(text)
        waits.set()

    job = Job(show)
    ended: list[BaseException] = []

    def second():
        try:
            work.restore(engine, [portrait], OPTIONS, {}, tmp_path / "out", job)
        except Cancelled as error:
            ended.append(error)

    with engine.turn(Job()):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(20)
        job.cancel()
        thread.join(20)
    assert set(said) == {"Waiting for another restoration"} and len(ended) == 1
    assert not (tmp_path / "out").exists()


def test_what_is_cancelled_before_its_turn_is_not_begun(engine, portrait, tmp_path):
    job = Job()
    job.cancel()
    with pytest.raises(Cancelled):
        work.restore(engine, [portrait], OPTIONS, {}, tmp_path / "out", job)
    assert not (tmp_path / "out").exists()
    with engine.turn(Job()):  # the next one's turn comes
        pass


def test_a_download_tells_how_far_it_is_and_can_be_cancelled(monkeypatch, tmp_path):
    from gpen_page import engine as module

    said = []
    job = Job(lambda share, text: said.append((share, text)))

    def fetching(model, models_dir, *, task, progress):
        progress(100_000_000, 200_000_000)
        job.cancel()
        progress(150_000_000, 200_000_000)

    monkeypatch.setattr(module, "find_model", fetching)
    with pytest.raises(Cancelled, match="goes on"):
        work.fetch(Engine(tmp_path), "GPEN-BFR-512", job)
    assert said[0] == (0.5, "Downloading GPEN-BFR-512: 100 MB of 200 MB")


def test_the_next_one_may_work_after_a_failure(engine, portrait, tmp_path):
    with pytest.raises(GpenError):
        work.restore(engine, [portrait], RestoreOptions(model="GPEN-BFR-512"), {}, tmp_path / "a", Job())
    (done,) = work.restore(engine, [portrait], OPTIONS, {}, tmp_path / "b", Job())
    assert not done.failed


@pytest.mark.parametrize("model", ["/etc/passwd", "../x.pth", "./x.pth", "C:\\x.pth", "nothing", "GPEN/x.pth"])
def test_only_models_of_the_list_can_be_chosen(engine, portrait, tmp_path, model):
    with pytest.raises(SettingsError, match="there is no model"):
        work.restore(engine, [portrait], RestoreOptions(model=model), {}, tmp_path / "out", Job())
    with pytest.raises(SettingsError, match="there is no model"):
        work.fetch(engine, model, Job())


def test_the_list_of_models_says_size_and_place(tmp_path):
    listed = {model.name: model for model in models.listing(tmp_path)}
    assert "download of 285 MB" in listed["GPEN-BFR-2048"].label and "not on disk" in listed["GPEN-BFR-2048"].place
    assert listed[LITE].label == f"{LITE} (on disk)" and listed[LITE].place == "Faces of 256 pixels; 15.5 MB, included"
    own = tmp_path / "GPEN" / "mine.safetensors"
    own.parent.mkdir()
    shutil.copy(listed[LITE].path, own)
    (mine,) = [model for model in models.listing(tmp_path) if model.name == own.name]
    assert mine.place == f"Your own file; 15.5 MB, in {own}" and mine.label == "mine.safetensors (on disk)"
    assert models.names(tmp_path) == ["auto", *listed, own.name]
    assert "285 MB" in models.auto(tmp_path)


def test_videos_follow_the_settings(engine, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    assert "settings choose its faces" in work.find(engine, clip, OPTIONS, Job()).note
    native = RestoreOptions(model=LITE, output_size="native")
    (done,) = work.restore(engine, [clip], native, {}, tmp_path / "out", Job())
    assert done.failed and "choose keep or factor" in done.line
