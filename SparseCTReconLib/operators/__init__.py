"""Linear operators: the cone-beam projector with its exact adjoint, and the ramp filters."""

from .projector import BACKENDS, Projector, is_columnar, projector

__all__ = ["BACKENDS", "Projector", "is_columnar", "projector"]
