"""Bits per byte, choice accuracy and the report card."""
