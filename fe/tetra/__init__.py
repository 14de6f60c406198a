"""Tetrahedral models: a smooth surface from a mask, quadratic tetrahedra, a factorised stiffness."""
