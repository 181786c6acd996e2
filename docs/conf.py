"""The documentation as a site: `make docs`. Sphinx reads the Markdown pages as they are.

Nothing is fetched: names of other packages' documentation are not linked, and furo brings its own
scripts along. The files at the top of the repository are pages too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

import verdigris  # noqa: E402

project = "verdigris"
author = "The verdigris maintainers"
copyright = "The verdigris maintainers"  # noqa: A001 (Sphinx asks for this name)
version = release = verdigris.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "index"
# "py" blocks are parts of programs, and `pycon` blocks sessions with prompts of several kinds.
highlight_language = "text"

# --- Markdown ----------------------------------------------------------------

myst_heading_anchors = 4  # links to headings, as a repository browser makes them
suppress_warnings = ["myst.xref_ambiguous"]

# --- the API, from the docstrings --------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
default_role = "name"

nitpicky = True
# Other packages' names, type variables, and what has no page: these are shown and not linked.
STDLIB = "|".join(sorted(map(re.escape, sys.stdlib_module_names)))
nitpick_ignore_regex = [
    (r"py:.*", rf"({STDLIB}|trio|curio|pytest|_pytest|psycopg|psycopg2|sniffio|sqlalchemy)(\..*)?"),
    (r"py:.*", r"(.*\.)?([A-Z]|Progress)"),
    (r"py:.*", r"(.*\.)?_[A-Za-z_]+"),
    (r"py:.*", r"verdigris\.(.+\.)?_.*"),
]

# --- HTML --------------------------------------------------------------------

html_theme = "furo"
html_title = f"verdigris {release}"
html_static_path: list[str] = []
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f6f66", "color-brand-content": "#1f6f66"},
    "dark_css_variables": {"color-brand-primary": "#6fc7bb", "color-brand-content": "#6fc7bb"},
}

# The files at the top, and the pages that show them.
PAGES_OF_FILES = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
}
TO_THE_TOP = re.compile(r"\]\(((?:\.\./)+)([A-Z]+\.md)(#[^)]*)?\)")
FROM_THE_TOP = re.compile(r"\]\((?![a-z]+://|#)([^)#]+)(#[^)]*)?\)")


def lead_to_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts the files at the top in the place of their pages, and has links lead to these."""
    file = next((name for name, page in PAGES_OF_FILES.items() if page == docname + ".md"), None)
    if file is not None:
        app.env.note_dependency(str(ROOT / file))
        source[0] = FROM_THE_TOP.sub(seen_from_docs, (ROOT / file).read_text(encoding="utf-8"))
    else:
        source[0] = TO_THE_TOP.sub(page_of_file, source[0])


def seen_from_docs(link: re.Match[str]) -> str:
    target, anchor = link[1], link[2] or ""
    if target in PAGES_OF_FILES:
        return f"]({PAGES_OF_FILES[target]}{anchor})"
    inside = target.removeprefix("docs/")
    return f"]({inside if inside != target else '../' + target}{anchor})"


def page_of_file(link: re.Match[str]) -> str:
    steps, target, anchor = link[1], link[2], link[3] or ""
    if target not in PAGES_OF_FILES:
        return link[0]
    # From docs/design/page.md the top is two steps away, and the page one.
    return f"]({steps.removeprefix('../')}{PAGES_OF_FILES[target]}{anchor})"


class Name(SphinxRole):
    """Single backticks in docstrings: a link for a public name, code for anything else."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        code = nodes.literal(self.rawtext, self.text, classes=["py"])
        name = self.text.removeprefix("verdigris.").removesuffix("()")
        if name.split(".")[0] not in verdigris.__all__:
            return [code], []
        link = addnodes.pending_xref(
            self.rawtext,
            code,
            refdoc=self.env.docname,
            refdomain="py",
            reftype="obj",
            reftarget=f"verdigris.{name}",
            refexplicit=True,
            refwarn=True,
        )
        return [link], []


PARAM_SPEC = re.compile(r"\*args: ~typing\.~(\w+), \*\*kwargs: ~typing\.~\w+")
FULL_NAME = re.compile(r"~(?:\w+\.)*~?(\w+)")


def shorten(app: Sphinx, domain: str, objtype: str, content: addnodes.desc_content) -> None:
    """Makes signatures readable that Sphinx can't parse: those with `*args: P.args`."""
    for text in list(content.parent.findall(nodes.Text)):
        if isinstance(text.parent, addnodes.desc_parameterlist | addnodes.desc_parameter):
            plain = PARAM_SPEC.sub(r"*args: \1.args, **kwargs: \1.kwargs", text)
            text.parent.replace(text, nodes.Text(FULL_NAME.sub(r"\1", plain)))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_role("name", Name())
    app.connect("source-read", lead_to_pages)
    app.connect("object-description-transform", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
