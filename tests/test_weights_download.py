"""Downloads against a server on this machine: resuming, mirrors, refusals, sums, locks."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from download_server import FILE, Server
from weights_help import tiny_catalog, tiny_state

from gpen_core.errors import WeightsError, WeightsMissingError
from gpen_core.network.load import find_model
from gpen_core.weights import download as module
from gpen_core.weights import files
from gpen_core.weights.catalog import Catalog
from gpen_core.weights.download import NOTICE_FILE, download, first_answering, missing, sources
from gpen_core.weights.sums import RECORD_FILE, verify

NARROW = 4 / 64


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("data") / "a.pth"
    torch.save(tiny_state(NARROW), path)
    return path.read_bytes()


@pytest.fixture
def server(data):
    server = Server(data)
    yield server
    server.hold.set()
    server.enough.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    for name in ("GPEN_MODELS_DIR", "GPEN_EXTRA_MODELS", "HF_HUB_OFFLINE", "GPEN_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "_unreachable", {})


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "models" / "GPEN"


def entry_for(*urls: str, **more):
    return tiny_catalog(urls=urls, **more).get("GPEN-BFR-2048")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and path.name not in (NOTICE_FILE, RECORD_FILE))


def test_a_download(server, folder, data, capsys):
    told = []
    path = download(entry_for(server.url()), folder, progress=lambda done, total: told.append((done, total)))
    assert path == folder / FILE and path.read_bytes() == data
    assert left(folder) == [FILE]
    assert told[0] == (0, len(data)) and told[-1] == (len(data), len(data))
    assert told == sorted(told)
    record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))[FILE]
    assert record["sha256"] == hashlib.sha256(data).hexdigest() and record["bytes"] == len(data) and record["from"] == server.url()
    assert capsys.readouterr() == ("", "")  # no bar where there is no terminal


def test_nothing_is_fetched_twice(server, folder):
    entry = entry_for(server.url())
    download(entry, folder)
    download(entry, folder)
    assert len(server.seen) == 1


def test_licence_is_shown_once(server, folder):
    shown = []
    entry = entry_for(server.url())
    path = download(entry, folder, notice=shown.append)
    path.unlink()
    download(entry, folder, notice=shown.append)
    assert shown == [entry.licence]
    assert entry.licence in (folder / NOTICE_FILE).read_text(encoding="utf-8")


def test_mirrors_in_order(server, folder, data):
    path = download(entry_for(server.url("gone"), server.url("page"), server.url("good")), folder)
    assert path.read_bytes() == data
    assert [manner for manner, _ in server.seen] == ["gone", "page", "good"]


@pytest.mark.parametrize(
    ("manner", "told"),
    [("gone", "404"), ("page", "HTML page"), ("empty", "empty file"), ("short", "cut off")],
)
def test_bad_answers_leave_nothing(server, folder, manner, told):
    with pytest.raises(WeightsMissingError) as caught:
        download(entry_for(server.url(manner)), folder)
    text = str(caught.value)
    assert told in text and FILE in text and str(folder) in text and server.url(manner) in text
    assert FILE not in left(folder)


def test_no_server_at_all(folder):
    with pytest.raises(WeightsMissingError, match=r"could not be downloaded \(no server answered: .+\);"):
        download(entry_for("http://127.0.0.1:9/x.pth"), folder)


def test_a_wrong_length_is_refused(server, folder, data):
    with pytest.raises(WeightsMissingError, match="instead of 17"):
        download(entry_for(server.url(), size_bytes=17), folder)
    assert FILE not in left(folder)


def test_another_network_is_refused(server, folder, tmp_path):
    torch.save(tiny_state(1 / 64), tmp_path / "other.pth")
    server.data = (tmp_path / "other.pth").read_bytes()
    with pytest.raises(WeightsMissingError, match=r"not GPEN-BFR-2048"):
        download(entry_for(server.url()), folder)
    assert left(folder) == []


def test_pinned_sum(server, folder, data):
    with pytest.raises(WeightsMissingError, match="pinned in the catalogue"):
        download(entry_for(server.url(), sha256="00" * 32), folder)
    assert left(folder) == []
    download(entry_for(server.url(), sha256=hashlib.sha256(data).hexdigest()), folder)
    assert left(folder) == [FILE]


def test_a_file_that_changed_on_the_server_is_refused(server, folder, tmp_path):
    entry = entry_for(server.url())
    download(entry, folder).unlink()
    torch.save(tiny_state(NARROW, seed=5), tmp_path / "other.pth")
    server.data, server.etag = (tmp_path / "other.pth").read_bytes(), '"two"'
    with pytest.raises(WeightsMissingError, match=r"recorded in .*checksums\.json"):
        download(entry, folder)
    assert left(folder) == []
    (folder / RECORD_FILE).unlink()
    assert download(entry, folder).read_bytes() == server.data


def test_a_file_that_changed_on_disk_is_not_overwritten(server, folder, tmp_path):
    entry = entry_for(server.url())
    path = download(entry, folder)
    torch.save(tiny_state(NARROW, seed=5), path)
    with pytest.raises(WeightsError, match="delete the file"):
        download(entry, folder)


def test_a_damaged_file_is_fetched_anew(server, folder, data):
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(data[:1000])
    assert download(entry_for(server.url()), folder).read_bytes() == data


def test_another_generator_of_that_name_is_kept(server, folder):
    folder.mkdir(parents=True)
    torch.save(tiny_state(1 / 64), folder / FILE)
    with pytest.raises(WeightsError, match="not what its name says"):
        download(entry_for(server.url()), folder)
    assert not server.seen


class Stop(Exception):
    pass


@pytest.fixture
def stopped(server, folder, data):
    """A download that its user stopped after a third."""

    def stop(done: int, total: int | None) -> None:
        if done > 0:
            raise Stop

    server.cut_after = len(data) // 3
    with pytest.raises(Stop):
        download(entry_for(server.url()), folder, progress=stop)
    server.seen.clear()
    assert left(folder) == [f"{FILE}.part", f"{FILE}.part.json"]
    have = (folder / f"{FILE}.part").stat().st_size
    assert 0 < have < len(data)
    return have


def test_a_stopped_download_is_resumed(server, folder, data, stopped):
    assert download(entry_for(server.url()), folder).read_bytes() == data
    assert server.ranges == [f"bytes={stopped}-"]


def test_a_server_that_ignores_ranges(server, folder, data, stopped):
    state = folder / f"{FILE}.part.json"
    state.write_text(state.read_text().replace("/good/", "/ranges-ignored/"))
    assert download(entry_for(server.url("ranges-ignored")), folder).read_bytes() == data
    assert server.ranges == [f"bytes={stopped}-"]


def test_a_file_that_changed_meanwhile_is_begun_anew(server, folder, tmp_path, stopped):
    torch.save(tiny_state(NARROW, seed=5), tmp_path / "other.pth")
    server.data, server.etag = (tmp_path / "other.pth").read_bytes(), '"two"'
    assert download(entry_for(server.url()), folder).read_bytes() == server.data


def test_the_part_of_another_address_is_not_resumed(server, folder, data, stopped):
    assert download(entry_for(server.url("other")), folder).read_bytes() == data
    assert server.ranges == [None]


def test_a_dead_first_mirror_does_not_lose_the_part_of_the_second(server, folder, data, stopped):
    assert download(entry_for("http://127.0.0.1:9/x.pth", server.url()), folder).read_bytes() == data
    assert server.ranges == [f"bytes={stopped}-"]


def test_a_part_that_is_too_long_is_begun_anew(server, folder, data, stopped):
    with (folder / f"{FILE}.part").open("ab") as file:
        file.write(bytes(len(data)))
    assert download(entry_for(server.url()), folder).read_bytes() == data


def test_a_whole_part_is_only_renamed(server, folder, data, stopped):
    (folder / f"{FILE}.part").write_bytes(data)
    assert download(entry_for(server.url()), folder).read_bytes() == data
    assert len(server.seen) == 1


def test_a_broken_connection_is_taken_up_again(server, folder, data):
    server.cut_after = len(data) // 2
    assert download(entry_for(server.url()), folder).read_bytes() == data
    assert server.ranges[0] is None and server.ranges[1].startswith("bytes=")


def test_ctrl_c_leaves_only_the_part(server, folder):
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(entry_for(server.url()), folder, progress=interrupt)
    assert FILE not in left(folder)


def test_too_little_space(server, folder, monkeypatch):
    usage = shutil.disk_usage(folder.parent.parent)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(WeightsError, match="free space"):
        download(entry_for(server.url()), folder)


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WeightsError, match="cannot be written"):
        download(entry_for(server.url()), tmp_path / "file" / "GPEN")


def test_two_processes(server, folder, data, tmp_path):
    code = """
