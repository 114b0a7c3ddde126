"""The codebooks: which code is taken, how codes follow what is given, and what gradients see of it."""

import numpy as np
import pytest
import torch
from torch import nn

from SparseCTReconLib.networks import vector_quantiser
from SparseCTReconLib.networks.vector_quantiser import DECAY, SMOOTHING, VectorQuantiser


def quantiser(channels=3, codes=5, seed=0):
    """With layers before and after that change nothing."""
    torch.manual_seed(seed)
    made = VectorQuantiser(channels, codes)
    made.before, made.after = nn.Identity(), nn.Identity()
    return made


def features(seed=0, shape=(2, 3, 2, 3, 4)):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def rows(x):
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def nearest(row, codes):
    """A loop to compare with."""
    return min(range(len(codes)), key=lambda k: float((row - codes[k]).square().sum()))


def test_each_feature_becomes_the_nearest_code():
    made, x = quantiser().eval(), features()
    out, loss = made(x)
    wanted = torch.stack([made.codes[nearest(row, made.codes)] for row in rows(x)])
    torch.testing.assert_close(rows(out), wanted)
    assert float(loss) == pytest.approx(float((rows(x) - wanted).square().mean()))


def test_codes_follow_as_a_loop_over_features_has_it():
    made = quantiser(codes=4)
    made.begun.fill_(True)
    codes, sizes, sums = made.codes.double().clone(), torch.ones(4).double(), made.codes.double().clone()
    for step in range(5):
        x = features(step)
        counts, added = torch.zeros(4).double(), torch.zeros(4, 3).double()
        for row in rows(x).double():
            k = nearest(row, codes)
            counts[k] += 1
            added[k] += row
        for k in range(4):
            sizes[k] = DECAY * sizes[k] + (1 - DECAY) * counts[k]
            sums[k] = DECAY * sums[k] + (1 - DECAY) * added[k]
        for k in range(4):
            codes[k] = sums[k] / ((sizes[k] + SMOOTHING) / (sizes.sum() + 4 * SMOOTHING) * sizes.sum())
        made(x)
        torch.testing.assert_close(made.codes.double(), codes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.sizes.double(), sizes, rtol=1e-5, atol=1e-6)


def test_with_time_codes_are_the_means_of_what_is_nearest_to_them():
    made = quantiser(channels=1, codes=3)
    x = torch.tensor([0.0, 0.2, 5.0, 5.4, 9.0, 9.2, 9.4, 9.2]).reshape(1, 1, 2, 2, 2)
    for _ in range(600):
        made(x)
    np.testing.assert_allclose(np.sort(made.codes[:, 0]), [0.1, 5.2, 9.2], atol=0.02)


def test_codes_begin_as_different_features_of_the_first_batch():
    made, x = quantiser(codes=5), torch.zeros(1, 3, 1, 4, 4)
    x[0, :, 0, 0] = torch.arange(12.0).reshape(3, 4)
    made._begin(rows(x))
    assert len(torch.unique(made.codes, dim=0)) == 5
    assert all(any(torch.equal(code, row) for row in rows(x)) for code in made.codes)
    few = quantiser(codes=5)
    few(torch.ones(1, 3, 1, 1, 2))
    torch.testing.assert_close(few.codes, torch.ones(5, 3)) and few.begun


def test_a_code_that_is_never_taken_stays_where_it_is_for_long():
    made, x = quantiser(channels=1, codes=2), torch.zeros(1, 1, 1, 1, 4)
    made.codes.copy_(torch.tensor([[0.0], [50.0]]))
    made.settle()
    for _ in range(300):
        made(x)
    assert float(made.codes[1]) == pytest.approx(50, rel=0.01)


def test_gradients_pass_as_if_nothing_had_been_exchanged_and_never_reach_the_codes():
    made, x = quantiser().eval(), features().requires_grad_()
    out, loss = made(x)
    weights = features(7)
    (out * weights).sum().backward(retain_graph=True)
    torch.testing.assert_close(x.grad, weights)
    x.grad = None
    loss.backward()
    torch.testing.assert_close(x.grad, 2 * (x - out).detach() / x.numel(), rtol=1e-4, atol=1e-6)
    assert not [name for name, _ in made.named_parameters()]


def test_the_layers_around_it_learn():
    made, x = VectorQuantiser(3, 5), features()
    out, loss = made(x)
    (out.square().mean() + loss).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in made.parameters())


def test_in_use_nothing_changes():
    made = quantiser()
    made(features())
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.eval()(features(1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())


def test_sums_can_be_had_from_codes_and_sizes():
    made = quantiser()
    for step in range(3):
        made(features(step))
    sums = made.sums.clone()
    made.sums.zero_()
    made.settle()
    torch.testing.assert_close(made.sums, sums, rtol=1e-5, atol=1e-6)


def test_several_processes_follow_what_all_of_them_have_seen(monkeypatch):
    """With two that see the same it is as if one had seen it twice."""
    alone, together, x = quantiser(), quantiser(), features()
    for made in (alone, together):
        made.begun.fill_(True)
    alone(torch.cat([x, x]))
    monkeypatch.setattr(vector_quantiser.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(vector_quantiser.distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    together(x)
    torch.testing.assert_close(together.codes, alone.codes)


def test_mixed_precision_measures_distances_in_full():
    made = quantiser(channels=2, codes=2).eval()
    made.codes.copy_(torch.tensor([[100.0, 0.0], [100.3, 0.0]]))
    x = torch.tensor([100.16, 0.0]).reshape(1, 2, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        out, loss = made(x)
    assert float(out[0, 0]) == pytest.approx(100.3) and loss.dtype == torch.float32
