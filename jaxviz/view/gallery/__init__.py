"""A static site over a folder of pictures: `build_site`, which `jaxviz gallery DIR` calls.

    site.py      READ FIRST: from a catalogue to files; where everything lies, and why
    layers.py    one layer as its pages show it: tiles, sheets of thumbnails, what was measured
    filters.py   one filter's page: facts, recipe, snapshots
    command.py   the command that renders a picture again
    wording.py   numbers and names as text and as addresses
    folder.py    which files are the site's own
    templates/, static/    the pages' HTML (Jinja2, everything escaped), CSS and JavaScript

Nothing here prints, and no jax.
"""
