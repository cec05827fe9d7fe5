"""`python -m recipes.starter.generator.draw --work …`: trains the generator, in three hours on two cores.

Generates the training data, trains the autoencoder, the prior and the flow, saves them in diffusers' format, evaluates
them and renders a sheet of samples. Steps whose output exists are skipped, and training resumes where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from multimodal.core.space import Space
from multimodal.pipelines.generation.backends.space_pipeline import SpacePicturePipeline
from multimodal.pipelines.generation.backends.space_prior import DrawingPrior
from recipes.starter.generator import (
    draw_data,
    draw_sheet,
    judge_draw,
    train_draw,
    train_draw_codec,
    train_draw_decoder,
    train_draw_prior,
)

HERE = Path(__file__).parents[1]
ASSETS = HERE.parent.parent / "assets" / "starter"


def assembled(work: Path) -> Any:
    """The pipeline of what was trained, in float32."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    codec, flow = train_draw_codec.codec(), train_draw.flow()
    codec.load_state_dict(torch.load(work / "draw_decoder.pt", weights_only=True))
    flow.load_state_dict(torch.load(work / "draw_flow.pt", weights_only=True))
    prior = DrawingPrior.from_pretrained(work / "draw_prior", low_cpu_mem_usage=False)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipe = SpacePicturePipeline(prior.eval(), flow.eval(), codec.eval(), scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def export(work: Path, space: Path, folder: Path) -> None:
    """The folder as diffusers writes it, in half precision, and draw.json, which says what space it is for."""
    scratch = folder.with_suffix(".tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    assembled(work).to(torch.float16).save_pretrained(scratch, safe_serialization=True)
    encoders = Space.from_pretrained(space, device="cpu").encoders
    about = {
        "format": 1,
        "encoders": {str(modality): encoder.fingerprint for modality, encoder in encoders.items()},
    }
    (scratch / "draw.json").write_text(json.dumps(about, indent=1) + "\n")
    for file in scratch.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)


def main() -> None:
    """All steps in order."""
    parser = argparse.ArgumentParser(
        prog="recipes.starter.generator.draw", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--work", type=Path, default=HERE / "runs", help="where data and checkpoints go")
    parser.add_argument("--space", type=Path, default=ASSETS, help="the finished space")
    parser.add_argument(
        "--output", type=Path, default=ASSETS / "decoders" / "draw", help="where the generator goes"
    )
    parser.add_argument("--codec-minutes", type=float, default=14)
    parser.add_argument("--decoder-minutes", type=float, default=20)
    parser.add_argument("--prior-minutes", type=float, default=53)
    parser.add_argument("--minutes", type=float, default=18)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work: Path = args.work
    draw_data.gather(args.space, work)
    if not (work / "draw_codec.pt").exists():
        train_draw_codec.run(work, minutes=args.codec_minutes)
    if not (work / "draw_decoder.pt").exists():
        train_draw_decoder.run(work, args.space, minutes=args.decoder_minutes)
    if not (work / "draw_prior").exists():
        train_draw_prior.run(work, minutes=args.prior_minutes)
    if not (work / "draw_flow.pt").exists():
        train_draw.run(work, minutes=args.minutes)
    export(work, args.space, args.output)
    judge = judge_draw.Judge.open(assembled(work), args.space, work)
    text = json.dumps(judge_draw.everything(judge), indent=1, ensure_ascii=False) + "\n"
    (args.output / "figures.json").write_text(text)
    print(text)
    draw_sheet.run(judge, args.output / "sheet.jpg")


if __name__ == "__main__":
    main()
