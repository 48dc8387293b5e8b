"""Fine-tuning on frozen embeddings: small trainable modules on what a VLM computed, from the tables alone."""
