import gzip
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest

from pcam_agreement.data import download, transfer
from pcam_agreement.data.pcam import SPLITS, file_name
from pcam_agreement.data.sources import pcam
from pcam_agreement.data.sources.pcam import PUBLISHED, Published, Settings

BODY = random.Random(0).randbytes(4 << 20)
OTHER = random.Random(1).randbytes(4 << 20)
MD5, SIZE = hashlib.md5(BODY).hexdigest(), len(BODY)
QUICK = transfer.Patience(tries=3, back_off=0.01, longest=3, connect=5, read=1)
DISKFULL = Path("/dev/full")  # a device that has no room for a single byte


class Handler(BaseHTTPRequestHandler):
    """Serves the mirror's body; each entry of its script spoils one request."""

    protocol_version = "HTTP/1.1"
    server: "Mirror"
    timeout = 10

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))
        behaviour = self.server.script.pop(0) if self.server.script else Handler.serve
        behaviour(self)

    def log_message(self, *_: object) -> None:
        pass

    def serve(self, stop: int | None = None, stall: bool = False, ranges: bool = True, if_range: bool = True) -> None:
        """The file, or the rest of it: only up to byte `stop`, where the connection is cut or stalls."""
        mirror, start = self.server, 0
        same = self.headers.get("If-Range") in (None, mirror.headers.get("ETag"), mirror.headers.get("Last-Modified"))
        if ranges and "Range" in self.headers and (same or not if_range):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(mirror.body):
            return self.answer(416, **{"Content-Range": f"bytes */{len(mirror.body)}"})
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(mirror.body) - 1}/{len(mirror.body)}")
        for name, value in mirror.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(mirror.body) - start))
        self.end_headers()
        for at in range(start, len(mirror.body), 1 << 14):
            piece = mirror.body[at : min(at + (1 << 14), stop or SIZE)]
            if not piece:
                break
            self.wfile.write(piece)
            mirror.sent += len(piece)
        if stop is not None:
            if stall:
                mirror.stopped.wait(10)
            self.connection.shutdown(socket.SHUT_WR)
            self.close_connection = True

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Mirror(ThreadingHTTPServer):
    """A mirror on this machine: what it holds, how it misbehaves, what it was asked for and how much it sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.headers = BODY, {"ETag": '"one"'}
        self.script: list[Callable[[Handler], None]] = []
        self.asked: list[dict[str, str]] = []
        self.sent = 0
        self.stopped = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/patches.gz"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def handle_error(self, *_: object) -> None:
        pass  # the other side hung up, as some tests want it

    def stop(self) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    server = Mirror()
    yield server
    server.stop()


@pytest.fixture
def second() -> Iterator[Mirror]:
    server = Mirror()
    yield server
    server.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "patches.gz"


def fetch(path: Path, *mirrors: Mirror, size: int | None = SIZE) -> None:
    download.fetch([mirror.url for mirror in mirrors], path, MD5, size, QUICK)


def cut(stop: int) -> Callable[[Handler], None]:
    return lambda handler: handler.serve(stop)


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(code, **{name.replace("_", "-"): value for name, value in headers.items()})


def begun(path: Path, mirror: Mirror) -> None:
    """Leave the first 1.5 MiB of the mirror's file as a part."""
    mirror.script = [cut(3 << 19), status(404)]
    with pytest.raises(ValueError, match="404"):
        fetch(path, mirror)
    assert (path.parent / "patches.gz.part").stat().st_size == 3 << 19
    mirror.asked.clear()


# ---- one mirror


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_download_is_complete_and_leaves_no_part(mirror: Mirror, path: Path, size: int | None) -> None:
    fetch(path, mirror, size=size)
    assert path.read_bytes() == BODY
    assert {file.name for file in path.parent.iterdir()} <= {"patches.gz", "patches.gz.lock"}


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_cut_download_continues_where_it_stopped(mirror: Mirror, path: Path, size: int | None) -> None:
    mirror.script = [cut(1_000_000), cut(2_000_000), cut(3_000_000)]
    fetch(path, mirror, size=size)
    assert path.read_bytes() == BODY
    assert mirror.sent < 1.05 * SIZE
    assert [headers.get("Range") for headers in mirror.asked] == [None] + [f"bytes={n}000000-" for n in (1, 2, 3)]
    assert all(headers["If-Range"] == '"one"' for headers in mirror.asked[1:])


