"""What a person looks at: pictures, curves, and a page of all results."""
