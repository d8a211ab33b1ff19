"""Write which licence every dependency states, into docs/licences.md.

    python benchmarks/licences.py

Reads pyproject.toml and the metadata of what is installed here, so it wants `pip install '.[dev]'`. Rows of
packages that are not installed stay as they are. Licences are given as the packages state them: an
SPDX expression where there is one, else the words of their metadata, else the head of their licence file.
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
BEGIN, END = "<!-- written by benchmarks/licences.py -->", "<!-- end -->"
UNSHIPPED = ("dev", "docs", "build")
"""Parts that no user needs; what these bring is left out."""
LONGEST = 60
"""Characters of a licence's name; what is longer is its text."""


def main() -> None:
    """Write the tables anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{_tables(rows_of(rest))}\n{END}{after}", encoding="utf-8")


def rows_of(text: str) -> dict[str, tuple[str, str]]:
    """Version and licence by package, of the tables in a text."""
    found = re.findall(r"^\| ([\w.-]+) \| (\d\S*|-) \| (.+?) \|$", text, re.MULTILINE)
    return {name: (version, licence) for name, version, licence in found}


def direct() -> dict[str, list[str]]:
    """The packages that pyproject.toml names, by part: to run, each extra, to build."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    parts = {"run": content["project"]["dependencies"], **content["project"]["optional-dependencies"]}
    parts["build"] = content["build-system"]["requires"]
    return {part: sorted(_names(wanted) - {"auscan"}) for part, wanted in parts.items()}


def brought(names: Iterable[str]) -> set[str]:
    """What the packages bring with them on this machine, and so on."""
    known, todo = set(names), list(names)
    while todo:
        try:
            wanted = importlib.metadata.requires(todo.pop()) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        fresh = _names(wanted) - known
        known |= fresh
        todo += fresh
    return known - set(names)


def licence_of(name: str) -> str | None:
    """What an installed package states, in a line; None where it is not installed."""
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    about = package.metadata
    stated = [about.get("License-Expression"), about.get("License")]
    stated += [", ".join(c.split(" :: ")[-1] for c in about.get_all("Classifier", []) if "License ::" in c)]
    for each in stated:
        if each and each != "UNKNOWN" and "\n" not in each and len(each) <= 2 * LONGEST:
            return each
    texts = [stated[1] or "", *_licence_files(package)]
    return next((_head(text) for text in texts if text.strip()), "not stated")


def _licence_files(package: importlib.metadata.Distribution) -> list[str]:
    files = [file for file in package.files or [] if "licen" in file.name.lower()]
    return [file.read_text(encoding="utf-8") for file in files if file.locate().is_file()]


def _head(text: str) -> str:
    """What a licence's text calls itself, or its first line."""
    if text.lstrip().startswith("Copyright") and "Permission is hereby granted, free of charge" in text:
        return "MIT, by its text"
    return next(line for line in text.splitlines() if line.strip()).strip()[:LONGEST]


def _names(wanted: Iterable[str]) -> set[str]:
    """Names of the requirements that hold on this machine without any extra."""
    found = [Requirement(each) for each in wanted]
    return {
        canonicalize_name(each.name)
        for each in found
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }


def _tables(before: dict[str, tuple[str, str]]) -> str:
    heads = {"run": "To run", "build": "To build"}
    parts = direct()
    told = [
        f"### {heads.get(part, f'[{part}]')}\n\n{_table(names, before)}"
        for part, names in parts.items()
        if names
    ]
    named = {name for names in parts.values() for name in names}
    shipped = [name for part, names in parts.items() if part not in UNSHIPPED for name in names]
    others = sorted(brought(shipped) - named)
    return "\n".join(
        [*told, f"### Brought by these (those for development and docs left out)\n\n{_table(others, before)}"]
    )


def _table(names: Iterable[str], before: dict[str, tuple[str, str]]) -> str:
    lines = ["| package | version | licence, as it states |", "| --- | --- | --- |"]
    for name in names:
        licence = licence_of(name)
        version = importlib.metadata.version(name) if licence else before.get(name, ("-", ""))[0]
        lines.append(f"| {name} | {version} | {licence or before.get(name, ('', 'not installed here'))[1]} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
