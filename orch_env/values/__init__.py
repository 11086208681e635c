"""When two argument values are equal.

Cache keys, rewards, provenance and scorers all use this package, so a value that the cache finds is
also right for a reward. Without a schema a value has one canonical form
(:mod:`orch_env.values.canonical`). A JSON Schema only adds further spellings of a value
(:mod:`orch_env.values.by_schema` has the table of rules), so values that are equal without a schema
are equal under every schema. Only the keys of old cache files are made by the first edition of the
form (:mod:`orch_env.values.canonical_v1`).
"""

from orch_env.values.by_schema import (
    KEY_VERSION,
    call_key,
    canonical_by_schema,
    canonical_text_by_schema,
    stated,
)
from orch_env.values.canonical import MAX_DEPTH, canonical, canonical_text
from orch_env.values.canonical_v1 import call_key_v1, canonical_text_v1
from orch_env.values.difference import difference, shortfall
from orch_env.values.equality import calls_equal, json_type, types_compatible, values_equal
from orch_env.values.likeness import likeness
from orch_env.values.schema_rules import SchemaRules

__all__ = [
    "KEY_VERSION",
    "MAX_DEPTH",
    "SchemaRules",
    "call_key",
    "call_key_v1",
    "calls_equal",
    "canonical",
    "canonical_by_schema",
    "canonical_text",
    "canonical_text_by_schema",
    "canonical_text_v1",
    "difference",
    "json_type",
    "likeness",
    "shortfall",
    "stated",
    "types_compatible",
    "values_equal",
]
