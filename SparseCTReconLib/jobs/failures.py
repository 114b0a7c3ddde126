"""What to say of an exception: one sentence and the next step."""

from __future__ import annotations

import errno
from typing import NamedTuple

from ..errors import InputError
from ..evaluation.segmenter_process import SegmenterError
from ..machine import out_of_memory

_GPU_LOST = ("CUDA error: ", "no CUDA-capable device", "CUDA-capable device(s) is/are busy", "GPU is lost", "cudaError")
_INSTALL = {"SimpleITK": "SimpleITK", "vtk": "vtk", "yaml": "pyyaml", "itk": "itk-rtk", "PIL": "pillow"}


class Failure(NamedTuple):
    """code, one sentence, next step (empty where the sentence says it)."""

    code: str
    message: str
    next_step: str = ""


def explain(error: BaseException) -> Failure:
    """The sentence for `error`, whatever it is."""
    if isinstance(error, InputError):
        return Failure(error.code, str(error))
    if isinstance(error, SegmenterError):
        return Failure(error.code, error.message, error.next_step)
    for known in (_memory, _disk, _package, _cuda):
        if failure := known(error):
            return failure
    if isinstance(error, FloatingPointError):
        return Failure("diverged", str(error), "Take a smaller step size or the method's default options.")
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return Failure("internal", f"{type(error).__name__}: {first}", "This is a fault of the program: report it with the log.")


def _memory(error: BaseException) -> Failure | None:
    where = out_of_memory(error)
    steps = {
        "GPU": "Use a coarser grid or take --device cpu.",
        "machine": "Use a coarser grid or fewer views, or close other programs.",
    }
    return Failure("out-of-memory", f"the {where} ran out of memory", steps[where]) if where else None


def _disk(error: BaseException) -> Failure | None:
    if not isinstance(error, OSError) or isinstance(error, InputError):
        return None
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return Failure("disk-full", f"the disk is full: could not write{where}", "Make room there or write to another disk.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Failure("not-permitted", f"no permission to use{where or ' a file'}", "Choose another place or change its permissions.")
    return None


def _package(error: BaseException) -> Failure | None:
    if not isinstance(error, ImportError):
        return None
    name = (getattr(error, "name", None) or "").split(".")[0]
    if not name or name == "SparseCTReconLib":
        return None
    return Failure("missing-package", f"the package {name} is missing or broken: {error}", f"pip install {_INSTALL.get(name, name)}")


def _cuda(error: BaseException) -> Failure | None:
    text = str(error)
    if "no kernel image" in text or "CUDA driver version is insufficient" in text:
        return Failure(
            "cuda-build", "this build of torch does not support this GPU or its driver", "Install a fitting torch or take --device cpu."
        )
    if any(said in text for said in _GPU_LOST):
        return Failure(
            "gpu-lost", "the GPU does not answer any more", "Go on from the last checkpoint with --resume, or with --device cpu."
        )
    return None
