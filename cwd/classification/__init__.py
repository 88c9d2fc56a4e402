"""Image classification: networks, datasets, batches, accuracy."""
