"""Every pass through the model: embeddings, token states, likelihoods, writing."""