def test_many_cuts_are_no_failure_while_the_file_grows(mirror: Mirror, path: Path) -> None:
    mirror.script = [cut(stop) for stop in range(1 << 20, SIZE, 1 << 19)]
    assert len(mirror.script) > QUICK.tries
    fetch(path, mirror)
    assert path.read_bytes() == BODY


def test_a_stall_is_noticed_and_the_download_continues(mirror: Mirror, path: Path, capsys) -> None:
    mirror.script = [lambda handler: handler.serve(2 << 20, stall=True)]
    fetch(path, mirror)
    assert path.read_bytes() == BODY
    assert mirror.asked[1]["Range"] == f"bytes={2 << 20}-"
    assert "stalled, no byte within 1 s; trying again in 0 s" in capsys.readouterr().err


def test_a_reset_connection_is_tried_again(mirror: Mirror, path: Path) -> None:
    def reset(handler: Handler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handler.connection.close()
        handler.close_connection = True

    mirror.script = [reset, reset]
    fetch(path, mirror)
    assert path.read_bytes() == BODY


def test_a_mirror_that_never_answers_is_left_after_the_last_try(mirror: Mirror, path: Path) -> None:
    mirror.script = [status(500)] * 3
    with pytest.raises(ValueError, match=r"patches\.gz could not be fetched .* answered 500 .*, after 3 tries\); run"):
        fetch(path, mirror)
    assert len(mirror.asked) == 3


def test_a_server_error_is_tried_again(mirror: Mirror, path: Path) -> None:
    mirror.script = [status(500), status(503)]
    fetch(path, mirror)
    assert path.read_bytes() == BODY


def test_retry_after_in_seconds_is_honoured(mirror: Mirror, path: Path) -> None:
    mirror.script = [status(429, Retry_After="1")]
    start = time.monotonic()
    fetch(path, mirror)
    assert path.read_bytes() == BODY and time.monotonic() - start >= 1


def test_retry_after_as_a_date_is_honoured(mirror: Mirror, path: Path) -> None:
    date = time.time() + 2
    mirror.script = [status(503, Retry_After=formatdate(date, usegmt=True))]
    fetch(path, mirror)
    assert path.read_bytes() == BODY and time.time() >= int(date)


def test_a_mirror_that_asks_for_an_hour_is_left(mirror: Mirror, second: Mirror, path: Path) -> None:
    mirror.script = [status(429, Retry_After="3600")]
    fetch(path, mirror, second)
    assert path.read_bytes() == BODY and len(mirror.asked) == 1
    path.unlink()
    mirror.script = [status(429, Retry_After="3600")]
    with pytest.raises(ValueError, match="answered 429 Too Many Requests, and asks to wait for 3600 s"):
        fetch(path, mirror)


def test_a_server_that_ignores_range_starts_again(mirror: Mirror, path: Path) -> None:
    mirror.script = [cut(2_000_000), lambda handler: handler.serve(ranges=False)]
    fetch(path, mirror)
    assert path.read_bytes() == BODY and mirror.sent == 2_000_000 + SIZE


@pytest.mark.parametrize("if_range", [True, False], ids=["If-Range honoured", "If-Range ignored"])
def test_a_file_that_changed_on_the_server_starts_again(mirror: Mirror, path: Path, if_range: bool) -> None:
    mirror.body = OTHER

    def changed(handler: Handler) -> None:
        mirror.body, mirror.headers = BODY, {"ETag": '"two"'}
        handler.serve(if_range=if_range)

    mirror.script = [cut(2_000_000), changed]
    fetch(path, mirror)
    assert path.read_bytes() == BODY


def test_pieces_that_do_not_belong_together_get_a_fresh_start(mirror: Mirror, path: Path, capsys) -> None:
    mirror.body, mirror.headers = OTHER, {}  # without validators the change cannot be seen

    def changed(handler: Handler) -> None:
        mirror.body = BODY
        handler.serve()

    mirror.script = [cut(2_000_000), changed]
    fetch(path, mirror)
    assert path.read_bytes() == BODY
    assert "after joining pieces; starting from the beginning" in capsys.readouterr().err


def test_a_weak_etag_is_not_sent_as_if_range(mirror: Mirror, path: Path) -> None:
    mirror.headers = {"ETag": 'W/"one"', "Last-Modified": "Tue, 01 Jan 2019 00:00:00 GMT"}
    mirror.script = [cut(2_000_000)]
    fetch(path, mirror)
    assert path.read_bytes() == BODY
    assert mirror.asked[1]["If-Range"] == mirror.headers["Last-Modified"]


def test_a_file_of_another_length_is_refused_before_it_is_sent(mirror: Mirror, path: Path) -> None:
    mirror.body = BODY[:-1]
    with pytest.raises(ValueError, match=r"expected 4,194,304 bytes, the server offers 4,194,303"):
        fetch(path, mirror)
    assert len(mirror.asked) == 1 and not path.exists()


def test_wrong_bytes_are_refused_and_thrown_away(mirror: Mirror, path: Path) -> None:
    mirror.body = OTHER
    wrong = hashlib.md5(OTHER).hexdigest()
    with pytest.raises(ValueError, match=rf"expected MD5 {MD5}, got {wrong}\); run again .* or put the file at {path}"):
        fetch(path, mirror)
    assert not path.exists() and not list(path.parent.glob("*.part*"))


# ---- several mirrors, several addresses


def test_the_next_mirror_is_asked_where_one_has_the_wrong_file(mirror: Mirror, second: Mirror, path: Path) -> None:
    mirror.body = OTHER
    fetch(path, mirror, second)
    assert path.read_bytes() == BODY


def test_the_next_mirror_continues_what_the_first_began(mirror: Mirror, second: Mirror, path: Path) -> None:
    mirror.script = [cut(3_000_000), status(404)]
    fetch(path, mirror, second)
    assert path.read_bytes() == BODY
    assert second.asked[0]["Range"] == "bytes=3000000-" and "If-Range" not in second.asked[0]


def test_every_mirror_is_named_with_its_reason(mirror: Mirror, second: Mirror, path: Path) -> None:
    mirror.script, second.body = [status(404)], OTHER
    with pytest.raises(ValueError) as caught:
        fetch(path, mirror, second)
    assert f"{mirror.url}: the server answered 404 Not Found; {second.url}: expected MD5" in str(caught.value)


def test_a_redirect_is_followed(mirror: Mirror, second: Mirror, path: Path) -> None:
    mirror.script = [status(302, Location=second.url)]
    fetch(path, mirror)
    assert path.read_bytes() == BODY and second.sent == SIZE


@pytest.mark.parametrize("target", ["http://example.org/patches.gz", "file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_a_redirect_does_not_leave_the_rule(mirror: Mirror, path: Path, target: str) -> None:
    mirror.script = [status(302, Location=target)]
    with pytest.raises(ValueError, match=f"redirects to {target}: expected an https: or file: address"):
        fetch(path, mirror)
    assert not path.exists()


def test_a_circle_of_redirects_ends(mirror: Mirror, path: Path) -> None:
    mirror.script = [status(302, Location=mirror.url)] * 20
    with pytest.raises(ValueError, match="redirects more than 10 times"):
        fetch(path, mirror)


@pytest.mark.parametrize(
    "url",
    [
        "http://zenodo.org/patches.gz",
        "http://127.0.0.1@zenodo.org/patches.gz",
        "http://127.0.0.1.example.org/patches.gz",
        "ftp://127.0.0.1/patches.gz",
        "file://elsewhere/patches.gz",
        "https://",
        "data/patches.gz",
        "",
    ],
)
def test_any_other_address_is_refused_before_anything_is_fetched(mirror: Mirror, path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="expected an https: or file: address"):
        download.fetch([mirror.url, url], path, MD5, SIZE, QUICK)
    assert not mirror.asked and not path.parent.exists()


@pytest.mark.parametrize("name", ["http://localhost/x", "http://[::1]:80/x", "https://zenodo.org/x", "file:///x"])
def test_loopback_https_and_files_are_allowed(name: str) -> None:
    transfer.check_address(name, ("https", "http", "file"))


def test_a_file_address_is_copied(tmp_path: Path, path: Path) -> None:
    source = tmp_path / "a copy of it.gz"
    source.write_bytes(BODY)
    download.fetch([source.as_uri()], path, MD5, SIZE, QUICK)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "there is no such file"), (b"short", "expected 4,194,304 bytes, found 5"), (OTHER, "expected MD5")],
)
def test_a_wrong_file_address_is_told(tmp_path: Path, path: Path, content: bytes | None, reason: str) -> None:
    source = tmp_path / "source.gz"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        download.fetch([source.as_uri()], path, MD5, SIZE, QUICK)


