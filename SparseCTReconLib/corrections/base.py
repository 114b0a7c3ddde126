"""What every correction is: a small class that is off, on with given parameters, or on with parameters found in the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InputError
from ..geometry import Geometry
from ..scan import HISTORY, line_integrals

INTENSITIES, LINE_INTEGRALS = "intensities", "line integrals"

SMALLEST = float(np.finfo(np.float32).tiny)
"""Transmission that the logarithm of a scan that had one already leaves alone."""


@dataclass(frozen=True)
class Acquisition:
    """What goes through a chain of corrections.

    Parameters
    ----------
    values : ndarray (views, v, u), float32
        Intensities in the unit of `i0`, or line integrals.
    domain : str
        Which of the two, `INTENSITIES` or `LINE_INTEGRALS`.
    geometry : Geometry
        One pose per view.
    mu_water : float
        Attenuation of water in 1/mm.
    i0 : float or None
        Intensity of the unattenuated beam; 1 where line integrals were turned back, None where unknown.
    floor : float or None
        Intensity below which the logarithm takes no smaller one; half a count where None.
    """

    values: np.ndarray
    domain: str
    geometry: Geometry
    mu_water: float
    i0: float | None = 1.0
    floor: float | None = None

    def within(self, domain: str) -> Acquisition:
        """The same as intensities or as line integrals.

        Raises
        ------
        InputError
            Where intensities of unknown I0 are to become line integrals, or one of them is negative.
        """
        if domain == self.domain:
            return self
        if domain == INTENSITIES:
            return replace(self, values=np.exp(-self.values), domain=INTENSITIES, i0=1.0, floor=SMALLEST)
        if self.i0 is None:
            raise InputError("the intensity of the unattenuated beam is unknown: give i0.value, or let i0 be measured", "bad-intensity")
        return replace(self, values=line_integrals(self.values, self.i0, self.floor), domain=LINE_INTEGRALS, i0=1.0)


def history(data) -> list[dict[str, Any]]:
    """The corrections that a scan or raw intensities have had, by their provenance; entries that were damaged are left out."""
    done = data.provenance.get(HISTORY)
    entries = done if isinstance(done, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and "name" in entry]


def parameter(default, unit: str, help: str, **bounds):
    """A field of a `Correction`: its default, unit ("" where it has none), help, and bounds as pydantic's `Field` takes them."""
    return Field(default, description=help, json_schema_extra={"unit": unit}, **bounds)


class Correction(BaseModel):
    """One step of a chain. Subclasses say what they are, and how parameters are found in the data where they can be."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    name: ClassVar[str]
    title: ClassVar[str]
    domain: ClassVar[str]
    """What it corrects: `INTENSITIES` or `LINE_INTEGRALS`."""
    unmeasurable: ClassVar[str] = ""
    """Why its parameters cannot be found in a scan's own data, and what to do; empty where they can."""

    mode: Literal["off", "on", "measured"] = parameter("on", "", "off, on with these parameters, or on with parameters found in the data")

    @classmethod
    def parameters(cls) -> list[str]:
        """A line for each parameter: its name, what it is, default and unit."""
        lines = []
        for name, field in cls.model_fields.items():
            default = "" if field.default is None else " ".join(filter(None, [str(field.default), field.json_schema_extra["unit"]]))
            lines += [f"{name}: {field.description}" + (f" ({default})" if default else "")] * (name != "mode")
        return lines

    def measured(self, data: Acquisition) -> Self:
        """The correction with parameters found in the data.

        Raises
        ------
        InputError
            Where the data do not show them.
        """
        if self.unmeasurable:
            raise InputError(f"{self.name} cannot be measured: {self.unmeasurable}", "bad-correction")
        return self

    def apply(self, data: Acquisition) -> tuple[Acquisition, dict[str, Any]]:
        """The corrected data, and what was found on the way (JSON values)."""
        raise NotImplementedError

    def record(self) -> dict[str, Any]:
        """Name, mode and parameters as JSON values; of files the names without their folders, which may name people."""
        values = {key: _plain(getattr(self, key)) for key in type(self).model_fields}
        return {"name": self.name, **values}


def _plain(value):
    if isinstance(value, np.ndarray):
        return f"array {value.shape}, mean {float(value.mean()):.6g}"
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return PurePath(value).name if isinstance(value, str) and ("/" in value or "\\" in value) else value
