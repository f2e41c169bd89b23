"""Foreign weight files to jaxviz's own: `python -m weights_convert convert|verify`."""
