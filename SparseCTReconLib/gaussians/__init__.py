"""A volume as a sum of anisotropic Gaussians (R2-Gaussian, Zha et al. 2024), with exact line integrals through every view's own pose.

`cloud` has the parameters, `rasteriser` makes projections of them and `voxeliser` volumes, `reference` the same in readable torch,
`density_control` adds and removes Gaussians, `initialise` makes the first ones of a volume.
"""
