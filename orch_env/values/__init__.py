"""Equality of argument values, in one place.

Cache keys, rewards, provenance and scorers all ask this package, so that a value that hits the
cache is also the value that a reward calls right. Without a schema there is one canonical form
(:mod:`orch_env.values.canonical`); a JSON Schema only ever adds spellings of a value to it
(:mod:`orch_env.values.by_schema` has the table of rules), so what is equal plainly is equal under
every schema.
"""

from orch_env.values.by_schema import canonical_by_schema, canonical_text_by_schema
from orch_env.values.canonical import MAX_DEPTH, call_key, canonical, canonical_text
from orch_env.values.difference import difference, shortfall
from orch_env.values.equality import calls_equal, json_type, types_compatible, values_equal
from orch_env.values.schema_rules import SchemaRules

__all__ = [
    "MAX_DEPTH",
    "SchemaRules",
    "call_key",
    "calls_equal",
    "canonical",
    "canonical_by_schema",
    "canonical_text",
    "canonical_text_by_schema",
    "difference",
    "json_type",
    "shortfall",
    "types_compatible",
    "values_equal",
]
