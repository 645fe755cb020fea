"""Objectives, phases, state and the training loop."""
