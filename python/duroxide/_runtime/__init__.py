"""The runtime: registration, the threads, loops and processes that run activities, and the current context."""
