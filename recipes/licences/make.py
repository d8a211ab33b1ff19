"""Write docs/licences.md: the stated licence of every dependency.

    python recipes/licences/make.py

Reads pyproject.toml and the metadata of installed packages, so it needs `pip install '.[dev]'`. Rows of
packages that are not installed stay as they are. A licence is given as the package states it: an SPDX
expression, else its metadata, else the first line of its licence file.
"""

import argparse
import importlib.metadata
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "licences.md"
BEGIN, END = "<!-- written by recipes/licences/make.py -->", "<!-- end -->"
UNSHIPPED = ("dev", "docs", "build")
"""Parts that users do not need; their indirect dependencies are left out."""
LONGEST = 60
"""Maximum length of a licence's name, characters; a longer text is the licence itself."""


def main() -> None:
    """Update the tables of the page."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} has no place for the tables. Add the lines {BEGIN} and {END}.")
    PAGE.write_text(f"{before}{BEGIN}\n\n{_tables(rows_of(rest))}\n{END}{after}", encoding="utf-8")


def rows_of(text: str) -> dict[str, tuple[str, str]]:
    """Read version and licence by package from the tables in a text."""
    found = re.findall(r"^\| ([\w.-]+) \| (\d\S*|-) \| (.+?) \|$", text, re.MULTILINE)
    return {name: (version, licence) for name, version, licence in found}


def direct_dependencies() -> dict[str, list[str]]:
    """Read the packages named in pyproject.toml, by part: to run, each extra, to build."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    parts = {"run": content["project"]["dependencies"], **content["project"]["optional-dependencies"]}
    parts["build"] = content["build-system"]["requires"]
    return {part: sorted(_names(wanted) - {"auscan"}) for part, wanted in parts.items()}


def indirect_dependencies(names: Iterable[str]) -> set[str]:
    """Return the installed dependencies of the packages, recursively."""
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
    """Return the licence stated by an installed package, in one line; None if it is not installed."""
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
    """Read the licence files of a package."""
    files = [file for file in package.files or [] if "licen" in file.name.lower()]
    return [file.read_text(encoding="utf-8") for file in files if file.locate().is_file()]


def _head(text: str) -> str:
    """Return the name of the licence in a text, or the text's first line."""
    if text.lstrip().startswith("Copyright") and "Permission is hereby granted, free of charge" in text:
        return "MIT, by its text"
    return next(line for line in text.splitlines() if line.strip()).strip()[:LONGEST]


def _names(wanted: Iterable[str]) -> set[str]:
    """Return the names of the requirements that hold on this machine without any extra."""
    found = [Requirement(each) for each in wanted]
    return {
        canonicalize_name(each.name)
        for each in found
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }


def _tables(before: dict[str, tuple[str, str]]) -> str:
    """Return the tables of the page."""
    heads = {"run": "To run", "build": "To build"}
    parts = direct_dependencies()
    sections = [
        f"### {heads.get(part, f'[{part}]')}\n\n{_table(names, before)}"
        for part, names in parts.items()
        if names
    ]
    named = {name for names in parts.values() for name in names}
    shipped = [name for part, names in parts.items() if part not in UNSHIPPED for name in names]
    others = sorted(indirect_dependencies(shipped) - named)
    return "\n".join(
        [
            *sections,
            f"### Indirect dependencies (without those for development and docs)\n\n{_table(others, before)}",
        ]
    )


def _table(names: Iterable[str], before: dict[str, tuple[str, str]]) -> str:
    """Return a table of packages. before: version and licence of packages that are not installed."""
    lines = ["| package | version | licence, as it states |", "| --- | --- | --- |"]
    for name in names:
        licence = licence_of(name)
        version = importlib.metadata.version(name) if licence else before.get(name, ("-", ""))[0]
        lines.append(f"| {name} | {version} | {licence or before.get(name, ('', 'not installed here'))[1]} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
