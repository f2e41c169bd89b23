"""The site as files: what is written, what is left alone, what is escaped, and what the command says."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from helpers_cli import contents, left_overs, run, run_python
from helpers_gallery import MODEL, write_layer
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxviz.errors import StorageError
from jaxviz.store.contents import SITE
from jaxviz.view.gallery import thumbnails, wording

pytestmark = pytest.mark.quick

ODD = "<script>alert(1)</script>"
ODD_MODEL = "a \"b\" & 'c' %41#?"
LAYER = Path("layers") / MODEL / "stem_conv" / "keras"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_layer(tmp_path / "out", 6, statuses={2: "dead", 4: "nan"}, snapshots=(1, 2), judged=True)
    write_layer(tmp_path / "out", 3, layer="head_conv", replicas=2)
    write_layer(tmp_path / "out", 2, layer=ODD, model=ODD_MODEL, label="it's")
    return tmp_path / "out"


class Links(HTMLParser):
    """Everything that a page points at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.found += re.findall(r'url\("([^"]+)"\)', text)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src", "data-up") and value]


def assert_links_lead_to_files(site: Path) -> int:
    links = 0
    for page in site.rglob("*.html"):
        for link in Links(page.read_text()).found:
            path, _, anchor = link.partition("#")
            target = page.parent / unquote(path) if path else page
            assert target.is_file(), f"{page.relative_to(site)}: {link}"
            links += 1
            if anchor.startswith("f0"):
                assert f'id="{anchor}"' in target.read_text(), link
    return links


# What is there


def test_every_link_leads_to_a_file(out: Path) -> None:
    assert run("gallery", out).code == 0
    assert assert_links_lead_to_files(out / "gallery") > 200


def test_folder_can_be_moved_as_a_whole(out: Path, tmp_path: Path) -> None:
    assert run("gallery", out).code == 0
    shutil.move(out, tmp_path / "elsewhere")
    assert_links_lead_to_files(tmp_path / "elsewhere" / "gallery")


def test_copied_pictures_make_the_site_stand_alone(out: Path, tmp_path: Path) -> None:
    assert run("gallery", out, "--out", tmp_path / "site", "--copy").code == 0
    original = (out / MODEL / "stem_conv" / "keras" / "0001.png").read_bytes()
    shutil.rmtree(out)
    assert_links_lead_to_files(tmp_path / "site")
    assert (tmp_path / "site" / LAYER / "0001.png").read_bytes() == original
    assert (tmp_path / "site" / LAYER / "0001.s0002.png").is_file()


def test_filter_page_names_the_jaxlib_that_made_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr("jaxviz.store.provenance.jaxlib_version", lambda: "0.1.2")
        write_layer(tmp_path, 1)
    assert run("gallery", tmp_path).code == 0
    (page,) = (tmp_path / "gallery").rglob("0000.html")
    assert "0.1.2" in page.read_text()


def test_every_filter_has_a_page_with_its_provenance(out: Path) -> None:
    assert run("gallery", out).code == 0
    pages = {file.stem for file in (out / "gallery" / LAYER).glob("0*.html")}
    assert pages == {f"{index:04d}" for index in range(6)}
    page = (out / "gallery" / LAYER / "0001.html").read_text()
    for text in (
        ">102<",
        "ab" * 32,
        "cpu: a device",
        "0.10.2",
        "step size",
        "rescue steps",
        "<span>render</span>",
        ">99.5<",
    ):
        assert text in page, text
    assert "0001.s0001.png" in page


def test_replicas_have_pages_of_their_own(out: Path) -> None:
    assert run("gallery", out).code == 0
    page = (out / "gallery" / "layers" / MODEL / "head_conv" / "keras" / "0001_r1.html").read_text()
    assert "Filter 1, replica 1" in page
    assert 'href="0001.html"' in page


def test_layers_stand_in_the_order_of_the_network(out: Path) -> None:
    assert run("gallery", out).code == 0
    index = (out / "gallery" / "index.html").read_text()
    assert index.index("stem_conv</h3>") < index.index("head_conv</h3>")
    assert "conv · 32 channels · sees 3 px" in index


