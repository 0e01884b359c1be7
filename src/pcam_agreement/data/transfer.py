"""One try at a file: ask one mirror for the bytes that are missing, and append them to what is there."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import requests
import urllib3
from tqdm import tqdm

BLOCK = 1 << 16  # bytes read at once
MAX_REDIRECTS = 10
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP answers that are worth another try


@dataclass(frozen=True)
class Patience:
    """How long one mirror is given; times in seconds."""

    tries: int  # in a row, without progress
    back_off: float  # the wait after the first failure; doubled after each further one
    longest: float  # no wait is longer: a mirror that asks for more is left
    connect: float
    read: float  # without a single byte


class BrokenOffError(Exception):
    """This try failed, another one may succeed, after the wait that the server asked for."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class MirrorError(Exception):
    """This mirror cannot give the file."""


class Part:
    """The file while it is incomplete, and the validators of the mirror its last bytes came from."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".part")
        self._notes = path.with_name(path.name + ".part.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def notes(self, url: str) -> dict[str, str]:
        """What this mirror said of the file when the part was begun: ETag, Last-Modified, or nothing."""
        try:
            notes = json.loads(self._notes.read_text())
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) and notes.get("url") == url else {}

    def note(self, url: str, headers: requests.structures.CaseInsensitiveDict[str]) -> None:
        known = {name: headers[name] for name in ("ETag", "Last-Modified") if name in headers}
        with naming(self._notes):
            self._notes.write_text(json.dumps({"url": url, **known}))

    def store(self, blocks: Iterable[bytes], offset: int, total: int | None) -> None:
        """Append the blocks at the offset, which is the size of the part, or begin it anew at 0."""
        with (
            naming(self.path),
            open(self.path, "ab" if offset else "wb") as file,
            tqdm(
                total=total, initial=offset, desc=self.path.stem, unit="B", unit_scale=True, disable=None, leave=False
            ) as bar,
        ):
            for block in blocks:
                file.write(block)
                bar.update(len(block))


def attempt(url: str, part: Part, size: int | None, patience: Patience) -> bool:
    """Ask once for what is missing; True where the part is complete with bytes of earlier tries in it."""
    if size is not None and part.size() > size:
        part.discard()
    offset = part.size()
    if offset and offset == size:
        return True
    if urlsplit(url).scheme == "file":
        _copy(Path(url2pathname(urlsplit(url).path)), part, size)
        return False
    notes = part.notes(url) if offset else {}
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    etag = notes.get("ETag", "")
    validator = etag if etag.startswith('"') else notes.get("Last-Modified")  # If-Range allows no weak ETag
    if validator:
        headers["If-Range"] = validator
    try:
        with requests.Session() as session, _open(session, url, headers, patience) as response:
            start, total = _agreed(response, offset, notes, part)
            if size is not None and total not in (None, size):
                raise MirrorError(f"expected {size:,} bytes, the server offers {total:,}")
            total = total if size is None else size
            if offset == start == total:
                return True
            check_space(part.path, total or 0, start)
            if start == 0:
                part.discard()
            part.note(url, response.headers)
            read = response.raw.read1  # what has arrived, so that nothing is lost when the connection breaks
            part.store(_at_most(total, start, iter(lambda: read(BLOCK, decode_content=False), b"")), start, total)
    except requests.ConnectTimeout as error:
        raise BrokenOffError(f"no connection within {patience.connect:g} s") from error
    except (requests.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise BrokenOffError(f"stalled, no byte within {patience.read:g} s") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise BrokenOffError(f"the connection failed ({_root(error)})") from error
    if total is not None and part.size() < total:
        raise BrokenOffError(f"broke off after {part.size():,} of {total:,} bytes")
    return start > 0


def check_address(url: str, schemes: tuple[str, ...]) -> None:
    """Raise ValueError unless the scheme is one of these, and http: leads to this machine."""
    try:
        parts = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError as error:
        raise ValueError(f"{url}: not a URL; name an https: or file: address.") from error
    right = {
        "https": bool(parts.host),
        "http": parts.host in LOOPBACK,
        "file": url.startswith("file:/") and parts.host in (None, "localhost"),
    }
    if parts.scheme not in schemes or not right[parts.scheme]:
        raise ValueError(f"{url}: expected an https: or file: address (http: is for this machine only).")


def check_space(path: Path, needed: int, there: int = 0) -> None:
    """Raise ValueError where the disk of path has no room for the needed bytes, less those that are there."""
    free = shutil.disk_usage(path.parent).free
    if needed - there > free:
        raise ValueError(
            f"{path}: at least {needed - there:,} bytes are needed, {free:,} are free on the disk; "
            "free some space and run again."
        )


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """A full disk is reported with the name of the file that did not fit."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _agreed(response: requests.Response, offset: int, notes: dict[str, str], part: Part) -> tuple[int, int | None]:
    """Where the bytes of this answer begin, and the whole size where the server tells it."""
    status, headers = response.status_code, response.headers
    if status == 200:
        return 0, int(headers["Content-Length"]) if headers.get("Content-Length", "").isdigit() else None
    if status in (206, 416):
        content = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", ""))
        start = int(content[1]) if content and content[1] else None
        total = int(content[2]) if content and content[2] != "*" else None
        if status == 416 and total == offset:  # there is nothing beyond: the part is complete
            return offset, total
        begun, now = notes.get("ETag"), headers.get("ETag")
        if status == 206 and start == offset and (begun == now or None in (begun, now)):
            return offset, total
        part.discard()
        raise BrokenOffError("the server's file is not the one that was begun")
    if status in BUSY:
        raise BrokenOffError(f"the server answered {status} {response.reason}", _asked_wait(headers))
    raise MirrorError(f"the server answered {status} {response.reason}")


def _open(session: requests.Session, url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
    for _ in range(MAX_REDIRECTS):
        session.trust_env = urlsplit(url).scheme == "https"  # no proxy stands before a loopback host
        response = session.get(
            url, headers=headers, stream=True, allow_redirects=False, timeout=(patience.connect, patience.read)
        )
        target = session.get_redirect_target(response)
        if target is None:
            return response
        response.close()
        schemes = ("https",) if urlsplit(url).scheme == "https" else ("https", "http")
        url = urljoin(url, target)
        try:
            check_address(url, schemes)
        except ValueError as error:
            raise MirrorError(f"redirects to {error}") from error
    raise MirrorError(f"redirects more than {MAX_REDIRECTS} times")


def _copy(source: Path, part: Part, size: int | None) -> None:
    if not source.is_file():
        raise MirrorError("there is no such file")
    total = source.stat().st_size
    if size not in (None, total):
        raise MirrorError(f"expected {size:,} bytes, found {total:,}")
    check_space(part.path, total)
    with open(source, "rb") as file:
        part.discard()
        part.store(iter(lambda: file.read(BLOCK), b""), 0, total)


def _at_most(total: int | None, start: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        start += len(block)
        if total is not None and start > total:
            raise MirrorError(f"expected {total:,} bytes, the server sends more")
        yield block


def _asked_wait(headers: requests.structures.CaseInsensitiveDict[str]) -> float:
    """Seconds of Retry-After, which holds seconds or a date; 0 where it is absent or neither."""
    text = headers.get("Retry-After", "0").strip()
    if text.isdigit():
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return 0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _root(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error
