"""Downloads from a loopback mirror that misbehaves: the right file arrives, or one sentence says why not."""

import gzip
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from mirror import BODY, OTHER, Handler, Mirror, cut, status
from pcam_agreement.data import download

MD5, SIZE = hashlib.md5(BODY).hexdigest(), len(BODY)
QUICK = download.Patience(tries=3, back_off=0.01, longest=3, connect=5, read=1)
FULL_DISK = Path("/dev/full")  # a device that has no room for a single byte


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


@pytest.fixture
def part(path: Path) -> Path:
    path.parent.mkdir()
    return path.parent / "patches.gz.part"


def fetch(path: Path, *mirrors: Mirror, size: int | None = SIZE) -> None:
    download.fetch([mirror.url for mirror in mirrors], path, MD5, size, QUICK)


def reset(handler: Handler) -> None:
    """Close the connection with a reset instead of an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()
    handler.close_connection = True


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


def test_a_download_that_stalls_continues(mirror: Mirror, path: Path, capsys) -> None:
    mirror.script = [lambda handler: handler.serve(2 << 20, stall=True)]
    fetch(path, mirror)
    assert path.read_bytes() == BODY
    assert mirror.asked[1]["Range"] == f"bytes={2 << 20}-"
    assert "the connection failed (timed out); trying again in 0 s" in capsys.readouterr().err


@pytest.mark.parametrize("spoilt", [[reset, reset], [status(500), status(503)]], ids=["reset", "server error"])
def test_a_failed_request_is_tried_again(mirror: Mirror, path: Path, spoilt: list[Callable]) -> None:
    mirror.script = spoilt.copy()
    fetch(path, mirror)
    assert path.read_bytes() == BODY


def test_a_mirror_that_always_fails_is_given_up_after_the_last_try(mirror: Mirror, path: Path) -> None:
    mirror.script = [status(500)] * 3
    with pytest.raises(
        ValueError, match=r"patches\.gz could not be fetched .* answered 500 .* \(try 3; .*\); run again"
    ):
        fetch(path, mirror)
    assert len(mirror.asked) == 3


def test_retry_after_in_seconds_is_honoured(mirror: Mirror, path: Path) -> None:
    mirror.script = [status(429, Retry_After="1")]
    start = time.monotonic()
    fetch(path, mirror)
    assert path.read_bytes() == BODY and time.monotonic() - start >= 1


def test_retry_after_as_a_date_is_honoured(mirror: Mirror, path: Path) -> None:
    date = time.time() + 2
    mirror.script = [status(503, Retry_After=formatdate(date, usegmt=True)), status(503, Retry_After="tomorrow")]
    fetch(path, mirror)
    assert path.read_bytes() == BODY and time.time() >= int(date)


def test_a_mirror_that_asks_for_an_hour_is_given_up(mirror: Mirror, second: Mirror, path: Path) -> None:
    mirror.script = [status(429, Retry_After="3600")] * 2
    with pytest.raises(ValueError, match=r"answered 429 Too Many Requests \(try 1; the next would be in 3600 s\)"):
        fetch(path, mirror)
    fetch(path, mirror, second)
    assert path.read_bytes() == BODY and len(mirror.asked) == 2


def test_a_server_that_ignores_range_starts_again(mirror: Mirror, path: Path) -> None:
    mirror.script = [cut(2_000_000), lambda handler: handler.serve(ranges=False)]
    fetch(path, mirror)
    assert path.read_bytes() == BODY and mirror.sent == 2_000_000 + SIZE


@pytest.mark.parametrize("etag", ['"one"', ""], ids=["with an ETag", "without"])
@pytest.mark.parametrize("if_range", [True, False], ids=["If-Range honoured", "If-Range ignored"])
def test_a_file_that_changed_on_the_server_starts_again(mirror: Mirror, path: Path, etag: str, if_range: bool) -> None:
    mirror.body, mirror.headers = OTHER, {"ETag": etag} if etag else {}

    def changed(handler: Handler) -> None:
        mirror.body, mirror.headers = BODY, {"ETag": '"two"'} if etag else {}
        handler.serve(if_range=if_range)

    mirror.script = [cut(2_000_000), changed]
    fetch(path, mirror)
    assert path.read_bytes() == BODY


def test_another_range_than_the_one_asked_for_starts_again(mirror: Mirror, path: Path) -> None:
    mirror.script = [cut(2_000_000), status(206, Content_Range=f"bytes 5-9/{SIZE}")]
    fetch(path, mirror)
    assert path.read_bytes() == BODY and "Range" not in mirror.asked[2]


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


def without_length(count: int) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write((BODY + bytes(9))[:count])
        handler.close_connection = True

    return answer


def test_an_answer_without_a_length_that_breaks_off_continues(mirror: Mirror, path: Path, capsys) -> None:
    mirror.script = [without_length(SIZE - 9)]
    fetch(path, mirror)
    assert path.read_bytes() == BODY and mirror.sent == 9
    assert "broke off after 4,194,295 of 4,194,304 bytes" in capsys.readouterr().err


def test_an_answer_without_a_length_that_goes_on_is_refused(mirror: Mirror, path: Path) -> None:
    mirror.script = [without_length(SIZE + 9)]
    with pytest.raises(ValueError, match="expected 4,194,304 bytes, the server sends more"):
        fetch(path, mirror)


def test_wrong_bytes_are_refused_and_deleted(mirror: Mirror, path: Path) -> None:
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
    mirror.script, second.script = [status(302, Location=second.url)] * 2, [cut(3_000_000)]
    fetch(path, mirror)
    assert path.read_bytes() == BODY and second.sent < 1.05 * SIZE


@pytest.mark.parametrize("target", ["http://example.org/patches.gz", "file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_a_redirect_to_any_other_address_is_refused(mirror: Mirror, second: Mirror, path: Path, target: str) -> None:
    mirror.script = [status(302, Location=target)] * 2
    with pytest.raises(ValueError, match=f"{target}: expected an https: address"):
        fetch(path, mirror)
    fetch(path, mirror, second)
    assert path.read_bytes() == BODY


def test_a_circle_of_redirects_ends(mirror: Mirror, path: Path) -> None:
    mirror.script = [status(302, Location=mirror.url)] * 40
    with pytest.raises(ValueError, match="Exceeded 30 redirects"):
        fetch(path, mirror)


@pytest.mark.parametrize(
    "url",
    [
        "http://zenodo.org/patches.gz",
        "http://127.0.0.1@zenodo.org/patches.gz",
        "http://127.0.0.1.example.org/patches.gz",
        "ftp://127.0.0.1/patches.gz",
        "file:///patches.gz",
        "https://",
        "data/patches.gz",
        "",
    ],
)
def test_any_other_address_is_refused_before_anything_is_fetched(mirror: Mirror, path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="expected an https: address"):
        download.fetch([mirror.url, url], path, MD5, SIZE, QUICK)
    assert not mirror.asked and not path.parent.exists()


@pytest.mark.parametrize("url", ["http://localhost/x", "http://[::1]:80/x", "https://zenodo.org/x"])
def test_https_and_loopback_addresses_are_allowed(url: str) -> None:
    download.check_address(url)


def test_without_a_mirror_the_sentence_names_the_place_of_the_file(path: Path) -> None:
    with pytest.raises(ValueError, match=rf"could not be fetched \(no mirror is named\); .* put the file at {path}"):
        fetch(path)


# ---- what is on disk already


def test_a_file_that_is_there_is_adopted(mirror: Mirror, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(BODY)
    fetch(path, mirror)
    assert not mirror.asked


def test_another_file_in_the_place_is_refused_and_kept(mirror: Mirror, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(OTHER)
    with pytest.raises(ValueError, match=rf"{path}: expected MD5 {MD5}, got .*; delete it and run again\."):
        fetch(path, mirror)
    assert path.read_bytes() == OTHER and not mirror.asked


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_part_that_was_complete_is_not_fetched_again(mirror: Mirror, path: Path, part: Path, size) -> None:
    part.write_bytes(BODY)
    fetch(path, mirror, size=size)
    assert path.read_bytes() == BODY and mirror.sent == 0


@pytest.mark.parametrize("left", [OTHER, OTHER[:1000], OTHER + b"more"], ids=["complete", "short", "long"])
def test_the_part_of_another_file_is_deleted(mirror: Mirror, path: Path, part: Path, left: bytes, capsys) -> None:
    part.write_bytes(left)
    fetch(path, mirror)
    assert path.read_bytes() == BODY
    assert "in several tries; starting from the beginning" in capsys.readouterr().err


def test_too_small_a_disk_is_noticed_before_anything_is_written(
    mirror: Mirror, path: Path, part: Path, monkeypatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, 1000))
    for size in (SIZE, None):
        with pytest.raises(ValueError, match=r"at least 4,194,304 bytes are needed, 1,000 are free on the disk; free"):
            fetch(path, mirror, size=size)
    assert not path.exists() and not part.exists()


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs a device that is always full")
def test_a_disk_that_runs_full_names_the_file(mirror: Mirror, path: Path, part: Path) -> None:
    def fill(handler: Handler) -> None:
        part.unlink(missing_ok=True)
        part.symlink_to(FULL_DISK)
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


def test_two_processes_fetch_a_file_once(mirror: Mirror, path: Path) -> None:
    both_wait = threading.Event()
    mirror.script = [lambda handler: (both_wait.wait(20), handler.serve())]
    with child(mirror, path) as first, child(mirror, path) as other:
        lines = [iter(process.stderr.readline, b"") for process in (first, other)]
        readers = [threading.Thread(target=_set_where_waiting, args=(line, both_wait)) for line in lines]
        for reader in readers:
            reader.start()
        assert (first.wait(30), other.wait(30)) == (0, 0)
    assert path.read_bytes() == BODY and mirror.sent == SIZE and both_wait.is_set()


def _set_where_waiting(lines: Iterator[bytes], event: threading.Event) -> None:
    for line in lines:
        if b"is being fetched by another process; waiting for it" in line:
            event.set()


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
def test_a_bad_archive_is_refused_and_leaves_nothing(tmp_path: Path, way: str) -> None:
    archive = tmp_path / "x.gz"
    archive.write_bytes(spoilt(gzip.compress(b"patches" * 100_000 + BODY[:10_000]), way))
    with pytest.raises(ValueError, match=rf"{archive} is truncated or corrupt \(.*\); delete it and run again\."):
        download.unpack(archive, tmp_path / "x", MD5)
    assert [file.name for file in tmp_path.iterdir()] == ["x.gz"]


def test_an_archive_of_another_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "x.gz"
    archive.write_bytes(gzip.compress(OTHER, 1))
    with pytest.raises(ValueError, match=f"{archive}: expected to unpack MD5 {MD5}, got .*; delete it"):
        download.unpack(archive, tmp_path / "x", MD5)
    assert [file.name for file in tmp_path.iterdir()] == ["x.gz"]


@pytest.mark.skipif(not FULL_DISK.exists(), reason="needs a device that is always full")
def test_a_disk_that_runs_full_while_unpacking_names_the_file(tmp_path: Path) -> None:
    archive = tmp_path / "x.gz"
    archive.write_bytes(gzip.compress(BODY, 1))
    (tmp_path / f"x.{os.getpid()}.partial").symlink_to(FULL_DISK)
    with pytest.raises(OSError, match="No space left on device") as caught:
        download.unpack(archive, tmp_path / "x", MD5)
    assert caught.value.filename == str(tmp_path / "x")
    assert [file.name for file in tmp_path.iterdir()] == ["x.gz"]
