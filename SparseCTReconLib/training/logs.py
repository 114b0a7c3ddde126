"""What a training writes for TensorBoard, by whichever library of those that do is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError


class Silent:
    """In the place of `Logs` where nothing is to be written."""

    def add(self, figures: Mapping[str, float], step: int) -> None:
        pass

    def close(self) -> None:
        pass


class Logs:
    """Figures by step in a folder; those that a stopped training wrote beyond its checkpoint are struck out.

    Parameters
    ----------
    folder : Path
    step : int
        From which the training goes on.

    Raises
    ------
    InputError
        Where no library for it is installed.
    """

    def __init__(self, folder: Path, step: int = 0):
        self.writer = _writer()(str(folder), purge_step=step or None)

    def add(self, figures: Mapping[str, float], step: int) -> None:
        """Write figures by name, at a step."""
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


def _writer():
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise InputError(
                "output.logs needs a library that writes TensorBoard's files: pip install tensorboardX", "missing-library"
            ) from None
    return SummaryWriter
