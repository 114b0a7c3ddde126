"""The wide networks of neural fields: how they start, what they can learn, and what they refuse."""

import numpy as np
import pytest
import torch

from SparseCTReconLib.errors import InputError
from SparseCTReconLib.fields.networks import BEND, FOG, FourierReLU, Siren, nonnegative
from SparseCTReconLib.fields.torch_field import TorchField


def points(count, seed=0):
    return torch.rand(3, count, generator=torch.Generator().manual_seed(seed))


def weighted_inputs(spec, seed=0):
    """What goes into each layer's sines at the start, without the biases."""
    parts = [torch.from_numpy(part).float() for part in spec.initial(np.random.default_rng(seed))]
    x, out = spec.embed(points(4000)), []
    for weight, bias in zip(parts[:-2:2], parts[1:-2:2]):
        out.append(spec.omega * (x @ weight.T))
        x = torch.sin(out[-1] + spec.omega * bias)
    return out


@pytest.mark.parametrize("omega", [5.0, 30.0])
def test_every_layer_of_sines_starts_with_the_same_spread(omega):
    """Of 1 behind the first layer (Sitzmann et al. 2020, theorem 1.8)."""
    spec = Siren(6, 128, omega)
    spreads = [inputs.square().mean().sqrt().item() for inputs in weighted_inputs(spec)]
    assert spreads[1:] == pytest.approx([1.0] * 5, abs=0.2)
    first = spec.initial(np.random.default_rng(0))[0]
    assert np.abs(first).max() == pytest.approx(1 / 3, rel=0.02)


@pytest.mark.parametrize("spec", [Siren(6, 64), FourierReLU(6, 64)])
def test_the_output_starts_even_and_in_the_middle_between_air_and_tissue(spec):
    mu = TorchField(spec.module(np.random.default_rng(0)), 1.0)(points(2000))
    assert mu.mean() == pytest.approx(FOG, abs=0.1) and mu.std() < 0.2


@pytest.mark.parametrize("spec", [Siren(3, 48, omega=20.0), FourierReLU(3, 48, frequencies=5, bandwidth=4.0)])
@pytest.mark.parametrize("output", ["squareplus", "linear"])
def test_a_smooth_function_with_air_is_learnt_in_150_steps_to_a_fifth_of_its_spread(spec, output):
    spec = type(spec)(**{**{name: getattr(spec, name) for name in spec.__dataclass_fields__}, "output": output})
    field = TorchField(spec.module(np.random.default_rng(0)), 0.02)

    def wanted(p):
        return 0.02 * torch.clamp(torch.sin(5 * p[0] + 2 * p[1]) + 0.5 * torch.cos(6 * p[2]), min=0)

    for step in range(150):
        p, rate = points(1024, step), 0.006 * 0.05 ** (step / 150)
        mu, kept = field.forward(p)
        field.descend(p, kept, (mu - wanted(p)) / 1024, 0.0, rate)
    p = points(4000, 1000)
    assert (field(p) - wanted(p)).square().mean().sqrt() < 0.2 * wanted(p).std()
    assert (field(p).min() >= 0) == (output == "squareplus")


def test_frequencies_reach_from_half_a_period_to_the_bandwidth_and_are_the_same_each_time():
    spec = FourierReLU(frequencies=7, bandwidth=32.0)
    periods = spec.periods()
    assert periods[0] == pytest.approx(0.5) and periods[-1] == pytest.approx(32.0)
    np.testing.assert_allclose(periods[1:] / periods[:-1], 2.0)
    assert spec.embed(points(5)).shape == (5, spec.inputs) and torch.equal(spec.embed(points(5)), spec.embed(points(5)))


def test_the_networks_see_the_cube_as_minus_one_to_one():
    corners = torch.tensor([[0.0, 1.0, 0.5]] * 3)
    for spec in (Siren(), FourierReLU()):
        np.testing.assert_allclose(spec.embed(corners)[:, 0], [-1, 1, 0])


def test_the_nonnegative_output_is_nearly_the_value_itself_above_zero_and_nearly_none_below():
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])
    np.testing.assert_allclose(nonnegative(x), [0, 0, BEND / 2, 0.5, 2.0], atol=2e-3)
    assert (nonnegative(x) > 0).all()


def test_the_paper_s_sizes_are_the_defaults():
    for spec in (Siren(), FourierReLU()):
        assert (spec.depth, spec.width) == (6, 256) and len(spec.layers) == 7
    assert Siren().omega == 30.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Siren(depth=0),
        lambda: Siren(width=0),
        lambda: Siren(omega=-1.0),
        lambda: Siren(omega=float("nan")),
        lambda: Siren(output="squarplus"),
        lambda: FourierReLU(frequencies=0),
        lambda: FourierReLU(bandwidth=0.1),
        lambda: FourierReLU(output="sigmoid"),
    ],
)
def test_a_network_that_cannot_be_says_why(make):
    with pytest.raises(InputError):
        make()
