"""Values that an attacker with the rights to write rows may choose."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# What the engine calls its work items, and the fields of them.
KINDS = [
    "StartOrchestration",
    "ActivityExecute",
    "ActivityCompleted",
    "ActivityFailed",
    "TimerFired",
    "ExternalRaised",
    "QueueMessage",
    "SubOrchCompleted",
    "SubOrchFailed",
    "CancelInstance",
    "ContinueAsNew",
]
FIELDS = [
    "instance",
    "name",
    "orchestration",
    "input",
    "data",
    "execution_id",
    "parent_instance",
    "parent_id",
    "id",
    "result",
    "details",
    "reason",
    "fire_at_ms",
    "session_id",
    "tag",
    "version",
]

LARGEST = 2**63 - 1
numbers = st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, -(2**31), LARGEST, -LARGEST - 1]) | st.integers(-9, 9)
# No zero character: PostgreSQL refuses it in a text.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
field_values: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | numbers
    | texts
    | st.lists(numbers, max_size=2)
    | st.dictionaries(texts, numbers, max_size=2)
)
work_items = st.builds(
    lambda kind, fields: json.dumps({kind: fields}),
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(FIELDS), field_values),
)
# Nested more deeply than a recursive reader could follow.
deep = st.builds(lambda depth, end: "[" * depth + end, st.sampled_from([10, 100, 100_000]), st.sampled_from(["", "1"]))
item_texts = work_items | texts | deep | st.just("{}")
