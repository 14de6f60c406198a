"""Finite elements: bone strength from a density volume and a mask. Pure numbers: mm, N, MPa."""
