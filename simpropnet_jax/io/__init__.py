"""Images, masks, COCO annotations and overlays."""
