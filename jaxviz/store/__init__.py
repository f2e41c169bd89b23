"""What is on disk: folders, contents, provenance, locks, the writer, merge."""
