"""The transformers of X-GRM: against torch's own, and their images, positions and memory."""

import pytest
import torch
from torch import nn

from SparseCTReconLib.networks.vision_transformer import EPS, Block, Transformer, ViewEncoder, positions_on


def noisy(module, seed=0):
    """The module with noise added to all weights, so that none does nothing."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=numbers))
    return module


def tokens(n=2, count=5, width=12):
    return torch.randn(n, count, width, generator=torch.Generator().manual_seed(1))


def test_a_block_is_what_torch_calls_an_encoder_layer_with_the_norm_first():
    ours = noisy(Block(12, 3))
    theirs = nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", EPS, batch_first=True, norm_first=True)
    pairs = [(theirs.self_attn.out_proj, ours.attention.mixed), (theirs.norm1, ours.before), (theirs.norm2, ours.between)]
    pairs += [(theirs.linear1, ours.wider), (theirs.linear2, ours.narrower)]
    for to, of in pairs:
        to.load_state_dict(of.state_dict())
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(ours.attention.asked.weight)
        theirs.self_attn.in_proj_bias.copy_(ours.attention.asked.bias)
    torch.testing.assert_close(ours(tokens()), theirs(tokens()), rtol=1e-4, atol=1e-5)


def test_sparing_memory_changes_neither_result_nor_gradients():
    network, found = noisy(Transformer(12, 2, 3)), []
    for network.sparing in (False, True):
        out = network(tokens())
        found.append([out, *torch.autograd.grad(out.square().sum(), list(network.parameters()))])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


@pytest.fixture(scope="module")
def encoder():
    return noisy(ViewEncoder(16, 4, 12, 2, 3)).requires_grad_(False)


def images(n=3, rows=16, columns=16):
    return torch.rand(n, 1, rows, columns, generator=torch.Generator().manual_seed(2))


def test_each_image_is_encoded_for_itself(encoder):
    whole = encoder(images())
    assert whole.shape == (3, 4, 4, 12)
    for image, features in zip(images(), whole):
        torch.testing.assert_close(encoder(image[None])[0], features, rtol=1e-4, atol=1e-5)


def test_a_patch_is_where_it_is_in_the_image():
    encoder = noisy(ViewEncoder(16, 4, 12, 0, 3)).requires_grad_(False)
    dark, lit = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    lit[..., 4:8, 8:12] = 1
    changed = (encoder(lit) - encoder(dark)).abs().amax(dim=3)[0]
    assert changed[1, 2] > 0.01 and changed.sum() == changed[1, 2]


def test_images_of_another_shape_have_interpolated_positions(encoder):
    assert encoder(images(rows=12, columns=24)).shape == (3, 3, 6, 12)
    ramp = torch.arange(4.0)[:, None, None].expand(4, 4, 2)
    finer = positions_on(ramp, 8, 4)
    assert finer.shape == (2, 8, 4) and (finer.diff(dim=1) > 0).all()
    torch.testing.assert_close(finer[0, 3:5, 0], torch.tensor([1.25, 1.75]), atol=0.06, rtol=0)
    assert torch.equal(positions_on(ramp, 4, 4), ramp.permute(2, 0, 1))
