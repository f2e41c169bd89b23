"""Many layers: the atlas, job files, what a run would take."""
