"""Makes the README's picture of both presets side by side: `python -m benchmarks.gallery`.

EfficientNet-Lite0, real weights; rows: a layer near the input and a deep one; columns: the presets keras and distill.
Some minutes on two cores; the same command gives the same picture on one machine and software.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import jaxviz
from benchmarks.settings import REAL_MODEL, ROOT
from jaxviz import images

LAYERS = {"block2_2_expand_conv": "near the input", "block6_3_expand_conv": "deep"}
PRESETS = ("keras", "distill")
FILTERS = 16  # 4 x 4
TILE_PX, MARGIN_PX, GAP_PX, CAPTION_PX = 112, 4, 24, 30
QUALITY = 88
OUT = ROOT / "docs" / "presets.webp"


def main() -> None:
    """Panels in rows with a caption above each."""
    panels = {(layer, preset): _panel(layer, preset) for layer in LAYERS for preset in PRESETS}
    width, height = next(iter(panels.values())).size
    sheet = Image.new("RGB", (len(PRESETS) * (width + GAP_PX) - GAP_PX, len(LAYERS) * (height + CAPTION_PX)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for (layer, preset), panel in panels.items():
        left = PRESETS.index(preset) * (width + GAP_PX)
        top = list(LAYERS).index(layer) * (height + CAPTION_PX)
        draw.text((left + 2, top + 4), f"{preset}: {layer} ({LAYERS[layer]})", fill="black", font=font)
        sheet.paste(panel, (left, top + CAPTION_PX))
    sheet.save(OUT, quality=QUALITY)


def _panel(layer: str, preset: str) -> Image.Image:
    print(f"{layer}, {preset}", file=sys.stderr, flush=True)
    model = jaxviz.load_model(REAL_MODEL, download=False)
    result = jaxviz.render_layer(model, layer, range(FILTERS), jaxviz.RenderConfig.from_preset(preset))
    side = (TILE_PX, TILE_PX)
    tiles = [np.asarray(Image.fromarray(one).resize(side, Image.Resampling.LANCZOS)) for one in result.pictures]
    return Image.fromarray(images.grid(tiles, margin_px=MARGIN_PX))


if __name__ == "__main__":
    main()
