"""Atlas: the run as a page to look at, patch by patch -> a folder with index.html, which works from the disk."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from pcam_agreement import command, params, pcam, store
from pcam_agreement.atlas import contents, page

TABLES = ("agreement", "faithfulness", "gaps", "heatmaps")


def main(args: Namespace) -> None:
    settings = params.load(args.params)
    explained, count = _explained(settings, args.data)
    written = {name: store.read_written(args.plots / f"{name}.csv") for name in TABLES}
    with store.final_folder(args.atlas) as folder:
        run = contents.run(settings, explained, store.read_json(args.summary), written, count)
        patches = (contents.patch(settings, explained, row) for row in range(len(explained.patches)))
        page.write_run(folder / "run", run, args.answer.read_text(), explained.patches, patches)
        page.write_page(folder, {"run": "this run"}, [])


def _explained(settings: params.Params, data: Path) -> tuple[contents.Explained, int]:
    """What the other stages found on the patches that the atlas shows, and how many were explained."""
    # The networks of the parameters, never the files of a folder: those of dropped networks may still lie there.
    names = settings.networks
    sets = {
        method: [store.open_heatmaps(data / "heatmaps" / method / f"{name}.h5") for name in names]
        for method in settings.methods
    }
    index = sets[settings.methods[0]][0].index
    rows = contents.chosen(len(index), settings.atlas.patches)
    results = {}
    for method, own in sets.items():
        found = store.read_arrays(data / "agreement" / f"{method}.h5")
        compared = [name.decode() for name in found["networks"]]
        if compared != names:
            raise ValueError(f"{method} was compared for {compared}, not {names}; run dvc repro.")
        if not all(np.array_equal(one, index) for one in (found["index"], *(one.index for one in own))):
            raise ValueError(f"{method} was explained or compared on other patches; run dvc repro.")
        of_patches = ("iou", "labels", "constant", "nonfinite", "unconverged")
        results[method] = {name: found[name][..., rows] for name in of_patches}
    split = pcam.read(data / "patches", "test")
    predictions = [store.read_arrays(data / "predictions" / f"{name}.h5") for name in names]
    thresholds = [store.read_json(data / "scores" / f"{name}.json")["threshold"] for name in names]
    logits = np.stack([one["test_logits"][index[rows]] for one in predictions])
    return contents.Explained(
        index=index[rows],
        patches=split.patches[index[rows]],
        masks=None if split.masks is None else split.masks[index[rows]],
        meta=split.meta.iloc[index[rows]],
        logits=logits,
        right=(logits >= np.array(thresholds)[:, None]) == split.labels[index[rows]],
        heatmaps={method: np.stack([one.read(rows) for one in own]) for method, own in sets.items()},
        results=results,
        diagnostics={
            method: [{name: one.arrays[name][rows] for name in sorted(one.diagnostics)} for one in own]
            for method, own in sets.items()
        },
    ), len(index)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--data", type=Path, required=True, help="folder that the other stages wrote to")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file that report wrote")
    parser.add_argument("--answer", type=Path, required=True, help="Markdown file that report wrote")
    parser.add_argument("--plots", type=Path, required=True, help="folder of the tables that report wrote")
    parser.add_argument("--atlas", type=Path, required=True, help="folder to write, replaced when complete")
    command.run(main, parser)
