"""Where a stage goes on depends on its parameters and on the code that it has imported; when that place is removed."""

import shutil
import subprocess
import sys

import pytest

from repository import until

SCRIPT = """
import sys
sys.path.insert(0, {source!r})
import pcam_agreement.heatmaps.masks
import pcam_agreement.networks.classifier
from pcam_agreement.core import resume
print(resume.folder("stage", "a").name)
"""

# What starts a stage, as DVC does and as a fork, and then waits for it.
STARTER = """
import subprocess, sys, time
from multiprocessing import get_context
from pathlib import Path

def stage():
    from pcam_agreement.core import resume
    work = resume.folder("stage")
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    resume.remove(work)
    Path("ended").touch()

if __name__ == "__main__":
    if sys.argv[1] == "stage":
        stage()
    elif sys.argv[1] == "fork":
        process = get_context("forkserver").Process(target=stage)
        process.start()
        process.join()
    else:
        subprocess.run([sys.executable, __file__, "stage"])
"""


@pytest.mark.parametrize("how", ["command", "fork"])
@pytest.mark.parametrize("killed", [False, True])
def test_the_work_of_a_stage_is_kept_where_nobody_is_left_to_record_its_outputs(how, killed, tmp_path):
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    starter = subprocess.Popen([sys.executable, script, how], cwd=tmp_path)
    until((tmp_path / "begun").exists, "the stage begins")
    if killed:
        starter.kill()
        starter.wait()
    (tmp_path / "go").touch()
    until((tmp_path / "ended").exists, "the stage ends")
    starter.wait()
    assert len(list((tmp_path / "data/work").iterdir())) == killed


def test_the_folder_changes_with_code_that_is_imported_and_with_no_other(tmp_path):
    package = tmp_path / "src" / "pcam_agreement"
    for folder in (package, package / "core", package / "heatmaps", package / "networks", package / "report"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    from pcam_agreement.core import resume

    shutil.copy(resume.__file__, package / "core" / "resume.py")
    for name in ("heatmaps/masks.py", "networks/classifier.py", "networks/timm_models.py", "report/figure.py"):
        (package / name).write_text("a = 1\n")

    def name() -> str:
        code = SCRIPT.format(source=str(tmp_path / "src"))
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True
        ).stdout.decode()

    before = name()
    (package / "report" / "figure.py").write_text("a = 2\n")
    assert name() == before
    for changed in ("heatmaps/masks.py", "networks/timm_models.py"):  # the second is imported later, if at all
        (package / changed).write_text("a = 2\n")
        assert name() != before
        before = name()
