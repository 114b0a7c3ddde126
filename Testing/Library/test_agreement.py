"""A learned volume and the measurements: what is minimised, what is kept, what stays as it was."""


import numpy as np
import pytest
import torch
from phantoms import Phantom
from small_scanners import circular
from small_scans import scan_of

from SparseCTReconLib import methods
from SparseCTReconLib.classical.weights import mean_curvature
from SparseCTReconLib.grid import Grid
from SparseCTReconLib.methods.admm_tv import ADMMTVOptions, Solver
from SparseCTReconLib.methods.agreement import Agreement, Held, Wish
from SparseCTReconLib.operators.averaging import neighbour_weight, voxel_means
from SparseCTReconLib.operators.tv import TotalVariationProx

GRID = Grid.centred((12, 13, 11), (2.0,) * 3)


def agreement(network, before=None, passes=10, smoothness=1.0, closeness=0.0, edges=False, solver=None):
    scan = scan_of(Phantom(11.0), circular())
    solver = solver or Solver(scan, GRID, ADMMTVOptions())
    return Agreement(solver, neighbour_weight(scan, GRID), Wish(passes, smoothness, closeness, edges), network, before)


def truth():
    return Phantom(11.0).volume(GRID).astype(np.float32)


def blurred(strength=0.1):
    """What a network may make: the truth, smoothed, with smooth errors."""
    smooth = voxel_means(voxel_means(truth(), 1 / 3), 1 / 3)
    wave = np.sin(np.indices(GRID.shape).sum(axis=0) / 2.0)
    return np.maximum(smooth * (1 + strength * wave), 0).astype(np.float32)


def cost(a, x, network, tv_weight, rho):
    """What is to be minimised, written out."""
    x = x.numpy().astype(float)
    difference = (a.solver.A(torch.from_numpy(x.astype(np.float32))) - a.solver.y).numpy().astype(float)
    steps = [np.diff(x, axis=axis, append=x.take([-1], axis)) for axis in range(3)]
    return (
        0.5 * np.sum(a.solver.weights.numpy() * difference**2)
        + tv_weight * np.sqrt(sum(s**2 for s in steps)).sum()
        + 0.5 * rho * np.sum((x - network) ** 2)
    )


@pytest.mark.parametrize("rho, weight", [(0.0, 0.3), (0.7, 0.3), (40.0, 0.02)])
def test_the_held_prox_minimises_both_terms(rho, weight):
    """Against random changes of what it gives: none lowers the cost."""
    numbers = torch.Generator().manual_seed(1)
    b, towards = torch.rand(5, 6, 4, generator=numbers), torch.rand(5, 6, 4, generator=numbers)
    tv_weight = 2.0
    step = weight / tv_weight
    found = Held(TotalVariationProx((5, 6, 4), 2000), towards, rho, tv_weight)(b, weight)

    def value(z):
        steps = [torch.diff(z, dim=axis, append=z.select(axis, -1).unsqueeze(axis)) for axis in range(3)]
        variation = sum(s.double() ** 2 for s in steps).sqrt().sum()
        return float(
            0.5 * (z - b).double().square().sum() + step * (tv_weight * variation + 0.5 * rho * (z - towards).double().square().sum())
        )

    best = value(found)
    for size in (1e-3, 1e-2):
        for _ in range(20):
            assert value((found + size * torch.randn(found.shape, generator=numbers)).clamp(min=0)) > best - 1e-7
    assert value(0.99 * found + 0.01 * towards) > best - 1e-7 and value(0.99 * found + 0.01 * b) > best - 1e-7


@pytest.mark.parametrize("closeness", [0.0, 0.05])
def test_the_algorithm_lowers_the_cost_to_a_minimum(closeness):
    a = agreement(blurred(), passes=300, closeness=closeness)
    rho, start = closeness * mean_curvature(a.solver.A), a.state.x.numpy()
    begin = cost(a, a.state.x, start, a.tv_weight, rho)
    *_, last = a.states()
    end = cost(a, last.x, start, a.tv_weight, rho)
    assert end < 0.7 * begin
    numbers = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = (last.x + 1e-4 * torch.randn(last.x.shape, generator=numbers)).clamp(min=0)
        assert cost(a, other, start, a.tv_weight, rho) > end - 1e-5 * abs(end)


def test_with_many_passes_and_nothing_that_holds_it_is_admm_tv():
    scan = scan_of(Phantom(11.0), circular())
    *_, classical = methods.get("admm-tv").run(scan, GRID, methods.parse_options(methods.get("admm-tv"), {"iterations": 300}))
    a = agreement(blurred(0.3), passes=300)
    *_, last = a.states()
    np.testing.assert_allclose(a.volume(last), classical.volume(), atol=0.03 * truth().max())


def test_the_closer_it_is_held_the_less_it_changes():
    changes = []
    for closeness in (0.0, 1.0, 10.0, 1000.0):
        a = agreement(blurred(), passes=40, closeness=closeness)
        *_, last = a.states()
        changes.append(float((last.x - a.prox.towards).norm()))
    assert changes[0] > changes[1] > changes[2] > changes[3] and changes[3] < 0.1 * changes[0], changes


def test_the_start_has_the_means_that_the_network_gave():
    a = agreement(voxel_means(truth(), 1 / 12))
    np.testing.assert_allclose(voxel_means(a.state.x.numpy(), a.neighbour), a.network, atol=0.03 * truth().max())


def test_a_volume_that_explains_more_than_the_network_s_is_kept_and_said():
    a = agreement(blurred())
    *_, last = a.states()
    assert a.holds(last) and last.residual < a.limit
    np.testing.assert_array_equal(a.volume(last), voxel_means(last.x.numpy(), a.neighbour))
    assert a.fact(last).startswith("kept: ") and a.fact(last).endswith("after 10 passes")


def test_where_the_residual_does_not_fall_the_network_s_volume_stays_and_is_said(caplog):
    a = agreement(truth(), passes=3, smoothness=100.0)
    with caplog.at_level("INFO"):
        *_, last = a.states()
    assert not a.holds(last)
    assert a.volume(last) is a.network and a.fact(last).startswith("left out: ")
    assert "explains the measurements better" in caplog.text


def test_after_admm_tv_it_goes_on_with_what_that_knew():
    """Where the network changes nothing, hardly anything changes: the dual variables are those that belong to the volume."""
    scan = scan_of(Phantom(11.0), circular())
    solver = Solver(scan, GRID, ADMMTVOptions())
    *_, state = solver.states([200])
    neighbour = neighbour_weight(scan, GRID)
    means, dual = voxel_means(state.x.numpy(), neighbour), solver.prox.dual.copy()
    moved = {}
    for name, before in (("kept", state), ("forgotten", None)):
        solver.prox.dual[...] = dual if before else 0
        a = agreement(means, before, passes=1, solver=solver)
        (last,) = a.states()
        moved[name] = float((last.x - state.x).norm())
    assert moved["kept"] < 0.6 * moved["forgotten"]


def test_edges_of_the_network_s_volume_are_pulled_less():
    a = agreement(blurred(0.0), edges=True, passes=1)
    next(a.states())
    weights = a.solver.prox.weights
    assert weights.shape == GRID.shape and weights.min() < 0.7 and weights.max() == pytest.approx(1, abs=1e-3)
    b = agreement(blurred(0.0), passes=1)
    next(b.states())
    assert b.solver.prox.weights.size == GRID.shape[0]
