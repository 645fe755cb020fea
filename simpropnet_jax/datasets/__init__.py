"""Images and labels: class folds, the label index, prepared data sets."""
