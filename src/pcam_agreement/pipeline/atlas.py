"""Atlas: the run as a page, patch by patch -> a folder with index.html, which works from the disk.

python -m pcam_agreement.pipeline.atlas --data data --summary metrics/summary.json --answer … --plots plots --atlas …
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from pcam_agreement.agreement.settings import Agreement
from pcam_agreement.atlas import contents, page
from pcam_agreement.atlas.settings import Atlas
from pcam_agreement.core import command
from pcam_agreement.core.files import atomic_folder, read_arrays, read_json, read_text_table
from pcam_agreement.core.settings import read_params, section
from pcam_agreement.data.pcam import CONTENTS, read_split
from pcam_agreement.heatmaps.file import Heatmaps, open_heatmaps
from pcam_agreement.networks.recipes import networks

TABLES = ("agreement", "faithfulness", "gaps", "heatmaps", "recipes", "reliability", "shares")


def main(args: Namespace) -> None:
    raw = read_params(args.params)
    # The networks of the parameters, never the files of a folder: those of dropped networks may still lie there.
    of_run = networks(raw)
    sets = {
        method: [open_heatmaps(network.path(args.data / "heatmaps" / method, ".h5")) for network in of_run]
        for method in section(raw, "methods", list[str])
    }
    methods = {name: maps[0].method for name, maps in sets.items()}
    run = contents.Run(of_run, methods, section(raw, "agreement", Agreement))
    written = {name: read_text_table(args.plots / f"{name}.csv") for name in TABLES}
    scores = read_text_table(args.plots / "scores.csv").set_index("network")
    thresholds = scores["threshold"].astype(float)[[network.name for network in of_run]].to_numpy()
    explained = _explained(run, sets, thresholds, args.data, section(raw, "atlas", Atlas).patches)
    count = len(next(iter(sets.values()))[0].index)
    synthetic = read_json(args.data / "patches" / CONTENTS)["synthetic"]
    with atomic_folder(args.atlas) as folder:
        whole = contents.describe_run(run, explained, read_json(args.summary), written, count, synthetic)
        patches = (contents.describe_patch(run, explained, row) for row in range(len(explained.patches)))
        page.write_run(folder / "run", whole, args.answer.read_text(), explained.patches, patches)
        page.write_page(folder, {"run": "this run"}, [])


def _explained(
    run: contents.Run, sets: dict[str, list[Heatmaps]], thresholds: np.ndarray, data: Path, most: int
) -> contents.Explained:
    """Results of the other stages for the patches that the atlas shows."""
    names = [network.name for network in run.networks]
    index = next(iter(sets.values()))[0].index
    rows = contents.shown_rows(len(index), most)
    results = {}
    for method, maps in sets.items():
        arrays = read_arrays(data / "agreement" / f"{method}.h5")
        compared = [name.decode() for name in arrays["networks"]]
        if compared != names:
            raise ValueError(f"{method} was compared for {compared}, not {names}; run dvc repro.")
        if not all(np.array_equal(other, index) for other in (arrays["index"], *(m.index for m in maps))):
            raise ValueError(f"{method} was explained or compared on other patches; run dvc repro.")
        names_of_arrays = ("iou", "labels", "constant", "nonfinite", "unconverged")
        results[method] = {name: arrays[name][..., rows] for name in names_of_arrays}
    split = read_split(data / "patches", "test")
    logits = [read_arrays(network.path(data / "logits", ".h5"))["test_logits"][index[rows]] for network in run.networks]
    return contents.Explained(
        index=index[rows],
        patches=split.patches[index[rows]],
        masks=None if split.masks is None else split.masks[index[rows]],
        meta=split.meta.iloc[index[rows]],
        logits=np.stack(logits),
        thresholds=thresholds,
        heatmaps={method: np.stack([m.read(rows) for m in maps]) for method, maps in sets.items()},
        results=results,
        diagnostics={
            method: [{name: m.arrays[name][rows] for name in sorted(m.diagnostics)} for m in maps]
            for method, maps in sets.items()
        },
    )


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--data", type=Path, required=True, help="folder that the other stages wrote to")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file that report wrote")
    parser.add_argument("--answer", type=Path, required=True, help="Markdown file that report wrote")
    parser.add_argument("--plots", type=Path, required=True, help="folder of the tables that report wrote")
    parser.add_argument("--atlas", type=Path, required=True, help="folder to write, replaced when complete")
    command.run(main, parser)
