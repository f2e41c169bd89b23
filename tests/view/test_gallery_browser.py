"""The site in a real browser, from disk: Debian's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_cli import run
from helpers_gallery import MODEL, colour_of, score_of, write_layer
from PIL import Image

from jaxviz.view.gallery import thumbnails

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
FILTERS, WIDE, SHEETS = 30, 2048, 8
ODD = "<script>document.title='run'</script>"
ABORTED = "net::ERR_ABORTED"  # the page was left meanwhile
PHONE = {"width": 360, "height": 740}
SHALLOW, DEEP = "block1_1_depthwise_conv", "block5_2_expand_conv"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests here. Where CI=true, a missing one is a failure and no skip."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("the package playwright: pip install -e '.[dev]'")
    if CHROMIUM is None:
        _missing("chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


def _missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"continuous integration needs {what}")
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of four layers of two networks."""
    out = tmp_path_factory.mktemp("site") / "a b%20#c"  # what addresses have to encode
    write_layer(out, FILTERS, layer=SHALLOW, snapshots=(1, 2), period=2)
    write_layer(out, FILTERS, layer=DEEP, statuses={3: "dead", 5: "nan"}, judged=True, period=16)
    write_layer(out, 4, layer="head_conv", replicas=2, period=8)
    write_layer(out, 2, layer=ODD, model='"odd" & <b>', label="x'y")
    assert run("gallery", out).code == 0
    return out / "gallery"


