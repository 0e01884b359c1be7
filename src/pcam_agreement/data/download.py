"""One file from one of its mirrors: a download continues where it stopped, and counts only once it is verified."""

import gzip
import hashlib
import shutil
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from filelock import AcquireReturnProxy, FileLock, Timeout
from tqdm import tqdm

from pcam_agreement.core.files import atomic_file, naming_the_disk

BLOCK = 1 << 16  # bytes read at once
PROGRESS = 1 << 20  # after this many new bytes, failures are counted from the first again
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP answers that are worth another try


@dataclass(frozen=True)
class Patience:
    """How long a mirror is given; times in seconds."""

    tries: int  # in a row, without progress
    back_off: float  # the wait after the first failure; doubled after each further one
    longest: float  # a mirror that asks for a longer wait is given up
    connect: float
    read: float  # without a single byte


PATIENCE = Patience(tries=8, back_off=1, longest=300, connect=15, read=60)


class InterruptedDownloadError(Exception):
    """This try failed; another may succeed after the wait (in seconds) that the server asked for."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class MirrorError(ValueError):
    """This mirror cannot give the file."""


def fetch(urls: Sequence[str], path: Path, md5: str, size: int | None, patience: Patience = PATIENCE) -> None:
    """Bring the file with this MD5 (and size in bytes, where known) to `path`, from the first mirror that has it.

    A file that is there already is verified and kept. An incomplete one is `<path>.part`; `<path>.lock` keeps a second
    fetch waiting.

    Raises ValueError where an address is not https: (http: is for loopback hosts only), where `path` is another file,
    where the disk is too small, and where no mirror gives the file; OSError where it cannot be written.
    """
    for url in urls:
        check_address(url)
    if _is_verified(path, md5):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    with _lock(path):
        if _is_verified(path, md5):  # another process has fetched it meanwhile
            return
        part = path.with_name(path.name + ".part")
        for url in urls:
            try:
                _Transfer(url, part, md5, size, patience).complete()
            except MirrorError as error:
                reasons.append(f"{url}: {error}")
            else:
                part.replace(path)
                return
    raise ValueError(
        f"{path.name} could not be fetched ({'; '.join(reasons) or 'no mirror is named'}); "
        f"run again to continue, or put the file at {path} yourself."
    )


def unpack(archive: Path, path: Path, md5: str) -> None:
    """Gunzip the archive to `path`, which appears only when the unpacked file has this MD5.

    Raises ValueError where the archive is truncated, corrupt or another file; OSError where the disk is too small.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with atomic_file(path, archive.stat().st_size) as partial:
        try:
            with gzip.open(archive) as source, open(partial, "wb") as target:
                while block := source.read(BLOCK):
                    digest.update(block)
                    target.write(block)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{archive} is truncated or corrupt ({error}); delete it and run again.") from error
        if (actual := digest.hexdigest()) != md5:
            raise ValueError(f"{archive}: expected to unpack MD5 {md5}, got {actual}; delete it and run again.")


def check_address(url: str) -> None:
    """Raise a ValueError unless the address is https:, or http: and of this machine."""
    address = urllib3.util.parse_url(url)
    if not address.host or not (address.scheme == "https" or (address.scheme == "http" and address.host in LOOPBACK)):
        raise MirrorError(f"{url}: expected an https: address (http: is for this machine only).")


class _Session(requests.Session):
    """Follows a redirect only to an address that `check_address` allows."""

    def get_redirect_target(self, response: requests.Response) -> str | None:
        target = super().get_redirect_target(response)
        if target:
            check_address(urljoin(response.url, target))
        return target


