"""Segmenters with weights or packages of their own, behind the interface of ``inference.segmentation``.

``table`` names them all and makes one; the others are adapters. Nothing here downloads anything.
"""
