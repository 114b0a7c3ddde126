"""The command line with one more method, `Played`, here and in its worker."""

import sys

from played_worker import Chatty, PlayedTransport

from SparseCTReconLib import cli, methods
from SparseCTReconLib.commands import running


def install(setattr=setattr):
    """Make the method known; `setattr` may be monkeypatch's."""
    known, listed = methods.get, methods.names
    setattr(methods, "get", lambda name: Chatty() if name == "played" else known(name))
    setattr(methods, "names", lambda: [*listed(), "played"])
    setattr(running, "SubprocessTransport", PlayedTransport)


if __name__ == "__main__":
    install()
    sys.exit(cli.main())
