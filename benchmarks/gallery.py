"""Makes the pictures of both presets side by side in README and docs: `python -m benchmarks.gallery`.

EfficientNet-Lite0, real weights; a picture each of a layer near the input and of a deep one, with the preset keras on
the left and distill on the right. Some minutes on two cores; the same command gives the same pictures on one machine
and software.
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
QUALITY = 86
OUT = ROOT / "docs"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description="the presets side by side")
    parser.add_argument("--out", type=Path, default=OUT, help="folder; default docs")
    options = parser.parse_args(arguments)
    for layer in LAYERS:
        file = picture_file(layer, options.out)
        _sheet(layer, [_panel(layer, preset) for preset in PRESETS]).save(file, quality=QUALITY, method=6)
        print(f"wrote {file}", file=sys.stderr)
    return 0


def picture_file(layer: str, folder: Path = OUT) -> Path:
    """Where the picture of a layer is."""
    return folder / f"presets-{layer}.webp"


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


def _sheet(layer: str, panels: list[Image.Image]) -> Image.Image:
    """Panels side by side with a caption above each."""
    width, height = panels[0].size
    sheet = Image.new("RGB", (len(panels) * (width + GAP_PX) - GAP_PX, height + CAPTION_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=18)
    for column, (preset, panel) in enumerate(zip(PRESETS, panels, strict=True)):
        left = column * (width + GAP_PX)
        draw.text((left + 2, 4), f"{preset}: {layer} ({LAYERS[layer]})", fill="black", font=font)
        sheet.paste(panel, (left, CAPTION_PX))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
