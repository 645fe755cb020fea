"""What the papers measured of methods beside their mIoU: H-PASCAL-5i and the premise experiments."""