def test_snapshot_of_another_recipe_is_not_shown(out: Path) -> None:
    folder = out / MODEL / "stem_conv" / "keras"
    other = write_layer(out.parent / "other", 2, snapshots=(1,), batch_size=9)
    shutil.copy(other / "0001.s0001.png", folder / "0001.s0001.png")
    (folder / "0001.s0002.png").write_bytes(b"no picture")
    assert run("gallery", out).code == 0
    assert "On the way" not in (out / "gallery" / LAYER / "0001.html").read_text()


def test_nothing_outside_is_asked_for(out: Path) -> None:
    assert run("gallery", out).code == 0
    for file in (out / "gallery").rglob("*"):
        if file.suffix in (".html", ".css", ".js"):
            text = file.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?:|//[a-z]|@import|fetch\(|XMLHttpRequest", text.replace("file://", "")), file


def test_names_are_escaped(out: Path) -> None:
    assert run("gallery", out).code == 0
    for page in (out / "gallery").rglob("*.html"):
        assert ODD not in page.read_text(), page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in (out / "gallery" / "index.html").read_text()


@settings(max_examples=50)
@given(st.text(min_size=1), st.text(min_size=1))
def test_no_two_names_share_a_folder(one: str, other: str) -> None:
    assert (wording.slug(one) == wording.slug(other)) == (one == other)
    assert not set(wording.slug(one)) & set('/\\<>:"|?*\0')
    assert len(wording.slug(one)) <= wording.LONGEST_NAME
    assert set(wording.slug(one)) - {"."}


# Making it again


def test_same_pictures_give_the_same_bytes_and_write_nothing(out: Path) -> None:
    first = run("gallery", out, "--json")
    before = contents(out / "gallery")
    again = run("gallery", out, "--json")
    assert contents(out / "gallery") == before
    assert json.loads(first.out)["files_written"] == len(before) - 1  # and the list of files
    assert json.loads(again.out)["files_written"] == 0


def test_pictures_are_not_measured_twice(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("gallery", out).code == 0
    before = contents(out / "gallery")
    monkeypatch.setattr(thumbnails, "measure_picture", lambda picture: pytest.fail("measured again"))
    assert run("gallery", out).code == 0
    assert contents(out / "gallery") == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("sheet-0.jpg", b"{}"),
        ("strip.webp", None),
        ("measured.json", b"{}"),
        ("measured.json", b""),
        ("0001.html", b""),
    ],
)
def test_damaged_files_of_the_site_are_mended(out: Path, name: str, damage: bytes | None) -> None:
    assert run("gallery", out).code == 0
    before = contents(out / "gallery")
    file = out / "gallery" / LAYER / name
    file.unlink() if damage is None else file.write_bytes(damage)
    assert run("gallery", out).code == 0
    assert contents(out / "gallery") == before


def test_changed_picture_is_measured_anew(out: Path) -> None:
    assert run("gallery", out).code == 0
    before = (out / "gallery" / LAYER / "sheet-0.jpg").read_bytes()
    (out / MODEL / "stem_conv" / "keras" / "0005.png").unlink()
    assert run("gallery", out).code == 0
    assert (out / "gallery" / LAYER / "sheet-0.jpg").read_bytes() != before
    assert not (out / "gallery" / LAYER / "0005.html").exists()


def test_what_has_gone_is_removed_and_foreign_files_stay(out: Path) -> None:
    assert run("gallery", out).code == 0
    mine = [out / "gallery" / "notes.txt", out / "gallery" / LAYER / "notes.txt"]
    for file in mine:
        file.write_text("mine")
    shutil.rmtree(out / MODEL)
    assert run("gallery", out).code == 0
    assert [file.read_text() for file in mine] == ["mine", "mine"]
    assert [file.name for file in (out / "gallery" / LAYER).iterdir()] == ["notes.txt"]
    assert not (out / "gallery" / "layers" / MODEL / "head_conv").exists()
    assert not (out / "gallery" / "compare.html").exists()


