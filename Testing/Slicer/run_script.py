"""Runs a script as `Slicer --no-main-window --python-script SCRIPT ARGUMENTS` does, in the test host:

python Testing/Slicer/run_script.py SCRIPT ARGUMENTS
"""

import runpy
import sys
import tempfile
import traceback
from pathlib import Path

import host
from conftest import ROOT, put_on_path


def main(script: str, *arguments: str) -> int:
    """Run the script in the event loop, which goes on until the script calls slicer.util.exit; return the exit status."""
    session = host.start()
    with tempfile.TemporaryDirectory() as programs:
        put_on_path(Path(programs), "PythonSlicer")
        session.load(ROOT / "SparseCTRecon" / "SparseCTRecon.py")
        sys.argv = [script, *arguments]
        session.qt.QTimer.singleShot(0, lambda: _run(script, session.app))
        return session.app.exec()


def _run(script: str, app) -> None:
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        app.exit(error.code if isinstance(error.code, int) else int(error.code is not None))
    except BaseException:
        traceback.print_exc()  # Slicer would stay open
        app.exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
