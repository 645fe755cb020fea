"""Result files, the tables made of them, and comparisons."""
