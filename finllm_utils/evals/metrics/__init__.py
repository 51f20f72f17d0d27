"""Metrics for the library ``evaluate``, loaded from their files and never from the Hub.

``evaluate.load(str(path_of_the_file))`` copies a file into its cache and imports it
there, so each stands alone. Its loader reads one import a line only.
"""
