"""How Sphinx builds the pages: `make docs`. The pages themselves are plain Markdown that reads as well without it.

The source folder is the repository's root, so that README.md and docs/ link to each other as they do in a checkout.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from pygments.lexers.data import JsonLexer
from pygments.lexers.special import TextLexer

from biaslab import __version__

project = "biaslab"
author = "The biaslab authors"
copyright = "the biaslab authors, Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/**.md", "docs/reference.rst"]
exclude_patterns = [".*", "build", "dist", "outputs", "biaslab", "analysis", "tests", "conf", "wandb"]

# Every page stands here once; a page of docs/ that does not is listed under "More".
NAV = {
    "Start": ["docs/first_run", "docs/concepts", "docs/report", "docs/report_page", "docs/faq"],
    "Use": ["docs/models", "docs/own_data", "docs/gate", "docs/clusters", "docs/tracking", "docs/python", "docs/shell"],
    "What is measured": ["docs/benchmarks", "docs/benchmarks_field", "docs/benchmarks_planted", "docs/results_schema"],
    "What is done to a model": ["docs/accelerators", "docs/pruning", "docs/kv_cache"],
    "How it is judged": ["docs/statistics", "docs/reproduction", "docs/paper_table", "docs/organisms"],
    "How well it works": ["docs/performance", "docs/reliability", "docs/scale", "SECURITY"],
    "Take part": ["docs/extending", "docs/reference", "CONTRIBUTING", "CHANGELOG"],
}

html_theme = "furo"
html_title = f"biaslab {__version__}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
# Nothing is fetched from elsewhere: the theme's system fonts, its own script and style, no badge, no analytics.

myst_heading_anchors = 4
myst_links_external_new_tab = False
# A table or heading level that Markdown allows is no fault; a link or anchor that leads nowhere is.
suppress_warnings = ["myst.header"]
nitpicky = False  # docstrings name types of libraries whose pages are not fetched

default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True


def add_toctrees(app: Any, docname: str, source: list[str]) -> None:
    """Put the order of pages behind the root page; the file on disk stays as it is."""
    if docname != root_doc:
        return
    listed = [page for pages in NAV.values() for page in pages]
    more = sorted(page for page in app.env.found_docs - {root_doc} if page not in listed)
    for caption, pages in {**NAV, "More": more}.items():
        found = [page for page in pages if page in app.env.found_docs]
        if found:
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(found) + "\n```\n"


FIELD = re.compile(r"^([\w*]+(?:, [\w*]+)*) : (.*)$")


def as_rest(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings speak plain text: "name : what it is" becomes a list, and no character of a formula is markup."""
    out: list[str] = []
    in_list = in_code = False
    for line in lines:
        in_code = (in_code and bool(line.strip())) or line.lstrip().startswith(">>>")
        if in_code:
            out.append(line)
        elif found := FIELD.match(line):
            out += [*([] if in_list else [""]), f"* ``{found[1]}``: {plain(found[2])}"]
        else:  # up to the next empty line, text belongs to the entry above it
            out.append(f"  {plain(line.strip())}" if in_list and line.strip() else plain(line))
        in_list = bool(line.strip()) and not in_code and (in_list or bool(found))
    lines[:] = out


def plain(line: str) -> str:
    """`line` with what reStructuredText would read as markup escaped, but for text between backticks."""
    parts = line.split("`")
    return "`".join(part if i % 2 else re.sub(r"([*|]|_\b)", r"\\\1", part) for i, part in enumerate(parts))


def add_front(app: Any, error: Exception | None) -> None:
    """The root page under the name that servers and browsers look for."""
    if error is None and app.builder.format == "html":
        out = Path(app.outdir)
        shutil.copyfile(out / f"{root_doc}.html", out / "index.html")


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.add_lexer("csv", TextLexer)
    app.add_lexer("jsonl", JsonLexer)
    app.connect("source-read", add_toctrees)
    app.connect("autodoc-process-docstring", as_rest)
    app.connect("build-finished", add_front)
