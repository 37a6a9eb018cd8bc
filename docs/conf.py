"""Sphinx configuration of the documentation: `make docs`."""

import meta_latent

project = "meta-latent"
author = "the meta-latent authors"
release = version = meta_latent.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "meta-latent"
html_show_copyright = False
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# Docstrings are written for readers of the code: single backquotes mark names there.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository; tests/test_docs.py holds those