@pytest.fixture(scope="module")
def wide_site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of 2,048 filters, whose measures do not matter here."""
    out = tmp_path_factory.mktemp("wide")
    write_layer(out, WIDE, layer="head_conv")
    measures = thumbnails.PictureMeasures(0.1, 10.0, 0.1, 0.1, 10.0, 0.1, 10.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thumbnails, "measure_picture", lambda picture: measures)
        assert run("gallery", out).code == 0
    return out / "gallery"


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A page that must end without an error, and without a request for anything but files."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(15_000)
    wrong: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: request.failure == ABORTED or wrong.append(f"failed: {request.url}"))
    page.on("request", lambda request: request.url.startswith("file://") or wrong.append(request.url))
    yield page
    context.close()
    assert wrong == []


def layer_page(site: Path, layer: str = SHALLOW) -> str:
    return (site / "layers" / MODEL / layer / "keras" / "index.html").as_uri()


def filter_page(site: Path, name: str, layer: str = SHALLOW) -> str:
    return layer_page(site, layer).replace("index.html", f"{name}.html")


def shown(tab: Any) -> list[str]:
    """Names on the tiles that are visible, in the order in which they stand."""
    tiles = "[...document.querySelectorAll('#tiles .tile')].filter(tile => tile.offsetParent !== null)"
    return tab.evaluate(f"{tiles}.map(tile => tile.firstElementChild.id.replace(/^f0*(?=\\d)/, ''))")


def focused(tab: Any) -> str:
    return tab.evaluate("document.activeElement.id")


def no_sideways_scroll(tab: Any) -> bool:
    return tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def screenshot(tab: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))


def sheets_asked_for(tab: Any) -> set[str]:
    """Grows with every sheet of thumbnails that the page asks for."""
    sheets: set[str] = set()
    tab.on("request", lambda request: "sheet-" in request.url and sheets.add(request.url))
    return sheets


# The first page


def test_first_page_shows_models_layers_and_pictures(tab, site):
    tab.goto((site / "index.html").as_uri())
    assert tab.locator("h1").inner_text() == "What every filter looks for"
    assert tab.locator(".model > header h2").all_inner_texts() == ['"odd" & <b>', MODEL]
    assert tab.locator(".row h3").all_inner_texts() == [ODD, SHALLOW, DEEP, "head_conv"]
    tab.locator(".row img").last.scroll_into_view_if_needed()
    tab.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_layers_are_found_by_name_and_opened(tab, site):
    tab.goto((site / "index.html").as_uri())
    tab.keyboard.press("/")
    tab.keyboard.type("block5")
    assert [text for text in tab.locator(".row:visible h3").all_inner_texts()] == [DEEP]
    tab.keyboard.press("Enter")
    tab.wait_for_url(layer_page(site, DEEP))


def test_first_page_is_walked_with_arrows(tab, site):
    tab.goto((site / "index.html").as_uri())
    for _ in range(3):
        tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.wait_for_url(layer_page(site, DEEP))


def test_near_input_and_deep_stand_side_by_side_with_what_is_measured(tab, site):
    tab.goto((site / "index.html").as_uri())
    heads = tab.locator(".model .measured thead th").all_inner_texts()
    assert heads == ["Measured", SHALLOW, "head_conv"]
    rows = tab.locator(".model .measured .name").all_inner_texts()
    assert {"Dominant frequency", "Colourfulness", "Self-repetition", "Score spread"} <= set(rows)


# A layer


def test_tiles_are_sorted_by_number_score_and_hue(tab, site):
    tab.goto(layer_page(site))
    numbers = list(range(FILTERS))
    assert shown(tab) == list(map(str, numbers))
    tab.get_by_label("score", exact=True).check(force=True)
    assert shown(tab) == [str(index) for index in sorted(numbers, key=lambda index: -score_of(index))]
    tab.get_by_label("hue", exact=True).check(force=True)
    hues = tab.evaluate("[...document.querySelectorAll('.tile')].map(tile => +tile.dataset.hue)")
    assert hues == sorted(hues)
    assert len(set(hues)) > FILTERS / 2
    tab.get_by_label("number", exact=True).check(force=True)
    assert shown(tab) == list(map(str, numbers))


def test_order_is_kept_from_page_to_page(tab, site):
    tab.goto(layer_page(site))
    tab.get_by_label("score", exact=True).check(force=True)
    expected = shown(tab)
    tab.goto(filter_page(site, "0001"))
    tab.go_back()
    assert shown(tab) == expected


def test_tiles_are_filtered_by_status(tab, site):
    tab.goto(layer_page(site, DEEP))
    tab.get_by_label("dead 1").check(force=True)
    assert shown(tab) == ["3"]
    assert tab.locator("#shown").inner_text() == f"1 of {FILTERS} shown"
    tab.get_by_label("nan 1").check(force=True)
    assert shown(tab) == ["5"]
    tab.get_by_label("ok 28").check(force=True)
    assert len(shown(tab)) == FILTERS - 2
    tab.get_by_label("all", exact=True).check(force=True)
    assert len(shown(tab)) == FILTERS


def test_tile_says_number_score_rank_and_status(tab, site):
    tab.goto(layer_page(site, DEEP))
    assert tab.locator("#f0001").inner_text().split() == ["1", "102", "rank", "2", "p", "100"]
    assert tab.locator("#f0003").inner_text().split() == ["3", "104", "dead"]
    label = tab.locator("#f0001").get_attribute("aria-label")
    assert label == "Filter 1, score 102, rank 2, ok"


def test_arrows_move_through_tiles_and_enter_opens_one(tab, site):
    tab.goto(layer_page(site))
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert focused(tab) == "f0002"
    columns = tab.evaluate("getComputedStyle(document.querySelector('#tiles')).gridTemplateColumns.split(' ').length")
    assert 4 < columns < FILTERS
    tab.keyboard.press("ArrowDown")
    assert focused(tab) == f"f{2 + columns:04d}"
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("ArrowLeft")
    assert focused(tab) == "f0001"
    tab.keyboard.press("End")
    assert focused(tab) == f"f{FILTERS - 1:04d}"
    tab.keyboard.press("Home")
    tab.keyboard.press("Enter")
    tab.wait_for_url(filter_page(site, "0000"))


def test_focus_is_seen(tab, site):
    tab.goto(layer_page(site))
    tab.keyboard.press("ArrowRight")
    style = tab.evaluate("(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])"
                         "(getComputedStyle(document.activeElement))")  # fmt: skip
    assert style == ["solid", "3px"]


def test_all_tiles_but_one_are_skipped_by_tab(tab, site):
    tab.goto(layer_page(site))
    assert tab.locator("#tiles a[tabindex='0']").count() == 1


def test_question_mark_shows_the_keys(tab, site):
    tab.goto(layer_page(site))
    tab.keyboard.press("?")
    assert tab.locator("#keys").is_visible()
    assert "jump to a filter number" in tab.locator("#keys").inner_text()
    tab.keyboard.press("Escape")
    assert not tab.locator("#keys").is_visible()
    assert tab.url == layer_page(site)


@pytest.mark.parametrize("key", ["Escape", "u"])
def test_up_leads_to_the_layer_at_its_tile_and_on_to_all_layers(tab, site, key):
    tab.goto(filter_page(site, "0007"))
    tab.keyboard.press(key)
    tab.wait_for_url(layer_page(site) + "#f0007")
    tab.wait_for_function("document.activeElement.id === 'f0007'")
    tab.keyboard.press(key)
    tab.wait_for_url((site / "index.html").as_uri())


# A filter


def test_filter_page_shows_picture_provenance_and_snapshots(tab, site):
    tab.goto(layer_page(site))
    tab.locator("#f0004").click()
    tab.wait_for_url(filter_page(site, "0004"))
    assert tab.title() == f"Filter 4 · {SHALLOW} · keras · {MODEL}"
    tab.locator(".film img").last.scroll_into_view_if_needed()
    tab.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth === 32)")
    assert tab.locator(".film li").all_inner_texts() == ["1 step", "2 steps"]
    text = tab.locator("main").inner_text()
    for value in ("highest of the 30", "cpu: a device", "0.10.2", "jaxviz render"):
        assert value in text, value


def test_filter_pages_are_walked_with_arrows(tab, site):
    tab.goto(filter_page(site, "0003"))
    tab.keyboard.press("ArrowRight")
    tab.wait_for_url(filter_page(site, "0004"))
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_url(filter_page(site, "0003"))
    tab.go_back()
    tab.wait_for_url(filter_page(site, "0004"))


def test_slash_jumps_to_a_filter_number(tab, site):
    tab.goto(layer_page(site))
    tab.keyboard.press("/")
    tab.keyboard.type("12")
    tab.keyboard.press("Enter")
    tab.wait_for_url(filter_page(site, "0012"))
    tab.keyboard.press("/")
    tab.keyboard.type("999")
    tab.keyboard.press("Enter")
    assert "no picture of filter 999" in tab.locator(".toast").inner_text()
    tab.goto(filter_page(site, "0001", "head_conv"))
    tab.keyboard.press("/")
    tab.keyboard.type("3 r1")
    tab.keyboard.press("Enter")
    tab.wait_for_url(filter_page(site, "0003_r1", "head_conv"))


def test_command_is_copied(tab, site):
    tab.goto(filter_page(site, "0003"))
    tab.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    tab.get_by_role("button", name="Copy").click()
    tab.wait_for_function("window.copied")
    assert tab.evaluate("window.copied") == tab.locator("#again").inner_text()
    assert tab.evaluate("window.copied").startswith(f"jaxviz render {MODEL} {SHALLOW} --filters 3 ")


# Two layers


def test_two_layers_that_the_reader_chooses_stand_side_by_side(tab, site):
    tab.goto((site / "compare.html").as_uri())
    tab.locator("#a").select_option(f"{MODEL}/{SHALLOW}/keras")
    tab.locator("#b").select_option(f"{MODEL}/{DEEP}/keras")
    assert tab.locator("#pair h3").all_inner_texts() == [SHALLOW, DEEP]
    assert tab.locator("#measured thead th").all_inner_texts() == ["Measured", SHALLOW, DEEP]
    rows = {row.locator(".name").inner_text(): row.locator(".value").all_inner_texts()
            for row in tab.locator("#measured tbody tr").all()}  # fmt: skip
    assert {"Dominant frequency", "Colourfulness", "Self-repetition", "Score spread"} <= set(rows)
    fine, coarse = (float(text.removesuffix(" cycles/px")) for text in rows["Dominant frequency"])
    assert fine > 2 * coarse > 0
    assert rows["Rank of the own filter"][0] == "none"
    tab.reload()
    assert tab.locator("#pair h3").all_inner_texts() == [SHALLOW, DEEP]
    tab.go_back()
    assert tab.locator("#pair h3").first.inner_text() == SHALLOW


def test_layer_links_to_its_comparison(tab, site):
    tab.goto(layer_page(site, DEEP))
    tab.get_by_text("beside another").click()
    tab.wait_for_selector("#pair h3")
    assert tab.locator("#pair h3").first.inner_text() == DEEP
    tab.locator("#pair .tile a").first.click()
    tab.wait_for_url(filter_page(site, "0000", DEEP))


# Every page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_and_the_choice_stays(browser, site, scheme):
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(layer_page(site))
    background = "getComputedStyle(document.documentElement).backgroundColor"
    is_dark = f"Math.max(...{background}.match(/\\d+/g).map(Number)) < 100"
    assert page.evaluate(is_dark) == (scheme == "dark")
    page.locator("#theme").click()
    assert page.evaluate(is_dark) == (scheme == "light")
    page.goto((site / "index.html").as_uri())
    assert page.evaluate(is_dark) == (scheme == "light")
    page.keyboard.press("t")
    page.reload()
    assert page.evaluate(is_dark) == (scheme == "dark")
    context.close()


def test_no_page_scrolls_sideways_on_a_phone(tab, site):
    tab.set_viewport_size(PHONE)
    (odd,) = [file for file in site.rglob("0001.html") if MODEL not in str(file)]
    pages = [(site / "index.html").as_uri(), (site / "compare.html").as_uri(), layer_page(site, DEEP)]
    for page in [*pages, filter_page(site, "0001"), odd.as_uri()]:
        tab.goto(page)
        assert no_sideways_scroll(tab), page


def test_names_are_text_and_nothing_else(tab, site):
    tab.goto((site / "index.html").as_uri())
    tab.get_by_text(ODD).first.click()
    tab.wait_for_selector("#tiles")
    assert tab.locator("h1").inner_text() == ODD
    assert tab.title().startswith(ODD)
    tab.locator("#f0001").click()
    tab.wait_for_selector("#again")
    assert ODD in tab.locator("#again").inner_text()
    tab.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth === 32)")


def test_pages_are_read_without_scripts(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(layer_page(site))
    assert page.locator(".tile").count() == FILTERS
    assert not page.locator(".controls").is_visible()
    page.locator("#f0004").click()
    assert page.locator("h1").inner_text() == "Filter 4"
    context.close()


# A wide layer


@pytest.mark.long
def test_wide_layer_loads_only_what_is_near_the_window(tab, wide_site):
    sheets = sheets_asked_for(tab)
    tab.goto(layer_page(wide_site, "head_conv"), wait_until="load")
    assert tab.locator(".tile").count() == WIDE
    assert 0 < len(sheets) <= 2
    with tab.expect_request(lambda request: "sheet-7" in request.url):
        tab.keyboard.press("End")
        tab.keyboard.press("End")


@pytest.mark.long
def test_wide_layer_shows_every_tile(tab, wide_site):
    """In a window as high as the page: the colour in the middle of each tile is that of its own picture."""
    sheets = sheets_asked_for(tab)
    tab.set_viewport_size({"width": 1900, "height": 10_000})
    tab.goto(layer_page(wide_site, "head_conv"))
    tab.evaluate("document.documentElement.style.setProperty('--tile', '3rem')")
    for _ in range(100):
        if len(sheets) == SHEETS:
            break
        tab.wait_for_timeout(50)
    tab.evaluate(
        "count => Promise.all([...Array(count).keys()].map(at => { const image = new Image();"
        " image.src = `sheet-${at}.jpg`; return image.decode(); }))",
        SHEETS,
    )
    middles = tab.evaluate(
        "[...document.querySelectorAll('.tile')].map(tile => { const box = tile.getBoundingClientRect();"
        " return [box.top + box.width / 2, box.left + box.width / 2]; })"
    )
    assert len(middles) == WIDE
    pixels = screenshot(tab)
    off = [
        index
        for index, (y, x) in enumerate(middles)
        if np.abs(pixels[int(y), int(x)].astype(int) - colour_of(index)).max() > 24
    ]
    assert off == []


def test_wide_layer_is_sorted_at_once(tab, wide_site):
    tab.goto(layer_page(wide_site, "head_conv"))
    took_ms = tab.evaluate(
        "(() => { const start = performance.now(); document.querySelector('input[value=score]').click();"
        " document.body.offsetHeight; return performance.now() - start; })()"
    )
    assert shown(tab)[0] == str(WIDE - 1)
    assert took_ms < 3000
