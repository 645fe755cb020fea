"""A page in the browser: examples are painted or given with their masks, pictures get masks."""
