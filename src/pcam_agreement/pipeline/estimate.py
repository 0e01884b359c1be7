"""What a run will need, before it runs for hours: disk, memory and hours, from params.yaml and rates measured here.

python -m pcam_agreement.pipeline.estimate
python -m pcam_agreement.pipeline.estimate $(python -m pcam_agreement.pipeline.profile profiles/full.yaml) --workers 2

Settings are given as to `experiment`. Networks have random weights; nothing is read but params.yaml and, for their
number, a folder of patches, and nothing is downloaded.
"""

import os
import shutil
import tempfile
import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from pcam_agreement.attribution.common.settings import Explanation, Superpixels
from pcam_agreement.attribution.faithfulness.settings import Faithfulness
from pcam_agreement.core import command, plugins, resume
from pcam_agreement.core.settings import Count, Device, Settings, read_params, section, validated
from pcam_agreement.networks.hub import is_published, read_config
from pcam_agreement.networks.recipes import networks, recipes
from pcam_agreement.pipeline import parallel, volume
from pcam_agreement.training.settings import Recipe

PROCESS = 7e8  # bytes of a process that has imported torch, and has done nothing
GB, MINUTE, HOUR = 1e9, 60, 3600
NOT_COUNTED = (
    "Not counted: fetch, report and atlas, DVC and the start of stages (0.2 s each on a CPU under Linux, up to 6 s "
    "elsewhere), LIME's regression. Weights are random: how many steps or samples a trained network's maps take lies "
    "between the two numbers."
)


def main(args: Namespace) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    raw = with_settings(args.params, [*args.settings, *args.set_param])
    import torch  # it and what imports it take seconds

    from pcam_agreement.networks.device import choose_device
    from pcam_agreement.pipeline.rates import Rates, measure

    threads = section(raw, "threads", Count)
    torch.set_num_threads(threads)
    device = choose_device(section(raw, "device", Device))
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    workers = args.workers or gpus or parallel.CORES
    explanation = section(raw, "explain", Explanation)
    rates: dict[str, Rates] = {}
    measured: dict[str, Rates] = {}
    notes: list[str] = []
    free = torch.cuda.mem_get_info()[0] if gpus else psutil.virtual_memory().available / workers - PROCESS
    print(f"{'network':24}{'parameters':>13}{'forward':>10}{'gradient':>10}{'step':>10}  a second")
    for name, recipe in chosen(raw).items():
        try:
            architecture = buildable(recipe.architecture)
            recipe = recipe.model_copy(update={"architecture": architecture})
            of_network = recipe.model_dump_json(exclude={"weights", "lr", "epochs", "fraction"})
            if of_network not in measured:
                measured[of_network] = measure(recipe, explanation, device, args.seconds)
        except torch.OutOfMemoryError:
            notes.append(f"MEMORY: a batch of {name} does not fit; lower its batch_size, or set train.accumulate.")
            continue
        except ValueError as error:
            notes.append(f"{name} is not counted: {error}")
            continue
        rates[name] = found = measured[of_network]
        print(f"{name:24.24}{found.parameters:13,}{found.forward:10.1f}{found.gradient:10.1f}{found.step:10.1f}")
        for what, needed in (("a training step", found.memory), ("explaining", found.explaining)):
            if needed > free:
                where = "on the GPU" if gpus else f"for each of {workers} processes"
                notes.append(
                    f"MEMORY: {what} of {name} needs about {_size(needed)}, and {_size(max(free, 0))} are free "
                    f"{where}; lower its batch_size or --workers."
                )
    print(f"on the {device.type.upper()}, stages at once: {workers}, threads of each: {threads}\n")
    notes += print_disk(raw, rates, workers)
    print_hours(raw, rates, workers)
    print()
    for note in [NOT_COUNTED, *dict.fromkeys(notes)]:
        print(textwrap.fill(note, 80))


