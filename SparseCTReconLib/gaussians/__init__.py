"""A volume as a sum of anisotropic Gaussians (R2-Gaussian, Zha et al. 2024), with exact line integrals through every view's own pose.

`cloud` has the parameters, `rasteriser` makes projections of them and `voxeliser` volumes, `reference` the same in readable torch;
`triton_rasteriser` and `triton_voxeliser` do so on a GPU, with the `tile_lists` of what reaches where, `torch_twin` where Triton does not
run, and `backends` chooses;
`density_control` adds and removes Gaussians, `initialise` makes the first ones of a volume.
"""
