"""How much memory every stage needs on a data set of PatchCamelyon's size.

python benchmarks/memory.py [--slides 256] [--architecture timm/test_byobnet] [--json]

Draws the synthetic set in full (262,144 / 32,768 / 32,768 patches), trains a network for an epoch on a twentieth of it,
gives its logits and those of an untrained one, explains every test patch by two methods, and goes on to the atlas,
stage by stage as `dvc repro` would, but without DVC's copies. The network is a tiny one, since what grows with the set
is asked for: another one's memory comes on top. Memory is what the kernel cannot give back, of the stage and all its
processes: not the pages of the mapped patches, nor those of libraries. Needs 14 GB in the folder for temporary files,
which it removes.
"""

import contextlib
import json
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import psutil
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from ruamel.yaml import YAML

from pcam_agreement.pipeline import profile
from pcam_agreement.pipeline.params import check_params

ROOT = Path(__file__).parents[1]
PER_SLIDE = 1024


def settings(architecture: str, slides: int) -> dict:
    """params.yaml for a run at this size: a trained and an untrained network, on eight train slides to one of test."""
    held_out = max(slides // 8, 1)
    number = {"train": slides, "valid": held_out, "test": held_out}
    return {
        "recipes": ["only"],
        "trainings": [1, "untrained"],
        "methods": ["saliency", "grad_cam"],
        "data": {"source": "synthetic", "synthetic": {"slides": number, "patches_per_slide": PER_SLIDE}},
        "train": {"epochs": 1, "fraction": 0.05, "batch_size": 64, "placement": "memmap"},
        "network": {"only": {"architecture": architecture}},
        "explain": {"patches": held_out * PER_SLIDE, "repeat": 0, "chunk": 256},
    }


def stages(folder: Path, own: dict) -> list[tuple[str, str]]:
    """Names and commands of the pipeline's stages with these settings, in the order of `dvc repro`; it runs here."""
    yaml = YAML(typ="safe", pure=True)
    raw = profile.laid_over(yaml.load(ROOT / "params.yaml"), own)
    check_params(raw)
    yaml.dump(raw, folder / "params.yaml")
    (folder / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    (folder / "src").symlink_to(ROOT / "src")
    with contextlib.chdir(folder), Repo.init(no_scm=True) as repo:
        return [(stage.addressing, stage.cmd) for stage in plan_repro(get_active_graph(repo.index.graph))]


def held(process: psutil.Process) -> Iterator[int]:
    """Bytes of memory that a process and its descendants have to themselves, or share without a file."""
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for line in Path(f"/proc/{one.pid}/status").read_text().splitlines():
                if line.startswith(("RssAnon", "RssShmem")):
                    yield 1024 * int(line.split()[1])


def run(command: str, folder: Path) -> tuple[float, float]:
    """Seconds, and the peak of the memory in MiB, looked at twenty times a second."""
    start, peak = time.perf_counter(), 0
    with open(folder / "log", "w+") as log:
        stage = psutil.Popen(["bash", "-c", command], cwd=folder, stdout=log, stderr=log)
        while stage.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                peak = max(peak, sum(held(stage)))
            time.sleep(0.05)
        if stage.returncode:
            log.seek(0)
            sys.exit(f"{command} ended with {stage.returncode}:\n{log.read()}")
    return time.perf_counter() - start, peak / 2**20


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=256, help=f"of {PER_SLIDE:,} patches, to train on")
    parser.add_argument("--architecture", default="timm/test_byobnet")
    parser.add_argument("--json", action="store_true", help="one JSON object: by stage, seconds and MiB")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for stage, command in stages(Path(name), settings(args.architecture, args.slides)):
            seconds, mib = run(command, Path(name))
            found[stage] = {"seconds": round(seconds), "mib": round(mib)}
            if not args.json:
                print(f"{stage:32} {seconds:6.0f} s {mib:6.0f} MiB", flush=True)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
