"""Pages, pictures and curves of results."""
