"""How the documentation is built: ``make docs``. Needs no network."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django

django.setup()

import redis_pubsub  # noqa: E402

project = "django-redis-pubsub"
copyright = "its authors"
version = release = redis_pubsub.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "snippets"]
default_role = "py:obj"
highlight_language = "python"
pygments_style = "friendly"
toc_object_entries = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "alabaster"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "description": "Live Django models over WebSockets",
    "fixed_sidebar": True,
    "page_width": "1080px",
    "sidebar_width": "240px",
    "body_max_width": "760px",
    "font_family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "head_font_family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "font_size": "16px",
    "link": "#0b6b52",
    "link_hover": "#084c3b",
    "sidebar_link_underscore": "transparent",
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
