"""Where images and labels come from: class folds, the label index, prepared data sets."""
