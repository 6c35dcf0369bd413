"""The clients and handles: calls that start, message, await, read and delete instances."""
