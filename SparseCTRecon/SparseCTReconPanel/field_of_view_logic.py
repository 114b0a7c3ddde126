"""What the module's logic does for the field of view that is marked in results; nodes in, nodes out, with or without the panel."""

from slicer.i18n import tr as _

from . import field_of_view


class FieldOfViewLogic:
    """The part of the logic that shows what the views see of a result; mixed into SparseCTReconLogic.

    Example::

      segmentationNode = logic.fieldOfView(volumeNode)
      logic.showFieldOfView(volumeNode, False)
    """

    def fieldOfView(self, resultNode):
        """The segmentation node with what enough views see of a result of this module; None where they see all of it."""
        return field_of_view.fieldOfViewOf(resultNode)

    def showFieldOfView(self, resultNode, shown=True):
        """Show or hide the outline of what enough views see of a result; those of other results are hidden.

        :raises ValueError: if none is marked in it, in one sentence.
        """
        if self.fieldOfView(resultNode) is None:
            raise ValueError(_("No field of view is marked: choose a result of this module whose views do not see all of it."))
        field_of_view.show(resultNode, shown)
