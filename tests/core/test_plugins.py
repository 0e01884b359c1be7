"""Files that are found by their names: a bad one is refused in one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from pcam_agreement.core import plugins

CODE = "from pcam_agreement.core import plugins\nplugins.load(plugins.METHODS, 'method', 'new')"


def test_all_files_have_what_they_need():
    for package in (plugins.SOURCES, plugins.METHODS):
        names = plugins.available(package)
        assert len(names) >= 4
        for name in names:
            plugins.load(package, "file", name)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown method 'saliancy'; did you mean saliency\?"):
        plugins.load(plugins.METHODS, "method", "saliancy")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('TITLE = "a"\nDESCRIPTION = "a"\nSTOCHASTIC = False\npasses = attribute = len\n', "has no Settings; it needs"),
        ("TITLE = \n", "cannot be imported (invalid syntax (new.py, line 1)); mend it."),
        ("import nothing_of_this_name\n", "cannot be imported (No module named 'nothing_of_this_name')"),
    ],
)
def test_a_file_that_is_not_a_method_is_one_sentence(tmp_path, text, sentence):
    package = tmp_path / "pcam_agreement"
    for folder in ("core", "attribution/methods"):
        (package / folder).mkdir(parents=True)
    for name in ("plugins.py", "names.py"):
        (package / "core" / name).write_bytes(Path(plugins.__file__).with_name(name).read_bytes())
    (package / "attribution" / "methods" / "new.py").write_text(text)
    run = subprocess.run([sys.executable, "-S", "-c", CODE], env={"PYTHONPATH": str(tmp_path)}, capture_output=True)
    last = run.stderr.decode().splitlines()[-1]
    assert last.startswith("ValueError: method 'new': attribution/methods/new.py ")
    assert sentence in last