@dataclass
class _Transfer:
    """The download of one file from one mirror into `part`, which may hold the beginning of it."""

    url: str
    part: Path
    md5: str
    size: int | None
    patience: Patience
    validator: str = ""  # for If-Range: the strong ETag or the date of the version that was begun

    def complete(self) -> None:
        """Complete the file and verify it; a wrong file that came in several tries gets one fresh start."""
        failures, milestone, restarted = 0, self._begun(), False
        while True:
            try:
                continued = self._attempt()
            except InterruptedDownloadError as error:
                if self._begun() >= milestone + PROGRESS:
                    failures, milestone = 0, self._begun()
                failures += 1
                wait = max(error.wait, min(self.patience.back_off * 2 ** (failures - 1), self.patience.longest))
                if failures >= self.patience.tries or wait > self.patience.longest:
                    raise MirrorError(f"{error} (try {failures}; the next would be in {wait:.0f} s)") from error
                _report(f"{self.url}: {error}; trying again in {wait:.0f} s")
                time.sleep(wait)
                continue
            if (actual := _md5(self.part)) == self.md5:
                return
            self.part.unlink()
            if not continued or restarted:
                raise MirrorError(f"expected MD5 {self.md5}, got {actual}")
            restarted, milestone = True, 0
            _report(f"{self.url}: expected MD5 {self.md5}, got {actual} in several tries; starting from the beginning")

    def _begun(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self) -> bool:
        """Ask once for the bytes that are missing; True where bytes of earlier tries are part of the file now."""
        begun = self._begun()
        if self.size is not None and begun >= self.size:
            return True  # complete, or refused by its MD5
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
        if begun and self.validator:
            headers["If-Range"] = self.validator
        timeout = (self.patience.connect, self.patience.read)
        try:
            with _Session() as session:
                session.trust_env = urlsplit(self.url).scheme == "https"  # no proxy stands before a loopback host
                with session.get(self.url, headers=headers, stream=True, timeout=timeout) as response:
                    start = self._start(response, begun)
                    if response.status_code != 416:
                        etag = response.headers.get("ETag", "")
                        self.validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
                        self._store(response.raw, start)
        except requests.TooManyRedirects as error:
            raise MirrorError(str(error)) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise InterruptedDownloadError(f"the connection failed ({_cause(error)})") from error
        if self.size is not None and self._begun() < self.size:
            raise InterruptedDownloadError(f"broke off after {self._begun():,} of {self.size:,} bytes")
        return start > 0

    def _start(self, response: requests.Response, begun: int) -> int:
        """Where the bytes of this answer begin: at 0 or at what was begun; the file is complete where it is a 416."""
        status, content = response.status_code, response.headers.get("Content-Range", "")
        if status in BUSY:
            wait = urllib3.Retry().get_retry_after(response.raw) or 0
            raise InterruptedDownloadError(f"the server answered {status} {response.reason}", wait)
        if status not in (200, 206, 416):
            raise MirrorError(f"the server answered {status} {response.reason}")
        if status != 200 and not content.startswith(f"bytes {begun}-" if status == 206 else f"bytes */{begun}"):
            self.part.unlink(missing_ok=True)
            raise InterruptedDownloadError("the server's file is not the one that was begun")
        start, length = 0 if status == 200 else begun, response.raw.length_remaining
        if self.size is not None and length is not None and start + length != self.size:
            raise MirrorError(f"expected {self.size:,} bytes, the server offers {start + length:,}")
        return start

    def _store(self, body: urllib3.BaseHTTPResponse, start: int) -> None:
        """Append the body of an answer to the `start` bytes of the part; 0 begins it anew."""
        total = self.size or start + (body.length_remaining or 0)
        free = shutil.disk_usage(self.part.parent).free
        if total - start > free:
            raise ValueError(
                f"{self.part}: at least {total - start:,} bytes are needed, {free:,} are free on the disk; "
                "free some space and run again."
            )
        progress = tqdm(desc=self.part.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None)
        with naming_the_disk(self.part), open(self.part, "ab" if start else "wb") as file, progress:
            # read1 gives what has arrived, so that nothing is lost when the connection breaks
            while block := body.read1(BLOCK, decode_content=False):
                start += len(block)
                if self.size is not None and start > self.size:
                    raise MirrorError(f"expected {self.size:,} bytes, the server sends more")
                file.write(block)
                progress.update(len(block))


def _lock(path: Path) -> AcquireReturnProxy:
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        _report(f"{path.name} is being fetched by another process; waiting for it")
        return lock.acquire()


def _is_verified(path: Path, md5: str) -> bool:
    if not path.exists():
        return False
    if (actual := _md5(path)) != md5:
        raise ValueError(f"{path}: expected MD5 {md5}, got {actual}; delete it and run again.")
    return True


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _cause(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error


def _report(text: str) -> None:
    tqdm.write(text, file=sys.stderr)
