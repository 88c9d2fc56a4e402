"""Figures of the papers, one function each."""
