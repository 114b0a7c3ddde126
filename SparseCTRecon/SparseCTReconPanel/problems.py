"""What went wrong, as a sentence with the next step, and what the panel can do about it. No widgets."""

from dataclasses import dataclass
from subprocess import CalledProcessError

from slicer.i18n import tr as _

from SparseCTReconLib.jobs.failures import explain

COARSER, CPU, RETRY = "coarser", "cpu", "retry"


@dataclass(frozen=True)
class Problem:
    """Something that went wrong.

    Parameters
    ----------
    sentence : str
        What, and what to do.
    details : str
        For whoever helps: a traceback, the last lines of a log.
    action : str
        What one button can do: COARSER, CPU, RETRY or nothing.
    """

    sentence: str
    details: str = ""
    action: str = ""


_ACTIONS = {
    "out-of-memory": COARSER,
    "too-large": COARSER,
    "no-device": CPU,
    "cuda-build": CPU,
    "disk-full": RETRY,
    "not-permitted": RETRY,
    "no-worker": RETRY,
    "worker-died": RETRY,
    "worker-silent": RETRY,
    "unwritable": RETRY,
}


def ofRun(run, named=False):
    """The problem of a run that has failed; `named`: with the run's title, where there are several."""
    error = run.error
    sentence = f"{error['message']} {_nextStep(error)}".strip()
    return Problem(f"{run.title}: {sentence}" if named else sentence, error["details"], _ACTIONS.get(error["code"], ""))


def ofError(error, details=""):
    """The problem of an exception before a run: of installing packages, of what was asked for."""
    if isinstance(error, CalledProcessError):
        return Problem(
            _("Installing the Python packages failed: look at the details, mend the network or the disk, and retry."), details, RETRY
        )
    if isinstance(error, ValueError):
        return Problem(str(error))  # what the user asked for: no traceback would tell more
    if isinstance(error, RuntimeError):
        return Problem(str(error), details, RETRY)
    failure = explain(error)
    return Problem(f"{failure.message} {failure.next_step}".strip(), details, _ACTIONS.get(failure.code, RETRY))


def _nextStep(error):
    """The worker's next step, in the words of the panel where it speaks of the command line."""
    return {
        "out-of-memory": _("Take larger voxels, a smaller region or fewer views, or close other programs."),
        "too-large": _("Take larger voxels or a smaller region."),
        "no-device": _("Choose the CPU."),
        "cuda-build": _("Choose the CPU, or install a PyTorch that fits this GPU."),
    }.get(error["code"], error["next_step"])
