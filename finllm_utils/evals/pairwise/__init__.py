"""Answers held against each other, two by two: verdicts, ratings, training pairs."""
