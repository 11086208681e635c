"""Count code lines: lines that hold a token other than a comment or a docstring.

    python tools/code_lines.py orch_env orch_train

Formatting that hides code is told beside the count: lines longer than 100 columns and statements
joined by semicolons are no savings.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import tokenize
from pathlib import Path

_SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
MAX_COLUMNS = 100


def docstring_lines(tree: ast.Module) -> set[int]:
    """Line numbers of all texts that stand alone: docstrings, those of attributes too."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def count(text: str) -> dict[str, int]:
    """Code lines of one module, and of them those that are too long or hold a semicolon."""
    code: set[int] = set()
    semicolons: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _SILENT:
            code.update(range(token.start[0], token.end[0] + 1))
        if token.type == tokenize.OP and token.string == ";":
            semicolons.add(token.start[0])
    code -= docstring_lines(ast.parse(text))
    lines = text.split("\n")
    long = sum(len(lines[number - 1]) > MAX_COLUMNS for number in code)
    return {"code": len(code), "long": long, "semicolons": len(semicolons)}


def main() -> None:
    """Print a row per folder of each given package, and its sum."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    result: dict[str, dict[str, int]] = {}
    for folder in options.folders:
        total = {"files": 0, "code": 0, "long": 0, "semicolons": 0}
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).parts
            room = f"{folder}/{parts[0]}" if len(parts) > 1 else str(folder)
            found = {"files": 1, **count(path.read_text(encoding="utf-8"))}
            own = result.setdefault(room, dict.fromkeys(total, 0)) if len(parts) > 1 else {}
            for name, number in found.items():
                total[name] += number
                if own:
                    own[name] += number
        result[str(folder)] = total
    if options.json:
        print(json.dumps(result))
        return
    for name, row in sorted(result.items()):
        odd = "".join(f"  {row[key]} {key}" for key in ("long", "semicolons") if row[key])
        print(f"{row['code']:>7} code lines  {row['files']:>4} files  {name}{odd}")


if __name__ == "__main__":
    main()
