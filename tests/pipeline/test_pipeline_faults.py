"""What goes wrong in a pipeline: kills, mistakes and what is not there."""

import re
import shutil

import pytest
import torch
from ruamel.yaml import YAML

from pcam_agreement.data.pcam import file_name

pytestmark = pytest.mark.slow


def test_a_run_without_a_cache_that_is_killed_three_times_and_ends_side_by_side_gives_the_same_bytes(finished):
    r = finished
    for path in ("data", ".dvc/cache"):
        shutil.rmtree(r.path / path)
    r.kill_when("data/patches.partial")
    assert not (r.path / "data" / "patches").exists()
    r.kill_when("data/work/train-two-1-*/last.ckpt", command=r.MAKE)
    assert not (r.path / "data" / "checkpoints" / "two" / "1.safetensors").exists()
    r.kill_when("data/work/explain-lime-one-1-*/chunk-00000.npz", command=r.MAKE)
    assert not (r.path / "data" / "heatmaps" / "lime" / "one" / "1.h5").exists()
    (kept,) = r.path.glob("data/work/explain-lime-one-1-*/chunk-00000.npz")
    assert not (kept.parent / "chunk-00002.npz").exists()
    (r.path / "dvc.lock").write_bytes(b"")  # as if it had been killed while it wrote this
    assert "validation failed" in r.run("dvc", "repro", check=False)
    r.run("git", "checkout", "-q", "dvc.lock")
    side_by_side = r.start("python", "-m", "pcam_agreement.pipeline.parallel", "--workers", "2")
    assert side_by_side.wait(600) == 0
    assert r.run("git", "status", "--porcelain") == ""
    assert {path.name for path in (r.path / "data" / "work").iterdir()} == {
        "superpixels",
        "logs",
        "dvc.lock",
    }  # which are kept
    assert r.concerned() == set()


def test_two_processes_that_are_killed_twice_explain_to_the_bytes_of_one(finished, tmp_path):
    raw = finished.read()
    raw["explain"]["devices"] = 2
    YAML().dump(raw, tmp_path / "params.yaml")
    arguments = ["--patches=data/patches", "--checkpoint=data/checkpoints/one/1.safetensors"]
    arguments += [f"--params={tmp_path / 'params.yaml'}", f"--heatmaps={tmp_path / 'lime.h5'}"]
    command = finished.stage_command("explain", "lime", "one", "1", *arguments)
    for chunk in ("chunk-00000.npz", "chunk-00001.npz"):
        finished.kill_when(f"data/work/explain-lime-one-1-*/{chunk}", command=command)
        assert not (tmp_path / "lime.h5").exists()
    status, said = finished.stage("explain", "lime", "one", "1", *arguments)
    assert status == 0, said
    assert (tmp_path / "lime.h5").read_bytes() == (finished.path / "data/heatmaps/lime/one/1.h5").read_bytes()


def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(finished, tmp_path):
    r = finished
    cut = tmp_path / "cut"
    shutil.copytree(r.path / "data" / "patches", cut)
    cut_x = cut / file_name("test", "x")
    content = cut_x.read_bytes()
    cut_x.unlink()  # the copy may be a read-only link
    cut_x.write_bytes(content[: len(content) // 2])
    odd = r.read()
    odd["train"]["epoch"] = 3
    YAML().dump(odd, tmp_path / "odd.yaml")
    patches, checkpoint = "--patches=data/patches", "--checkpoint=data/checkpoints/one/1.safetensors"
    out = f"={tmp_path / 'out'}"
    for name, arguments, words in (
        ("check", ["--params", str(tmp_path / "odd.yaml"), "--out" + out], r"train\.epoch.*did you mean epochs\?"),
        (
            "train",
            ["thre", "1", patches, "--features=none", "--checkpoint" + out, "--history" + out, "--logits" + out],
            r"recipe 'thre'; did you mean three\?",
        ),
        ("explain", ["lim", "one", "1", patches, checkpoint, "--heatmaps" + out], r"method 'lim'; did you mean lime\?"),
        (
            "explain",
            ["lime", "one", "1", patches, "--checkpoint=none", "--heatmaps" + out],
            r"none is missing; run the stage",
        ),
        ("explain", ["lime", "one", "1", f"--patches={cut}", checkpoint, "--heatmaps" + out], r"test_x.h5.*fetch it"),
        ("compare", [patches, f"--heatmaps={tmp_path}", "--agreement" + out], r"one/1\.h5 is missing; run"),
        (
            "faithfulness",
            ["one", patches, "--checkpoints=data/checkpoints", f"--heatmaps={tmp_path}", "--faithfulness" + out],
            r"one/1\.h5 is missing; run",
        ),
        ("compare_methods", [patches, f"--heatmaps={tmp_path}", "--agreement" + out], r"one/1\.h5 is missing; run"),
    ):
        # in a process of its own, whose imports may say something too, is slow: one stage with all of the libraries
        status, said = (r.stage if name == "train" else r.stage_here)(name, *arguments)
        assert status == 1
        assert re.fullmatch(r"error: [^\n]+\n", said), said
        assert re.search(words, said), said
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "odd.yaml"]


def test_a_wrong_setting_is_refused_before_anything_runs(finished):
    finished.change("agreement", "top_fraction", value=1.5)
    said = finished.run("dvc", "repro", check=False)
    assert "error: params.yaml: agreement.top_fraction: input should be less than 1, found 1.5." in said
    assert "Running stage 'fetch'" not in said
    finished.reset()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_ends_each_stage_that_wants_one_before_it_starts(finished, tmp_path):
    raw = finished.read()
    raw["device"] = "cuda"
    YAML().dump(raw, tmp_path / "cuda.yaml")
    given = ["--patches=data/patches", f"--params={tmp_path / 'cuda.yaml'}"]
    checkpoint, out = "--checkpoint=data/checkpoints/one/1.safetensors", f"={tmp_path / 'out'}"
    for name, arguments in (
        ("train", ["one", "1", "--features=none", "--checkpoint" + out, "--history" + out, "--logits" + out]),
        ("explain", ["lime", "one", "1", checkpoint, "--heatmaps" + out]),
        (
            "faithfulness",
            ["one", "--checkpoints=data/checkpoints", "--heatmaps=data/heatmaps/lime", "--faithfulness" + out],
        ),
    ):
        status, said = finished.stage_here(name, *arguments, *given)
        assert status == 1
        assert said.startswith("error: device is cuda but torch sees no GPU")
        assert [path.name for path in tmp_path.iterdir()] == ["cuda.yaml"]
