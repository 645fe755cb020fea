"""Few-shot image segmentation in JAX: SimPropNet and the PASCAL-5i benchmark."""
