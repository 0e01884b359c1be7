"""Where a stage goes on depends on its parameters and on the code that it has imported."""

import shutil
import subprocess
import sys

SCRIPT = """
import sys
sys.path.insert(0, {source!r})
import pcam_agreement.heatmaps.masks
import pcam_agreement.networks.classifier
from pcam_agreement.core import resume
print(resume.folder("stage", "a").name)
"""


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