def with_settings(path: Path, settings: list[str]) -> dict[str, Any]:
    """The parameters with settings of `dvc exp run -S` laid over them; the file stays as it is."""
    raw = read_params(path)
    if not settings:
        return raw
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, folder)).rename(Path(folder, "params.yaml"))
        try:
            apply_overrides(str(copy), settings)
        except DvcException as error:
            raise ValueError(" ".join([str(error), str(error.__cause__ or "")])) from error
        return read_params(copy)


def chosen(raw: Mapping[str, Any]) -> dict[str, Recipe]:
    """The recipes of a run, each whole."""
    names = list(dict.fromkeys(network.recipe for network in networks(raw)))
    return {name: validated(block, Recipe, f"network.{name}") for name, block in recipes(raw, names).items()}


def buildable(architecture: str) -> str:
    """An architecture that can be built without a download: of a network on a hub, the one that its name begins with.

    Raises ValueError where there is none.
    """
    if not is_published(architecture):
        return architecture
    try:
        read_config(architecture)
        return architecture
    except ValueError:
        import timm

        model = architecture.split("/")[-1].split(".")[0]
        if not timm.is_model(model):
            raise
        return f"timm/{model}"


def methods_of(raw: Mapping[str, Any]) -> dict[str, tuple[ModuleType, Any]]:
    """Each method's file and settings."""
    modules = {name: plugins.load(plugins.METHODS, "method", name) for name in section(raw, "methods", list[str])}
    return {name: (module, section(raw, f"method.{name}", module.Settings)) for name, module in modules.items()}


def print_disk(raw: dict[str, Any], rates: Mapping[str, Any], workers: int) -> list[str]:
    """Print the disk by kind, beside what is free; a sentence where it is too little."""
    needed = volume.disk(raw, rates, chosen(raw), methods_of(raw), workers)
    for kind, (size, detail) in needed.items():
        print(f"{kind:24}{_size(size):>12}  {detail}")
    data = sum(size for kind, (size, _) in needed.items() if kind != volume.WORK)
    work, cache, once = needed[volume.WORK][0], volume.cache_folder(), volume.linked()
    print(_place("cache", 0 if once else data, f"{'links' if once else 'copies'}, in", cache))
    notes: list[str] = []
    disks: dict[int, list[Any]] = {}
    for folder, size in ((Path(), data), (resume.place(), work), (cache, 0 if once else data)):
        folder = volume.existing_parent(folder)
        disks.setdefault(folder.stat().st_dev, [folder, 0])[1] += size
    for folder, size in disks.values():
        free = shutil.disk_usage(folder).free
        print(_place("together", size, f"{_size(free)} are free at", folder))
        if size > free:
            smaller = "" if section(raw, "explain", Explanation).storage == "uint8" else "explain.storage=uint8 or "
            notes.append(
                f"DISK: the run needs about {_size(size)} at {folder.resolve()} and {_size(free)} are free; take "
                f"{smaller}fewer explain.patches, or another disk."
            )
    print()
    return notes


def print_hours(raw: dict[str, Any], rates: Mapping[str, Any], workers: int) -> None:
    """Print the time of each kind of stage, the least and the most where they differ."""
    total = [0.0, 0.0]
    for kind, (least, most, detail) in spans(raw, rates, workers).items():
        total = [total[0] + least, total[1] + most]
        print(f"{kind:28}{_span(least, most):>20}  {detail}")
    print(f"{'together':28}{_span(*total):>20}")


