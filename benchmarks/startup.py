"""What a stage costs before it computes anything: its imports, and DVC's own work.

python benchmarks/startup.py [--checkout another/checkout …]

For each checkout (this one by default), CPU seconds of one core: importing each stage, beside importing the libraries
that it cannot do without; then of a pipeline with the checkout's dvc.yaml, whose commands only write their outputs, a
full `dvc repro`, one that has nothing to do, and `dvc status`, for the default experiment and for one of about 200
stages.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from ruamel.yaml import YAML

HERE = Path(__file__).parents[1]
LIBRARIES = {
    "train": "torch, torchvision, lightning",
    "evaluate": "torch, torchvision",
    "explain": "torch, torchvision",
    "faithfulness": "torch, torchvision",
}
FAKE = """
import pathlib, sys
for name in sys.argv[1:]:
    path = pathlib.Path(name)
    folder = path if not path.suffix else path.parent
    folder.mkdir(parents=True, exist_ok=True)
    (path if path.suffix else path / "file").write_text(name)
"""


def cpu_seconds(*command: str, cwd: Path) -> float:
    """User and system time of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed in {cwd}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports(checkout: Path) -> None:
    stages = YAML(typ="safe", pure=True).load(checkout / "dvc.yaml")["stages"]
    print(f"{'stage':16}{'CPU s':>7}{'beside':>8}  libraries")
    for name, stage in stages.items():
        module = re.search(r"-m (\S+)", stage["cmd"])
        assert module is not None
        code = f"import sys; sys.path.insert(0, 'src'); import {module[1]}"
        spent = min(cpu_seconds(sys.executable, "-c", code, cwd=checkout) for _ in range(3))
        libraries = LIBRARIES.get(name)
        beside = ""
        if libraries:
            need = min(cpu_seconds(sys.executable, "-c", f"import {libraries}", cwd=checkout) for _ in range(3))
            beside = f"{need:8.2f}  {libraries}: {spent / need:.2f} times"
        print(f"{name:16}{spent:7.2f}{beside}")


def pipeline(checkout: Path, networks: int, methods: int) -> tuple[int, float, float, float, int]:
    """Stages; CPU seconds of a full run, of one that has nothing to do and of a status; bytes of dvc.lock."""
    yaml = YAML(typ="safe", pure=True)
    raw, dvc = yaml.load(checkout / "params.yaml"), yaml.load(checkout / "dvc.yaml")
    names = [*raw["networks"], *(f"network_{number}" for number in range(networks))][:networks]
    known = [*raw["methods"], *(name for name in raw["method"] if name not in raw["methods"])]
    raw["networks"], raw["methods"] = names, known[:methods]
    if "tested" in raw:
        raw["tested"] = [name for name in names if not name.endswith("_twin")]
    for name in names:
        raw["network"].setdefault(name, {"architecture": "resnet34", "seed": len(raw["network"])})
    for stage in dvc["stages"].values():
        entries = [*stage.get("outs", []), *stage.get("metrics", [])]
        outs = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
        stage["cmd"] = f"{sys.executable} fake.py {' '.join(outs)}"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "repository"
        shutil.copytree(checkout / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copytree(checkout / ".dvc" / "plots", root / ".dvc" / "plots")
        for name in (".dvcignore", ".gitignore", ".dvc/config", ".dvc/plots_page.html"):
            shutil.copy(checkout / name, root / name)
        (root / "fake.py").write_text(FAKE)
        YAML().dump(raw, root / "params.yaml")
        YAML().dump(dvc, root / "dvc.yaml")
        for command in (["init", "-q"], ["add", "-A"]):
            subprocess.run(["git", *command], cwd=root, check=True, capture_output=True)
        run = (sys.executable, "-m", "dvc")
        full = cpu_seconds(*run, "repro", "-q", cwd=root)
        nothing = min(cpu_seconds(*run, "repro", "-q", cwd=root) for _ in range(2))
        status = min(cpu_seconds(*run, "status", "-q", cwd=root) for _ in range(2))
        lock = yaml.load(root / "dvc.lock")
        return len(lock["stages"]), full, nothing, status, (root / "dvc.lock").stat().st_size


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, nargs="*", default=[HERE])
    args = parser.parse_args()
    for checkout in args.checkout:
        print(f"\n{checkout.resolve().name}: imports")
        imports(checkout)
    print(f"\n{'CPU seconds of DVC':24}{'stages':>7}{'full':>8}{'no-op':>8}{'status':>8}{'lock KB':>9}")
    for networks, methods in ((5, 3), (18, 5)):
        for checkout in args.checkout:
            stages, full, nothing, status, size = pipeline(checkout.resolve(), networks, methods)
            name = f"{checkout.resolve().name}, {networks} x {methods}"
            print(f"{name:24}{stages:7}{full:8.1f}{nothing:8.2f}{status:8.2f}{size / 1000:9.0f}", flush=True)


if __name__ == "__main__":
    main()
