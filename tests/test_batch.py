"""Which file goes where, and that one bad input never stops the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stub_restorer import StubRestorer

from gpen_core.batch.run import exit_code, plan_outputs, run_batch
from gpen_core.errors import SettingsError, WeightsMissingError


def picture(path: Path, size=(24, 16), colour=(10, 20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def targets(jobs):
    return [job.target for job in jobs]


# --- planning --------------------------------------------------------------------------------------------------------


def test_one_file_to_a_file_or_a_folder(tmp_path):
    a = picture(tmp_path / "a.png")
    assert targets(plan_outputs([a], tmp_path / "b.jpg")) == [tmp_path / "b.jpg"]
    assert targets(plan_outputs([a], tmp_path / "out")) == [tmp_path / "out" / "a.png"]
    (tmp_path / "folder.png").mkdir()
    assert targets(plan_outputs([a], tmp_path / "folder.png")) == [tmp_path / "folder.png" / "a.png"]


def test_what_cannot_be_written_becomes_png_or_mkv(tmp_path):
    gif, webm, mov = (tmp_path / name for name in ("a.gif", "b.webm", "c.MOV"))
    for path in (gif, webm, mov):
        path.write_bytes(b"x")
    names = [job.target.name for job in plan_outputs([gif, webm, mov], tmp_path / "out")]
    assert names == ["a.png", "b.mkv", "c.mov"]


@pytest.mark.parametrize("out", ["x.mp4", "x.gif", "x.webm"])
def test_a_file_that_cannot_take_a_picture(tmp_path, out):
    with pytest.raises(SettingsError, match="cannot store a picture"):
        plan_outputs([picture(tmp_path / "a.png")], tmp_path / out)


def test_several_inputs_do_not_fit_into_a_file(tmp_path):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    with pytest.raises(SettingsError, match="folder"):
        plan_outputs([a, b], tmp_path / "c.png")
    with pytest.raises(SettingsError, match="folder"):
        plan_outputs([a, b], a)
    with pytest.raises(SettingsError, match="folder"):
        plan_outputs([tmp_path], tmp_path / "c.png")


def test_a_folder_keeps_its_structure_and_hides_what_is_hidden(tmp_path):
    root = tmp_path / "in"
    picture(root / "b.png")
    picture(root / "sub" / "a.jpg")
    picture(root / ".thumbs" / "t.png")
    picture(root / "._b.png")
    (root / "notes.txt").write_text("x")
    jobs = plan_outputs([root], tmp_path / "out")
    assert targets(jobs) == [tmp_path / "out" / "b.png", tmp_path / "out" / "sub" / "a.jpg"]


def test_outputs_inside_the_input_folder_are_not_inputs_again(tmp_path):
    root = tmp_path / "in"
    picture(root / "a.png")
    picture(root / "out" / "a.png")
    picture(root / "faces" / "a.png-0-after.png")
    assert targets(plan_outputs([root], root / "out", leave_out=[root / "faces"])) == [root / "out" / "a.png"]


def test_several_folders_each_get_one_of_their_name(tmp_path):
    picture(tmp_path / "x" / "1.png")
    picture(tmp_path / "y" / "1.png")
    lone = picture(tmp_path / "z" / "1.png")
    jobs = plan_outputs([tmp_path / "x", tmp_path / "y", lone], tmp_path / "out")
    assert [job.target.relative_to(tmp_path / "out") for job in jobs] == [Path("x/1.png"), Path("y/1.png"), Path("1.png")]


def test_no_two_inputs_share_an_output(tmp_path):
    inputs = [picture(tmp_path / folder / "1.png") for folder in ("a", "b", "c")]
    inputs += [picture(tmp_path / "d" / "1-2.png"), picture(tmp_path / "e" / "1.PNG")]
    out = targets(plan_outputs(inputs, tmp_path / "out"))
    assert [path.name for path in out] == ["1.png", "1-3.png", "1-4.png", "1-2.png", "1-5.PNG"]


def test_an_input_named_twice_is_done_once(tmp_path):
    a = picture(tmp_path / "a.png")
    assert len(plan_outputs([a, tmp_path / "." / "a.png", tmp_path], tmp_path / "out")) == 1


def test_no_output_is_another_input(tmp_path):
    """x/a.png must not be written onto a.png, which is still to be read; a.png itself may be (with --overwrite)."""
    foreign, own = picture(tmp_path / "x" / "a.png"), picture(tmp_path / "a.png")
    assert targets(plan_outputs([foreign, own], tmp_path)) == [tmp_path / "a-2.png", own]


def test_a_sheet_never_takes_another_files_place(tmp_path):
    a, sheet = picture(tmp_path / "a.png"), picture(tmp_path / "a-compare.png")
    jobs = plan_outputs([a, sheet], tmp_path, compare=True)
    assert [job.sheet.name for job in jobs] == ["a-compare-2.png", "a-compare-compare.png"]


def test_what_is_missing_or_empty_is_an_error_of_its_own(tmp_path):
    (tmp_path / "empty").mkdir()
    a = picture(tmp_path / "a.png")
    jobs = plan_outputs([tmp_path / "no.png", tmp_path / "empty", a], tmp_path / "out")
    assert [job.error is None for job in jobs] == [False, False, True]
    assert "no file or folder" in (jobs[0].error or "")
    assert "there are no pictures" in (jobs[1].error or "")


# --- work ------------------------------------------------------------------------------------------------------------


def run(inputs, out, restorer=None, **settings):
    return list(run_batch(plan_outputs(inputs, out, compare=settings.pop("compare", False)), restorer or StubRestorer(), **settings))


def test_one_bad_input_never_stops_the_others(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("I am a text")
    inputs = [picture(tmp_path / "a.png"), bad, tmp_path / "none.png", picture(tmp_path / "b.png"), picture(tmp_path / "c.png")]
    restorer = StubRestorer()
    restorer.fail_at = {1}
    results = run(inputs, tmp_path / "out", restorer)
    assert [result.error is None for result in results] == [True, False, False, False, True]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert "unexpected RuntimeError: no memory" in (results[3].error or "")
    assert exit_code(results) == 1


def test_an_existing_output_is_kept(tmp_path):
    a, out = picture(tmp_path / "a.png"), picture(tmp_path / "out" / "a.png", colour=(1, 1, 1))
    before = out.read_bytes()
    restorer = StubRestorer()
    (result,) = run([a], tmp_path / "out", restorer)
    assert result.output is None and "already exists" in (result.error or "")
    assert out.read_bytes() == before and restorer.calls == restorer.prepared == 0

    (result,) = run([a], tmp_path / "out", restorer, skip_existing=True)
    assert result.skipped and result.error is None and result.output == out and out.read_bytes() == before
    assert result.to_json()["skipped"] is True

    (result,) = run([a], tmp_path / "out", restorer, overwrite=True)
    assert result.error is None and out.read_bytes() != before


def test_the_input_is_never_written_unless_told(tmp_path):
    a = picture(tmp_path / "a.png")
    before = a.read_bytes()
    assert run([a], a)[0].error and a.read_bytes() == before
    assert run([a], a, overwrite=True)[0].error is None and a.read_bytes() != before


def test_resume_goes_on_where_a_run_was_interrupted(tmp_path):
    inputs = [picture(tmp_path / "in" / f"{index}.png") for index in range(4)]
    restorer = StubRestorer()
    restorer.fail_at, restorer.error = {2}, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "out", restorer)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]
    restorer = StubRestorer()
    results = run(inputs, tmp_path / "out", restorer, skip_existing=True)
    assert [result.skipped for result in results] == [True, True, False, False] and restorer.calls == 2


def test_missing_weights_end_the_run_at_once(tmp_path):
    class NoWeights(StubRestorer):
        def prepare(self):
            raise WeightsMissingError("not here")

    with pytest.raises(WeightsMissingError):
        run([picture(tmp_path / "a.png")], tmp_path / "out", NoWeights())
    assert run([tmp_path / "none.png"], tmp_path / "out", NoWeights())[0].error  # nothing to do: no weights needed


def test_sheet_and_faces(tmp_path):
    a = picture(tmp_path / "in" / "sub" / "a.png")
    out, faces = tmp_path / "out", tmp_path / "faces"
    (result,) = run([tmp_path / "in"], out, compare=True, faces_dir=faces)
    assert result.error is None
    assert [path.name for path in sorted((faces / "sub").iterdir())] == ["a.png-0-after.png", "a.png-0-before.png"]
    sheet = np.asarray(Image.open(out / "sub" / "a-compare.png"))
    before, after = np.asarray(Image.open(a)), np.asarray(Image.open(out / "sub" / "a.png"))
    assert sheet.shape == (16, 24 + 8 + 24, 3)
    assert np.array_equal(sheet[:, :24], before) and np.array_equal(sheet[:, -24:], after)


def test_an_output_folder_that_is_a_file(tmp_path):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(SettingsError):
        plan_outputs([a, b], tmp_path / "out")
    (result,) = run([a], tmp_path / "out" / "deeper")
    assert result.error and result.output is None
