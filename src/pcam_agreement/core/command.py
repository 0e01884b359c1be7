"""How every command ends: quietly, or with one sentence on stderr and a status that is not 0."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path


def run(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line and call main with it.

    A ValueError or OSError becomes one line and exit status 1; PCAM_AGREEMENT_TRACEBACK=1 shows the traceback instead.
    An interrupt (Ctrl-C) ends with status 130 and says that the work can go on.
    """
    arguments = parser.parse_args()
    try:
        main(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to continue.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        if os.environ.get("PCAM_AGREEMENT_TRACEBACK") == "1":
            raise
        print(f"error: {_sentence(error)}", file=sys.stderr)
        sys.exit(1)


def _sentence(error: ValueError | OSError) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC or "No space left on device" in str(error):
            return f"the disk is full at {error.filename or Path.cwd()}; free some space and run again."
        if error.filename is not None and error.strerror:
            return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__
