"""A stand-in for the Slicer application around a real MRML scene: enough to load a scripted module with its .ui file. See README.md."""

from .application import Host, start

__all__ = ["Host", "start"]
