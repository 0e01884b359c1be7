import errno
import subprocess
import sys
from argparse import ArgumentParser, Namespace

import pytest

from pcam_agreement.core import command


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stage"])
    monkeypatch.delenv("PCAM_AGREEMENT_TRACEBACK", raising=False)


def ending(error: BaseException, capsys) -> tuple[int, str]:
    """Exit status and stderr of a command that ends with this error."""

    def main(_: Namespace) -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        command.run(main, ArgumentParser())
    return caught.value.code, capsys.readouterr().err  # type: ignore[return-value]


def test_main_gets_the_parsed_arguments(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stage", "--epochs", "3"])
    parser, seen = ArgumentParser(), []
    parser.add_argument("--epochs", type=int)
    command.run(lambda args: seen.append(args.epochs), parser)
    assert seen == [3]


def test_a_value_error_is_one_line_and_status_1(capsys) -> None:
    assert ending(ValueError("expected a, found b;\nmend it."), capsys) == (1, "error: expected a, found b; mend it.\n")


def test_an_error_without_words_says_its_kind(capsys) -> None:
    assert ending(ValueError(), capsys) == (1, "error: ValueError\n")


def test_a_missing_file_is_named(capsys) -> None:
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "data/patches")
    assert ending(missing, capsys) == (1, "error: data/patches: No such file or directory.\n")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "data/raw/x.part"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
    ],
    ids=["system", "HDF5"],
)
def test_a_full_disk_is_told_with_its_place(error: OSError, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = error.filename or tmp_path
    assert ending(error, capsys) == (1, f"error: the disk is full at {place}; free some space and run again.\n")


def test_an_interrupt_ends_with_130_and_says_that_the_run_can_go_on(capsys) -> None:
    assert ending(KeyboardInterrupt(), capsys) == (130, "\ninterrupted; run the same command again to continue.\n")


def test_the_traceback_is_shown_when_asked_for(monkeypatch) -> None:
    monkeypatch.setenv("PCAM_AGREEMENT_TRACEBACK", "1")

    def main(_: Namespace) -> None:
        raise ValueError("mend it.")

    with pytest.raises(ValueError, match="mend it"):
        command.run(main, ArgumentParser())


def test_a_programming_error_keeps_its_traceback() -> None:
    def main(_: Namespace) -> None:
        raise TypeError("ours")

    with pytest.raises(TypeError, match="ours"):
        command.run(main, ArgumentParser())


def test_a_real_command_ends_without_a_traceback() -> None:
    code = (
        "from argparse import ArgumentParser; from pcam_agreement.core import command\n"
        "command.run(lambda args: open('/nowhere/at/all'), ArgumentParser())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr == "error: /nowhere/at/all: No such file or directory.\n"
