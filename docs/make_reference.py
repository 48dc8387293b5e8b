"""Makes docs/reference.md and the tables of README from the code: every job with its options, every way of ranking.

python docs/make_reference.py
"""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import typer

import jobs
from qasir.options import Option, options_of
from qasir.retrieval.methods.method import Method
from qasir.retrieval.methods.named import HYBRIDS, METHODS

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference.md"
README = ROOT / "README.md"
EXAMPLE = 3
"""For a method whose name takes a number, as sparse:GRID does."""
REQUIRED = "must be given"
VALUES = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER"}
HEAD = """# Reference

Made from the code by `make docs`.
"""


def reference() -> str:
    """The text of docs/reference.md."""
    parts = [
        HEAD,
        "## Ways of ranking\n",
        f"{methods_table()}\n",
        "## Jobs\n",
        "Every job takes `--help` too, which says the same. An option with `...` may be given more than once.\n",
    ]
    return "\n".join([*parts, *(section(name, app) for name, app in all_jobs().items())])


def readme(text: str) -> str:
    """README with its made tables, each between <!-- made: NAME --> and <!-- end -->, made anew."""
    tables = {"jobs": jobs_table, "methods": methods_table}
    return re.sub(
        r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{tables[found[2]]()}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def methods_table() -> str:
    """The ways of ranking: how each is asked for, what it says of itself by default, and its numbers."""
    named = (("--aggregation", METHODS), ("--hybrid", HYBRIDS))
    rows = [method_row(flag, kind) for flag, kinds in named for kind in kinds.values()]
    return table(("asked for by", "every video is ranked by", "its numbers and their defaults"), rows)


def method_row(flag: str, kind: type[Method]) -> list[str]:
    example = kind(**{kind.argument: EXAMPLE}) if kind.argument else kind()
    name = f"{kind.name}:{EXAMPLE}" if kind.argument else kind.name
    indexes = "--index LARGE --index SMALL " if kind.n_indexes > 1 else ""
    numbers = "; ".join(number(option) for option in options_of(kind))
    return [f"`{indexes}{flag} {name}`", said(example.sentence()), numbers]


def number(option: Option) -> str:
    default = ",".join(option.default) if isinstance(option.default, tuple) else option.default
    about = option.doc.rstrip(".")
    return f"`{option.flag} {default}`: {said(about[0].lower() + about[1:])}"


def all_jobs() -> dict[str, typer.Typer]:
    modules = {name: import_module(f"jobs.{name}") for _, name, _ in iter_modules(jobs.__path__)}
    return {name: module.app for name, module in modules.items() if hasattr(module, "app")}


def jobs_table() -> str:
    rows = []
    for name, app in all_jobs().items():
        words = [given(names) for names, _, default in options(name, app) if default == REQUIRED]
        rows.append([f"[`{' '.join([f'jobs/{name}.py', *words])}`](docs/reference.md#jobs{name}py)", summary(app)])
    return table(("job", "does"), rows)


def given(names: str) -> str:
    """How a command that leaves out what may be left out gives an option or an argument."""
    return names.removesuffix(" ...") if names.startswith("-") else f'"{names.split()[0].upper()}"'


def section(name: str, app: typer.Typer) -> str:
    """A job: what it does and what it takes."""
    rows = [[f"`{names}`", about, default] for names, about, default in options(name, app)]
    return f"### jobs/{name}.py\n\n{summary(app)}\n\n{table(('option', 'what it does', 'default'), rows)}\n"


def summary(app: typer.Typer) -> str:
    return said(typer.main.get_command(app).help)


def options(name: str, app: typer.Typer) -> list[tuple[str, str, str]]:
    """(name and kind of value, what it does, default) of each option, as `--help` has them."""
    command = typer.main.get_command(app)
    context = command.make_context(name, [], resilient_parsing=True)
    takes = [one for one in command.get_params(context) if one.name != "help"]
    return [option(*record) for one in takes if (record := one.get_help_record(context)) is not None]


def option(names: str, help_text: str) -> tuple[str, str, str]:
    """From what `--help` says of an option, which ends in "[default: 3]" or "[required]"."""
    found = re.fullmatch(r"(.*?)\s*(?:\[(?:default: (.*)|(required))\])?", help_text, re.DOTALL)
    assert found is not None
    default = REQUIRED if found[3] else re.sub(r"^\((.*)\)$", r"\1", found[2] or "")
    default = re.sub(r"; x>=(\d+)$", r", at least \1", default)
    return re.sub(r"<(?:list\[)?(\w+)(?: range)?(\]?)>", value, names), said(found[1]), said(default)


def value(kind: re.Match[str]) -> str:
    """TEXT for <str>, NUMBER ... for <list[float]>, and so on."""
    return VALUES.get(kind[1], kind[1].upper()) + (" ..." if kind[2] else "")


def table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [list(columns), ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def said(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main() -> None:
    REFERENCE.write_text(reference(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
