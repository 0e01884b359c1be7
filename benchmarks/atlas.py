"""What the atlas of a large run costs: to build, on disk, and in a browser.

python benchmarks/atlas.py [--patches 256] [--json]

Of a made-up run of eight networks and three methods, two of them as noisy as gradients are. Written to and deleted from
the folder for temporary files (0.3 GB); in a headless Chromium, which has to be installed.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright
from ruamel.yaml import YAML

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import made_up_run

RECIPES, TRAININGS = ["resnet34", "alexnet"], [1, 2, 3, "untrained"]
OPEN = """async (key) => {
  const start = performance.now();
  location.hash = `#view=patch&patch=${key}`;
  while (document.body.dataset.shown !== location.hash) await new Promise((done) => setTimeout(done, 0));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  return performance.now() - start;
}"""
# As fast as it goes, the slider is moved once a frame; the frames that come are counted.
SLIDE = """async (show) => {
  const slider = document.getElementById("top");
  const start = performance.now();
  let frames = 0;
  for (; performance.now() - start < 2000; frames += 1) {
    slider.value = String((Number(slider.value) + 1) % Number(slider.max));
    slider.dispatchEvent(new Event("input"));
    await new Promise((done) => requestAnimationFrame(done));
  }
  return frames / ((performance.now() - start) / 1000);
}"""


def in_browser(index: Path) -> dict[str, float]:
    """Seconds to the first view, milliseconds to open a patch (median and worst), frames a second of the slider."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        page.goto(index.as_uri())
        page.wait_for_selector("#matrices .cell")
        found = {"first_view_seconds": time.perf_counter() - start}
        start = time.perf_counter()
        page.evaluate("location.hash = '#view=patches'")
        page.wait_for_selector(".card")
        found["grid_seconds"] = time.perf_counter() - start
        keys = page.evaluate("atlas.runs[0].patches.map((patch) => patch.key)")
        opened = [page.evaluate(OPEN, key) for key in keys[5 : 5 + 20]]
        found |= {"patch_ms": median(opened), "patch_ms_worst": max(opened)}
        for show in ("mask", "heatmap"):
            page.select_option("select[name=show]", show)
            page.wait_for_function("document.body.dataset.shown === location.hash")
            found[f"slider_{show}_frames_a_second"] = page.evaluate(SLIDE)
        return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    raw = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    raw["recipes"], raw["trainings"] = RECIPES, TRAININGS
    raw["methods"] = ["saliency", "integrated_gradients", "lime"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        made_up_run.write(folder, raw, args.patches + 1, slides=40)
        start = time.perf_counter()
        index = made_up_run.build(folder)
        numbers: dict[str, float] = {"build_seconds": round(time.perf_counter() - start, 1)}
        files = [path for path in index.parent.rglob("*") if path.is_file()]
        numbers["megabytes"] = round(sum(path.stat().st_size for path in files) / 1e6, 1)
        numbers |= in_browser(index)
    if args.json:
        print(json.dumps(numbers))
    else:
        for label, number in numbers.items():
            print(f"{label:32} {number:9}")
        print(f"{args.patches} patches, {len(RECIPES) * len(TRAININGS)} networks, 3 methods, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
