"""The site: Markdown by MyST, docstrings, and options and numbers taken from the program and its results when it is built."""

import sys
from pathlib import Path

from striate import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "Striate"
author = "The Striate developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "extensions.pages"]
exclude_patterns = ["tools", "extensions"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Links from pages to folders of the repository (recipes/, benchmarks/) lead there on GitHub and nowhere here.
suppress_warnings = ["myst.xref_missing"]

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
napoleon_use_rtype = False
napoleon_use_ivar = True

# Most code blocks are commands or listings of files.
highlight_language = "none"
# Single backticks in docstrings are code, as in Markdown.
default_role = "literal"
html_theme = "furo"
html_title = f"Striate {version}"
html_show_copyright = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": "https://github.com/striate/striate/",
    "source_branch": "main",
    "source_directory": "docs/",
}
