"""Scores of a method on episodes, and the files and tables that state them."""
