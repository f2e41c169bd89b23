"""One layer: options, request -> plan -> batches -> pictures; the recipe."""
