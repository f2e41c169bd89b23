"""Makes the pictures of both presets side by side in README and docs: `python -m benchmarks.gallery`.

EfficientNet-Lite0, real weights; a picture each of a layer near the input and of a deep one, with the preset keras on
the left and distill on the right. Some minutes on two cores; the same command gives the same pictures on one machine
and software.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import jaxviz
from benchmarks.settings import REAL_MODEL, ROOT
from jaxviz.pictures import images

LAYERS = {"block2_2_expand_conv": "near the input", "block6_3_expand_conv": "deep"}
PRESETS = ("keras", "distill")
FILTERS = 16  # 4 x 4
TILE_PX, MARGIN_PX, GAP_PX, CAPTION_PX = 112, 4, 24, 30
QUALITY = 86


def main() -> None:
    """A file for each layer."""
    for layer in LAYERS:
        _sheet(layer).save(picture_file(layer), quality=QUALITY, method=6)


def picture_file(layer: str) -> Path:
    """Where the picture of a layer is."""
    return ROOT / "docs" / f"presets-{layer}.webp"


def _sheet(layer: str) -> Image.Image:
    """Panels side by side with a caption above each."""
    panels = [_panel(layer, preset) for preset in PRESETS]
    width, height = panels[0].size
    sheet = Image.new("RGB", (len(panels) * (width + GAP_PX) - GAP_PX, height + CAPTION_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for column, (preset, panel) in enumerate(zip(PRESETS, panels, strict=True)):
        left = column * (width + GAP_PX)
        draw.text((left + 2, 4), f"{preset}: {layer} ({LAYERS[layer]})", fill="black", font=font)
        sheet.paste(panel, (left, CAPTION_PX))
    return sheet


def _panel(layer: str, preset: str) -> Image.Image:
    print(f"{layer}, {preset}", file=sys.stderr, flush=True)
    model = jaxviz.load_model(REAL_MODEL, download=False)
    result = jaxviz.render_layer(model, layer, range(FILTERS), jaxviz.RenderConfig.from_preset(preset))
    side = (TILE_PX, TILE_PX)
    tiles = [np.asarray(Image.fromarray(one).resize(side, Image.Resampling.LANCZOS)) for one in result.pictures]
    return Image.fromarray(images.grid(tiles, margin_px=MARGIN_PX))


if __name__ == "__main__":
    main()
