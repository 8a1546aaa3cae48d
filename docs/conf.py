"""Sphinx's settings. ``make docs`` builds the site into docs/_build/html, and fails at the first warning."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tools"))

import quantviz

project = "quantviz"
author = "the quantviz contributors"
project_copyright = f"2026, {author}"
release = version = quantviz.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb", "sphinx_click", "site_parts"]
exclude_patterns = ["_build", "tools"]
html_theme = "furo"
html_title = f"quantviz {release}"
html_show_sourcelink = False
html_copy_source = False
# A link to a heading is its text in lower case with hyphens, as on the page of a repository.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False

# A notebook is run when its cells have changed since it was run last, and a cell that fails fails the site.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars and warnings of libraries
