"""PyTorch modules that architectures are built from."""
