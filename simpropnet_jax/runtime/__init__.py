"""Errors, paths, downloads, checkpoints, devices and hosts: the ground floor."""
