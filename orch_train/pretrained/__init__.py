"""Real pretrained models that can be had without a model hub."""
