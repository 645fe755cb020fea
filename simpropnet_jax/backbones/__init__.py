"""ResNet and VGG encoders, their pretrained weights and input conventions."""
