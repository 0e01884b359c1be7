"""One file from one of its mirrors: a download that goes on where it stopped, and counts only when it is verified."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from pcam_agreement.data import transfer

PROGRESS = 1 << 20  # so many new bytes, and the tries are counted from one again
PATIENCE = transfer.Patience(tries=8, back_off=1, longest=300, connect=15, read=60)


def fetch(urls: Sequence[str], path: Path, md5: str, size: int | None, patience: transfer.Patience = PATIENCE) -> None:
    """Bring the file with this MD5 (and size in bytes, where known) to path, from the first mirror that has it.

    A file that is there already is verified and kept. Until it is complete and verified it is `<path>.part`; what is
    known of it lies in `<path>.part.json`, and `<path>.lock` keeps a second fetch waiting.

    Raises ValueError where an address is neither https: nor file: (http: is for loopback hosts only), where path holds
    another file, where the disk is too small, and where no mirror gives the file; OSError where it cannot be written.
    """
    for url in urls:
        transfer.check_address(url, ("https", "http", "file"))
    if _is_there(path, md5):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    with _locked(path):
        if _is_there(path, md5):  # another fetch has brought it meanwhile
            return
        part = transfer.Part(path)
        for url in urls:
            try:
                _from_mirror(url, part, md5, size, patience)
            except transfer.MirrorError as error:
                reasons.append(f"{url}: {error}")
            else:
                part.path.replace(path)
                part.discard()
                return
    raise ValueError(
        f"{path.name} could not be fetched ({'; '.join(reasons) or 'no mirror is named'}); "
        f"run again to continue, or put the file at {path} yourself."
    )


def unpack(archive: Path, path: Path, md5: str) -> None:
    """Gunzip the archive to path, which appears only when the unpacked file has this MD5.

    Raises ValueError where the archive is truncated, corrupt or another file, and where the disk is too small.
    """
    partial = path.with_name(path.name + ".unpacking")
    digest = hashlib.md5(usedforsecurity=False)
    transfer.check_space(path, archive.stat().st_size)
    try:
        with transfer.naming(partial), gzip.open(archive) as source, open(partial, "wb") as target:
            while block := source.read(transfer.BLOCK):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != md5:
            raise ValueError(
                f"{archive}: expected to unpack a file with MD5 {md5}, got {digest.hexdigest()}; "
                "delete it and run again."
            )
        partial.replace(path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{archive} is truncated or corrupt ({error}); delete it and run again.") from error
    finally:
        partial.unlink(missing_ok=True)


def md5_of(path: Path) -> str:
    """The MD5 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _from_mirror(url: str, part: transfer.Part, md5: str, size: int | None, patience: transfer.Patience) -> None:
    """Complete the part from one mirror and verify it. A wrong sum of joined pieces gets one fresh start."""
    failures, milestone, fresh_start = 0, part.size(), False
    transfer.check_space(part.path, size or 0, milestone)
    while True:
        try:
            joined = transfer.attempt(url, part, size, patience)
        except transfer.BrokenOffError as error:
            failures += 1
            if part.size() >= milestone + PROGRESS:
                failures, milestone = 1, part.size()
            wait = max(error.wait, min(patience.back_off * 2 ** (failures - 1), patience.longest))
            if failures >= patience.tries:
                raise transfer.MirrorError(f"{error}, after {failures} tries") from error
            if wait > patience.longest:
                raise transfer.MirrorError(f"{error}, and asks to wait for {wait:.0f} s") from error
            _say(f"{url}: {error}; trying again in {wait:.0f} s")
            time.sleep(wait)
            continue
        found = md5_of(part.path)
        if found == md5:
            return
        part.discard()
        reason = f"expected MD5 {md5}, got {found}"
        if not joined or fresh_start:
            raise transfer.MirrorError(reason)
        fresh_start, milestone = True, 0
        _say(f"{url}: {reason} after joining pieces; starting from the beginning")


def _is_there(path: Path, md5: str) -> bool:
    if not path.exists():
        return False
    found = md5_of(path)
    if found != md5:
        raise ValueError(f"{path}: expected MD5 {md5}, found {found}; delete it and run again.")
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(f"{path.name} is being fetched by another process; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)
