"""How Sphinx makes the site.

    pip install -c requirements.lock -e '.[docs]'
    python -m sphinx -W --keep-going docs build/docs    # and open build/docs/index.html

Nothing is fetched while it is built, nor when a page is read. Cells of the pages are
executed, and what they show is kept in `build/.jupyter_cache` until they change.
"""

import os
import sys
from pathlib import Path

import cmwjax

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# For the kernels that execute cells: configs/ is not in the wheel, and half of the time
# would be compiling.
os.environ["PYTHONPATH"] = os.environ["CMWJAX_CLONE"] = str(HERE.parent)
os.environ["IPYTHONDIR"] = str(HERE / "_ipython")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE.parent / "build" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

project, author = "cmwjax", "The cmwjax authors"
release = version = cmwjax.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mathml",
    "repository",
]
exclude_patterns = ["_*", "Thumbs.db", ".DS_Store"]
# Where links to files of the repository lead, e.g. https://HOST/OWNER/NAME/blob/main;
# without it they are names and no links.
repository_url = os.environ.get("CMWJAX_REPOSITORY_URL", "")

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "amsmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_in_temp = True  # runs leave their files there
nb_execution_excludepatterns = ["generated/*"]  # notebooks keep the outputs they have
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_execution_show_tb = True
nb_merge_streams = True
suppress_warnings = ["myst-nb.lexer"]  # of pages whose cells are not executed
nb_render_image_options = {"align": "center"}

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say what is what, with shapes and ranges
python_maximum_signature_line_length = 72
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
strip_signature_backslash = True  # or `classes_` loses its last letter
default_role = "literal"  # docstrings quote code by single backticks
nitpicky = False

html_theme = "furo"
html_title = "cmwjax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#4B2E9E",
        "color-brand-content": "#4B2E9E",
    },
    "dark_css_variables": {
        "color-brand-primary": "#B9A5F5",
        "color-brand-content": "#B9A5F5",
    },
}
copybutton_exclude = ".linenos, .gp, .go"
pygments_style, pygments_dark_style = "tango", "monokai"
