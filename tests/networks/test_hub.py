"""Published networks in timm's format: from a folder, from a hub, and what is wrong with those that cannot be had."""

import hashlib
import os
import subprocess
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch

from pcam_agreement.networks.checkpoint import read_checkpoint, save_checkpoint
from pcam_agreement.networks.classifier import build_classifier, check_size
from published import publish
from repository import ROOT


@pytest.mark.parametrize("classes", [1, 2])
def test_a_network_with_its_head_is_taken_as_it_is(classes, tmp_path):
    model = publish(tmp_path, "resnet10t", classes)
    network = build_classifier(f"local-dir:{tmp_path}", "default", "native", new_head=False).eval()
    patches = torch.rand(3, 3, 96, 96)
    with torch.no_grad():
        outputs = model(patches)
        expected = outputs[:, 1] - outputs[:, 0] if classes == 2 else outputs[:, 0]
        torch.testing.assert_close(network(patches), expected, rtol=1e-4, atol=1e-5)


def test_its_checkpoint_needs_the_folder_no_more(tmp_path):
    publish(tmp_path / "published", "vit_tiny_patch16_224", img_size=96, reg_tokens=4)
    network = build_classifier(f"local-dir:{tmp_path / 'published'}", "default", "native", new_head=False).eval()
    save_checkpoint(network, tmp_path / "a.safetensors")
    (tmp_path / "published").rename(tmp_path / "gone")
    again = read_checkpoint(tmp_path / "a.safetensors")
    assert again.backbone.reg_token.shape[1] == 4
    patches = torch.rand(2, 3, 96, 96)
    torch.testing.assert_close(again(patches), network(patches))


def test_a_backbone_without_a_head_gets_a_new_one_at_a_size_that_its_tokens_divide(tmp_path):
    publish(tmp_path, "vit_tiny_patch16_224", 0, patch_size=14, img_size=518, dynamic_img_size=True)
    network = build_classifier(f"local-dir:{tmp_path}", "default", "native")
    assert network.size == 98
    assert network(torch.rand(2, 3, 96, 96)).shape == (2,)
    with pytest.raises(ValueError, match="has no head"):
        build_classifier(f"local-dir:{tmp_path}", "default", "native", new_head=False)


def test_the_checked_size_needs_the_configuration_alone(tmp_path):
    publish(tmp_path, "resnet10t")
    (tmp_path / "model.safetensors").unlink()
    check_size(f"local-dir:{tmp_path}", "native")
    with pytest.raises(ValueError, match="has no weights"):
        build_classifier(f"local-dir:{tmp_path}", "default", "native")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, "has no config.json that names a timm architecture"),
        ("{", "has no config.json that names a timm architecture"),
        ('{"architectures": ["ViTModel"]}', "has no config.json that names a timm architecture"),
        ('{"architecture": "resnet10x"}', "timm has no model 'resnet10x'; did you mean resnet10t"),
    ],
)
def test_a_folder_that_is_not_in_timms_format_is_one_sentence(config, expected, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=expected):
        check_size(f"local-dir:{tmp_path}", "native")
    with pytest.raises(ValueError, match=r"the folder .* is missing"):
        check_size(f"local-dir:{tmp_path / 'none'}", "native")


def test_weights_that_could_run_code_are_refused(tmp_path):
    publish(tmp_path, "resnet10t")
    (tmp_path / "model.safetensors").unlink()
    torch.save({"fc.weight": partial(print, "code ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="is not a state dict of tensors alone"):
        build_classifier(f"local-dir:{tmp_path}", "default", "native")


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks for: a HEAD with commit, hash and size, then the bytes. `files`: of every name."""

    files: dict[str, bytes]
    refusals: dict[str, tuple[int, str]]
    wrong: bytes = b""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        owner, name, *_, file = self.path.strip("/").split("?")[0].split("/")
        refusal = self.refusals.get(f"{owner}/{name}")
        content = self.files.get(file)
        if refusal or content is None:
            status, code = refusal or (404, "EntryNotFound")
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            broken = name == "broken" and file == "model.safetensors"
            self.wfile.write(content[:-1] + b"x" if broken else content)

    def log_message(self, *_: object) -> None:
        pass


SCRIPT = """
import sys, torch
from pcam_agreement.networks.classifier import build_classifier
for name in sys.argv[1:]:
    try:
        network = build_classifier(f"hf-hub:{name}", "default", "native", new_head=False).eval()
        print(name, "gives", network(torch.full((1, 3, 96, 96), 0.5)).item())
    except ValueError as error:
        print(name, "fails:", error)
"""


@pytest.fixture
def hub(tmp_path):
    model = publish(tmp_path / "published", "resnet10t")
    Hub.files = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    Hub.refusals = {"owner/gated": (403, "GatedRepo"), "owner/private": (404, "RepoNotFound")}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT / "src"),
    }

    def ask(*names: str, **more: str) -> str:
        command = [sys.executable, "-c", SCRIPT, *names]
        return subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=300).stdout

    yield model, ask
    server.shutdown()


def test_a_network_from_a_hub_is_downloaded_once_checked_and_then_found_offline(hub):
    model, ask = hub
    with torch.no_grad():
        normal, tumour = model(torch.full((1, 3, 96, 96), 0.5))[0].tolist()
    answers = ask("owner/good", "owner/gated", "owner/private", "owner/broken").splitlines()
    assert float(answers[0].split()[-1]) == pytest.approx(tumour - normal, rel=1e-4)
    assert "is for those who accepted its license" in answers[1]
    assert "the hub has no hf-hub:owner/private that you may read" in answers[2]
    assert "model.safetensors of hf-hub:owner/broken was not what the hub says it is" in answers[3]
    again, other = ask("owner/good", "owner/other", HF_HUB_OFFLINE="1").splitlines()
    assert again == answers[0]
    assert "is not in the hub's cache and the hub cannot be reached" in other
