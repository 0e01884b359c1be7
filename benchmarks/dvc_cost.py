"""What three changes to DVC would save a pipeline of hundreds of stages: docs/dvc_cost.md has them in words.

python benchmarks/dvc_cost.py [--recipes 20] [--methods 5]

Runs the pipeline of dvc.yaml, with commands that only write their outputs, once; then `dvc status` and `dvc repro` with
nothing to do, without and with the changes put into DVC as it starts. CPU seconds, the less of two.
"""

import os
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from startup import HERE, cpu_seconds, run_all, toy

# A Python that runs DVC with the changes named by its first argument: p, k, f.
CHANGED = """
import os, sys
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
    search = dpath.get
    def follow(document, key, separator="/", **options):
        if set(key) & set("*?["):
            return search(document, key, separator=separator, **options)
        value = document
        for name in key.split(separator):
            if not isinstance(value, dict):
                return search(document, key, separator=separator, **options)
            value = value[name]
        return value
    dpath.get = follow
if "f" in changes:
    build, built = output.build, {}
    def build_once(odb, path, fs, name, **options):
        if not (options.get("dry_run") and "/src/" in path):
            return build(odb, path, fs, name, **options)
        if path not in built:
            built[path] = build(odb, path, fs, name, **options)
        return built[path]
    output.build = build_once
sys.exit(main(arguments))
"""
CHANGES = {
    "": "DVC as it is",
    "p": "params.yaml parsed once a command",
    "k": "a key of params followed, not searched for",
    "f": "a folder of code walked once a command",
    "pk": "the first two",
    "pkf": "all three",
}


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", type=int, default=20, help="of four trainings each")
    parser.add_argument("--methods", type=int, default=5)
    args = parser.parse_args()
    os.environ["DVC_NO_ANALYTICS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "repository"
        toy(HERE, root, args.recipes, args.methods, (1, 2, 3, "untrained"))
        run_all(root)
        (root / "changed.py").write_text(CHANGED)
        stages = (root / "dvc.lock").read_text().count("\n    cmd:")
        commands = (("status",), ("repro",), ("repro", "-P"))
        print(f"{f'{stages} stages, CPU seconds':44}" + "".join(f"{' '.join(command):>10}" for command in commands))
        for letters, title in CHANGES.items():
            spent = [
                min(cpu_seconds(sys.executable, "changed.py", letters, *command, "-q", cwd=root) for _ in range(2))
                for command in commands
            ]
            print(f"{title:44}" + "".join(f"{seconds:10.2f}" for seconds in spent), flush=True)


if __name__ == "__main__":
    main()
