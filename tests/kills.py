"""kill -9 at random moments of a pipeline run and of a two-process explain: the bytes of an undisturbed run?

python tests/kills.py --kills 20 --seed 0     (a quarter of an hour on two cores; `make test` has a few such kills)
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

import psutil

from pcam_agreement.data.audit import describe, write_contents
from pcam_agreement.data.slides import DrawnSlides, SplitSlides
from pcam_agreement.data.sources import synthetic
from repository import Repository, write_images


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="kills"))
    slides = SplitSlides(train=1, valid=1, test=1)
    (folder / "dataset").mkdir()
    synthetic.write(folder / "dataset", DrawnSlides(slides=slides, patches_per_slide=33), seed=0)
    write_contents(folder / "dataset", describe(folder / "dataset"))
    (folder / "repository").mkdir()
    repository = Repository(folder / "repository", write_images(folder / "dataset", folder / "images"))
    start = time.monotonic()
    repository.repro()
    whole = time.monotonic() - start
    repository.commit()
    kill_the_pipeline(repository, args.kills, whole, draw)
    kill_two_processes(repository, folder / "lime.h5", args.kills, draw)
    shutil.rmtree(folder)


def kill_the_pipeline(r: Repository, kills: int, whole: float, draw: random.Random) -> None:
    """Begun without data and cache, killed, gone on with …; begun anew where it comes to its end."""
    right, ends = contents(r.path), 0
    for number in range(kills):
        moment = draw.uniform(0, whole / 4)
        ended = number > 0 and kill_after(r, moment, "dvc", "repro")
        if "validation failed" in r.run("dvc", "stage", "list", check=False):
            print("pipeline: DVC was killed while it wrote dvc.lock; as the README says:", flush=True)
            r.run("git", "checkout", "-q", "dvc.lock")
        if number == 0 or ended:
            ends += ended
            for path in ("data", ".dvc/cache"):
                shutil.rmtree(r.path / path)
        print(f"pipeline: kill {number + 1} after {moment:.1f} s, {len(contents(r.path))} files", flush=True)
    r.repro()
    now, status = contents(r.path), r.run("git", "status", "--porcelain")
    wrong = sorted(path for path in right | now if right.get(path) != now.get(path))
    print(f"pipeline: {kills} kills, {ends} complete runs; {wrong or 'no'} file differs; git: {status or 'clean'}")
    if wrong or status:
        sys.exit("FAILED")


def kill_two_processes(r: Repository, out: Path, kills: int, draw: random.Random) -> None:
    """explain by two processes: at times both are killed, at times one, whose partner has to end by itself."""
    right = (r.path / "data/heatmaps/lime/one/1.h5").read_bytes()
    r.change("explain", "devices", value=2)
    command = r.stage_command("explain", "lime", "one", "1", "--patches=data/patches", f"--heatmaps={out}")
    command.append("--checkpoint=data/checkpoints/one/1.safetensors")
    start, ends = time.monotonic(), 0
    kill_after(r, 600, *command)
    whole = time.monotonic() - start
    for number in range(kills):
        moment, one = draw.uniform(0, whole), draw.random() < 0.5
        if out.exists():
            ends += 1
            if out.read_bytes() != right:
                sys.exit("FAILED")
            out.unlink()
        kill_after(r, moment, *command, one=draw if one else None)
        print(f"explain: kill {number + 1}, of {'one' if one else 'both'}, after {moment:.1f} s", flush=True)
    kill_after(r, 600, *command)
    if out.read_bytes() != right:
        sys.exit("FAILED")
    print(f"explain: {kills} kills, {ends} complete runs before the last; the bytes of one undisturbed process")


def kill_after(r: Repository, seconds: float, *command: str, one: random.Random | None = None) -> bool:
    """Start a command, kill -9 all of its processes after so long, or one of them; did it come to its end before?"""
    process = r.start(*command)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        if one:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            one.choice(family).kill()
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                sys.exit("FAILED: one of two processes was killed, and the other waits for it")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False


def contents(root: Path) -> dict[str, bytes]:
    """All outputs and the cache, without what is kept to go on from."""
    found = [*root.glob("data/**/*"), *root.glob(".dvc/cache/**/*"), *root.glob("metrics/*"), root / "dvc.lock"]
    names = {str(path.relative_to(root)): path for path in found if path.is_file()}
    # A .tmp in the cache is what DVC was writing when it was killed; it is never read.
    kept = [name for name in names if not (name.startswith("data/work/") or name.endswith(".tmp"))]
    return {name: names[name].read_bytes() for name in kept}


if __name__ == "__main__":
    main()
