"""Recipes and fields: defaults, rules, help, and the command line."""
