"""Attributes Table E.1-1 does not list and the engine must decide on: what is kept, emptied, filled.

Table E.1-1 lists what is known to identify; the standard leaves the rest to the implementer (PS3.15 E.1.1,
note 1). Free text can hold anything, so every text attribute that is not named here is removed.
"""

KEPT_TEXT = frozenset(
    {
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "ConvolutionKernel",
        "FilterType",
        "TypeOfFilters",
        "RescaleType",
        "ModalityLUTType",
        "StackID",
        "CodeValue",
        "LongCodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "CodeMeaning",
        "SegmentAlgorithmName",
        "AlgorithmName",
        "AlgorithmVersion",
        "MIMETypeOfEncapsulatedDocument",
    }
)
"""What quality checks and calibration need of the scanner, its software, kernel and filter; and codes."""

EMPTIED_TEXT = frozenset(
    {
        "PositionReferenceIndicator",  # Type 2, PS3.3 C.7.4.1
        "ContentDescription",  # Type 2, PS3.3 C.8.20.2
        "DocumentTitle",  # Type 2, PS3.3 C.24.2
    }
)
"""Text that must be present and may be empty."""

FILLED_TEXT = frozenset(
    {
        "SegmentLabel",  # Type 1, PS3.3 C.8.20.4
        "LUTLabel",  # Type 1, PS3.3 C.7.6.16.2.11
        "LUTExplanation",  # Type 1, PS3.3 C.7.6.16.2.11
        "TextValue",  # Type 1C, PS3.3 C.17.3.2
        "TrackingID",  # Type 1C, PS3.3 C.8.20.4
    }
)
"""Text that must have a value: a dummy takes its place."""

KEPT_BULK = frozenset(
    {
        "PixelData",
        "FloatPixelData",
        "DoubleFloatPixelData",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "LUTData",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
        "BluePaletteColorLookupTableData",
    }
)
"""Binary values that are pixels or look-up tables. All other binary values are removed."""

DROPPED_CHARACTERISTICS = frozenset({"EthnicGroup", "SelectorASValue"})
"""Characteristics the option would keep and no analysis reads: free text, and a selector."""
