"""How volumes are shown: Slicer's own presets for window and level and for volume rendering."""

import slicer
from slicer.i18n import tr as _

WINDOW_PRESETS = ("CT_ABDOMEN", "CT_BONE", "CT_LUNG", "CT_BRAIN", "CT_AIR")
RENDERING_PRESETS = ("CT-Bone", "CT-Lung", "CT-Soft-Tissue", "CT-X-ray")


def applyWindowPreset(volumeNodes, presetID):
    """Give the volumes the window, level and colours of one of Slicer's presets.

    :raises ValueError: if this Slicer does not have the preset.
    """
    logic = slicer.modules.volumes.logic()
    if presetID not in logic.GetVolumeDisplayPresetIDs():
        raise ValueError(_("This Slicer has no display preset {preset}.").format(preset=presetID))
    for node in volumeNodes:
        node.CreateDefaultDisplayNodes()
        logic.ApplyVolumeDisplayPreset(node.GetDisplayNode(), presetID)


def render(volumeNode, presetName):
    """Show the volume in the 3D views by a preset of the volume rendering module; an empty name hides it. Return the display node.

    :raises ValueError: if this Slicer does not have the preset.
    """
    logic = slicer.modules.volumerendering.logic()
    displayNode = logic.GetFirstVolumeRenderingDisplayNode(volumeNode)
    if not presetName:
        if displayNode:
            displayNode.SetVisibility(False)
        return displayNode
    preset = logic.GetPresetByName(presetName)
    if preset is None:
        raise ValueError(_("This Slicer has no volume rendering preset {preset}.").format(preset=presetName))
    displayNode = displayNode or logic.CreateDefaultVolumeRenderingNodes(volumeNode)
    displayNode.GetVolumePropertyNode().Copy(preset)
    displayNode.SetVisibility(True)
    return displayNode
