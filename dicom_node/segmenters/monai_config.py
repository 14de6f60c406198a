"""The configuration of a MONAI bundle, made plain: no program text of it is ever executed.

MONAI's own parser evaluates every text that begins with ``$`` as Python and imports any name under ``_target_``
[Cardoso2022]. Here references (``@id``) are followed, expressions are calculated by a small calculator
that knows numbers, comparisons and conditions, and every ``_target_`` has to stand in the table of components. What is
left holds neither ``$`` nor foreign names, and may be given to MONAI's parser.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from dicom_node.errors import ConfigurationError

NETWORKS = "monai.networks.nets."
TRANSFORMS = "monai.transforms."
INFERERS = "monai.inferers."
COMPONENTS: Mapping[str, str] = {
    **{
        name: NETWORKS + name
        for name in (
            "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DynUNet", "HighResNet", "SegResNet", "SegResNetDS",
            "SegResNetVAE", "SwinUNETR", "UNet", "UNETR", "VNet",
        )
    },
    **{
        name: TRANSFORMS + name
        for name in (
            "Compose", "Activationsd", "AsDiscreted", "CastToTyped", "CropForegroundd", "DivisiblePadd", "EnsureTyped",
            "FillHolesd", "Invertd", "KeepLargestConnectedComponentd", "NormalizeIntensityd", "Orientationd",
            "RemoveSmallObjectsd", "ScaleIntensityd", "ScaleIntensityRanged", "ScaleIntensityRangePercentilesd",
            "Spacingd", "SpatialPadd", "ThresholdIntensityd", "ToTensord",
        )
    },
    **{name: INFERERS + name for name in ("SimpleInferer", "SlidingWindowInferer", "SlidingWindowInfererAdapt")},
}  # fmt: skip
"""What may be made, and where MONAI keeps it. None of them reads files, downloads, or takes program text."""
NOT_NEEDED = frozenset(
    {"LoadImaged", "LoadImage", "EnsureChannelFirstd", "AddChanneld", "AsChannelFirstd", "SaveImaged", "DeleteItemsd"}
)
"""Transforms that read or write files, or find the channel: the node gives and takes arrays."""
CONSTANTS = re.compile(r"(?:torch|np|numpy)\.(?:float16|float32|float64|uint8|int16|int32|int64|long|half|bool)")
REFERENCE = re.compile(r"@([A-Za-z_][\w#]*(?:::[\w#]+)*)")
OBJECTS = frozenset({"preprocessing"})
"""Sections that others may refer to as made objects."""
SAYS_NOTHING = frozenset({"_desc_", "progress"})
"""Keys that change no label."""
PROGRAM_MARKS = ("$", "%", "@")
"""MONAI's parser executes, includes or follows words that begin so."""
MAX_NODES, MAX_DEPTH = 20_000, 60
MAX_NUMBER = 10**9
"""No calculated number is larger: nothing in a configuration is."""

CALCULATIONS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.USub: operator.neg, ast.Not: operator.not_,
}  # fmt: skip
FUNCTIONS: Mapping[str, Callable[..., Any]] = {"len": len, "int": int, "float": float, "max": max, "min": min}