def spans(raw: dict[str, Any], rates: Mapping[str, Any], workers: int) -> dict[str, tuple[float, float, str]]:
    """Seconds of each kind of stage, at least and at most, so many side by side; and what is counted."""
    explanation, faithful = section(raw, "explain", Explanation), section(raw, "faithfulness", Faithfulness)
    counts, of_recipes, run = volume.patches(raw), chosen(raw), networks(raw)
    explained, whole = min(explanation.patches, counts["test"]), sum(counts.values())
    stages: dict[str, list[tuple[float, float]]] = {"features": [], "train": []}
    for network in run:
        if network.recipe in rates:
            rate, recipe = rates[network.recipe], of_recipes[network.recipe]
            evaluated = (counts["valid"] + counts["test"]) / rate.forward
            epochs = recipe.epochs if network.trained else 0
            once = recipe.features_once and network.trained
            epoch = 0 if once else recipe.fraction * counts["train"] / rate.step + counts["valid"] / rate.forward
            first = epoch * (min(epochs, recipe.patience + 1) if recipe.patience else epochs)
            evaluated = 0 if once else evaluated + (0 if epochs else counts["valid"] / rate.forward)
            stages["train"].append((first + evaluated, epochs * epoch + evaluated))
    stages["features"] = [(whole / rates[n].forward,) * 2 for n in rates if of_recipes[n].features_once]
    for name, (module, settings) in methods_of(raw).items():
        maps = explained + (min(explanation.repeat, explained) if module.STOCHASTIC else 0)
        stages[f"explain {name}"] = stages_of_method = []
        for network in run:
            if network.recipe in rates:
                rate = rates[network.recipe]
                each = [
                    maps * ((passes.forward + 1) / rate.forward + passes.gradient / rate.gradient)
                    for passes in (module.passes(first_round(settings)), module.passes(settings))
                ]
                stages_of_method.append((each[0], each[1]))
    curves = (2 * (1 + faithful.rolls) + 1) * (faithful.steps - 1) + 2
    tested = 1 + any(not network.trained for network in run)
    of_recipe = [min(faithful.patches, explained) * curves * tested / rate.forward for rate in rates.values()]
    stages["faithfulness"] = [(each, each) for each in of_recipe] * len(methods_of(raw))
    result = {
        kind: (*(max(sum(column) / workers, max(column)) for column in zip(*of_kind, strict=True)), detail)
        for kind, of_kind in stages.items()
        if of_kind and max(most for _, most in of_kind) > 0
        for detail in [f"{len(of_kind)} stages, {min(workers, len(of_kind))} at once"]
    }
    of_superpixels = [each for _, each in methods_of(raw).values() if isinstance(each, Superpixels)]
    if of_superpixels:
        spent = volume.superpixel_seconds(of_superpixels, explained)
        result["superpixels"] = (spent, spent, "once, on all cores")
    pairs = volume.compare_seconds(raw, len(run), explained)
    result["compare"] = (pairs, pairs, "on all cores")
    return result  # type: ignore[return-value]


def first_round(settings: Settings) -> Settings:
    """The settings of a method that is content with its first steps or samples."""
    first = {"max_steps": "n_steps", "max_samples": "samples"}
    return settings.model_copy(
        update={most: getattr(settings, of) for most, of in first.items() if hasattr(settings, most)}
    )


def _size(size: float) -> str:
    return f"{size / GB:,.1f} GB" if size > GB else f"{1000 * size / GB:.0f} MB"


def _span(least: float, most: float) -> str:
    """Seconds as minutes or hours, from and to where they differ."""
    unit, name = (HOUR, "h") if most > 2 * HOUR else (MINUTE, "min")
    first, last = f"{least / unit:.1f}", f"{most / unit:.1f}"
    return f"{last} {name}" if first == last else f"{first} to {last} {name}"


def _place(kind: str, size: float, detail: str, folder: Path) -> str:
    """A line of the disk's table that ends in a folder, of which the first letters go where 80 columns are too few."""
    line, path = f"{kind:24}{_size(size):>12}  {detail} ", str(folder.resolve())
    room = 80 - len(line)
    return line + (path if len(path) <= room else "…" + path[-room + 1 :])


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", help="key=value, in the grammar of dvc exp run -S")
    parser.add_argument("-S", "--set-param", action="append", default=[], help="the same, as profile.py prints them")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--workers", type=int, help="stages side by side; a GPU each, or all cores, by default")
    parser.add_argument("--seconds", type=float, default=2.0, help="to measure each rate of each network")
    command.run(main, parser)
