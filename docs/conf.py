"""The documentation: sphinx-build -W docs site."""

from rankdistill import __version__

project, author, release = "rankdistill", "the rankdistill authors", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "rankdistill"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
suppress_warnings = ["ref.python"]  # a name that two modules export
