"""The book's own Sphinx extension.

* ``primitives``: a directive that writes the table of supported primitives from the package's registry;
* a warning (so, an error of the build) for a public name of the package that no page documents;
* MathJax served from the book itself, taken from the package ``sphinx-mathjax-offline``, so that the
  built book reads without a network;
* the addresses of the published book and of its repository, taken from the environment
  (``BOOK_URL``, ``BOOK_REPOSITORY``) and left out where they are not known; and so the tags for previews of links
  (``og:url``, ``og:image``), which have to be whole addresses;
* buttons that open a chapter on Binder, where the repository is known, and on Colab, where the notebooks know it
  (``tools/install_cell.py``), for there they have to install the package themselves;
* links from source code to documentation that is not there, and the inline script that sphinx-thebe
  registers twice, dropped.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlparse

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

MATHJAX = "tex-svg-full.js"  # one file, no fonts to fetch
log = logging.getLogger(__name__)

#: What each kind of rule does, in the words of the page. A kind of the registry that is missing here is a warning.
KINDS = {
    "linear": (
        "A linear map acts on every coefficient of the series by itself, and so does one that only moves numbers "
        "about. Indices are not differentiated: they are the real program's."
    ),
    "bilinear": "Two factors: the truncated product of their series, every pair of orders that adds up to a kept one.",
    "analytic": (
        "A smooth function of each entry: composed through its own Taylor coefficients at the real value. For "
        "Cauchy's way the same function is known at complex numbers near the real axis."
    ),
    "piecewise": (
        "The real value decides the piece, the series follows it, and the decision is recorded: "
        "sketchlearn.piecewise_report says how many fell exactly on a kink. There a continuous choice goes where its "
        "arguments go: the first coefficients that differ decide, the real part before the imaginary one."
    ),
    "constant": "Flat between jumps, so the result has no coefficients beyond the zeroth.",
    "algebraic": "Rewritten in other primitives, or solved for order by order.",
    "control flow": "Rebuilt with JAX's own control flow around the bodies, which are walked into.",
}


def _names(names):
    """``a, b, c`` as literals in one paragraph."""
    paragraph = nodes.paragraph(classes=["primitive-names"])
    for i, name in enumerate(names):
        paragraph += [nodes.Text(", ")] if i else []
        paragraph += nodes.literal(name, name)
    return paragraph


def _table(header, rows):
    """A two-column table of (node, text)."""
    group = nodes.tgroup(cols=2)
    group += [nodes.colspec(colwidth=30), nodes.colspec(colwidth=70)]
    head, body = nodes.thead(), nodes.tbody()
    for part, cells in [(head, header), *((body, row) for row in rows)]:
        row = nodes.row()
        for cell in cells:
            entry = nodes.entry()
            entry += cell if isinstance(cell, nodes.Element) else nodes.paragraph(text=cell)
            row += entry
        part += row
    group += [head, body]
    table = nodes.table(classes=["primitives"])
    table += group
    return table


class Primitives(SphinxDirective):
    """Sections of the primitives page, one a kind of rule, and one for what is refused."""

    def run(self):
        import sketchlearn.taylor as taylor
        from sketchlearn.taylor import registry

        self.env.note_dependency(registry.__file__)
        rules = taylor.supported_primitives()
        sections = []
        for kind in registry.KINDS:
            if kind not in KINDS:
                log.warning("the kind of rule %r is not described in bookext.py", kind, location=self.get_location())
            of_kind = [rule for rule in rules if rule.kind == kind]
            section = self.section(f"{kind.capitalize()} ({len(of_kind)})")
            section += nodes.paragraph(text=KINDS.get(kind, ""))
            plain = [rule.primitive for rule in of_kind if not rule.note]
            noted: dict[str, list[str]] = {}
            for rule in of_kind:
                if rule.note:
                    noted.setdefault(rule.note, []).append(rule.primitive)
            if plain:
                section += _names(plain)
            if noted:
                section += _table(("Primitive", "Note"), [(_names(names), note) for note, names in noted.items()])
            sections.append(section)
        refused: dict[str, list[str]] = {}
        for name, reason in sorted(taylor.refused_primitives().items()):
            refused.setdefault(reason, []).append(name)
        section = self.section(f"Refused ({sum(map(len, refused.values()))})")
        section += nodes.paragraph(text="No rule on purpose; the error message gives the reason and the ways out.")
        section += _table(("Primitive", "Reason"), [(_names(names), reason) for reason, names in refused.items()])
        return [*sections, section]

    def section(self, title):
        section = nodes.section(ids=[nodes.make_id("primitives " + title.rsplit(" ", 1)[0])])
        section += nodes.title(title, title)
        self.state.document.note_explicit_target(section)
        return section


class Estimators(SphinxDirective):
    """A table of the registered estimators."""

    def run(self):
        from sketchlearn.prediction.base import ESTIMATORS

        rows = [(_names([name]), ESTIMATORS[name].summary) for name in sorted(ESTIMATORS)]
        return [_table(("Estimator", "What it does"), rows)]


def _public_names(module):
    """The names that a package's ``__init__.py`` exports, each as ``from .. import X as X``."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return sorted(a.asname for node in imports for a in node.names if a.asname and not a.asname.startswith("_"))


