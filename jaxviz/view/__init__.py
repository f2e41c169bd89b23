"""Looking at finished work: measures, comparison, export, the gallery."""
