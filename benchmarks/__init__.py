"""The public race of jaxviz against the other tools: run by `python -m benchmarks.race`, explained in README.md."""
