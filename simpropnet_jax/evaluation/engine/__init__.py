"""Scores a method on episodes: images, features, supports and metrics."""
