"""Volumes, segmentation, calibration, densitometry and quality: what is measured in a CT. Pure."""
