"""The load cases of the femur model, as the report names them."""

CASE_CONCEPTS = {"stance": "femur_strength_stance", "sideways_fall": "femur_strength_fall"}
"""Load case of ``fe.femur`` -> concept of ``sr_export.codes``."""

CASE_NAMES = {"stance": "stance", "sideways_fall": "fall"}
"""Load case -> how people read it."""
