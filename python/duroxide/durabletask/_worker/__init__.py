"""The functions of a worker, and how the runtime calls them."""
