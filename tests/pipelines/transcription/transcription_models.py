"""Tiny speech models of real architectures, with real feature extractors and tokenizers, as folders of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

RATE_HZ = 16_000
LANGUAGES = ("en", "de", "fr", "es")
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
N_TIMES = 1501


def noise(seconds: float, seed: int = 0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Tones and noise that change every half second: something else to hear in every window."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate_hz)
    pitch = np.repeat(rng.uniform(80, 3000, n // (rate_hz // 2) + 1), rate_hz // 2)[:n]
    level = np.repeat(rng.uniform(0.02, 0.5, n // (rate_hz // 2) + 1), rate_hz // 2)[:n]
    sound = level * np.sin(np.cumsum(2 * np.pi * pitch / rate_hz)) + 0.01 * rng.standard_normal(n)
    return sound.astype(np.float32)


def as_audio_stream(samples: np.ndarray, rate_hz: int = RATE_HZ) -> dict[str, Any]:
    return {"array": samples, "sampling_rate": rate_hz}


def whisper_tokenizer() -> Any:
    """Bytes and a few merges, then Whisper's own tokens in Whisper's order."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    pieces = list(bytes_to_unicode().values())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ġ", "a"), ("i", "n"), ("e", "r")]
    pieces += ["".join(pair) for pair in merges]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = transformers.WhisperTokenizer(
        vocab=vocab,
        merges=merges,
        **dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"), SPECIAL[0]),
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.add_tokens(
        [
            transformers.AddedToken(f"<|{0.02 * n:.2f}|>", special=False, normalized=False)
            for n in range(N_TIMES)
        ]
    )
    return tokenizer


def whisper(
    folder: Path, *, english: bool = False, seed: int = 0, heads: bool = True, longest: int = 32
) -> Path:
    """A Whisper of two layers whose random weights write different things for different sounds."""
    tokenizer = whisper_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_target_positions=longest,
        num_mel_bins=80,
        pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        init_std=0.3,
        median_filter_width=7,
    )
    torch.manual_seed(seed)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with (
        torch.no_grad()
    ):  # tied embeddings this small all but forbid the end and favour one token: even them out
        model.model.decoder.embed_tokens.weight[ids["<|notimestamps|>"] + 1 :] *= 1.15
    said: dict[str, Any] = {
        **{name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
        "decoder_start_token_id": config.decoder_start_token_id,
        "max_length": longest,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "is_multilingual": not english,
        "suppress_tokens": [ids[item] for item in SPECIAL[1:]],
        "begin_suppress_tokens": [ids["<|endoftext|>"]],
        "max_initial_timestamp_index": 50,
    }
    if heads:
        said["alignment_heads"] = [[0, 0], [1, 1]]
    if not english:
        said["lang_to_id"] = {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES}
        said["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("translate", "transcribe")}
    model.generation_config = transformers.GenerationConfig(**said)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def wav2vec2(folder: Path, *, seed: int = 0) -> Path:
    """A Wav2Vec2 with a head of letters, 20 ms a step as the real ones."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAOINSHRDLUMWCFGYPBVK'XJQZ"]
    vocab = folder / "vocab.json"
    vocab.write_text(json.dumps({letter: n for n, letter in enumerate(letters)}), encoding="utf-8")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(vocab), do_lower_case=False)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16, 16, 16, 16, 16, 16, 16),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        pad_token_id=0,
        initializer_range=0.5,
    )
    torch.manual_seed(seed)
    model = transformers.Wav2Vec2ForCTC(config).eval()
    with torch.no_grad():
        model.lm_head.weight *= 4
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=RATE_HZ, do_normalize=True, return_attention_mask=False
    ).save_pretrained(folder)
    return folder


def speech_to_text(folder: Path, *, seed: int = 0) -> Path:
    """A Speech2Text with a real sentencepiece tokenizer of letters."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    pieces = folder / "pieces.txt"
    pieces.write_text(
        "\n".join(["the cat sat on a mat", "what is said", "quick brown fox jumps over lazy dog"] * 20)
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(pieces),
        model_prefix=str(folder / "sp"),
        vocab_size=32,
        character_coverage=1.0,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(str(folder / "sp.model"))
    words = ["<s>", "<pad>", "</s>", "<unk>", *(processor.id_to_piece(n) for n in range(3, len(processor)))]
    (folder / "vocab.json").write_text(
        json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8"
    )
    (folder / "sp.model").rename(folder / "sentencepiece.bpe.model")
    tokenizer = transformers.Speech2TextTokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model")
    )
    config = transformers.Speech2TextConfig(
        vocab_size=len(words),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        conv_channels=32,
        max_target_positions=40,
        init_std=0.4,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    torch.manual_seed(seed)
    model = transformers.Speech2TextForConditionalGeneration(config).eval()
    model.generation_config = transformers.GenerationConfig(
        max_length=20, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.Speech2TextFeatureExtractor().save_pretrained(folder)
    return folder


def moonshine(folder: Path, *, seed: int = 0) -> Path:
    """A Moonshine, which hears raw samples, with the byte tokenizer of the Whisper above."""
    tokenizer = whisper_tokenizer()
    config = transformers.MoonshineConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        initializer_range=0.4,
        bos_token_id=263,
        eos_token_id=262,
        pad_token_id=262,
        decoder_start_token_id=263,
    )
    torch.manual_seed(seed)
    model = transformers.MoonshineForConditionalGeneration(config).eval()
    model.generation_config = transformers.GenerationConfig(
        max_length=16, bos_token_id=263, eos_token_id=262, pad_token_id=262, decoder_start_token_id=263
    )
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=RATE_HZ, do_normalize=False, return_attention_mask=True
    ).save_pretrained(folder)
    return folder
