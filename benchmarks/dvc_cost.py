"""What three changes to DVC would save a pipeline of hundreds of stages: docs/dvc_cost.md has them in words.

python benchmarks/dvc_cost.py [--recipes 20] [--methods 5] [--rounds 3]

Runs the pipeline of dvc.yaml, with commands that only write their outputs, once; then `dvc status` and `dvc repro` with
nothing to do, without and with the changes put into DVC as it starts, and `make repro`. CPU seconds, the least of the
rounds. At the end, a parameter and a file of code are changed, and every variant must name the same stages.
"""

import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from startup import HERE, cpu_seconds, run_all, toy

# Runs DVC with the changes that its first argument names: p, k, f.
CHANGED = """
import os, sys
from types import SimpleNamespace

import dpath
import dvc.dependency.param as param
import dvc.output as output
from dvc.cli import main

changes, arguments = sys.argv[1], sys.argv[2:]
if "p" in changes:
    load, parsed = param.load_path, {}
    def load_once(path, fs, **options):
        state = os.stat(path)
        key = path, state.st_mtime_ns, state.st_size, state.st_ino
        if key not in parsed:
            parsed[key] = load(path, fs, **options)
        return parsed[key]
    param.load_path = load_once
if "k" in changes:
    def get(document, key, separator="/"):
        value = document
        for name in key.split(separator):
            if set(name) & set("*?[") or not isinstance(value, dict) or name not in value:
                return dpath.get(document, key, separator=separator)
            value = value[name]
        return value
    param.dpath = SimpleNamespace(get=get, search=dpath.search)
if "f" in changes:
    build, built, code = output.build, {}, os.path.join(os.getcwd(), "src", "")
    def build_once(odb, path, fs, name, **options):
        if not (options.get("dry_run") and path.startswith(code) and os.path.isdir(path)):
            return build(odb, path, fs, name, **options)
        if (path, name) not in built:
            built[path, name] = build(odb, path, fs, name, **options)
        return built[path, name]
    output.build = build_once
sys.exit(main(arguments))
"""
CHANGES = {
    "": "DVC as it is",
    "p": "1. params.yaml parsed once a command",
    "k": "2. a parameter looked up directly",
    "f": "3. a folder of code listed once a command",
    "pk": "1 and 2",
    "pkf": "all three",
}
COMMANDS = (("status",), ("repro",), ("repro", "-P"))


def check_changes_are_seen(root: Path) -> None:
    """Change a parameter and a file of code, and end with a message where a variant does not see what DVC sees."""
    params, code = root / "params.yaml", root / "src/pcam_agreement/heatmaps/masks.py"
    params.write_text(params.read_text().replace("top_fraction: 0.25", "top_fraction: 0.2"))
    code.write_text(code.read_text() + "# a comment\n")
    seen = {}
    for letters in CHANGES:
        command = (sys.executable, "changed.py", letters, "status")
        seen[letters] = subprocess.run(command, cwd=root, capture_output=True, text=True).stdout
        if seen[letters] != seen[""] or "heatmaps" not in seen[letters] or "agreement" not in seen[letters]:
            sys.exit(f"with the changes '{letters}', dvc status does not say what it says without them.")


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", type=int, default=20, help="of four trainings each")
    parser.add_argument("--methods", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_SITE_CACHE_DIR"] = folder
        root = Path(folder) / "repository"
        toy(HERE, root, args.recipes, args.methods, (1, 2, 3, "untrained"))
        run_all(root)
        (root / "changed.py").write_text(CHANGED)
        lock = (root / "dvc.lock").read_text()
        seconds: dict[tuple[str, tuple[str, ...]], float] = {}
        make_repro = float("inf")
        for _ in range(args.rounds):  # all of them in turn: a machine's speed drifts
            for letters in CHANGES:
                for command in COMMANDS:
                    spent = cpu_seconds(sys.executable, "changed.py", letters, *command, "-q", cwd=root)
                    seconds[letters, command] = min(spent, seconds.get((letters, command), spent))
            make_repro = min(make_repro, run_all(root))
        if (root / "dvc.lock").read_text() != lock:
            sys.exit("dvc.lock has changed: there was something to do.")
        stages = lock.count("\n    cmd:")
        print(f"{f'{stages} stages, CPU seconds':44}" + "".join(f"{' '.join(command):>10}" for command in COMMANDS))
        for letters, title in CHANGES.items():
            print(f"{title:44}" + "".join(f"{seconds[letters, command]:10.2f}" for command in COMMANDS))
        print(f"{'make repro':54}{make_repro:10.2f}")
        check_changes_are_seen(root)


if __name__ == "__main__":
    main()
