"""Models on a device: loading, tokens, batches, packed and padded forward passes, generation, embeddings."""
