"""The Python packages that the worker needs: looked up without importing them, installed only when the user asks for a reconstruction."""

import contextlib
import importlib
import importlib.metadata
import sys
from collections import deque
from pathlib import Path
from subprocess import CalledProcessError

import slicer
from slicer.i18n import tr as _

REQUIREMENTS = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"
# Slicer brings these, or PyTorchUtils does: a package of ours must not replace them.
SKIPPED = ["torch", "SimpleITK", "requests", "numpy"]
TORCH = ">=2.4"
LAST_LINES = 6


def missing():
    """What has to be installed: requirements that are not met, those of the packages themselves included."""
    import slicer.packaging

    seen = set()
    absent = [one for requirement in slicer.packaging.load_requirements(REQUIREMENTS) for one in _absent(str(requirement), seen)]
    return absent + ([] if _installed("torch") else ["torch"])


def needed():
    """Names of the packages that the worker imports."""
    import slicer.packaging
    from packaging.requirements import Requirement

    listed = [Requirement(str(one)).name for one in slicer.packaging.load_requirements(REQUIREMENTS)]
    return sorted({*listed, "numpy", "scipy", "SimpleITK", "torch"})


def install():
    """Install what is missing, after asking where there is a window to ask in; return whether everything is there now.

    torch comes through the PyTorch extension alone, which picks the build for this machine's driver.

    :raises RuntimeError: if it could not be installed, with pip's last lines.
    """
    absent = missing()
    if not absent:
        return True
    packages = [requirement for requirement in absent if requirement != "torch"]
    try:
        if packages:
            _installPackages(packages)
        if "torch" in absent:
            _installTorch()
    except _Declined:
        return False
    importlib.invalidate_caches()
    return not missing()


class _Declined(Exception):
    """The user does not want it."""


def _absent(requirement, seen):
    """The requirement if it is not met, else what it lacks itself: Slicer goes on when one of a package's own requirements fails."""
    import slicer.packaging
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    name = wanted.name.lower().replace("_", "-")
    foreign = name in seen or name in map(str.lower, SKIPPED) or (wanted.marker and not wanted.marker.evaluate({"extra": ""}))
    if foreign:
        return []
    seen.add(name)
    if not slicer.packaging.pip_check(requirement):
        return [requirement]
    return [one for further in importlib.metadata.requires(wanted.name) or [] for one in _absent(further, seen)]


def _installPackages(packages):
    """Run pip through Slicer; where it fails, show its last lines and try again if the user wants to."""
    import slicer.packaging

    window = slicer.util.mainWindow() is not None
    while True:
        said = _Heard(sys.stdout)
        try:
            with contextlib.redirect_stdout(said):
                slicer.packaging.pip_ensure(packages, skip_packages=SKIPPED, prompt_install=window, requester="SparseCTRecon")
            return
        except CalledProcessError:
            message = _("The Python packages could not be installed ({names}): {hint}").format(
                names=", ".join(packages), hint=_hint("\n".join(said.lines))
            )
        except RuntimeError as error:
            if "declined" in str(error):
                raise _Declined from None
            raise
        last = "\n".join(list(said.lines)[-LAST_LINES:])
        again = window and slicer.util.confirmRetryCloseDisplay(
            f"{message}\n\n{last}", windowTitle=_("SparseCTRecon"), detailedText="\n".join(said.lines)
        )
        if not again:
            raise RuntimeError(f"{message}\n{last}".strip())


def _hint(log):
    """What to do about a pip that has failed, from what it said."""
    causes = (
        (("No space left", "Errno 28"), _("make room on the disk and try again.")),
        (
            ("Permission denied", "WinError 5", "Errno 13"),
            _("close other Slicer windows, or start Slicer with the rights to write its folder."),
        ),
        (("SSLError", "CERTIFICATE_VERIFY"), _("the network's certificate is not trusted: set PIP_CERT, or ask whoever runs the network.")),
        (("No matching distribution", "from versions: none"), _("there is no such package for this Python: update Slicer.")),
        (
            ("ConnectionError", "NewConnectionError", "ProxyError", "timed out", "Name or service", "getaddrinfo"),
            _("check the network, or set HTTPS_PROXY, and try again."),
        ),
    )
    return next((advice for signs, advice in causes if any(sign in log for sign in signs)), _("see its last lines."))


class _Heard:
    """A stream that passes on what is written to it and keeps the newest lines."""

    def __init__(self, stream):
        self._stream, self._rest = stream, ""
        self.lines = deque(maxlen=400)

    def write(self, text):
        *whole, self._rest = (self._rest + text).split("\n")
        self.lines.extend(line.rstrip("\r") for line in whole if line.strip())
        return self._stream.write(text) if self._stream else len(text)

    def flush(self):
        if self._stream:
            self._stream.flush()


def _installTorch():
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        raise RuntimeError(_("The PyTorch extension is missing: install it in the Extensions Manager and restart Slicer.")) from None
    ask = slicer.util.mainWindow() is not None
    PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=ask, torchVersionRequirement=TORCH)


def _installed(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
