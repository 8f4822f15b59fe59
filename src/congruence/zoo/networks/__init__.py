"""The networks of the zoo, as PyTorch modules whose submodules are the layers that the papers compare."""
