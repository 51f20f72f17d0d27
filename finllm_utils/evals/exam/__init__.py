"""Exams with a key: our finance exam, one made of statutes, and published ones."""
