"""What the atlas writes, without a browser: codes of heatmaps, files of a run, two runs on one page."""

import shutil
import subprocess
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

import made_up_run
from atlas_runs import other, run, runs  # noqa: F401  fixtures
from pcam_agreement.atlas import contents, encoding, page
from pcam_agreement.core.patch import PATCH
from pcam_agreement.heatmaps.masks import top_mask
from pcam_agreement.pipeline import compare_atlases


@pytest.mark.parametrize("values", [3, 40, 9000], ids=["large ties", "some ties", "few ties"])
def test_codes_give_the_masks_of_python_at_every_fraction(values):
    random = np.random.default_rng(values)
    maps = random.integers(0, values, (5, PATCH**2)).astype(np.int16)
    fractions = encoding.steps([0.25, 0.05, 0.333], maps.shape[1])
    codes = encoding.encode(maps, np.array(list(fractions.values())))
    for fraction, size in fractions.items():
        for one, own, mask in zip(maps, codes, top_mask(maps, fraction), strict=True):
            count = np.bincount(own, minlength=256)
            weight = np.clip((size - (count.cumsum() - count)) / np.maximum(count, 1), 0, 1)
            np.testing.assert_allclose(weight[own], mask, atol=1e-6)
            assert (np.diff(own[np.argsort(one)].astype(int)) <= 0).all()  # greater values, lesser codes


def test_the_slider_has_the_fractions_of_the_run_once_each():
    fractions = encoding.steps([0.25, 0.1, 0.10001], 9216)
    assert list(fractions) == sorted(fractions)
    assert {0.25, 0.1, 0.02, 0.5} <= set(fractions)
    assert 0.10001 not in fractions
    assert fractions[0.25] == 2304


def test_more_fractions_than_a_byte_can_tell_apart_are_refused():
    with pytest.raises(ValueError, match="at most 127 top fractions"):
        encoding.encode(np.zeros((1, 9216)), np.arange(1, 200))


def test_the_same_run_gives_the_same_bytes_and_a_missing_file_leaves_the_old_page(run, tmp_path):
    def files(folder: Path) -> dict:
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first = files(run / "data" / "atlas")
    made_up_run.build(run)
    assert files(run / "data" / "atlas") == first
    heatmaps = run / "data" / "heatmaps" / "lime" / "test_byobnet" / "2.h5"
    heatmaps.rename(tmp_path / "away.h5")
    with pytest.raises(ValueError, match=r"lime/test_byobnet/2\.h5 is missing; run"):
        made_up_run.build(run)
    (tmp_path / "away.h5").rename(heatmaps)
    assert files(run / "data" / "atlas") == first
    assert not (run / "data" / "atlas.partial").exists()


def test_of_many_explained_patches_some_are_shown_from_first_to_last():
    assert contents.shown_rows(5, 256).tolist() == [0, 1, 2, 3, 4]
    rows = contents.shown_rows(4096, 256)
    assert (len(rows), rows[0], rows[-1]) == (256, 0, 4095)
    assert set(np.diff(rows)) <= {16, 17}


def test_the_atlas_of_a_revision_is_put_beside_this_one_or_one_sentence_says_why_not(run, other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")

    def sh(command: str) -> None:
        subprocess.run(command, shell=True, check=True, capture_output=True)

    def put(folder: Path) -> None:
        shutil.copy(folder / "params.yaml", "params.yaml")
        shutil.rmtree("data", ignore_errors=True)
        shutil.copytree(folder / "data" / "atlas", "data/atlas")
        sh("dvc add -q data/atlas && git add -A && git -c user.name=t -c user.email=t@example.org commit -qm x")

    sh("git init -q && dvc init -q")
    put(other)
    sh("git tag smaller")
    put(run)
    args = {"atlas": Path("data/atlas"), "out": Path("dvc_atlas")}
    compare_atlases.main(Namespace(revision="smaller", **args))
    assert Path("dvc_atlas/index.html").is_file()
    for name, one in (("run", run), ("other", other)):
        assert Path("dvc_atlas", name, "run.js").read_bytes() == (one / "data/atlas/run/run.js").read_bytes()
    with pytest.raises(ValueError, match="nowhere is no commit, branch or experiment here"):
        compare_atlases.main(Namespace(revision="nowhere", **args))
    shutil.rmtree(".dvc/cache")
    with pytest.raises(ValueError, match="the atlas of smaller is neither in the cache nor in a remote"):
        compare_atlases.main(Namespace(revision="smaller", **args))
    assert Path("dvc_atlas/index.html").is_file()
    assert not Path("dvc_atlas.partial").exists()


def test_an_atlas_of_another_format_is_refused(run, tmp_path):
    text = (run / "data/atlas/run/run.js").read_text()
    (tmp_path / "run.js").write_text(text.replace('"format":3', '"format":2'))
    with pytest.raises(ValueError, match="expected an atlas of format 3, got 2"):
        page.read_run(tmp_path)


def test_the_page_says_which_runs_are_of_synthetic_tissue(run, other, tmp_path):
    note = "The tissue{} is synthetic (procedural H&amp;E)"
    assert note.format("") in (run / "data/atlas/index.html").read_text()
    for name, folder in (("run", run), ("other", other)):
        shutil.copytree(folder / "data/atlas/run", tmp_path / name)
    script = tmp_path / "other" / "run.js"
    script.write_text(script.read_text().replace('"synthetic":true', '"synthetic":false'))
    page.write_page(tmp_path, {"run": "this run", "other": "real"}, [])
    assert note.format(" of this run") in (tmp_path / "index.html").read_text()
    page.write_page(tmp_path, {"other": "real"}, [])
    assert "synthetic (procedural" not in (tmp_path / "index.html").read_text()
