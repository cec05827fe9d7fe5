"""Build hooks of the documentation: pages whose text lives elsewhere, and a check of the reference.

The model card, the changelog and the contributing guide are copied from their files, the tutorials are rendered from
executed notebooks, and the command line is described by its own parser. A public name that the reference leaves out
is an error of the build.
"""

from __future__ import annotations

import ast
import base64
import json
import logging
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
COPIED = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
CARD = ROOT / "assets" / "starter"
log = logging.getLogger("mkdocs.hooks.multimodal")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made at build time."""

    def add(uri: str, content: str | bytes) -> None:
        files.append(File.generated(config, uri, content=content))

    for uri, source in COPIED.items():
        add(uri, without_links((ROOT / source).read_text(encoding="utf-8")))
    card = (CARD / "README.md").read_text(encoding="utf-8")
    add("model-card.md", "---\nhide:\n  - navigation\n---\n\n" + without_links(card))
    for name in images_of(card):
        add(name, (CARD / name).read_bytes())
    for notebook in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")):
        page, images = render(json.loads(notebook.read_text(encoding="utf-8")), notebook.stem)
        add(f"tutorials/{notebook.stem}.md", page)
        for name, content in images.items():
            add(f"tutorials/{name}", content)
    add("reference/command-line.md", command_line())
    missing = sorted(public_names() - documented_names())
    if missing:
        log.warning("public names without a place in docs/reference: %s", ", ".join(missing))
    return files


# --- copied pages --------------------------------------------------------------------------------


def images_of(markdown: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\(([^):\s]+)\)", markdown)


def without_links(markdown: str) -> str:
    """The text with links to files of the repository, which the site does not hold, turned into plain text."""
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", markdown)


# --- tutorials -----------------------------------------------------------------------------------


def render(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown with its outputs, and its images by file name."""
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{stem}-{len(images)}.png"
                images[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the cell above]({name})")
            elif "text/html" in data:
                parts.append(f'<div class="output" markdown="0">\n{"".join(data["text/html"])}\n</div>')
            elif text := "".join(output.get("text") or data.get("text/plain", "")):
                parts.append(f'```text title="Output"\n{text.rstrip()}\n```')
    return "\n\n".join(parts) + "\n", images


# --- the reference -------------------------------------------------------------------------------


def public_names() -> set[str]:
    """What `multimodal/__init__.pyi` exports."""
    stub = ast.parse((ROOT / "multimodal" / "__init__.pyi").read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def documented_names() -> set[str]:
    """The names that a page of docs/reference renders as `::: multimodal.name`."""
    pages = (ROOT / "docs" / "reference").glob("*.md")
    directive = re.compile(r"^::: multimodal\.(\w+)", re.M)
    return {name for page in pages for name in directive.findall(page.read_text(encoding="utf-8"))}


def command_line() -> str:
    """Every command with its arguments and options, as its own parser knows them."""
    import typer

    from multimodal.cli.main import app

    root = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "`multimodal COMMAND --help` prints the same. `python -m multimodal` is the same program.",
        "",
        *_command("multimodal", root),
    ]
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    subcommands = getattr(command, "commands", {})
    usage = " ".join([name, *(_label(p) for p in command.params if p.param_type_name == "argument")])
    yield from [f"## {name}", "", _plain(command.help or ""), "", "```text"]
    yield from [f"{usage} {'COMMAND' if subcommands else '[OPTIONS]'}", "```", ""]
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    if shown:
        yield from ["| parameter | description |", "|---|---|"]
        for parameter in shown:
            is_option = parameter.param_type_name == "option"
            words = [*parameter.opts, *parameter.secondary_opts] if is_option else [_label(parameter)]
            label = ", ".join(f"`{word}`" for word in words)
            description = _plain(getattr(parameter, "help", None) or "")
            yield f"| {label} | {description} |"
        yield ""
    for child, subcommand in subcommands.items():
        if not subcommand.hidden:
            yield from _command(f"{name} {child}", subcommand)


def _plain(text: str) -> str:
    """Help text as Markdown: without the console's markup, and what is marked with a backspace as it stands."""
    from rich.text import Text

    paragraphs = []
    for paragraph in text.strip().split("\n\n"):
        shown = Text.from_markup(paragraph).plain.strip("\n")  # which drops the backspace
        if "\b" in paragraph:
            title, _, lines = shown.partition("\n")
            examples = textwrap.dedent(lines).rstrip()
            paragraphs.append(f"{title}\n\n```text\n{examples}\n```")
        else:
            joined = " ".join(shown.split())
            paragraphs.append(re.sub(r"([\[<*_|])", r"\\\1", joined))
    return "\n\n".join(paragraphs)


def _label(argument: Any) -> str:
    return str(argument.metavar or argument.name or "").upper()
