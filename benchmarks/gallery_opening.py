"""How fast a gallery is made and opens: `python -m benchmarks.gallery_opening`.

One layer of 2,048 filters, pictures of 130 px: noise of a few wavelengths, so that they compress about as badly as
real ones. Making the site is timed from nothing, and again where it is there. Opening is timed in Debian's Chromium
without a window and without a GPU, from disk, each time in a fresh profile; all times count from the start of
navigation:

- `first`: the page is loaded, laid out and painted, with the sheets near the window; the reader can scroll.
- `all`: besides, every one of the tiles is laid out, and all sheets are decoded.

Needs `pip install -e '.[dev]'` and `apt-get install chromium`. Some two minutes; everything else must be idle.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import machine

MODEL, LAYER = "resnet50v2", "conv5_block3_out"
FILTERS, PICTURE_PX, LOADS = 2048, 130, 7
SMALLEST_WAVE_PX, LARGEST_WAVE_PX = 3, 40
WINDOW = {"width": 1280, "height": 900}
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
ALL_TILES = """async () => {
  const style = document.createElement("style");
  style.textContent = ".tile { content-visibility: visible !important; }";
  document.head.append(style);
  const boxes = [...document.querySelectorAll(".tile .pic")].map((pic) => pic.getBoundingClientRect());
  const rules = (sheet) => { try { return [...sheet.cssRules]; } catch { return []; } };
  const sheets = [...document.styleSheets].flatMap(rules)
    .map((rule) => /url\\("(.*sheet-.*)"\\)/.exec(rule.cssText)).filter(Boolean).map((match) => match[1]);
  await Promise.all(sheets.map((url) => { const image = new Image(); image.src = url; return image.decode(); }));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return { all: performance.now(), tiles: boxes.filter((box) => box.width > 0 && box.height > 0).length,
           sheets: new Set(sheets).size };
}"""
FIRST = (
    """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"""
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery_opening", description=__doc__.split("\n")[0])
    parser.add_argument("--filters", type=int, default=FILTERS, help=f"tiles; default {FILTERS}")
    parser.add_argument("--loads", type=int, default=LOADS, help=f"times the page is opened; default {LOADS}")
    options = parser.parse_args(arguments)
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is missing: apt-get install chromium", file=sys.stderr)
        return 1
    load = machine.load_average()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        print(f"{options.filters} pictures of {PICTURE_PX} px", file=sys.stderr, flush=True)
        _write_pictures(out, options.filters)
        made = _timed_sites(out)
        opened = _timed_openings(chromium, made.pop("page"), options.loads)
    about = {"load_average": load, "commit": machine.git_state(), "hardware": machine.hardware()}
    print(json.dumps(made | opened | about, indent=1))
    return 0


def _write_pictures(out: Path, filters: int) -> None:
    from jaxviz import RenderConfig
    from jaxviz.recipe import Picture, Recipe
    from jaxviz.storage import LayerFolder

    channel = ({"weight": 1.0, "name": "channel"},)
    recipe = Recipe(MODEL, "00" * 32, LAYER, channel, RenderConfig.keras().numbers(), batch_size=4)
    folder = LayerFolder.open(out, recipe, label="keras")
    random = np.random.default_rng(0)
    history = np.zeros(30, np.float32)
    waves = np.geomspace(SMALLEST_WAVE_PX, LARGEST_WAVE_PX, 16)
    for index in range(filters):
        pixels = _noise(random, float(waves[index % len(waves)]))
        folder.write(Picture(index, pixels, float(random.gamma(2.0)), history, "ok", recipe))
    folder.finish(device="none: made for a benchmark")


def _noise(random: np.random.Generator, wave_px: float) -> np.ndarray:
    """Coloured noise of about one wavelength."""
    cells = max(4, round(2 * PICTURE_PX / wave_px))
    small = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
    return np.asarray(small.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC))


def _timed_sites(out: Path) -> dict[str, Any]:
    """Seconds for the site from nothing, and again; how large it is."""
    from jaxviz.catalogue import read_catalogue
    from jaxviz.gallery.site import build_site

    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        built = build_site(read_catalogue(out))
        seconds.append(round(time.perf_counter() - started, 2))
    site = built.index.parent
    sizes = {file: file.stat().st_size for file in site.rglob("*") if file.is_file()}
    page = next(file for file in sizes if file.name == "index.html" and file.parent != site)
    pages = [size for file, size in sizes.items() if file.suffix == ".html" and file.stem.isdigit()]
    return {
        "page": page.as_uri(),
        "filters": built.pictures,
        "made_s": seconds[0],
        "made_again_s": seconds[1],
        "site_mb": round(sum(sizes.values()) / 1e6, 1),
        "layer_page_kb": round(sizes[page] / 1e3),
        "filter_page_kb": round(statistics.mean(pages) / 1e3, 1),
        "sheets_kb": [round(size / 1e3) for file, size in sorted(sizes.items()) if file.name.startswith("sheet-")],
    }


def _timed_openings(chromium: str, page: str, loads: int) -> dict[str, Any]:
    """Milliseconds from the start of navigation, for every load and their medians."""
    from playwright.sync_api import sync_playwright

    runs: list[dict[str, float]] = []
    with sync_playwright() as playwright:
        for _ in range(loads):
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            tab = browser.new_page(viewport=WINDOW)
            tab.goto(page, wait_until="load")
            first = tab.evaluate(FIRST)
            runs.append({"first": first} | tab.evaluate(ALL_TILES))
            version = browser.version
            browser.close()
    return {
        "chromium": version,
        "tiles_laid_out": int(min(run["tiles"] for run in runs)),
        "sheets_decoded": int(min(run["sheets"] for run in runs)),
        "first_ms": round(statistics.median(run["first"] for run in runs)),
        "all_ms": round(statistics.median(run["all"] for run in runs)),
        "loads_ms": [[round(run["first"]), round(run["all"])] for run in runs],
    }


if __name__ == "__main__":
    sys.exit(main())
