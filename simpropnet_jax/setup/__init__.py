"""Prepares a run from its config: method, weights, data and episodes."""
