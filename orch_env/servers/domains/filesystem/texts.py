"""Tools that read, search and rewrite text files, and print what the commands print."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from decimal import Decimal
from functools import partial
from itertools import groupby
from typing import Annotated, Any, Literal

from orch_env.servers.domains.filesystem.expressions import (
    Budget,
    Expression,
    as_bytes,
    expression,
    from_bytes,
)
from orch_env.servers.domains.filesystem.line_diff import normal_diff
from orch_env.servers.domains.filesystem.nodes import Kind, num_bytes
from orch_env.servers.domains.filesystem.volume import (
    MAX_FILE,
    READ,
    Path,
    Paths,
    Volume,
    joined,
    name_of,
    parent_of,
    refuse,
)
from orch_env.servers.framework.arguments import Length, Pattern, Range
from orch_env.servers.framework.errors import InvalidArguments, ToolRefusal
from orch_env.servers.framework.server import read, write
from orch_env.types.json import JsonObject

Count = Annotated[int, Range(0, 100_000)]
NumLines = Annotated[int, Range(1, 100_000)]
PatternText = Annotated[str, Length(0, 200)]
OneChar = Annotated[str, Length(1, 1)]
Positions = Annotated[str, Pattern("[0-9]{0,6}-?[0-9]{0,6}(,[0-9]{0,6}-?[0-9]{0,6}){0,50}")]
MAX_PIECES = 100
SPACES = " \t\n\r\f\v"


class TextTools(Volume):
    """What is in text files."""

    @read
    def cat(self, paths: Paths, number: bool = False) -> JsonObject:
        """Print text files one after the other.

        Args:
            paths: Files or patterns such as *.txt; ls and find show files.
            number: Number the lines (-n).
        """
        text = "".join(self.text_of(said) for said in self.expand(paths))
        if number:
            lines = enumerate(_lines(text), 1)
            text = "".join(f"{place:6d}\t{line}" for place, line in lines)
        return {"output": text}

    @read
    def head(self, path: Path, lines: NumLines = 10) -> JsonObject:
        """Print the first lines of a text file.

        Args:
            path: The file; ls and find show files.
            lines: How many lines (-n).
        """
        return {"output": "".join(_lines(self.text_of(path))[:lines])}

    @read
    def tail(self, path: Path, lines: NumLines = 10, from_line: Count | None = None) -> JsonObject:
        """Print the last lines of a text file, or all from one line on.

        Args:
            path: The file; ls and find show files.
            lines: How many lines (-n).
            from_line: Start at this line instead, counted from 1 (-n +N).
        """
        found = _lines(self.text_of(path))
        if from_line is not None:
            return {"output": "".join(found[max(0, from_line - 1) :])}
        return {"output": "".join(found[max(0, len(found) - lines) :])}

    @read
    def wc(
        self, paths: Paths, count: Literal["all", "lines", "words", "bytes"] = "all"
    ) -> JsonObject:
        """Count the lines, words and bytes of text files; lines, words and bytes are the sums.

        Args:
            paths: Files or patterns such as *.txt; ls and find show files.
            count: What to print: all three, or one of them (-l, -w, -c).
        """
        names = self.expand(paths)
        columns = ("lines", "words", "bytes")
        rows = [dict(zip(columns, _counts(self.text_of(said)), strict=True)) for said in names]
        sums = {column: sum(row[column] for row in rows) for column in columns}
        printed = columns if count == "all" else (count,)
        single = len(names) == 1 and len(printed) == 1
        width = 1 if single else len(str(sums["bytes"]))
        named = list(zip(names, rows, strict=True))
        named += [("total", sums)] if len(rows) > 1 else []
        output = "".join(
            " ".join(f"{row[column]:>{width}}" for column in printed) + f" {name}\n"
            for name, row in named
        )
        return {**sums, "output": output}

    @read
    def grep(
        self,
        pattern: PatternText,
        paths: Paths,
        recursive: bool = False,
        ignore_case: bool = False,
        fixed: bool = False,
        invert: bool = False,
        line_numbers: bool = False,
        show: Literal["lines", "files", "count"] = "lines",
    ) -> JsonObject:
        """Search text files for lines that hold a match of an extended regular expression.

        Args:
            pattern: The expression, as for grep -E; no back-references.
            paths: Files or patterns such as *.txt, and folders with recursive.
            recursive: Search all files below folders (-r), sorted by path; archives and files that
                you may not read are passed over.
            ignore_case: Take upper and lower case letters as the same (-i).
            fixed: Search for the text itself, not for an expression (-F).
            invert: Find the lines without a match (-v).
            line_numbers: Print the number of each line (-n).
            show: The lines, the names of the files (-l) or the number of lines in each (-c).
        """
        if "\n" in pattern:
            raise InvalidArguments(
                "The pattern holds a line break. Search for one line at a time.",
                reason="bad_pattern",
            )
        matcher = expression(pattern, fixed=fixed, ignore_case=ignore_case)
        budget = Budget()
        names = self.expand(paths)
        files, denied = self._files(names, recursive)
        titled = len(names) > 1 or (recursive and self.need(names[0]).node.kind is Kind.FOLDER)
        output: list[str] = []
        total, matched = 0, []
        for said, text in files:
            hits = _hits(matcher, text, invert, budget)
            total += len(hits)
            matched += [said] if hits else []
            title = f"{said}:" if titled else ""
            if show == "count":
                output.append(f"{title}{len(hits)}\n")
            elif show == "lines":
                output += [
                    f"{title}{f'{place}:' if line_numbers else ''}{line}\n" for place, line in hits
                ]
            elif hits:
                output.append(f"{said}\n")
        result: JsonObject = {"matches": total, "paths": matched, "output": "".join(output)}
        if denied:
            result["not_readable"] = denied
        return result

    @read
    def sort(
        self,
        path: Path,
        numeric: bool = False,
        reverse: bool = False,
        unique: bool = False,
        key: Annotated[int, Range(1, 1000)] | None = None,
        separator: OneChar | None = None,
    ) -> JsonObject:
        """Print the lines of a text file in order; the file stays as it is.

        Args:
            path: The file; ls and find show files.
            numeric: Compare as numbers (-n).
            reverse: Turn the order round (-r).
            unique: Print only the first of equal lines (-u).
            key: Compare this field, counted from 1, not the whole line (-k N,N).
            separator: The character between fields (-t); runs of blanks if left out.
        """
        lines = [line.removesuffix("\n") for line in _lines(self.text_of(path))]
        parts = partial(_field, key=key, separator=separator)
        keyed = [(_number(parts(line)) if numeric else parts(line), line) for line in lines]
        if unique:
            keyed.sort(key=lambda pair: pair[0], reverse=reverse)
            keyed = [next(group) for _, group in groupby(keyed, key=lambda pair: pair[0])]
        else:
            keyed.sort(reverse=reverse)
        return {"output": "".join(f"{line}\n" for _, line in keyed)}

    @read
    def uniq(
        self,
        path: Path,
        count: bool = False,
        only: Literal["all", "repeated", "single"] = "all",
        ignore_case: bool = False,
    ) -> JsonObject:
        """Print the lines of a text file without repetitions of the line before.

        Args:
            path: The file; sort it first if equal lines are apart.
            count: Print how often each line stands there (-c).
            only: All lines, those that repeat (-d) or those that do not (-u).
            ignore_case: Take upper and lower case letters as the same (-i).
        """
        lines = [line.removesuffix("\n") for line in _lines(self.text_of(path))]
        output: list[str] = []
        for _, group in groupby(lines, key=_folded if ignore_case else None):
            same = list(group)
            if only == "all" or (len(same) > 1) == (only == "repeated"):
                output.append((f"{len(same):7d} " if count else "") + f"{same[0]}\n")
        return {"output": "".join(output)}

    @read
    def cut(
        self,
        path: Path,
        fields: Positions | None = None,
        characters: Positions | None = None,
        separator: OneChar = "\t",
        skip_others: bool = False,
    ) -> JsonObject:
        """Print parts of each line of a text file: fields, or characters.

        Args:
            path: The file; ls and find show files.
            fields: Numbers of the fields, counted from 1, such as 1,3-5 or 2- (-f).
            characters: Numbers of the bytes instead, such as 1-8 (-c).
            separator: The character between fields (-d); a tab if left out.
            skip_others: Leave out lines without the separator (-s).
        """
        if (fields is None) == (characters is None):
            raise InvalidArguments(
                "Give fields or characters, and not both.", reason="fields_or_characters"
            )
        wanted = _ranges(fields or characters or "")
        output: list[str] = []
        mark = as_bytes(separator)
        if len(mark) > 1:
            raise InvalidArguments(
                "The separator must be one byte, an ASCII character.", reason="bad_separator"
            )
        for line in _lines(self.text_of(path)):
            raw = as_bytes(line.removesuffix("\n"))
            if characters is not None:
                output.append("".join(_chosen(raw, wanted)))
            elif mark in raw:
                output.append(mark.join(_chosen(raw.split(mark), wanted)))
            elif not skip_others:
                output.append(raw)
        return {"output": "".join(f"{from_bytes(line)}\n" for line in output)}

    @read
    def sed(
        self,
        path: Path,
        pattern: Annotated[str, Length(1, 200)],
        replacement: Annotated[str, Length(0, 500)],
        every: bool = False,
        ignore_case: bool = False,
    ) -> JsonObject:
        r"""Print a text file with matches replaced (sed -E s/.../.../); the file stays as it is.

        Args:
            path: The file; ls and find show files.
            pattern: An extended regular expression; no back-references.
            replacement: The new text; & is the match, \& the sign itself, \n a line break.
            every: Replace all matches of a line (g), not only the first one.
            ignore_case: Take upper and lower case letters as the same (I).
        """
        text, count = self._replaced(path, pattern, replacement, every, ignore_case)
        return {"replaced": count, "output": text}

    @write(destructive=True)
    def sed_in_place(
        self,
        path: Path,
        pattern: Annotated[str, Length(1, 200)],
        replacement: Annotated[str, Length(0, 500)],
        every: bool = False,
        ignore_case: bool = False,
    ) -> JsonObject:
        r"""Replace matches in a text file (sed -i -E s/.../.../).

        Args:
            path: The file; grep shows which files hold a match.
            pattern: An extended regular expression; no back-references.
            replacement: The new text; & is the match, \& the sign itself, \n a line break.
            every: Replace all matches of a line (g), not only the first one.
            ignore_case: Take upper and lower case letters as the same (I).
        """
        text, count = self._replaced(path, pattern, replacement, every, ignore_case)
        old = self.need(path).node
        if text.count("\ufffd") > old.text.count("\ufffd"):
            raise ToolRefusal(
                "This would cut a character in two: patterns see bytes, as in the C locale. Match "
                "what should be replaced by its letters.",
                reason="inside_a_character",
            )
        found = self.need(path, follow=False)
        # sed writes a new file, with the permissions of the old one, and moves it over the path.
        self.check_removable(found)
        folder = self.nodes[parent_of(found.path)]
        group = old.group if old.group in self.groups else self.group_in(folder)
        self.nodes[found.path] = replace(
            old, owner=self.shell.user, group=group, text=text, modified=self.stamp
        )
        self.touch_folder(parent_of(found.path))
        self.check_quota()
        return {"replaced": count, "path": path}

    @read
    def diff(self, path: Path, other: Path) -> JsonObject:
        """Show the smallest change that makes one text file the other (diff -d).

        Args:
            path: The old file; ls and find show files.
            other: The new file.
        """
        one, two = (self.need(said).node.kind is Kind.FOLDER for said in (path, other))
        if one and two:
            raise ToolRefusal(
                "Both are folders: Is a directory. Name two files, or a folder and a file.",
                reason="two_folders",
            )
        # Beside a file, a folder stands for the file of that name in it.
        path = joined(path, name_of(other)) if one else path
        other = joined(other, name_of(path)) if two else other
        if self.need(path).path == self.need(other).path:
            return {"equal": True, "output": ""}
        old, new = _lines(self.text_of(path)), _lines(self.text_of(other))
        return {"equal": old == new, "output": normal_diff(old, new, Budget())}

    @read
    def comm(
        self,
        path: Path,
        other: Path,
        show: Literal["all", "only_first", "only_second", "both"] = "all",
    ) -> JsonObject:
        """Compare two sorted text files line by line.

        Args:
            path: The first file; its lines must be sorted.
            other: The second file; its lines must be sorted.
            show: Three columns, or only the lines of the first file (-23), of the second (-13) or
                of both (-12).
        """
        indents = {
            "all": ("", "\t", "\t\t"),
            "only_first": ("", None, None),
            "only_second": (None, "", None),
            "both": (None, None, ""),
        }[show]
        sides = [
            [line.removesuffix("\n") for line in _lines(self.text_of(said))]
            for said in (path, other)
        ]
        at = [0, 0]
        output: list[str] = []
        unpaired = False
        while at[0] < len(sides[0]) or at[1] < len(sides[1]):
            fronts = [side[i] if i < len(side) else None for side, i in zip(sides, at, strict=True)]
            if fronts[0] == fronts[1]:
                column, moved = 2, [0, 1]
            elif fronts[1] is None or (fronts[0] is not None and fronts[0] < fronts[1]):
                column, moved = 0, [0]
            else:
                column, moved = 1, [1]
            unpaired = unpaired or column != 2
            indent = indents[column]
            if indent is not None:
                output.append(f"{indent}{fronts[moved[0]]}\n")
            for side in moved:
                at[side] += 1
                here = sides[side][at[side] - 1 : at[side] + 1]
                if unpaired and len(here) == 2 and here[0] > here[1]:
                    raise ToolRefusal(
                        f"'{(path, other)[side][:200]}' is not in sorted order. "
                        "sort prints it in order; write that to a file first.",
                        reason="not_sorted",
                    )
        return {"output": "".join(output)}

    @write(destructive=True)
    def split(
        self,
        path: Path,
        lines: Annotated[int, Range(1, 100_000)],
        prefix: Annotated[str, Length(1, 4000)] = "x",
    ) -> JsonObject:
        """Cut a text file into files of some lines each, named PREFIXaa, PREFIXab and so on.

        Args:
            path: The file; ls and find show files.
            lines: Lines of each piece (-l); wc tells how many there are.
            prefix: What the new paths start with; x if left out.
        """
        content = _lines(self.text_of(path))
        if len(content) > lines * MAX_PIECES:
            raise ToolRefusal(
                f"That makes more than {MAX_PIECES} pieces. Take more lines for each.",
                reason="too_many_pieces",
            )
        whole = self.need(path)
        pieces: list[str] = []
        for number, start in enumerate(range(0, len(content), lines)):
            said = f"{prefix}{chr(97 + number // 26)}{chr(97 + number % 26)}"
            if self.locate(said).path == whole.path:
                raise ToolRefusal(
                    f"'{said[:200]}' would overwrite input. Take another prefix.",
                    reason="same_file",
                )
            self.put_text(said, "".join(content[start : start + lines]))
            pieces.append(said)
        self.check_quota()
        return {"pieces": pieces}

    @read
    def md5sum(self, paths: Paths) -> JsonObject:
        """Print the MD5 sum of each file; equal files have equal sums.

        Args:
            paths: Files or patterns such as *.txt; ls and find show files.
        """
        return self._sums(paths, partial(hashlib.md5, usedforsecurity=False))

    @read
    def sha256sum(self, paths: Paths) -> JsonObject:
        """Print the SHA-256 sum of each file; equal files have equal sums.

        Args:
            paths: Files or patterns such as *.txt; ls and find show files.
        """
        return self._sums(paths, hashlib.sha256)

    # -- parts ----------------------------------------------------------------------------------

    def _sums(self, paths: list[str], algorithm: Any) -> JsonObject:
        names = self.expand(paths)
        sums = [algorithm(self.text_of(said).encode()).hexdigest() for said in names]
        printed = [f"{digest}  {said}\n" for digest, said in zip(sums, names, strict=True)]
        return {"sums": sums, "output": "".join(printed)}

    def _files(self, names: list[str], recursive: bool) -> tuple[list[tuple[str, str]], list[str]]:
        """Printed path and text of each file to search, and what could not be read."""
        files: list[tuple[str, str]] = []
        denied: list[str] = []
        for said in names:
            start = self.need(said)
            if not recursive or start.node.kind is not Kind.FOLDER:
                files.append((said, self.text_of(said)))
                continue
            below: list[tuple[str, str]] = []
            for found in self.walk(said, start.path, denied):
                node = found.node
                if node.kind is not Kind.FILE or node.members is not None:
                    continue
                if self.may(node, READ):
                    below.append((found.said, node.text))
                else:
                    denied.append(found.said)
            files += sorted(below)
        return files, sorted(denied)

    def _replaced(
        self, path: str, pattern: str, replacement: str, every: bool, ignore_case: bool
    ) -> tuple[str, int]:
        """The text of a file with matches replaced, and how many there were."""
        if "\n" in pattern:
            raise InvalidArguments(
                "The pattern holds a line break. Lines are matched one at a time.",
                reason="bad_pattern",
            )
        matcher = expression(pattern, ignore_case=ignore_case)
        pieces = _pieces(as_bytes(replacement))
        budget = Budget()
        output: list[str] = []
        size = count = 0
        for line in _lines(self.text_of(path)):
            body = line.removesuffix("\n")
            changed, hits = _substituted(as_bytes(body), matcher, pieces, every, budget)
            changed = from_bytes(changed) + line[len(body) :]
            count += hits
            size += num_bytes(changed)
            if size > MAX_FILE:
                refuse("file_too_large", path)
            output.append(changed)
        return "".join(output), count


def _lines(text: str) -> list[str]:
    """The lines of a text with their newlines; the last one may have none."""
    parts = text.split("\n")
    last = parts.pop()
    lines = [part + "\n" for part in parts]
    return [*lines, last] if last else lines


def _counts(text: str) -> tuple[int, int, int]:
    # In the C locale a word is a run of bytes that are no space.
    words = sum(bool(part) for part in re.split(f"[{SPACES}]+", text))
    return text.count("\n"), words, num_bytes(text)


def _hits(matcher: Expression, text: str, invert: bool, budget: Budget) -> list[tuple[int, str]]:
    lines = (line.removesuffix("\n") for line in _lines(text))
    return [
        (place, line)
        for place, line in enumerate(lines, 1)
        if matcher.found_in(as_bytes(line), budget) != invert
    ]


def _substituted(
    line: str, matcher: Expression, pieces: list[str | None], every: bool, budget: Budget
) -> tuple[str, int]:
    """A line with its first match, or all, replaced; an empty match after another one is none."""
    output: list[str] = []
    count, start, last_end, size = 0, 0, -1, 0
    while start <= len(line) and (every or not count):
        match = matcher.search(line, start, budget)
        if match is None:
            break
        first, end = match
        output.append(line[start:first])
        if first != end or first != last_end:
            new = "".join(line[first:end] if piece is None else piece for piece in pieces)
            output.append(new)
            size += len(new)
            if size > MAX_FILE:
                break  # the caller refuses a text of this size
            count, last_end = count + 1, end
        if first == end:
            output.append(line[first : first + 1])
            start = first + 1
        else:
            start = end
        budget.spend(1 + len(output[-1]))
    return "".join(output) + line[start:], count


def _pieces(replacement: str) -> list[str | None]:
    """Texts of a replacement, ``None`` where the match goes."""
    pieces: list[str | None] = []
    signs = iter(replacement)
    for char in signs:
        if char == "&":
            pieces.append(None)
        elif char == "\\":
            after = next(signs, "")
            known = {"n": "\n", "t": "\t", "&": "&", "\\": "\\", "/": "/"}
            if after not in known:
                raise InvalidArguments(
                    f"The replacement holds \\{after}, which is not offered; "
                    "& stands for the match, \\\\ for a backslash.",
                    reason="bad_replacement",
                )
            pieces.append(known[after])
        else:
            pieces.append(char)
    return pieces


def _field(line: str, *, key: int | None, separator: str | None) -> str:
    """The part of a line that is compared."""
    if key is None:
        return line
    if separator is not None:
        parts = line.split(separator)
        return parts[key - 1] if key <= len(parts) else ""
    # Blanks belong to the field that follows them.
    fields = re.findall(r"[ \t]*[^ \t]+|[ \t]+$", line)
    return fields[key - 1] if key <= len(fields) else ""


def _number(text: str) -> Decimal:
    """The number that a text starts with, as `sort -n` reads it; 0 if there is none."""
    found = re.match(r"[ \t]*(-?[0-9]*(?:\.[0-9]*)?)", text)
    digits = found[1] if found else ""
    return Decimal(digits) if any(c.isdigit() for c in digits) else Decimal(0)


def _folded(line: str) -> str:
    return as_bytes(line).translate({c: c + 32 for c in range(65, 91)})


def _ranges(text: str) -> list[tuple[int, int]]:
    """Such as ``1,3-5`` as pairs of first and last, from 1, merged and in order."""
    pairs: list[tuple[int, int]] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not (low or high):
            raise InvalidArguments(
                f"{text[:100]!r} is no list of positions. Write numbers and ranges: 1,3-5 or 2-.",
                reason="bad_positions",
            )
        first = int(low or 1)
        last = first if not dash else int(high) if high else 10**6
        if first < 1 or last < first:
            raise InvalidArguments(
                f"{part!r} is no range of positions; they count from 1.", reason="bad_positions"
            )
        pairs.append((first, last))
    return sorted(pairs)


def _chosen(parts: str | list[str], ranges: list[tuple[int, int]]) -> list[str]:
    chosen: list[str] = []
    taken = 0
    for first, last in ranges:
        start = max(first - 1, taken)
        chosen += parts[start:last]
        taken = max(taken, min(last, len(parts)))
    return chosen
