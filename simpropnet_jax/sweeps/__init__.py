"""Several trainings, planned, run and compared; the demo."""
