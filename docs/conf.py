"""Sphinx's settings for the site: MyST Markdown, the furo theme, nothing fetched when it is built or read."""

from pathlib import Path

from sphinx.application import Sphinx

import gen
from pipelines.documentation.pages import write

DOCS = Path(__file__).parent

project = html_title = "gen"
release = version = gen.__version__
extensions = ["myst_parser"]
exclude_patterns = ["_build", "measured", "*/_catalogue.md"]  # the catalogues are parts of the front page
nitpicky = True

myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 3
highlight_language = "bash"  # an indented block of a guide is a shell's

SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif'
FONTS = {  # what the reader's machine has: no font is fetched
    "font-stack": SANS,
    "font-stack--headings": SANS,
    "font-stack--serif": '"Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", P052, Georgia, serif',
    "font-stack--monospace": 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
}

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["gen.css"]
html_favicon = "static/gen.svg"
html_copy_source = html_show_sourcelink = False
html_show_copyright = html_show_sphinx = False
html_use_index = False
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {
        **FONTS,
        "color-background-primary": "#fcfbf8",
        "color-background-secondary": "#f4f2ec",
        "color-foreground-primary": "#1e1d1b",
        "color-foreground-secondary": "#4a4741",
        "color-foreground-muted": "#605c55",
        "color-brand-primary": "#1f5482",
        "color-brand-content": "#1f5482",
        "color-brand-visited": "#1f5482",
        "color-code-background": "#f4f2ec",
        "color-inline-code-background": "#f1eee6",
        "color-rule": "#dedad0",
        "color-rule-strong": "#8f8a80",
        "color-shade": "#d9d4c8",
        "color-passed": "#1f6a38",
        "color-failed": "#a5262b",
    },
    "dark_css_variables": {
        "color-background-primary": "#15171a",
        "color-background-secondary": "#1d2024",
        "color-foreground-primary": "#e5e2dc",
        "color-foreground-secondary": "#c3beb5",
        "color-foreground-muted": "#a6a199",
        "color-brand-primary": "#93c0ea",
        "color-brand-content": "#93c0ea",
        "color-brand-visited": "#93c0ea",
        "color-code-background": "#1d2024",
        "color-inline-code-background": "#22262b",
        "color-rule": "#33363b",
        "color-rule-strong": "#6b6f76",
        "color-shade": "#000",
        "color-passed": "#83c99a",
        "color-failed": "#f2938f",
    },
}


def setup(app: Sphinx) -> None:
    """Write the pages of models and studies before Sphinx looks for sources."""
    app.connect("builder-inited", lambda _: write(DOCS, DOCS.parent))
