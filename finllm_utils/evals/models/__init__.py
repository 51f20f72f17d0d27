"""The table of models, how each is opened, and how any of them is asked."""
