"""Labelled anatomy made from bone shape models: sampled, posed, voxelised, dressed in soft tissue.

`dicom_node.training.shapes.scenes` is the way in.
"""
