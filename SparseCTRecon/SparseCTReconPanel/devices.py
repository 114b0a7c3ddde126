"""The GPUs of this machine, asked of their driver in the background: neither torch is imported nor the window held up."""

import importlib.metadata
import shutil

import qt
from slicer.i18n import tr as _

from SparseCTReconLib import machine


class Devices:
    """What can be computed on.

    Parameters
    ----------
    onChanged : callable
        Called once the driver has answered.

    Attributes
    ----------
    gpus : list of GPU or None
        As the driver lists them; None until it has answered.
    """

    def __init__(self, onChanged):
        self.gpus = None
        self._onChanged = onChanged
        self._process = None

    def look(self):
        """Ask the driver; without one there is no GPU."""
        program = shutil.which(machine.NVIDIA_SMI[0])
        if program is None:
            self._take("")
            return
        self._process = qt.QProcess()
        self._process.connect("finished(int,QProcess::ExitStatus)", lambda *_: self._answered())
        self._process.start(program, list(machine.NVIDIA_SMI[1:]))

    def stop(self):
        """Wait for no answer any more."""
        process, self._process = self._process, None
        if process and process.state() != qt.QProcess.NotRunning:
            process.kill()
            process.waitForFinished(500)

    def _answered(self):
        if self._process:
            self._take(bytes(self._process.readAllStandardOutput().data() or b"").decode("utf-8", errors="replace"))

    def _take(self, text):
        self.gpus = machine.parse_gpus(text)
        self._onChanged()

    def chosen(self, device, method):
        """The device that "auto", "cpu" or "cuda" will be for a described method, as far as is known."""
        if device == "auto":
            return "cuda" if self.gpus and "cuda" in method["devices"] and not torchIsForCpu() else "cpu"
        return device

    def freeBytes(self, device):
        """Memory that is free on "cpu" or "cuda"; None where that is not known."""
        if device == "cuda":
            return self.gpus[0].free if self.gpus else None
        return machine.available_memory_bytes()

    def label(self, device):
        """What a device is called in a list."""
        if device == "cpu":
            return _("CPU ({n} cores)").format(n=machine.cores())
        if device == "auto":
            return _("Automatic")
        if self.gpus is None:
            return _("GPU")
        return _gpu(self.gpus[0]) if self.gpus else _("GPU (none found)")

    def objection(self, device, method):
        """Why a described method cannot run on "cuda", in a sentence; empty where it can, or another device is asked for."""
        if device != "cuda":
            return ""
        if "cuda" not in method["devices"]:
            return _("{method} runs on the CPU only.").format(method=method["title"])
        if self.gpus is not None and not self.gpus:
            return _("No NVIDIA GPU was found on this machine.")
        if torchIsForCpu():
            return _("The installed PyTorch is a build for the CPU only: install one for CUDA in the module PyTorch Utils.")
        return ""


def torchIsForCpu():
    """Whether the installed torch says in its version that it has no CUDA; found without importing it."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False


def _gpu(gpu):
    if gpu.memory is None:
        return _("GPU ({name})").format(name=gpu.name)
    return _("GPU ({name}, {n:.0f} GB)").format(name=gpu.name, n=gpu.memory / 2**30)
