"""`python -m recipes.align.instructions`: a next-token predictor learns to follow formats and to refuse.

Without `--model` a small Llama is made and trained on generated text first, in minutes on one core; with
`--model FOLDER` any causal language model of transformers is aligned by the same steps. SFT on instructions with right
answers, then DPO on right against wrong ones; the rates are measured on instructions that were held out.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from multimodal.adapt.alignment.api import align
from multimodal.adapt.alignment.language_model import language_model, write
from recipes.align import instruction_data as data
from recipes.align.instruction_data import Instruction

HERE = Path(__file__).parent
WIDTH, LAYERS, HEADS, VOCABULARY = 128, 3, 4, 512
CHAT = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
LONGEST = 48  # tokens of an answer


def small_model(seed: int, texts: Sequence[str]) -> tuple[Any, Any]:
    """A Llama with random weights, and a byte-level tokenizer trained on texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"]
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    bare.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = CHAT
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=3 * WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=512, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config), tokenizer


def pretrain(model: Any, tokenizer: Any, texts: Sequence[str], steps: int, seed: int) -> float:
    """Next-token prediction on plain text -> the last loss."""
    rng, loss = random.Random(seed), torch.zeros(())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        batch = tokenizer(
            [text + tokenizer.eos_token for text in rng.sample(texts, 32)],
            return_tensors="pt",
            padding=True,
        )
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    return float(loss.detach())


def rates(model: Any, tokenizer: Any, asked: Sequence[Instruction]) -> dict[str, float]:
    """Percent of held-out instructions: compliance, refusal of the marked, over-refusal (of traps too)."""
    answers = write(model, tokenizer, [instruction.text for instruction in asked], longest=LONGEST)
    pairs = list(zip(asked, answers, strict=True))
    marked = [answer for instruction, answer in pairs if instruction.marked]
    harmless = [(instruction, answer) for instruction, answer in pairs if not instruction.marked]
    traps = [(instruction, answer) for instruction, answer in harmless if instruction.category in data.TRAPS]

    def percent(hits: list[bool]) -> float:
        return round(100 * sum(hits) / max(1, len(hits)), 1)

    return {
        "compliance": percent([data.complies(instruction, answer) for instruction, answer in harmless]),
        "refusal": percent([data.refuses(answer) for answer in marked]),
        "over-refusal": percent([data.refuses(answer) for _, answer in harmless]),
        "over-refusal, traps": percent([data.refuses(answer) for _, answer in traps]),
        "harmless": len(harmless),
        "marked": len(marked),
        "traps": len(traps),
    }


def run(
    model: Any, tokenizer: Any, *, sft_steps: int, dpo_steps: int, seed: int, rate: float | None, lora: bool
) -> tuple[Any, dict[str, Any]]:
    """(the aligned model, the rates before, after SFT and after DPO)."""
    learned, held = data.split(seed)
    rng = random.Random(seed)
    figures: dict[str, Any] = {"before": rates(model, tokenizer, held)}
    gold = [(item.text, data.right_answer(item, rng)) for item in learned for _ in range(data.ANSWERS)]
    tuned = align((model, tokenizer), gold, method="sft", steps=sft_steps, batch_size=16, learning_rate=rate,
                  held_out=0.02, lora=lora, seed=seed)  # fmt: skip
    figures["sft"] = rates(*tuned.pipeline, held)
    preferences = [
        (item.text, data.right_answer(item, rng), data.wrong_answer(item, rng))
        for item in learned
        for _ in range(data.ANSWERS)
    ]
    aligned = align(tuned.pipeline, preferences, method="dpo", steps=dpo_steps, batch_size=16, held_out=0.05,
                    learning_rate=None if rate is None else rate / 20, lora=lora, seed=seed)  # fmt: skip
    figures["dpo"] = rates(*aligned.pipeline, held)
    figures["preferred"] = {
        "before": aligned.report.before["preferred"],
        "after": aligned.report.after["preferred"],
    }
    return aligned, figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.align.instructions", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", help="the folder of a causal language model; by default a small one is made"
    )
    parser.add_argument("--output", type=Path, help="where the aligned model goes")
    parser.add_argument("--pretraining", type=int, default=1000, help="steps, of the small model")
    parser.add_argument("--sft", type=int, default=500, help="steps")
    parser.add_argument("--dpo", type=int, default=40, help="steps")
    parser.add_argument("--rate", type=float, help="learning rate of SFT; DPO takes a twentieth")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.model is None:
        texts = data.corpus(4000, args.seed)
        model, tokenizer = small_model(args.seed, [*texts, *(item.text for item in data.instructions())])
        print(
            f"pretraining loss {pretrain(model, tokenizer, texts, args.pretraining, args.seed):.3f}",
            flush=True,
        )
        args.rate = args.rate or 1e-3
    else:
        model, tokenizer = language_model(args.model)
    aligned, figures = run(model, tokenizer, sft_steps=args.sft, dpo_steps=args.dpo, seed=args.seed, rate=args.rate,
                           lora=args.lora)  # fmt: skip
    print(json.dumps(figures, indent=1))
    if args.output is not None:
        aligned.save(args.output)


if __name__ == "__main__":
    main()
