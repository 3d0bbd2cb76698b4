"""The documentation's site: `make docs` builds it to `docs/_build`, and takes every warning for an error."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Fanfold"
author = "The authors of Fanfold"
project_copyright = author
release = metadata.version("fanfold")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "generated",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Fanfold"
html_static_path = ["_static"]
html_css_files = ["fanfold.css"]
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_ivar = True
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