class PlainConfig:
    """A bundle's configuration with references followed and expressions calculated.

    Parameters
    ----------
    config
        As its file holds it.
    given
        Values that stand for what the configuration says under these names, as ``device``.
    """

    def __init__(self, config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self._config, self._given, self._nodes = config, given, 0

    def section(self, name: str) -> Any:
        """Return a section, plain; None where there is none.

        Raises
        ------
        ConfigurationError
            When it would run program text, or names a component that is not in the table.
        """
        return self._plain(self._config.get(name), (name,))

    def _plain(self, value: Any, within: tuple[str, ...]) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(within) > MAX_DEPTH:
            raise ConfigurationError("The bundle's configuration is larger than any, or refers to itself.")
        if isinstance(value, dict):
            return self._mapping(value, within)
        if isinstance(value, list):
            return [self._plain(one, (*within, "[]")) for one in value if not _is_left_out(one)]
        if isinstance(value, str):
            return self._text(value, within)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        raise ConfigurationError(
            f"The bundle's configuration holds a {type(value).__name__}; expected what JSON can hold."
        )

    def _mapping(self, value: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
        made = {key: self._plain(one, (*within, key)) for key, one in value.items() if key not in SAYS_NOTHING}
        if "_target_" in value:
            made["_target_"] = _component(value["_target_"])
        strange = {str(key) for key in made if not isinstance(key, str) or key.startswith("_")} - {"_target_"}
        if strange:
            raise ConfigurationError(
                f"The bundle uses {sorted(strange)[0][:60]}, which could run program text; refused."
            )
        return made

    def _text(self, value: str, within: tuple[str, ...]) -> Any:
        if value.startswith("%"):
            raise ConfigurationError("The bundle's configuration includes other files (%); expected one file.")
        if value.startswith("@"):
            return self._referred(value[1:], within)
        if value.startswith("$"):
            return self._calculated(value[1:].strip(), within)
        return value

    def _referred(self, name: str, within: tuple[str, ...]) -> Any:
        if name in self._given:
            return self._given[name]
        if name in OBJECTS:
            return f"@{name}"
        if f"@{name}" in within:
            raise ConfigurationError(f"{name[:60]} in the bundle's configuration refers to itself.")
        found: Any = self._config
        for part in re.split(r"::|#", name):
            try:
                found = found[int(part)] if isinstance(found, list) else found[part]
            except (KeyError, IndexError, ValueError, TypeError):
                raise ConfigurationError(
                    f"The bundle's configuration refers to {name[:60]}, which is not there."
                ) from None
        return self._plain(found, (*within, f"@{name}"))

    def _calculated(self, text: str, within: tuple[str, ...]) -> Any:
        if CONSTANTS.fullmatch(text):
            return _constant(text)
        known: dict[str, Any] = {}

        def name_of(hit: re.Match[str]) -> str:
            known[f"reference_{len(known)}"] = self._referred(hit.group(1), within)
            return f"reference_{len(known) - 1}"

        if text.startswith("@") and REFERENCE.fullmatch(text):
            return self._referred(text[1:], within)
        try:
            tree = ast.parse(REFERENCE.sub(name_of, text), mode="eval")
            return _value(tree.body, known)
        except (SyntaxError, ValueError, TypeError, ZeroDivisionError, RecursionError, MemoryError, OverflowError):
            raise ConfigurationError(
                f"The bundle's configuration holds program text (${text[:60]}); nothing of it was executed. Write the "
                "value in its place."
            ) from None


def _is_left_out(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return value.get("_disabled_") is True or str(value.get("_target_", "")).split(".")[-1] in NOT_NEEDED


def _component(target: Any) -> str:
    name = str(target).split(".")[-1]
    if not isinstance(target, str) or name not in COMPONENTS or ("." in target and not target.startswith("monai.")):
        raise ConfigurationError(
            f"The bundle names {str(target)[:80]}; only networks, transforms and inferers of MONAI that this node "
            "knows are made. docs/segmenters.md lists them."
        )
    return COMPONENTS[name]


def _constant(text: str) -> Any:
    import numpy as np
    import torch

    module, name = text.split(".")
    return getattr(torch if module == "torch" else np, "bool_" if (module != "torch" and name == "bool") else name)


def _value(node: ast.AST, known: Mapping[str, Any]) -> Any:
    """Calculate an expression of numbers, words, lists, comparisons and conditions.

    Raises
    ------
    ValueError
        For anything else, and for words that would be program text again.
    """
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return _harmless(node.value)
        case ast.Name() if node.id in known:
            return known[node.id]
        case ast.List() | ast.Tuple():
            return [_value(one, known) for one in node.elts]
        case ast.IfExp():
            return _value(node.body if _value(node.test, known) else node.orelse, known)
        case ast.UnaryOp() if type(node.op) in CALCULATIONS:
            return CALCULATIONS[type(node.op)](_value(node.operand, known))
        case ast.BinOp() if type(node.op) in CALCULATIONS:
            return _bounded(CALCULATIONS[type(node.op)], _value(node.left, known), _value(node.right, known))
        case ast.Compare() if len(node.ops) == 1 and type(node.ops[0]) in CALCULATIONS:
            return CALCULATIONS[type(node.ops[0])](_value(node.left, known), _value(node.comparators[0], known))
        case ast.BoolOp():
            values = [_value(one, known) for one in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*(_value(one, known) for one in arguments))
        case _:
            raise ValueError


def _harmless(value: Any) -> Any:
    if str(value).startswith(PROGRAM_MARKS):
        raise ValueError
    return value


def _bounded(calculate: Callable[..., Any], left: Any, right: Any) -> Any:
    if not all(isinstance(one, (int, float)) and abs(one) <= MAX_NUMBER for one in (left, right)):
        raise ValueError
    return calculate(left, right)
