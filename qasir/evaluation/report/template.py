"""The pages' templates: Jinja files of the package on one base, which holds the look that all pages share."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

BASE = "evaluation/report/base.html"


def source(name: str) -> str:
    """A template's text; name: its path inside the package."""
    return files("qasir").joinpath(name).read_text(encoding="utf-8")


def render(name: str, **values: Any) -> str:
    """One self-contained HTML page."""
    environment = Environment(
        loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name).render(**values)
