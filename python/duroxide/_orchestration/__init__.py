"""The Python half of an orchestration: its event loop, strict mode, and the results of combinators."""
