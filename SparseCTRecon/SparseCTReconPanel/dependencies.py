"""The Python packages that the worker needs: looked up without importing them, installed only when the user asks for a reconstruction."""

import importlib.metadata
from pathlib import Path

from slicer.i18n import tr as _

REQUIREMENTS = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"
# Slicer brings these, or PyTorchUtils does: a package of ours must not replace them.
SKIPPED = ["torch", "SimpleITK", "requests", "numpy"]
TORCH = ">=2.4"


def missing():
    """Names of the packages that are not installed, or too old."""
    import slicer.packaging

    absent = [
        str(requirement) for requirement in slicer.packaging.load_requirements(REQUIREMENTS) if not slicer.packaging.pip_check(requirement)
    ]
    return absent + ([] if _installed("torch") else ["torch"])


def install():
    """Install what is missing, after asking; return whether everything is there now.

    torch comes through the PyTorch extension alone, which picks the build for this machine's driver.
    """
    import slicer.packaging

    if not missing():
        return True
    slicer.packaging.pip_ensure(slicer.packaging.load_requirements(REQUIREMENTS), skip_packages=SKIPPED, requester="SparseCTRecon")
    if not _installed("torch"):
        _installTorch()
    return not missing()


def _installTorch():
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        raise RuntimeError(_("The PyTorch extension is missing: install it in the Extensions Manager and restart Slicer.")) from None
    PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=TORCH)


def _installed(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
