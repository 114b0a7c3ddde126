"""What every reconstruction method is: a generator of states under one contract.

The caller drives: it takes previews and checkpoints, cancels by not asking again, and stops when the time budget is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InputError
from ..grid import Grid
from ..scan import Scan
from .memory import method_bytes


def option(default, unit: str, help: str, advanced: bool = False, **bounds):
    """A field of a `MethodOptions`: its default, unit ("" where it has none), help, and bounds as pydantic's `Field` takes them.

    An `advanced` one is shown only when it is asked for.
    """
    return Field(default, description=help, json_schema_extra={"unit": unit, "advanced": advanced}, **bounds)


class MethodOptions(BaseModel):
    """Options of a method: every field is an `option` with unit, help and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def chosen(self, name: str):
        """An option's value; where it is left out what stands for it, None where nothing does."""
        return getattr(self, name)


@dataclass(frozen=True)
class State:
    """Where a method stands.

    Parameters
    ----------
    stage : str
        What it is doing, for a person: "filtering", "iterating".
    step, steps : int
        Steps done and to do; a method that could go on for ever gives the number its options ask for.
    volume : callable
        Returns the present volume, mu in 1/mm, float32 [z, y, x]; called only when someone wants to look.
    metrics : dict of str to float
        Figures of this step: "loss", "residual".
    checkpoint : callable or None
        Returns named float or integer arrays from which `run(..., resume=arrays)` goes on; None where starting again is as quick.
    note : str
        What whoever takes this state's volume as the result should know; the caller's, not the method's.
    last_good : object or None
        Where the caller keeps the last good volume.
    facts : dict of str to str
        What belongs into this volume's provenance beside the method and its options: "weights", pretrained ones that have shaped it, with
        their checksums; "field_backend" and "gaussian_backend", what runs its neural field or its Gaussians.
    warnings : tuple of str
        Sentences that belong into this volume's provenance; the method has logged them too.
    others : dict of str to callable
        Further volumes worth a look, by name: each returns mu in 1/mm, float32 [z, y, x] on the grid; called only when someone wants to
        look. A callable is the same object until there is a new such volume.
    whole : callable or None
        Returns the volume with the voxels around the grid on which the method worked beside it; the caller's, not the method's.
    """

    stage: str
    step: int
    steps: int
    volume: Callable[[], np.ndarray]
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: Callable[[], dict[str, np.ndarray]] | None = None
    note: str = ""
    last_good: object = None
    facts: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    others: dict[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    whole: Callable[[], np.ndarray] | None = None


def iterate_states(
    iterates, stage: str, steps: int, done: int, volume, metrics, arrays, heed=lambda spent: None, facts: Mapping[str, str] | None = None
) -> Iterator[State]:
    """States of an iterative method, from step `done` + 1 until `steps`.

    Parameters
    ----------
    iterates : iterator
        What the algorithm yields after each step.
    volume, metrics, arrays : callable
        Of an iterate: the volume; a dict of figures; a dict of named arrays to resume from (the step is added).
    heed : callable
        Told the share of the time budget that is spent, None where there is none, before each next step.
    facts : mapping, optional
        Of every state.
    """
    require_more(done, steps)
    for step, iterate in enumerate(iterates, start=done + 1):
        spent = yield State(
            stage,
            step,
            steps,
            partial(volume, iterate),
            metrics(iterate),
            lambda iterate=iterate, step=step: {**arrays(iterate), "step": np.array(step)},
            facts=dict(facts or {}),
        )
        heed(spent)
        if step >= steps:
            return


def require_more(done: int, steps: int) -> None:
    """Refuse to go on from the last step.

    Raises
    ------
    InputError
    """
    if done >= steps:
        raise InputError(f"the checkpoint is at step {done} of {steps}: ask for more iterations to go on", "nothing-to-do")


class Method:
    """A way from a scan to a volume. Subclasses state what they are and yield states."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    citation: ClassVar[str]
    weights: ClassVar[tuple[str, ...]] = ()
    """Pretrained weights that it may use; a state's facts say which have shaped its volume."""
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    presets: ClassVar[dict[str, dict]] = {"recommended": {}}
    """Option values by the preset's name; the first preset is what runs when none is asked for, and is the options' defaults."""
    needs_whole_object: ClassVar[bool] = True
    """Whether what lies outside the grid, on the rays' way, spoils what lies inside: not where each voxel is computed for itself."""
    poor_on: ClassVar[dict[str, str]] = {}
    """What to expect of this method on geometries that it is worse on than others are, by `cautions.CONDITIONS`; a clause behind its
    name."""
    memory_options: ClassVar[tuple[str, ...]] = ()
    """Whole-numbered options that decide how much memory the method takes, the first to be lowered first."""

    def run(
        self, scan: Scan, grid: Grid, options: MethodOptions, device: str = "cpu", resume: Mapping[str, np.ndarray] | None = None
    ) -> Iterator[State]:
        """Yield a state after each step; the last state's volume is the result.

        A method whose figures cease to be finite raises FloatingPointError, best before it changes its volume: the last state's volume
        is then the result.

        Parameters
        ----------
        scan : Scan
            Line integrals and poses.
        grid : Grid
            Voxels to reconstruct.
        options : MethodOptions
            An instance of this method's `Options`.
        device : str
            "cpu" or "cuda".
        resume : mapping, optional
            Arrays of an earlier state's `checkpoint`.
        """
        raise NotImplementedError

    def memory_bytes(self, grid: Grid, scan: Scan, options: MethodOptions) -> float:
        """What `run` holds at once; the rules are in `memory`, where whoever must not import a method finds them."""
        return method_bytes(self.name, grid, scan.projections.size, options.model_dump())


__all__ = ["Method", "MethodOptions", "State", "iterate_states", "option", "require_more"]
