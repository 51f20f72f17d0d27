"""What a model did on each item, how sure a figure is, and which changes are clear."""