def test_interrupted_making_goes_on(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jaxviz.view.gallery.site.filter_pages", stop)
        ran = run("gallery", out)
    assert ran.code == 130
    assert left_overs(out) == []
    assert run("gallery", out).code == 0
    assert_links_lead_to_files(out / "gallery")


def test_list_of_files_that_leads_elsewhere_is_not_believed(out: Path) -> None:
    assert run("gallery", out).code == 0
    manifest = out / "gallery" / SITE
    listed = json.loads(manifest.read_text())
    victims = [out / "kept.txt", out.parent / "kept.txt"]
    for victim in victims:
        victim.write_text("mine")
    listed["files"] += ["../kept.txt", str(victims[1]), ""]
    manifest.write_text(json.dumps(listed))
    assert run("gallery", out).code == 0
    assert [victim.read_text() for victim in victims] == ["mine", "mine"]


# Wrong requests


def test_foreign_folder_is_refused(out: Path) -> None:
    (out / "gallery").mkdir()
    (out / "gallery" / "index.html").write_text("mine")
    ran = run("gallery", out)
    assert (ran.code, ran.out) == (2, "")
    assert "--out FOLDER" in ran.err
    assert contents(out / "gallery") == {"index.html": b"mine"}


def test_foreign_file_in_the_way_is_refused(out: Path) -> None:
    assert run("gallery", out).code == 0
    shutil.rmtree(out / MODEL / "head_conv")
    assert run("gallery", out).code == 0
    place = out / "gallery" / "layers" / MODEL / "head_conv" / "keras" / "index.html"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    write_layer(out, 2, layer="head_conv")
    ran = run("gallery", out)
    assert ran.code == 2
    assert str(place.relative_to(out / "gallery")) in ran.err
    assert place.read_text() == "mine"


def test_out_that_is_a_file_is_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = run("gallery", out, "--out", tmp_path / "file")
    assert ran.code == 2
    assert "--out" in ran.err


@pytest.mark.parametrize("folder", ["nothing", "empty"])
def test_folder_without_pictures_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("gallery", tmp_path / folder)
    assert (ran.code, ran.out) == (2, "")
    assert "jaxviz render" in ran.err
    assert list((tmp_path / "empty").iterdir()) == []


def test_full_disk_is_one_message(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes, *, durable: bool = True) -> None:
        raise StorageError(f"cannot write {path}: no space left")

    monkeypatch.setattr("jaxviz.view.gallery.folder.write_atomically", full)
    ran = run("gallery", out)
    assert (ran.code, ran.out) == (1, "")
    assert "no space left" in ran.err


# What the command says


def test_damaged_pictures_are_reported_and_left_out(out: Path) -> None:
    (out / MODEL / "stem_conv" / "keras" / "0003.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    ran = run("gallery", out)
    assert ran.code == 0
    assert "0003.png: damaged" in ran.err
    assert not (out / "gallery" / LAYER / "0003.html").exists()


def test_command_counts_and_names_the_first_page(out: Path) -> None:
    ran = run("gallery", out)
    assert "3 layers, 14 pictures (12 ok, 1 dead, 1 nan)" in ran.out
    assert f"gallery: {out / 'gallery' / 'index.html'}" in ran.out


def test_json_is_one_object(out: Path) -> None:
    summary = json.loads(run("gallery", out, "--json").out)
    assert summary["index"] == str(out / "gallery" / "index.html")
    assert (summary["layers"], summary["pictures"], summary["pages"]) == (3, 14, 19)
    assert summary["counts"] == {"ok": 12, "dead": 1, "nan": 1}
    assert summary["left_out"] == []


def test_site_needs_no_jax_and_help_needs_no_jinja(tmp_path: Path) -> None:
    code = "import sys, {}; print(sorted({{'jax', 'flax', 'jinja2'}} & sys.modules.keys()))"
    assert run_python(code.format("jaxviz.view.gallery.site"), cwd=tmp_path) == "['jinja2']\n"
    assert run_python(code.format("jaxviz.cli"), cwd=tmp_path) == "[]\n"


def test_figures_are_short() -> None:
    values = (0.0, 0.12345, 1.0, 12.345, 123.45, 1234.5, 2048, 1234567.0, -0.5, 0.03456, 1e-7, None, float("nan"))
    assert [wording.figure(value) for value in values] == [
        "0", "0.123", "1", "12.3", "123", "1,234", "2,048", "1.23e+06", "-0.500", "0.035", "1.00e-07", "none", "none",
    ]  # fmt: skip


def test_pages_are_named_in_ranges() -> None:
    keys = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (70, 0)]
    assert wording.ranges(keys) == "0-2 70 1-2r1"
