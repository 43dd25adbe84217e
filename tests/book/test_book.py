"""What a built page says for itself: the tags that previews of links are made of."""

import importlib.util
import struct
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "_build" / "html"


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


checking = module(ROOT / "tools" / "check_tags.py")
WHOLE = {
    "og:title": "A chapter",
    "og:type": "website",
    "og:site_name": "sketchlearn",
    "og:description": "How can one computation answer for every deletion and every query?",
    "og:url": "https://example.org/book/page.html",
    "og:image": "https://example.org/book/_static/card.png",
    "twitter:card": "summary_large_image",
}


def page(**changed):
    tags = {k: v for k, v in {**WHOLE, **changed}.items() if v is not None}
    return "".join(f'<meta property="{k}" content="{v}" />\n' for k, v in tags.items())


@pytest.fixture
def built(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "card.png").write_bytes(b"")
    return tmp_path


def test_a_page_with_whole_addresses_or_with_none_has_no_fault(built):
    assert checking.tag_faults(page(), "page.html", built) == []
    without = page(**{"og:url": None, "og:image": None, "twitter:card": "summary"})
    assert checking.tag_faults(without, "page.html", built) == []
    assert checking.tag_faults("<p>an index</p>", "genindex.html", built) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"og:site_name": "Project name not set"}, "og:site_name is 'Project name not set'"),
        ({"og:site_name": None}, "has no og:site_name"),
        ({"og:url": "page.html"}, "og:url is no whole address: 'page.html'"),
        ({"og:url": "https://example.org/book/other.html"}, "og:url is another page"),
        ({"og:url": None}, "has one of og:url and og:image"),
        ({"og:image": "https://example.org/book/_static/gone.png"}, "og:image is not in the build"),
        ({"og:image": "_static/card.png"}, "og:image is no whole address"),
        ({"og:description": "Contents"}, "og:description says next to nothing"),
        ({"twitter:card": None}, "has no twitter:card"),
        ({"twitter:card": "summary"}, "twitter:card is 'summary'"),
    ],
)
def test_a_wrong_or_missing_tag_is_a_fault(changed, said, built):
    found = checking.tag_faults(page(**changed), "page.html", built)
    assert any(said in fault for fault in found), found


def test_a_page_that_installs_by_a_bare_name_is_a_fault(built):
    text = page() + "<pre><span>pip</span> <span>install</span> sketchlearn\n</pre>"
    assert checking.tag_faults(text, "page.html", built) == [
        "tells the reader to install by a bare name: pip install sketchlearn"
    ]


def test_addresses_that_lead_nowhere_are_taken_out_of_the_tags():
    sphinx = pytest.importorskip("sphinx", reason="sphinx, which builds the book, is not installed")
    assert sphinx
    extension = module(ROOT / "book" / "_ext" / "bookext.py")
    relative = page(**{"og:url": "page.html", "og:image": "_static/card.png", "og:image:alt": "a figure"})
    left = extension.only_whole_addresses(relative)
    assert left == page(**{"og:url": None, "og:image": None})


def test_the_picture_of_previews_is_there_in_the_size_that_sites_ask_for():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    assert config["ogp_site_name"] == "sketchlearn"
    assert config["ogp_image"].startswith("_static/")
    assert config["html_static_path"] == ["book/_static"], "what is copied to _static"
    picture = (ROOT / "book" / config["ogp_image"]).read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (1200, 630)
    assert len(picture) < 300_000


def test_every_built_page_has_right_tags_and_no_bare_install():
    if not (BUILT / "book" / "index.html").exists():
        pytest.skip("the book is not built")
    assert checking.faults(BUILT) == {}
