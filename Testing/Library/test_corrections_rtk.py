"""Corrections that itk-rtk has too: the same data come out of both."""

import numpy as np
import pytest
from degraded_scans import WIDE, clean, scan_of

from SparseCTReconLib.corrections.chain import correct, parse
from SparseCTReconLib.geometry import Geometry

pytestmark = pytest.mark.rtk


def theirs(filter_object):
    import itk

    filter_object.Update()
    return itk.array_from_image(filter_object.GetOutput())


def test_the_water_polynomial_is_that_of_rtk(rtk):
    from in_rtk import IMAGE, stack_in_rtk

    scan = scan_of(clean())
    ready = rtk.WaterPrecorrectionImageFilter[IMAGE, IMAGE].New()
    ready.SetInput(stack_in_rtk(scan.projections, WIDE))
    ready.SetCoefficients([0.0, 0.9, 0.05, 0.003])
    ours = correct(scan, parse({"beam-hardening.coefficients": (0.9, 0.05, 0.003)}))
    np.testing.assert_allclose(ours.projections, theirs(ready), rtol=1e-5, atol=1e-5)


HALF_FAN = Geometry.circular(30, 1000.0, 1500.0, (6, 64), (6.0, 3.6), offset_mm=(60.0, 0.0))
SHORT = Geometry.circular(30, 1000.0, 1500.0, (6, 64), (6.0, 3.6), arc_rad=np.radians(205))


@pytest.mark.parametrize(
    "name, geometry, filter_name, tolerance",
    [
        ("displaced-detector", HALF_FAN, "DisplacedDetectorForOffsetFieldOfViewImageFilter", 2e-3),
        ("parker", SHORT, "ParkerShortScanImageFilter", 2e-3),
    ],
)
def test_weights_of_redundant_rays_are_those_of_rtk(rtk, name, geometry, filter_name, tolerance):
    from in_rtk import IMAGE, geometry_in_rtk, stack_in_rtk

    ready = getattr(rtk, filter_name)[IMAGE].New()
    ready.SetInput(stack_in_rtk(np.ones((30, 6, 64)), geometry))
    ready.SetGeometry(geometry_in_rtk(geometry))
    weights = theirs(ready)
    measured = slice(weights.shape[-1] - 64, None) if name == "displaced-detector" else slice(None)  # RTK adds columns on the short side
    scan = scan_of(np.full((30, 6, 64), np.exp(-1.0)), geometry)
    ours = correct(scan, parse({name: "on"})).projections
    scale = float((ours * weights[..., measured]).sum() / (weights[..., measured] ** 2).sum())
    assert scale == pytest.approx(round(scale), abs=0.01)
    np.testing.assert_allclose(ours, scale * weights[..., measured], atol=tolerance * 2)


def test_lag_is_that_of_rtk_but_for_a_factor_that_i0_has_too(rtk):
    import itk
    from in_rtk import IMAGE, stack_in_rtk

    frames = clean().astype(np.float32)
    rates, shares = (0.7055, 0.1141, 0.0212, 0.0033), (2.911e-3, 0.4454e-3, 0.0748e-3, 0.0042e-3)
    ready = rtk.LagCorrectionImageFilter[IMAGE, 4].New()
    ready.SetInput(stack_in_rtk(frames, WIDE))
    a, b = itk.Vector[itk.F, 4](), itk.Vector[itk.F, 4]()
    for n in range(4):
        a[n], b[n] = rates[n], shares[n]
    ready.SetCoefficients(a, b)
    total = 1 + sum(shares)
    ours = correct(scan_of(frames), parse({"lag": {"rates": rates, "shares": tuple(s / total for s in shares)}}))
    np.testing.assert_allclose(np.exp(-ours.projections.astype(float)), theirs(ready) * total, atol=2e-5)


def test_constant_scatter_is_what_rtk_takes_away_but_for_the_shadows_share_of_the_view(rtk):
    from in_rtk import IMAGE, stack_in_rtk

    intensities = (clean() + 0.03).astype(np.float32)
    ready = rtk.BoellaardScatterCorrectionImageFilter[IMAGE].New()
    ready.SetInput(stack_in_rtk(intensities, WIDE))
    ready.SetAirThreshold(0.9)
    ready.SetScatterToPrimaryRatio(0.25)
    ready.SetNonNegativityConstraintThreshold(1e-4)
    taken = intensities - theirs(ready)
    ours = intensities - np.exp(-correct(scan_of(intensities), parse({"scatter.fraction": 0.25})).projections)
    # RTK takes the ratio for the fraction, and divides the sum over the shadow by all pixels of the view.
    share = (intensities < 0.9).mean(axis=(1, 2))
    np.testing.assert_allclose(taken.mean(axis=(1, 2)), ours.mean(axis=(1, 2)) * share, rtol=0.01)
    assert np.ptp(taken, axis=(1, 2)).max() < 1e-5