def test_no_mirror_is_told(path: Path) -> None:
    with pytest.raises(ValueError, match=rf"could not be fetched \(no mirror is named\); .* put the file at {path}"):
        fetch(path)


# ---- what is on disk already


def test_a_file_that_is_there_is_adopted(mirror: Mirror, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(BODY)
    fetch(path, mirror)
    assert not mirror.asked


def test_another_file_in_the_place_is_told_and_kept(mirror: Mirror, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(OTHER)
    with pytest.raises(ValueError, match=rf"{path}: expected MD5 {MD5}, found .*; delete it and run again\."):
        fetch(path, mirror)
    assert path.read_bytes() == OTHER and not mirror.asked


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_part_that_was_complete_is_not_fetched_again(mirror: Mirror, path: Path, size: int | None) -> None:
    path.parent.mkdir()
    (path.parent / "patches.gz.part").write_bytes(BODY)
    fetch(path, mirror, size=size)
    assert path.read_bytes() == BODY and mirror.sent == 0


@pytest.mark.parametrize("left", [OTHER, OTHER[:1000], OTHER + b"more"], ids=["complete", "short", "long"])
def test_a_foreign_part_is_thrown_away(mirror: Mirror, path: Path, left: bytes) -> None:
    path.parent.mkdir()
    (path.parent / "patches.gz.part").write_bytes(left)
    fetch(path, mirror)
    assert path.read_bytes() == BODY


def test_broken_notes_beside_a_part_do_no_harm(mirror: Mirror, path: Path) -> None:
    begun(path, mirror)
    (path.parent / "patches.gz.part.json").write_bytes(b"\xff{")
    fetch(path, mirror)
    assert path.read_bytes() == BODY and mirror.asked[0]["Range"] == f"bytes={3 << 19}-"


def test_too_small_a_disk_is_told_before_the_download(mirror: Mirror, path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, 1000))
    for size in (SIZE, None):
        with pytest.raises(ValueError, match=r"at least 4,194,304 bytes are needed, 1,000 are free on the disk; free"):
            fetch(path, mirror, size=size)
    assert mirror.sent < SIZE and not path.exists()


@pytest.mark.skipif(not DISKFULL.exists(), reason="needs a device that is always full")
def test_a_disk_that_runs_full_names_the_file(mirror: Mirror, path: Path) -> None:
    path.parent.mkdir()
    part = path.parent / "patches.gz.part"

    def fill(handler: Handler) -> None:
        part.unlink(missing_ok=True)
        part.symlink_to(DISKFULL)
        handler.serve()

    mirror.script = [cut(1 << 20), fill]
    with pytest.raises(OSError, match="No space left on device") as caught:
        fetch(path, mirror)
    assert caught.value.filename == str(part)


# ---- several processes

CHILD = (
    "import sys; from pathlib import Path; from pcam_agreement.data import download\n"
    "download.fetch([sys.argv[1]], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))"
)


def child(mirror: Mirror, path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, mirror.url, str(path), MD5, str(SIZE)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def test_a_killed_download_continues_where_it_stopped(mirror: Mirror, path: Path) -> None:
    mirror.script = [lambda handler: handler.serve(3_000_000, stall=True)]
    part = path.parent / "patches.gz.part"
    with child(mirror, path) as process:
        end = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size >= 2_900_000) and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    left = part.stat().st_size
    fetch(path, mirror)
    assert path.read_bytes() == BODY
    assert left >= 2_900_000 and mirror.asked[1]["Range"] == f"bytes={left}-"
    assert mirror.sent < 1.05 * SIZE


def test_two_processes_fetch_one_file_once(mirror: Mirror, path: Path) -> None:
    def slowly(handler: Handler) -> None:
        time.sleep(1.5)  # long enough for the other one to come
        handler.serve()

    mirror.script = [slowly]
    with child(mirror, path) as one, child(mirror, path) as other:
        messages = [process.communicate(timeout=30)[1].decode() for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), messages
    assert path.read_bytes() == BODY and mirror.sent == SIZE


def test_two_threads_fetch_one_file_once(mirror: Mirror, path: Path) -> None:
    threads = [threading.Thread(target=fetch, args=(path, mirror)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert path.read_bytes() == BODY and mirror.sent == SIZE


# ---- unpacking


def test_unpacking_gives_the_file(tmp_path: Path) -> None:
    archive = tmp_path / "x.gz"
    archive.write_bytes(gzip.compress(BODY, 1))
    download.unpack(archive, tmp_path / "x", MD5)
    assert (tmp_path / "x").read_bytes() == BODY
    assert {file.name for file in tmp_path.iterdir()} == {"x", "x.gz"}


def spoilt(whole: bytes, way: str) -> bytes:
    if way == "truncated":
        return whole[: len(whole) // 2]
    if way == "corrupt":
        return whole[:2000] + bytes(1000) + whole[3000:]
    return b"<html>not found</html>"


@pytest.mark.parametrize("way", ["truncated", "corrupt", "no archive"])
def test_a_bad_archive_is_told_and_leaves_nothing(tmp_path: Path, way: str) -> None:
    archive = tmp_path / "x.gz"
    archive.write_bytes(spoilt(gzip.compress(b"patches" * 100_000 + BODY[:10_000]), way))
    with pytest.raises(ValueError, match=rf"{archive} is truncated or corrupt \(.*\); delete it and run again\."):
        download.unpack(archive, tmp_path / "x", MD5)
    assert [file.name for file in tmp_path.iterdir()] == ["x.gz"]


def test_an_archive_of_another_file_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "x.gz"
    archive.write_bytes(gzip.compress(OTHER, 1))
    with pytest.raises(ValueError, match=f"{archive}: expected to unpack a file with MD5 {MD5}, got .*; delete it"):
        download.unpack(archive, tmp_path / "x", MD5)
    assert [file.name for file in tmp_path.iterdir()] == ["x.gz"]


@pytest.mark.skipif(not DISKFULL.exists(), reason="needs a device that is always full")
def test_a_disk_that_runs_full_while_unpacking_names_the_file(tmp_path: Path) -> None:
    archive, partial = tmp_path / "x.gz", tmp_path / "x.unpacking"
    archive.write_bytes(gzip.compress(BODY, 1))
    partial.symlink_to(DISKFULL)
    with pytest.raises(OSError, match="No space left on device") as caught:
        download.unpack(archive, tmp_path / "x", MD5)
    assert caught.value.filename == str(partial)
    assert [file.name for file in tmp_path.iterdir()] == ["x.gz"]


# ---- the published files


def test_the_checksums_are_those_of_torchvision() -> None:
    pytest.importorskip("torchvision")
    from torchvision.datasets import PCAM

    theirs = {name: md5 for split in PCAM._FILES.values() for name, _, md5 in split.values()}
    assert len(theirs) == 6
    assert theirs == {name: PUBLISHED[name].archive_md5 for name in theirs}


def test_every_published_file_has_its_own_checksums() -> None:
    names = {file_name(split, kind) for split in SPLITS for kind in ("x", "y", "meta")}
    assert set(PUBLISHED) == names
    assert len({file.archive_md5 for file in PUBLISHED.values()}) == 9
    assert len({file.md5 for file in PUBLISHED.values()}) == 9
    valid, test = (PUBLISHED[file_name(split, "y")] for split in ("valid", "test"))
    assert valid.archive_md5 != test.archive_md5 and valid.md5 != test.md5


@pytest.fixture
def publication(tmp_path: Path) -> tuple[dict[str, Published], dict[str, bytes], Settings]:
    """A small publication in a folder that serves as the mirror: two archives and a table."""
    plain = {"a.h5": BODY, "b.h5": OTHER, "c.csv": b",wsi\n0,one\n"}
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    published = {}
    for name, content in plain.items():
        stored = content if name.endswith(".csv") else gzip.compress(content, 1)
        (shelf / (name if name.endswith(".csv") else f"{name}.gz")).write_bytes(stored)
        size = None if name.endswith(".csv") else len(stored)
        published[name] = Published(size, hashlib.md5(stored).hexdigest(), hashlib.md5(content).hexdigest())
    settings = Settings(mirrors=[f"{shelf.as_uri()}/{{name}}"], directory=str(tmp_path / "raw"))
    (tmp_path / "patches").mkdir()
    return published, plain, settings


def test_the_publication_is_fetched_and_unpacked(tmp_path: Path, publication) -> None:
    published, plain, settings = publication
    pcam.write(tmp_path / "patches", settings, 0, published)
    assert {file.name: file.read_bytes() for file in (tmp_path / "patches").iterdir()} == plain
    shutil.rmtree(tmp_path / "shelf")  # what was fetched stays, so the mirror is not needed again
    shutil.rmtree(tmp_path / "patches")
    (tmp_path / "patches").mkdir()
    pcam.write(tmp_path / "patches", settings, 0, published)
    assert {file.name: file.read_bytes() for file in (tmp_path / "patches").iterdir()} == plain


def test_files_that_are_on_disk_are_adopted(tmp_path: Path, publication) -> None:
    published, plain, settings = publication
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.h5").write_bytes(BODY)
    shutil.copy(tmp_path / "shelf" / "b.h5.gz", tmp_path / "raw")
    shutil.copy(tmp_path / "shelf" / "c.csv", tmp_path / "raw")
    alone = Settings(mirrors=[], directory=settings.directory)
    pcam.write(tmp_path / "patches", alone, 0, published)
    assert {file.name: file.read_bytes() for file in (tmp_path / "patches").iterdir()} == plain
    assert (tmp_path / "patches" / "a.h5").samefile(tmp_path / "raw" / "a.h5")


@pytest.mark.parametrize("options", [{"chunks": (3, 8, 8, 1), "compression": "gzip"}, {}], ids=["chunks", "one piece"])
def test_a_file_in_chunks_is_written_in_one_piece_and_the_published_one_stays(tmp_path: Path, options: dict) -> None:
    patches = np.random.default_rng(0).integers(0, 256, (pcam.BLOCK + 7, 8, 8, 3), dtype=np.uint8)
    raw, folder = tmp_path / "raw", tmp_path / "patches"
    raw.mkdir()
    folder.mkdir()
    with h5py.File(raw / "x.h5", "w") as file:
        file.create_dataset("x", data=patches, **options)
    content = (raw / "x.h5").read_bytes()
    published = {"x.h5": Published(None, "", hashlib.md5(content).hexdigest())}
    pcam.write(folder, Settings(mirrors=[], directory=str(raw)), 0, published)
    assert (raw / "x.h5").read_bytes() == content
    assert (folder / "x.h5").samefile(raw / "x.h5") == (options == {})
    assert [file.name for file in folder.iterdir()] == ["x.h5"]
    with h5py.File(folder / "x.h5") as file:
        assert file["x"].chunks is None
        assert file["x"].id.get_offset() is not None
        np.testing.assert_array_equal(file["x"], patches)


def test_an_adopted_file_on_another_disk_is_copied(tmp_path: Path, publication) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs two disks")
    published, _, settings = publication
    target = shared_memory / f"pcam-agreement-{os.getpid()}"
    target.mkdir()
    try:
        pcam.write(target, settings, 0, {"c.csv": published["c.csv"]})
        assert (target / "c.csv").read_bytes() == (tmp_path / "raw" / "c.csv").read_bytes()
    finally:
        shutil.rmtree(target)


def test_a_wrong_unpacked_file_is_told(tmp_path: Path, publication) -> None:
    published, _, settings = publication
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.h5").write_bytes(BODY[:-1])
    with pytest.raises(ValueError, match=r"raw/a\.h5: expected MD5 .*, found .*; delete it and run again\."):
        pcam.write(tmp_path / "patches", settings, 0, published)


def test_a_mirror_without_a_place_for_the_name_is_told(tmp_path: Path, publication) -> None:
    published, _, _ = publication
    settings = Settings(mirrors=["https://example.org/pcam"], directory=str(tmp_path / "raw"))
    with pytest.raises(ValueError, match=r"https://example\.org/pcam has no \{name\}; write it where"):
        pcam.write(tmp_path / "patches", settings, 0, published)
