"""Declarations: what ``@activity`` and ``@orchestration`` make, with their names, arguments, retries and tags."""
