"""What a stage costs before it computes anything: its imports, and DVC's own work.

python benchmarks/startup.py [--checkout another/checkout …]

For each checkout (this one by default), in its own environment where it has one, CPU seconds: importing each stage,
beside importing the libraries that it cannot do without; then of a pipeline with the checkout's dvc.yaml, whose
commands only write their outputs, `make repro` and `dvc repro` of everything and with nothing to do, and `dvc status`,
for the default experiment and for one of about 200 stages (without the full runs).
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML

HERE = Path(__file__).parents[1]
LIBRARIES = {
    "train": "torch, torchvision, lightning",
    "evaluate": "torch, torchvision",
    "explain": "torch, torchvision",
    "faithfulness": "torch, torchvision",
}
# What a stage imports once it knows that it has to.
LATER = {
    "train": "pcam_agreement.training.fit",
    "explain": "pcam_agreement.attribution.explain, pcam_agreement.inference.load",
}
NAMES = ("dvc repro", "make repro", "no-op", "dvc no-op", "status")
FAKE = """
import pathlib, sys
for name in sys.argv[1:]:
    path = pathlib.Path(name)
    folder = path if not path.suffix else path.parent
    folder.mkdir(parents=True, exist_ok=True)
    (path if path.suffix else path / "file").write_text(name)
"""


def cpu_seconds(*command: str, cwd: Path, modules: str = "src") -> float:
    """User and system time of a command and its children; modules: where they find those of a checkout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": modules}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed in {cwd}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def python_of(checkout: Path) -> str:
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def imports(checkout: Path) -> None:
    stages = YAML(typ="safe", pure=True).load(checkout / "dvc.yaml")["stages"]
    print(f"{'stage':16}{'CPU s':>7}{'beside':>8}  libraries")
    for name, stage in stages.items():
        module = re.search(r"-m (\S+)", stage["cmd"])
        assert module is not None
        code = f"import {module[1]}, contextlib\nwith contextlib.suppress(ImportError): import {LATER.get(name, 'os')}"
        spent = min(cpu_seconds(python_of(checkout), "-c", code, cwd=checkout) for _ in range(3))
        libraries = LIBRARIES.get(name)
        beside = ""
        if libraries:
            need = min(cpu_seconds(python_of(checkout), "-c", f"import {libraries}", cwd=checkout) for _ in range(3))
            beside = f"{need:8.2f}  {libraries}: {spent / need:.2f} times"
        print(f"{name:16}{spent:7.2f}{beside}")


def toy(checkout: Path, root: Path, networks: int, methods: int, trainings: Sequence[int | str] = (1,)) -> None:
    """A repository at `root` with the checkout's dvc.yaml and code, whose stages' commands only write their outputs."""
    yaml = YAML(typ="safe", pure=True)
    raw, dvc = yaml.load(checkout / "params.yaml"), yaml.load(checkout / "dvc.yaml")
    key = "recipes" if "recipes" in raw else "networks"
    names = [*raw[key], *(f"network_{number}" for number in range(networks))][:networks]
    known = [*raw["methods"], *(name for name in raw["method"] if name not in raw["methods"])]
    raw[key], raw["methods"] = names, known[:methods]
    if "trainings" in raw:
        raw["trainings"] = list(trainings)
    if "tested" in raw:
        raw["tested"] = [name for name in names if not name.endswith("_twin")]
    for name in names:
        raw["network"].setdefault(name, {"architecture": "resnet34", "lr": 1e-6 * len(raw["network"])})
    for stage in dvc["stages"].values():
        entries = [*stage.get("outs", []), *stage.get("metrics", [])]
        outs = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
        stage["cmd"] = f"{sys.executable} fake.py {' '.join(outs)}"
    shutil.copytree(checkout / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(checkout / ".dvc" / "plots", root / ".dvc" / "plots")
    for name in (".dvcignore", ".gitignore", ".dvc/config", ".dvc/plots_page.html"):
        shutil.copy(checkout / name, root / name)
    (root / "fake.py").write_text(FAKE)
    YAML().dump(raw, root / "params.yaml")
    YAML().dump(dvc, root / "dvc.yaml")
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=root, check=True, capture_output=True)


def run_all(root: Path) -> float:
    """CPU seconds of `make repro`, that of here, in a toy."""
    parallel = (sys.executable, "-m", "pcam_agreement.pipeline.parallel")
    return cpu_seconds(*parallel, cwd=root, modules=str(HERE / "src"))


def pipeline(checkout: Path, networks: int, methods: int, full: bool) -> tuple[int, int, list[float]]:
    """Stages, bytes of dvc.lock, and CPU seconds in the order of NAMES, NaN where a run was not asked for.

    `make repro` is `dvc repro` in a checkout without `pipeline.parallel`.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_SITE_CACHE_DIR"] = folder
        root = Path(folder) / "repository"
        toy(checkout, root, networks, methods)
        dvc_command = (python_of(checkout), "-m", "dvc")
        make_repro = (*dvc_command, "repro", "-q")
        if (checkout / "src/pcam_agreement/pipeline/parallel.py").exists():
            make_repro = (python_of(checkout), "-m", "pcam_agreement.pipeline.parallel")
        seconds = dict.fromkeys(NAMES, float("nan"))
        if full:
            seconds["dvc repro"] = cpu_seconds(*dvc_command, "repro", "-q", cwd=root)
            for name in ("data", "metrics", "plots", ".dvc/cache", ".dvc/tmp"):
                shutil.rmtree(root / name)
            (root / "dvc.lock").unlink()
            seconds["make repro"] = cpu_seconds(*make_repro, cwd=root)
        else:
            run_all(root)  # which is sooner there
        for name, command in {
            "no-op": make_repro,
            "dvc no-op": (*dvc_command, "repro", "-q"),
            "status": (*dvc_command, "status", "-q"),
        }.items():
            seconds[name] = min(cpu_seconds(*command, cwd=root) for _ in range(3))
        lock = root / "dvc.lock"
        return lock.read_text().count("\n    cmd:"), lock.stat().st_size, list(seconds.values())


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, nargs="*", default=[HERE])
    args = parser.parse_args()
    for checkout in args.checkout:
        print(f"\n{checkout.resolve().name}: imports")
        imports(checkout.resolve())
    print(f"\n{'CPU seconds':24}{'stages':>7}{'lock KB':>9}" + "".join(f"{name:>12}" for name in NAMES))
    for networks, methods in ((5, 3), (18, 5)):
        for checkout in args.checkout:
            stages, size, seconds = pipeline(checkout.resolve(), networks, methods, full=networks == 5)
            name = f"{checkout.resolve().name}, {networks} x {methods}"
            cells = "".join(f"{value:12.2f}" for value in seconds)
            print(f"{name:24}{stages:7}{size / 1000:9.0f}{cells}", flush=True)


if __name__ == "__main__":
    main()
