"""Voxel models: bricks on a grid, a matrix-free operator, multigrid, conjugate gradients."""
