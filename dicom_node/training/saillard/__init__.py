"""Femur segmentation by U-Nets after a preparation that makes few scans enough [Saillard2024].

A scan is cut into a right and a left half, the left one mirrored, each registered by an affine transform to one
reference femur and resampled around it. All of this is one affine map, so one interpolation brings a scan to the
network and one brings the answer back. ``halves`` cuts, ``frame`` is the reference and the resampling,
``registration`` finds the map, ``femurs`` prepares a site's cases, ``networks`` and ``learners`` learn, ``answer``
turns what a network says into a mask. Marked [m]: what the paper leaves open and was chosen here.
"""
