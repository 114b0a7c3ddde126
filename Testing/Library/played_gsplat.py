"""Plays the part of gsplat's tile lists (1.5 and later) that the adapter uses, on the CPU, so that the adapter can be tested without a GPU.

What they take and give back is that of gsplat/cuda/_wrapper.py and gsplat/cuda/csrc/IntersectTile.cu at
https://github.com/nerfstudio-project/gsplat, Apache-2.0.
"""

import torch


def isect_tiles(
    means2d,
    radii,
    depths,
    tile_size,
    tile_width,
    tile_height,
    sort=True,
    segmented=False,
    packed=False,
    n_images=None,
    image_ids=None,
    gaussian_ids=None,
    conics=None,
    opacities=None,
):
    """Tiles of each Gaussian; a key of image, tile and depth for each pair; and whose it is, in the order of the keys."""
    images, count = depths.shape
    assert means2d.dtype == depths.dtype == torch.float32 and radii.dtype == torch.int32
    assert means2d.shape == radii.shape == (images, count, 2) and (depths >= 0).all()
    assert sort and not (segmented or packed) and conics is opacities is None
    low = ((means2d - radii) / tile_size).floor().int()
    high = ((means2d + radii) / tile_size).ceil().int()
    most = torch.tensor([tile_width, tile_height])
    low, high = (end.clamp(min=0).minimum(most) for end in (low, high))
    keys, owners, counts = [], [], torch.zeros(images, count, dtype=torch.int32)
    for image in range(images):
        for g in range(count):
            if not (radii[image, g] > 0).all():
                continue
            for y in range(low[image, g, 1], high[image, g, 1]):
                for x in range(low[image, g, 0], high[image, g, 0]):
                    tile = y * tile_width + x
                    keys.append(((image << _bits(tile_width * tile_height) | tile) << 32) | int(depths[image, g].view(torch.int32)))
                    owners.append(image * count + g)
                    counts[image, g] += 1
    keys, order = torch.tensor(keys, dtype=torch.int64).sort(stable=True)
    return counts, keys, torch.tensor(owners, dtype=torch.int32)[order]


def isect_offset_encode(isect_ids, n_images, tile_width, tile_height):
    """Where each tile's pairs begin, int32 (images, rows, columns)."""
    assert n_images == 1
    tiles = torch.arange(tile_height * tile_width)
    return torch.searchsorted(isect_ids >> 32, tiles).int().reshape(1, tile_height, tile_width)


def _bits(count):
    return (count - 1).bit_length()