def _everything_documented(app, env):
    import sketchlearn

    objects = env.get_domain("py").objects
    for module in (sketchlearn, sketchlearn.taylor):
        for name in _public_names(module):
            places = (f"{module.__name__}.{name}", f"sketchlearn.{name}")
            if not any(place in objects for place in places):
                log.warning("%s is public, but no page documents it (book/api.md)", places[0])


def _array_types(app, env, node, contnode):
    """The parts of an array's annotation, ``Float[np.ndarray, "m q"]``, lead nowhere and need not."""
    kinds = r"(jaxtyping\.)?(Bool|Complex|Float|Int|Num|PyTree)\d*"
    arrays = r"ndarray|numpy\.(floating|dtype)|.*(DTypeLike|SupportsDType)"
    plain = re.fullmatch(rf"{kinds}|{arrays}|'.*", node.get("reftarget", ""))
    return contnode if plain else None


def _addresses(app, config):
    url, repository = os.environ.get("BOOK_URL", ""), os.environ.get("BOOK_REPOSITORY", "")
    if url:
        config.ogp_site_url = config.html_baseurl = url.rstrip("/") + "/"
    # a preview shows the picture large where there is one; a picture without an address cannot be fetched
    config.ogp_custom_meta_tags = [f'<meta name="twitter:card" content="summary{"_large_image" if url else ""}" />']
    config.notfound_urls_prefix = urlparse(url).path.rstrip("/") + "/"
    if repository:
        config.html_theme_options.update(
            repository_url=repository,
            repository_branch="main",
            use_repository_button=True,
            use_issues_button=True,
            use_edit_page_button=True,
            path_to_docs="",
            launch_buttons={
                **({"colab_url": "https://colab.research.google.com"} if _notebooks_know_the_repository() else {}),
                "binderhub_url": "https://mybinder.org",
                "notebook_interface": "jupyterlab",
            },
        )


def _notebooks_know_the_repository():
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return "Repository" in project.get("urls", {})


PREVIEW = re.compile(r'<meta property="og:(?:url|image(?::\w+)?)" content="[^"]*" />\n?')


def only_whole_addresses(tags):
    """The tags of a page for previews, without addresses (and words about a picture) that lead nowhere."""
    return PREVIEW.sub("", tags)


def _previews(app, pagename, templatename, context, doctree):
    if not app.config.ogp_site_url:
        context["metatags"] = only_whole_addresses(context.get("metatags", ""))


def _mathjax(app):
    if app.builder.format != "html":
        return
    source = distribution("sphinx-mathjax-offline").locate_file(f"sphinx-mathjax-offline/static/mathjax/{MATHJAX}")
    target = Path(app.doctreedir) / "_assets" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target / MATHJAX)
    app.config.html_static_path.append(str(target.parent))


def _without_repeats(app, pagename, templatename, context, doctree):
    seen, scripts = set(), []
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", None) or {}
        key = (str(getattr(script, "filename", script) or ""), str(attributes.get("body", "")))
        if key not in seen:
            seen.add(key)
            scripts.append(script)
    context["script_files"] = scripts


def _without_dead_links(app, error):
    """Source pages link back to the documentation of a name where it is defined; some are documented elsewhere."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    ids: dict[Path, set[str]] = {}

    def lives(page, match):
        target = (page.parent / match["file"]).resolve()
        if target not in ids:
            ids[target] = set(re.findall(r'id="([^"]+)"', target.read_text(encoding="utf-8")))
        return match["anchor"] in ids[target]

    link = re.compile(r'<a class="viewcode-back" href="(?P<file>[^"#]+)#(?P<anchor>[^"]+)">.*?</a>')
    for page in (out / "_modules").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        kept = link.sub(lambda match, page=page: match[0] if lives(page, match) else "", text)
        if kept != text:
            page.write_text(kept, encoding="utf-8")


def _abbreviated(app, config):
    """Names that annotations abbreviate, and Sphinx therefore does not find."""
    short = {("py:class", name) for name in ("np.ndarray", "Space", "Alone", "Path", "Measured")}
    config.nitpick_ignore = {*map(tuple, config.nitpick_ignore), *short}


def setup(app):
    app.add_directive("primitives", Primitives)
    app.add_directive("estimators", Estimators)
    app.connect("config-inited", _addresses, priority=100)
    app.connect("config-inited", _abbreviated, priority=100)
    app.connect("builder-inited", _mathjax)
    app.connect("missing-reference", _array_types)
    app.connect("env-check-consistency", _everything_documented)
    app.connect("html-page-context", _without_repeats, priority=900)
    app.connect("html-page-context", _previews, priority=900)  # after the extension that writes the tags
    app.connect("build-finished", _without_dead_links)
    return {"version": "0.1", "parallel_read_safe": True, "parallel_write_safe": True}
