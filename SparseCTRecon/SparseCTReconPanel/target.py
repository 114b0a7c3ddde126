"""What a request leads to, before it runs: the grid of the result and the cost of it."""

from slicer.i18n import tr as _

from .estimate import Plan
from .machine import plannedGeometry
from .region import gridOfRegion, place
from .request import Source, coarserGrid
from .scan_node import ctOf, geometryOf, gridOfScan
from .scene import gridOf


def gridOfResult(request, inputVolume, scanVolume, region=None):
    """Voxels of the result as the library's Grid.to_dict; None where the worker takes those of the scan's field of view.

    :raises ValueError: if the region cannot be a grid, or the scan's attributes were edited, in one sentence.
    """
    ct, grid = _ctAndGrid(request, inputVolume, scanVolume)
    if region is None:
        return coarserGrid(grid, request.voxelSize) if grid else None
    voxelSize = request.voxelSize
    if not voxelSize:
        grid = grid or _aboutIsocentre(request, inputVolume, scanVolume)
        if grid is None:
            raise ValueError(_("Give a voxel size: a region in a scan on disk needs one."))
        voxelSize = min(grid["spacing_mm"])
    return gridOfRegion(region, voxelSize, ct)


def placeRegion(roiNode, request, inputVolume, scanVolume):
    """Put a new ROI into the middle of what would be reconstructed without it; as it is where that is not known."""
    try:
        ct, grid = _ctAndGrid(request, inputVolume, scanVolume)
        grid = grid or _aboutIsocentre(request, inputVolume, scanVolume)
    except ValueError:
        return
    if grid:
        place(roiNode, grid, ct)


def planOf(request, inputVolume, scanVolume, region=None):
    """The Plan of a request; None where too little is known of it, as of a scan on disk."""
    try:
        grid = gridOfResult(request, inputVolume, scanVolume, region) or _aboutIsocentre(request, inputVolume, scanVolume)
        geometry = _geometry(request, inputVolume, scanVolume)
    except ValueError:
        return None
    if grid is None or geometry is None:
        return None
    return Plan(request.method, request.methodPreset, request.changedOptions, grid, geometry.views, geometry.detector_shape, request.budget)


def _ctAndGrid(request, inputVolume, scanVolume):
    """The CT in whose coordinates the result lies, and the grid that it takes; None for what is not there."""
    if request.source is Source.SIMULATE:
        return inputVolume, gridOf(inputVolume) if inputVolume and inputVolume.GetImageData() else None
    if request.source is Source.SCENE and scanVolume:
        return ctOf(scanVolume), gridOfScan(scanVolume)
    return None, None


def _geometry(request, inputVolume, scanVolume):
    if request.source is Source.SIMULATE:
        return plannedGeometry(request, inputVolume) if inputVolume and inputVolume.GetImageData() else None
    return geometryOf(scanVolume) if request.source is Source.SCENE and scanVolume else None


def _aboutIsocentre(request, inputVolume, scanVolume):
    """The grid of the field of view, as the worker takes it where it is given none."""
    from SparseCTReconLib.geometry import default_grid

    geometry = _geometry(request, inputVolume, scanVolume)
    if geometry is None:
        return None
    return coarserGrid(default_grid(geometry).to_dict(), request.voxelSize)
