"""From pixel levels to what a model sees: moments, whitening, patches, contrast."""
