"""Vocabulary expansion and its report."""
