"""Put the atlas of another revision beside the one in the workspace.

python -m pcam_agreement.pipeline.compare_atlases <experiment>
"""

import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.scm import RevError
from ruamel.yaml import YAML

from pcam_agreement.atlas import contents, page
from pcam_agreement.core import command
from pcam_agreement.core.files import atomic_folder


def main(args: Namespace) -> None:
    yaml = YAML(typ="safe", pure=True)
    with atomic_folder(args.out) as folder:
        shutil.copytree(args.atlas / "run", folder / "run")
        try:
            revision = DVCFileSystem(rev=args.revision)
            settings = yaml.load(revision.read_text("params.yaml"))
            revision.get((args.atlas / "run").as_posix(), str(folder / "other"), recursive=True)
        except RevError as error:
            raise ValueError(
                f"{args.revision} is no commit, branch or experiment here; dvc exp list names the experiments."
            ) from error
        except (DvcException, FileNotFoundError) as error:
            raise ValueError(
                f"the atlas of {args.revision} is neither in the cache nor in a remote; dvc pull or dvc repro brings "
                "it, with that revision checked out. After dvc exp run the workspace holds the experiment: "
                "git checkout . && dvc checkout brings the committed run back."
            ) from error
        here = yaml.load(Path("params.yaml"))
        page.write_page(folder, {"run": "this run", "other": args.revision}, contents.differences(here, settings))
        if here == settings:
            print(
                f"the workspace holds {args.revision} itself, as after dvc exp run; git checkout . && dvc checkout "
                "brings the committed run back."
            )
    print(f"open {(args.out / 'index.html').resolve().as_uri()}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("revision", help="an experiment, branch or commit whose atlas is in the cache")
    parser.add_argument("--atlas", type=Path, default=Path("data/atlas"), help="folder that the atlas stage wrote")
    parser.add_argument("--out", type=Path, default=Path("dvc_atlas"), help="folder to write, replaced when complete")
    command.run(main, parser)
