"""The products in a compiled program's text (optimized HLO) and the types of their operands.

A product is a `convolution` or `dot` instruction, wherever it stands (inside a Triton or cuDNN fusion too), or a call
of cuDNN or cuBLAS, whose first two operands are multiplied. Text with and without operand types is understood.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

MOST_NAMES = 10
LIBRARY_CALL = re.compile(r'custom_call_target="(__cudnn\$\w+|__cublas\$[\w$]+|__onednn\$\w+|__triton\$?\w*)"')
PRODUCT_CALL = re.compile(r"__cudnn\$conv|__cublas\$|__onednn\$(convolution|matmul)")
INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|[a-z]\w*(?:\[[^]]*\])?\S*) (?P<op>[\w\-]+)\("
)
OPERAND = re.compile(r"(?:(?P<type>[a-z]+\d*\w*)\[[^]]*\](?:\{[^}]*\})? )?%?(?P<name>[A-Za-z_][\w.\-]*)")


class Product(NamedTuple):
    """One product: its name, what computes it, and the types of the two operands and the result."""

    name: str
    kind: str  # convolution, dot, or the library call's name
    operands: tuple[str, ...]
    result: str


def products(text: str) -> Iterator[Product]:
    """Every product of the program."""
    types: dict[str, str] = {}
    for line in text.splitlines():
        found = INSTRUCTION.match(line)
        if found is None:
            continue
        types[found["name"]] = _element(found["type"])
        kind = found["op"]
        if kind == "custom-call":
            called = LIBRARY_CALL.search(line)
            if called is None or PRODUCT_CALL.match(called[1]) is None:
                continue
            kind = called[1]
        elif kind not in ("convolution", "dot"):
            continue
        operands = tuple(_operand_types(line[found.end() :], types))
        yield Product(found["name"], kind, operands, types[found["name"]])


def summary(text: str) -> dict[str, Any]:
    """Counts by "kind: operands -> result", and the first names of those that multiply float32 operands."""
    found = list(products(text))
    wide = [f"{product.kind} {product.name}" for product in found if "f32" in product.operands]
    counts = Counter(f"{product.kind}: {' x '.join(product.operands)} -> {product.result}" for product in found)
    return {
        "counts": dict(counts.most_common()),
        "products": len(found),
        "float32_operands": len(wide),
        "first_float32": wide[:MOST_NAMES],
    }


def _operand_types(rest: str, types: dict[str, str]) -> Iterator[str]:
    """Types of the first two operands; the list ends at the bracket that closes it."""
    depth, end = 1, 0
    while depth and end < len(rest):
        depth += {"(": 1, ")": -1}.get(rest[end], 0)
        end += 1
    for place, operand in enumerate(OPERAND.finditer(rest[: end - 1])):
        if place == 2:
            return
        yield operand["type"] or types.get(operand["name"], "?")


def _element(shape: str) -> str:
    """`bf16` of bf16[2,3]{1,0}, also of a tuple's first part."""
    found = re.search(r"[a-z]+\d*\w*", shape)
    return "?" if found is None else found[0]
