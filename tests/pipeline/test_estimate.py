"""What a run needs, stated beforehand: closed forms of hours, one sentence where it is too much, profiles."""

from argparse import Namespace

import pytest
import torch
from ruamel.yaml import YAML

from conftest import ROOT, ready
from pcam_agreement.attribution.common.settings import Explanation
from pcam_agreement.core.settings import read_params, section
from pcam_agreement.networks.checkpoint import save_checkpoint
from pcam_agreement.pipeline import estimate, profile
from pcam_agreement.pipeline.rates import Rates, measure

SLOW = Rates(forward=2, gradient=1, step=0.5, parameters=10, checkpoint=40, head=8, memory=100, explaining=50)


def printed(capsys, *settings, params=ROOT / "params.yaml", workers=2) -> str:
    estimate.main(Namespace(params=params, settings=list(settings), set_param=[], workers=workers, seconds=0.01))
    return capsys.readouterr().out


@pytest.fixture
def small(raw):
    """Two networks, trained and untrained, of 10, 4 and 6 patches."""
    raw["recipes"], raw["trainings"], raw["methods"] = ["test_resnet"], [1, "untrained"], ["saliency", "lime"]
    raw["data"]["synthetic"] = {"slides": {"train": 10, "valid": 4, "test": 6}, "patches_per_slide": 1}
    raw["network"]["test_resnet"].update(epochs=3, fraction=0.5)
    raw["explain"].update(patches=5, repeat=2)
    raw["method"]["lime"].update(samples=10, max_samples=30)
    raw["faithfulness"].update(patches=4, steps=3, rolls=2)
    return raw


def test_hours_are_passes_over_rates(small):
    spans = estimate.spans(small, {"test_resnet": SLOW}, 1)
    epoch, evaluated = 5 / 0.5 + 4 / 2, (4 + 6) / 2
    assert spans["train"][:2] == (3 * epoch + evaluated + evaluated + 4 / 2,) * 2  # and the untrained one's validation
    assert spans["explain saliency"][:2] == (2 * 5 * (1 / 2 + 1),) * 2
    assert spans["explain lime"][:2] == (2 * 7 * 11 / 2, 2 * 7 * 31 / 2)
    assert spans["faithfulness"][:2] == (2 * 2 * 4 * (2 + 7 * 2) / 2,) * 2
    assert "features" not in spans
    small["train"]["patience"] = 1
    least, most, _ = estimate.spans(small, {"test_resnet": SLOW}, 1)["train"]
    assert most - least == epoch  # two epochs at least: the second is no better


def test_stages_side_by_side_take_as_long_as_the_longest(small):
    rates = {"test_resnet": SLOW}
    one, two, many = (estimate.spans(small, rates, workers) for workers in (1, 2, 100))
    assert two["explain saliency"][1] == one["explain saliency"][1] / 2
    assert many["explain saliency"][1] == one["explain saliency"][1] / 2  # there are two stages
    assert many["train"][1] == 3 * 12 + 5


def test_features_are_computed_once_and_their_heads_are_nearly_free(small):
    small["train"].update(freeze=True, weights="default", flips=False, quarter_turns=False, stain_jitter=0.0)
    spans = estimate.spans(small, {"test_resnet": SLOW}, 1)
    assert spans["features"][1] == (10 + 4 + 6) / 2
    assert spans["train"][1] == (4 + 6) / 2 + 4 / 2  # the untrained network's


def test_a_network_is_measured_as_it_is_saved(settings, tmp_path):
    found = measure(settings.network["test_resnet"], settings.explain, torch.device("cpu"), 0.01)
    network = ready("timm/test_resnet")
    save_checkpoint(network, tmp_path / "network.safetensors")
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert (tmp_path / "network.safetensors").stat().st_size == pytest.approx(found.checkpoint, rel=0.02)
    assert found.forward > found.gradient > 0 < found.step
    larger = settings.network["test_resnet"].model_copy(update={"batch_size": 32})
    more = measure(larger, settings.explain, torch.device("cpu"), 0.01)
    activations = more.memory - found.memory
    assert activations > 16 * 96 * 96 * 3 * 4  # of sixteen patches more than their pixels
    assert found.memory == 16 * found.parameters + activations


def test_it_fits_80_columns_and_settings_are_those_of_an_experiment(capsys, tmp_path):
    text = printed(capsys)
    assert max(map(len, text.splitlines())) <= 80
    assert "MEMORY" not in text
    assert "DISK" not in text
    before = (ROOT / "params.yaml").read_bytes()
    other = printed(capsys, "explain.storage=uint8", "methods=[saliency]", "recipes=[test_resnet]", workers=3)
    assert "4 x 1 files, uint8" in other
    assert "stages at once: 3" in other
    assert (ROOT / "params.yaml").read_bytes() == before
    with pytest.raises(ValueError, match=r"explain\.patches: .* found 'many'"):
        printed(capsys, "explain.patches=many")


def test_a_long_folder_leaves_its_end_within_80_columns(tmp_path):
    for letters in range(90):
        line = estimate._place("cache", 1.2e15, "1,234.5 GB are free at", tmp_path / ("a" * letters) / "end")
        assert len(line) <= 80
        assert line.endswith("a/end" if letters else "/end")


def test_too_little_disk_or_memory_is_one_sentence(capsys):
    recipe = ("recipes=[test_resnet]", "methods=[saliency]")
    disk = " ".join(printed(capsys, *recipe, "data.synthetic.slides.train=1000000000").split())
    assert "DISK: the run needs about" in disk
    assert "take explain.storage=uint8 or fewer explain.patches, or another disk." in disk
    memory = " ".join(printed(capsys, *recipe, workers=100_000).split())
    assert "MEMORY: a training step of test_resnet needs about" in memory
    assert "are free for each of 100000 processes; lower its batch_size or --workers." in memory


def test_a_network_that_cannot_be_had_is_named_and_another_of_its_name_is_built(capsys, tmp_path, raw):
    assert estimate.buildable("hf-hub:nobody/resnet18.nothing") == "timm/resnet18"
    raw["network"]["test_byobnet"]["architecture"] = "hf-hub:nobody/nothing"
    raw["recipes"], raw["methods"] = ["test_resnet", "test_byobnet"], ["saliency"]
    YAML().dump(raw, tmp_path / "params.yaml")
    text = " ".join(printed(capsys, params=tmp_path / "params.yaml").split())
    assert "test_byobnet is not counted: config.json of hf-hub:nobody/nothing is not in the hub's cache" in text
    assert "4 networks" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["planted", "real"])  # those of large networks take gigabytes
def test_a_profile_can_be_estimated_without_its_data_and_weights(name, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    flags = profile.flags(YAML(typ="safe", pure=True).load(ROOT / "profiles" / f"{name}.yaml"))
    text = printed(capsys, *flags, workers=1)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("together") == 2
    assert section(read_params(), "explain", Explanation).storage == "float16"