import sys; sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from download_server import FILE, Handler, Server
from weights_help import tiny_catalog
from gpen_core.weights.download import download
print(download(tiny_catalog(urls=(sys.argv[3],)).get("GPEN-BFR-2048"), Path(sys.argv[4])))
"""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", code, str(root), str(root / "tests"), server.url(), str(folder)]
    server.hold.clear()  # the first one is kept waiting for the end of its connection until both run
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    threading.Timer(3, server.hold.set).start()
    results = [run.communicate(timeout=60) for run in runs]
    assert [out.strip() for out, _ in results] == [str(folder / FILE)] * 2, results
    assert len(server.seen) == 1
    assert (folder / FILE).read_bytes() == data and left(folder) == [FILE]


def test_hf_endpoint(monkeypatch, server, folder, data):
    monkeypatch.setenv("HF_ENDPOINT", server.url().rsplit("/", 2)[0] + "/")
    entry = entry_for(f"https://huggingface.co/good/{FILE}")
    assert [source.url for source in sources(entry)] == [server.url()]
    assert download(entry, folder).read_bytes() == data


def test_first_answering(server):
    assert first_answering(entry_for("http://127.0.0.1:9/x", server.url("gone"), server.url("page"), server.url()), 5).url == server.url()
    assert first_answering(entry_for(server.url("a"), server.url("b")), 5).url == server.url("a")
    assert first_answering(entry_for("http://127.0.0.1:9/x", server.url("gone")), 5) is None


def test_auto_fetches_on_first_use(monkeypatch, server, folder, data):
    catalog = tiny_catalog(urls=(server.url("gone"), server.url()))
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: catalog))
    found = find_model("auto", folder.parent)
    assert found.path == folder / FILE and found.note is None and found.path.read_bytes() == data
    assert find_model("GPEN-BFR-2048", folder.parent).path == found.path


def test_a_host_names_the_folder(monkeypatch, server, folder, data, tmp_path):
    catalog = tiny_catalog(urls=(server.url(),))
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: catalog))
    elsewhere = tmp_path / "weights of mine"
    found = find_model("GPEN-BFR-2048", folder.parent, extra_folders=[elsewhere], folder=elsewhere)
    assert found.path == elsewhere / FILE and not (folder / FILE).exists()
    assert find_model("GPEN-BFR-2048", folder.parent, extra_folders=[elsewhere], folder=elsewhere, offline=True).path == found.path


def test_auto_survives_a_failing_download(monkeypatch, server, folder, tmp_path):
    catalog = tiny_catalog(urls=(server.url("short"),))
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: catalog))
    folder.mkdir(parents=True)
    torch.save(tiny_state(2 / 64, size=128), folder / "GPEN-BFR-512.pth")
    found = find_model("auto", folder.parent)
    assert found.entry.name == "GPEN-BFR-512" and "no mirror delivered it" in found.note


def test_a_name_is_fetched_or_refused(monkeypatch, server, folder):
    catalog = tiny_catalog(urls=(server.url(),))
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: catalog))
    assert find_model("GPEN-BFR-2048", folder.parent).path == folder / FILE
    with pytest.raises(WeightsMissingError):
        find_model("GPEN-BFR-512", folder.parent)


def test_verify(server, folder, data):
    entry = entry_for(server.url())
    path = download(entry, folder)
    result = verify(path, entry)
    assert result.ok and result.basis == "recorded" and result.sha256 == hashlib.sha256(data).hexdigest()
    path.write_bytes(data + b"x")
    assert not verify(path, entry).ok
    other = folder / "mine.pth"
    other.write_bytes(data)
    assert verify(other, record=True).basis == "unknown"
    assert verify(other).basis == "recorded"


def test_verify_knows_onnx_of_other_programs(tmp_path):
    entry = Catalog.default().get("GPEN-BFR-2048")
    path = tmp_path / "gpen_bfr_2048.onnx"
    path.write_bytes(b"x")
    assert verify(path, entry).basis == "unknown"


def test_the_message_lists_everything():
    entry = Catalog.default().get("GPEN-BFR-2048")
    text = str(missing(entry, Path("models") / "GPEN", "test"))
    for url in entry.urls:
        assert url in text
    assert entry.known_onnx[0].sha256 in text and "285,582,766" in text and "GPEN-BFR-2048.pth" in text


def test_a_bar_on_a_terminal(server, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    download(entry_for(server.url()), folder)
    assert FILE in capsys.readouterr().err


def test_no_bar_where_only_errors_are_wanted(server, folder, monkeypatch, capsys):
    """As `restore --quiet` asks for: its console lets the package's logger tell of errors only."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    logger = logging.getLogger("gpen_core")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        download(entry_for(server.url()), folder)
    finally:
        logger.setLevel(before)
    assert FILE not in capsys.readouterr().err
