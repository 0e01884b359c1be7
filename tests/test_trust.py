"""Nothing that is loaded can run code: what the source may call, and what happens to files that try."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pcam_agreement.core.settings import read_params
from pcam_agreement.heatmaps.file import merge_chunks
from pcam_agreement.inference.load import load_classifier
from pcam_agreement.networks.classifier import build_classifier
from repository import ROOT

SOURCES = sorted((ROOT / "src").rglob("*.py"))
# What may be called to load something, and what has to stand in the call.
LOADERS = {
    "torch.load": "weights_only=True",
    "np.load": "allow_pickle=False",
    "np.savez": "allow_pickle=False",
    "trainer.fit": "weights_only=True",
    "YAML": "typ='safe'",
    "YAML(typ='safe', pure=True).load": "",
    "yaml.load": "",  # of such a YAML
    "parse_yaml": "",  # DVC's, which is safe too
    "json.loads": "",
    "hf_hub_download": "",  # of a configuration, and of weights that are read as tensors alone
    "self.context.set_forkserver_preload": "LIBRARIES",
    "plugins.load": "",  # modules of this project, by names that are checked
    "load": "",
    "load_file": "",  # safetensors
}
SUSPECT = re.compile(
    r"(^|\.)(\w*load|loads|load_file|load_state_dict_from_url|Unpickler|read_pickle|YAML|savez\w*|parse_yaml)$"
    r"|^trainer\.fit$|^(eval|exec|compile|__import__)$"
    r"|(^|\.)(system|popen|extract|extractall|unpack_archive|urlretrieve|urlopen)$"
)
MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "tarfile", "zipfile"}
MODULES |= {"requests", "urllib.request", "urllib3", "http.client", "httpx", "aiohttp", "socket", "ftplib"}


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            yield f"{path.name}:{getattr(node, 'lineno', 0)}", node


def test_the_source_loads_with_what_cannot_run_code():
    for place, node in nodes():
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if SUSPECT.search(called):
                assert called in LOADERS, f"{place}: {called} is not known to be safe"
                assert LOADERS[called] in ast.unparse(node), f"{place}: {called} without {LOADERS[called]}"
            assert "shell=True" not in ast.unparse(node), place


def test_the_source_imports_nothing_that_unpickles_and_downloads_in_one_place():
    for place, node in nodes():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if place.startswith("download.py") or names == ["pickle", "pickle.UnpicklingError"]:
            continue  # which checks addresses; an error to be caught
        if place.startswith("kaggle.py") and "zipfile" in names:
            continue  # whose members are read in memory, not unpacked (extract and extractall are suspect)
        assert not MODULES & set(names), place


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_files_that_would_run_code_are_refused_and_run_none(tmp_path):
    sign = tmp_path / "was run"
    torch.save({"features.0.weight": Evil(sign)}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil.pth is not a state dict of tensors alone"):
        build_classifier("alexnet", str(tmp_path / "evil.pth"), "native")
    with pytest.raises(ValueError, match=r"evil.pth is not a checkpoint of this project"):
        load_classifier(tmp_path / "evil.pth", torch.device("cpu"))
    np.savez(tmp_path / "chunk.npz", index=np.array([Evil(sign)], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        merge_chunks([tmp_path / "chunk.npz"], tmp_path / "out.h5", 1, {}, {})
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(
        text.replace("threads: 1", f"threads: !!python/object/apply:os.mkdir ['{sign}']", 1)
    )
    with pytest.raises(ValueError, match=r"params\.yaml"):
        read_params(tmp_path / "params.yaml")
    assert not sign.exists()
