"""An experiment with stages side by side: `dvc exp run -S …` on all cores, saved where `dvc exp show` lists it.

python -m pcam_agreement.pipeline.experiment train.lr=1e-4 method.lime.samples=64 --name wider
"""

from argparse import ArgumentParser, Namespace

from pcam_agreement.core import command
from pcam_agreement.pipeline import parallel


def main(args: Namespace) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.experiments.refs import ExpRefInfo
    from dvc.repo.experiments.utils import check_ref_format
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import apply_overrides, to_hydra_overrides

    try:
        with Repo() as repo:
            experiment = ExpRefInfo(repo.scm.get_rev(), args.name)
            check_ref_format(repo.scm, experiment)  # before hours of work, not after
            if repo.scm.get_ref(str(experiment)):
                raise ValueError(f"experiment {args.name} exists: take another name, or dvc exp remove {args.name}.")
        for path, overrides in to_path_overrides([*args.settings, *args.set_param]).items():
            if any(override.is_sweep_override() for override in to_hydra_overrides(overrides)):
                raise ValueError(f"{' '.join(overrides)}: one value each; for several use dvc exp run --queue.")
            apply_overrides(path, overrides)
        planned = parallel.repro(args)
        with Repo() as repo:
            repo.experiments.save(targets=planned[-1:], name=args.name)  # the rest is saved already
    except DvcException as error:
        raise ValueError(" ".join([str(error), str(error.__cause__ or "")])) from error
    print(
        f"saved as experiment {args.name}; dvc exp show lists it.\n"
        "The files here are the experiment's now; back to the commit's: git checkout . && dvc checkout"
    )


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", help="key=value, in the grammar of dvc exp run -S")
    parser.add_argument("-S", "--set-param", action="append", default=[], help="the same, as profile.py prints them")
    parser.add_argument("--name", required=True)
    parallel.add_arguments(parser)
    command.run(main, parser)
