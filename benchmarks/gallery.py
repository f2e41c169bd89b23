"""Makes the README's picture of both presets side by side: `python -m benchmarks.gallery`.

EfficientNet-Lite0, real weights; rows: a layer near the input and a deep one; columns: the presets keras and distill.
Some minutes on two cores; the same command gives the same picture on one machine and software.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.settings import ROOT

MODEL = "efficientnet_lite0"
LAYERS = {"block2_2_expand_conv": "near the input", "block6_3_expand_conv": "deep"}
PRESETS = ("keras", "distill")
FILTERS = 16  # 4 x 4
TILE_PX = 112
MARGIN_PX, GAP_PX, CAPTION_PX = 4, 24, 30
QUALITY = 88
OUT = ROOT / "docs" / "presets.webp"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description="the presets side by side")
    parser.add_argument("--out", type=Path, default=OUT, help="file; default docs/presets.webp")
    options = parser.parse_args(arguments)
    panels = [[_panel(layer, preset) for preset in PRESETS] for layer in LAYERS]
    _sheet(panels).save(options.out, quality=QUALITY)
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


def _panel(layer: str, preset: str) -> Image.Image:
    """One layer in one preset."""
    import jaxviz
    from jaxviz import images

    print(f"{layer}, {preset}", file=sys.stderr, flush=True)
    model = jaxviz.load_model(MODEL, download=False)
    result = jaxviz.render_layer(model, layer, range(FILTERS), jaxviz.RenderConfig.from_preset(preset))
    tiles = [
        np.asarray(Image.fromarray(picture).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS))
        for picture in result.pictures
    ]
    return Image.fromarray(images.grid(tiles, margin_px=MARGIN_PX))


def _sheet(panels: list[list[Image.Image]]) -> Image.Image:
    """Panels in rows with a caption above each."""
    width, height = panels[0][0].size
    size = (len(PRESETS) * (width + GAP_PX) - GAP_PX, len(LAYERS) * (height + CAPTION_PX))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for row, (layer, where) in enumerate(LAYERS.items()):
        for column, preset in enumerate(PRESETS):
            left, top = column * (width + GAP_PX), row * (height + CAPTION_PX)
            draw.text((left + 2, top + 4), f"{preset}: {layer} ({where})", fill="black", font=font)
            sheet.paste(panels[row][column], (left, top + CAPTION_PX))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
