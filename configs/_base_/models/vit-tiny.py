# The ViT of the PhotoShapes configs: 0.9 M weights.
vit_tiny = dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512)
