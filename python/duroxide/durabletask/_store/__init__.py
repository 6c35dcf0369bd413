"""Where the store of an address is, and the stores that this process has opened."""
