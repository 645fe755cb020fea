"""Convolutions, one file for each platform."""
