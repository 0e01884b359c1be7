"""The notebook runs from top to bottom, on a small run."""

from argparse import Namespace
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from ruamel.yaml import YAML

from conftest import ready
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.networks.recipes import networks
from pcam_agreement.pipeline import explain
from repository import ROOT


def test_the_notebook_runs_from_top_to_bottom(raw, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("PCAM_AGREEMENT_WORK", str(tmp_path / "work"))
    raw["recipes"], raw["trainings"] = ["test_resnet", "test_byobnet"], [1, 2]
    raw["explain"].update(patches=24, repeat=2)
    YAML().dump(raw, tmp_path / "params.yaml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "patches").symlink_to(dataset)
    for network in networks(raw):
        checkpoint = network.path(tmp_path / "data" / "checkpoints", ".safetensors")
        save_checkpoint(ready(network.architecture), checkpoint)
        heatmaps = network.path(tmp_path / "data" / "heatmaps" / "saliency", ".h5")
        files = {"params": tmp_path / "params.yaml", "patches": dataset, "checkpoint": checkpoint, "heatmaps": heatmaps}
        explain.main(Namespace(method="saliency", recipe=network.recipe, training=network.training, **files))
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.read(ROOT / "notebooks" / "two_networks.ipynb", as_version=4)
    where = {"metadata": {"path": str(tmp_path / "notebooks")}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "recipe" in outputs[-1]["text"]


def test_the_committed_notebook_shows_its_outputs():
    notebook = nbformat.read(ROOT / "notebooks" / "two_networks.ipynb", as_version=4)
    assert all(cell.outputs for cell in notebook.cells[2:] if cell.cell_type == "code")
    assert str(Path.home()) not in nbformat.writes(notebook)
