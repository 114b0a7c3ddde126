"""What the jobs that correct a scan leave: a new scan beside it, or an offset to be looked at."""

import json

from slicer.i18n import tr as _

from .scan_node import CT_ROLE, SIMULATION, OutputScan, ctOf


class CorrectedScan(OutputScan):
    """The scan node that a correction makes, beside the scan that was corrected, which stays."""

    def __init__(self, folders, scanVolume):
        super().__init__(folders, scanVolume, _("{name} corrected").format(name=scanVolume.GetName()), "")
        ct = ctOf(scanVolume)
        self._ctID = ct.GetID() if ct else None

    def take(self):
        super().take()
        self.node.RemoveAttribute(SIMULATION)
        self.node.SetNodeReferenceID(CT_ROLE, self._ctID)


class FoundOffset:
    """What a calibration finds; nothing of the scene changes.

    Attributes
    ----------
    found : dict or None
        u_mm, axis_mm, unexplained_before, unexplained, warnings and so on, once it is there.
    """

    node = None

    def __init__(self, folder, scanVolume):
        self.name = _("Offset of {name}").format(name=scanVolume.GetName())
        self.file = f"{folder}/calibration.json"
        self.found = None

    def take(self):
        with open(self.file, encoding="utf-8") as file:
            self.found = json.load(file)

    def restore(self):
        self.found = None

    @property
    def said(self):
        """What was found, for the user."""
        found = self.found
        return _(
            "The detector lies {u:+.2f} mm along its rows beside its place: {after:.1f} % of the data unexplained, {before:.1f} % as it is."
        ).format(u=round(found["u_mm"], 2) + 0.0, after=100 * found["unexplained"], before=100 * found["unexplained_before"])
