"""`multimodal`: the command line. Each command has its own module and imports the library when it runs."""

from __future__ import annotations

from multimodal.cli.demo.command import demo
from multimodal.cli.indexes.ask import ask
from multimodal.cli.indexes.calibrate import calibrate
from multimodal.cli.indexes.delete import delete
from multimodal.cli.indexes.export import export_index
from multimodal.cli.indexes.index import index
from multimodal.cli.indexes.map import map as map_command
from multimodal.cli.indexes.optimize import optimize
from multimodal.cli.indexes.reindex import reindex
from multimodal.cli.indexes.search import search
from multimodal.cli.interrupt import run
from multimodal.cli.mcp import mcp
from multimodal.cli.models.audit import audit
from multimodal.cli.models.bridge import bridge
from multimodal.cli.models.doctor import doctor
from multimodal.cli.models.evaluate import evaluate
from multimodal.cli.models.export import export
from multimodal.cli.models.finetune import finetune
from multimodal.cli.models.info import info, models
from multimodal.cli.models.scaling import scaling
from multimodal.cli.root import make_app
from multimodal.cli.serve import serve
from multimodal.cli.tasks.caption import caption
from multimodal.cli.tasks.classify import classify
from multimodal.cli.tasks.embed import embed
from multimodal.cli.tasks.generate import generate
from multimodal.cli.tasks.teach import teach
from multimodal.cli.tasks.transcribe import transcribe

app = make_app()

app.command(rich_help_panel="Explore")(demo)
app.command(rich_help_panel="Explore")(models)
app.command(rich_help_panel="Explore")(info)
app.command(rich_help_panel="Explore")(doctor)
app.command("map", rich_help_panel="Explore")(map_command)
app.command(rich_help_panel="Search")(index)
app.command(rich_help_panel="Search")(search)
app.command(rich_help_panel="Search")(ask)
app.command(rich_help_panel="Generate")(caption)
app.command(rich_help_panel="Generate")(generate)
app.command(rich_help_panel="Generate")(transcribe)
app.command(rich_help_panel="Analyze")(classify)
app.command(rich_help_panel="Analyze")(embed)
app.command(rich_help_panel="Analyze")(evaluate)
app.command(rich_help_panel="Analyze")(audit)
app.add_typer(scaling, name="scaling", rich_help_panel="Analyze")
app.command(rich_help_panel="Adapt")(teach)
app.command(rich_help_panel="Adapt")(finetune)
app.command(rich_help_panel="Adapt")(bridge)
app.command(rich_help_panel="Deploy")(serve)
app.command(rich_help_panel="Deploy")(mcp)
app.command(rich_help_panel="Deploy")(export)
app.command(rich_help_panel="Administration")(optimize)
app.command(rich_help_panel="Administration")(delete)
app.command(rich_help_panel="Administration")(calibrate)
app.command("export-index", rich_help_panel="Administration")(export_index)
app.command(rich_help_panel="Administration")(reindex)


def main() -> None:
    """The command line, for a process that has imported it."""
    run(app)
