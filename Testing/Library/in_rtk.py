"""Our geometry, volumes and projections as itk-rtk wants them, and RTK's filters on them as plain functions.

RTK's frame is IEC 61217 about the isocentre (see `formats.rtk`): its axes are ours as X = x, Y = z, Z = -y.
"""

from dataclasses import astuple

import itk
import numpy as np
from itk import RTK

from SparseCTReconLib.formats import rtk as rtk_format

IMAGE = itk.Image[itk.F, 3]


def set_threads(count):
    """Threads of every filter that is made from now on."""
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(count)


def geometry_in_rtk(geometry):
    parameters = rtk_format.from_geometry(geometry)
    theirs = RTK.ThreeDCircularProjectionGeometry.New()
    for sid, sdd, gantry, x, y, out_of_plane, in_plane, source_x, source_y in zip(*astuple(parameters)):
        theirs.AddProjectionInRadians(sid, sdd, gantry, x, y, out_of_plane, in_plane, source_x, source_y)
    return theirs


def image(array, spacing, origin):
    out = itk.image_from_array(np.ascontiguousarray(array, dtype=np.float32))
    out.SetSpacing([float(s) for s in spacing])
    out.SetOrigin([float(o) for o in origin])
    return out


def volume_in_rtk(array, grid, isocentre_mm=(0, 0, 0)):
    """`array` [z, y, x] on an axis-aligned grid."""
    first = np.asarray(grid.origin_mm) - isocentre_mm
    _, last_y, _ = first + (np.asarray(grid.size) - 1) * grid.spacing_mm
    sx, sy, sz = grid.spacing_mm
    return image(np.asarray(array).transpose(1, 0, 2)[::-1], (sx, sz, sy), (first[0], first[2], -last_y))


def volume_from_rtk(theirs):
    """The array [z, y, x] of RTK's volume."""
    return np.ascontiguousarray(itk.array_from_image(theirs)[::-1].transpose(1, 0, 2))


def stack_in_rtk(array, geometry):
    """Projections [view, v, u]."""
    rows, columns = geometry.pixel_offsets_mm()
    dv, du = geometry.pixel_mm
    return image(array, (du, dv, 1), (columns[0], rows[0], 0))


def prepared(filter_type, first, second, geometry):
    """A filter on two images, its output still to be computed by Update()."""
    ready = filter_type.New()
    if hasattr(ready, "InPlaceOff"):
        ready.InPlaceOff()
    ready.SetInput(0, first)
    ready.SetInput(1, second)
    ready.SetGeometry(geometry_in_rtk(geometry))
    return ready


def joseph_forward(array, grid, geometry):
    """Line integrals [view, v, u] of a volume [z, y, x] by RTK's Joseph projector, as a filter to be updated."""
    empty = stack_in_rtk(np.zeros((geometry.views, *geometry.detector_shape)), geometry)
    return prepared(
        RTK.JosephForwardProjectionImageFilter[IMAGE, IMAGE], empty, volume_in_rtk(array, grid, geometry.isocentre_mm), geometry
    )


def joseph_adjoint(projections, grid, geometry):
    """RTK's back-projection of [view, v, u] onto a grid, as a filter to be updated."""
    empty = volume_in_rtk(np.zeros(grid.shape), grid, geometry.isocentre_mm)
    return prepared(RTK.JosephBackProjectionImageFilter[IMAGE, IMAGE], empty, stack_in_rtk(projections, geometry), geometry)


def fdk_by_rtk(projections, grid, geometry, hann):
    """RTK's FDK volume [z, y, x] in 1/mm, with its own weights for displaced detectors and short scans."""
    stack, theirs = stack_in_rtk(projections, geometry), geometry_in_rtk(geometry)
    for weigh in (RTK.DisplacedDetectorForOffsetFieldOfViewImageFilter, RTK.ParkerShortScanImageFilter):
        ready = weigh[IMAGE].New(stack)
        ready.SetGeometry(theirs)
        ready.Update()
        stack = ready.GetOutput()
        stack.DisconnectPipeline()
    return volume_from_rtk(fdk_image(stack, grid, geometry, hann))


def fdk_image(stack, grid, geometry, hann):
    """RTK's FDK of its image of the projections, as its image of the volume, without weights for redundancy."""
    empty = volume_in_rtk(np.zeros(grid.shape), grid, geometry.isocentre_mm)
    ready = prepared(RTK.FDKConeBeamReconstructionFilter[IMAGE], empty, stack, geometry)
    if hann:
        ready.GetRampFilter().SetHannCutFrequency(1.0)
    ready.Update()
    return ready.GetOutput()


def again_and_again(image_of_theirs):
    """A filter that gives the image as often as asked: some of RTK's filters use their input up and ask for it again."""
    source = itk.MultiplyImageFilter[IMAGE, IMAGE, IMAGE].New(image_of_theirs)
    source.SetConstant(1)
    source.InPlaceOff()
    return source


def admm_tv_image(stack, grid, geometry, *, tv_weight, beta, iterations, cg_iterations):
    """RTK's ADMM-TV of its image of the projections, as its image of the volume; matched Joseph projectors."""
    empty = volume_in_rtk(np.zeros(grid.shape), grid, geometry.isocentre_mm)
    sources = again_and_again(empty), again_and_again(stack)
    outputs = (source.GetOutput() for source in sources)
    ready = prepared(RTK.ADMMTotalVariationConeBeamReconstructionFilter[IMAGE], *outputs, geometry)
    ready.SetForwardProjectionFilter(ready.ForwardProjectionType_FP_JOSEPH)
    ready.SetBackProjectionFilter(ready.BackProjectionType_BP_JOSEPH)
    ready.SetDisableDisplacedDetectorFilter(True)
    ready.SetAlpha(tv_weight)
    ready.SetBeta(beta)
    ready.SetAL_iterations(iterations)
    ready.SetCG_iterations(cg_iterations)
    ready.Update()
    return ready.GetOutput()
