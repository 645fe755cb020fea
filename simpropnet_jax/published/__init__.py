"""Published models: trained weights that others load by name, from a folder, a file or an address."""
