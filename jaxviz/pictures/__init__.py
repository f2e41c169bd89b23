"""Arrays to images: deprocess, grids, animation, repetition."""
