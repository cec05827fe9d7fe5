"""Tiny checkpoints of the real architectures of transformers that write, saved in the format users have.

Weights are drawn wide, so that what is written depends on what is seen, and a test of parity can fail.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.encoders.hf.hf_tiny import SIDE, SQUARE, TOWER, VISION, bert_tokenizer, stirred

RATE_HZ = 16_000
CONTEXT = 256
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
LANGUAGE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ MARKS }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def template(**marks: str) -> str:
    """A chat template; marks: what stands for a picture, a sound or a video ("image", "audio", "video")."""
    cases = [f"{{% if part['type'] == '{kind}' %}}{mark}{{% endif %}}" for kind, mark in marks.items()]
    return TEMPLATE.replace("{{ MARKS }}", "".join(cases))


def bytewise(*special: str, **named: str) -> Any:
    """A tokenizer of single bytes, with these special tokens. named: attributes, such as image_token="<image>"."""
    pieces = [*SPECIAL, *bytes_to_unicode().values()]
    made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    result = hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=named,
    )  # fmt: skip
    result.add_special_tokens(
        {"additional_special_tokens": list(special)}, replace_extra_special_tokens=False
    )
    return result


def blip(folder: Path) -> tuple[Any, Any]:
    tokenizer = bert_tokenizer()
    text = TOWER | {
        "vocab_size": len(tokenizer),
        "encoder_hidden_size": 32,
        "max_position_embeddings": CONTEXT,
    }
    ends = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    config = hf.BlipConfig(text_config=text | ends, vision_config=VISION, image_text_hidden_size=16)
    return hf.BlipForConditionalGeneration(config), hf.BlipProcessor(
        hf.BlipImageProcessor(size=SQUARE), tokenizer
    )


def git(folder: Path) -> tuple[Any, Any]:
    tokenizer = bert_tokenizer()
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = hf.GitConfig(
        vision_config=VISION, vocab_size=len(tokenizer), **TOWER, **ends, max_position_embeddings=CONTEXT
    )
    return hf.GitForCausalLM(config), hf.GitProcessor(
        hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE), tokenizer
    )


def blip_2(folder: Path) -> tuple[Any, Any]:
    tokenizer = bytewise("<image>")
    text = {
        "model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": CONTEXT, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, "word_embed_proj_dim": 32,
    }  # fmt: skip
    queries = TOWER | {"encoder_hidden_size": 32, "vocab_size": 40}
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = hf.Blip2Config(
        vision_config=VISION, qformer_config=queries, text_config=text, num_query_tokens=4,
        image_token_index=image_token,
    )  # fmt: skip
    images = hf.BlipImageProcessor(size=SQUARE)
    return hf.Blip2ForConditionalGeneration(config), hf.Blip2Processor(images, tokenizer, num_query_tokens=4)


def llava(folder: Path) -> tuple[Any, Any]:
    tokenizer = bytewise("<image>")
    text = {"model_type": "llama", "vocab_size": len(tokenizer), **LANGUAGE}
    config = hf.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **VISION}, text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=16,
    )  # fmt: skip
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE), tokenizer, patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=template(image="<image>\n"),
    )  # fmt: skip
    return hf.LlavaForConditionalGeneration(config), processor


QWEN = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>")
QWEN_EYES = {
    "depth": 2, "hidden_size": 32, "embed_dim": 32, "num_heads": 4, "patch_size": 8, "spatial_merge_size": 2,
    "temporal_patch_size": 2, "in_channels": 3, "in_chans": 3, "mlp_ratio": 2, "intermediate_size": 48,
}  # fmt: skip


def _qwen(kind: str, eyes: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = bytewise(*QWEN)
    ids = {
        name: tokenizer.convert_tokens_to_ids(item)
        for name, item in zip(
            ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"),
            QWEN,
            strict=False,
        )
    }
    text = {"vocab_size": len(tokenizer), **LANGUAGE, "rope_parameters": {
        "rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}}  # fmt: skip
    config = getattr(hf, f"{kind}Config")(vision_config=eyes, text_config=text, **ids)
    sizes = {"patch_size": 8, "merge_size": 2, "min_pixels": 16 * 16, "max_pixels": 64 * 64}
    images = hf.Qwen2VLImageProcessor(**sizes)
    clips = hf.Qwen2VLVideoProcessor(**sizes)
    marks = template(
        image="<|vision_start|><|image_pad|><|vision_end|>",
        video="<|vision_start|><|video_pad|><|vision_end|>",
    )
    processor = getattr(hf, f"{kind}Processor")(images, tokenizer, clips, chat_template=marks)
    return getattr(hf, f"{kind}ForConditionalGeneration")(config), processor


def qwen2_vl(folder: Path) -> tuple[Any, Any]:
    return _qwen("Qwen2VL", QWEN_EYES | {"hidden_size": 32})


def qwen2_5_vl(folder: Path) -> tuple[Any, Any]:
    eyes = QWEN_EYES | {"out_hidden_size": 32, "fullatt_block_indexes": [1], "window_size": 16}
    return _qwen("Qwen2_5_VL", eyes)


def idefics3(folder: Path) -> tuple[Any, Any]:
    special = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tokenizer = bytewise(*special)
    text = {"model_type": "llama", "vocab_size": len(tokenizer), **LANGUAGE}
    config = hf.Idefics3Config(
        vision_config=VISION, text_config=text, scale_factor=2, pad_token_id=0,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    images = hf.Idefics3ImageProcessor(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=True
    )
    processor = hf.Idefics3Processor(
        images, tokenizer, image_seq_len=4, chat_template=template(image="<image>")
    )
    return hf.Idefics3ForConditionalGeneration(config), processor


def smolvlm(folder: Path) -> tuple[Any, Any]:
    special = ("<image>", "<video>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tokenizer = bytewise(*special)
    text = {"model_type": "llama", "vocab_size": len(tokenizer), **LANGUAGE}
    config = hf.SmolVLMConfig(
        vision_config=VISION, text_config=text, scale_factor=2, pad_token_id=0,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    sizes = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    processor = hf.SmolVLMProcessor(
        hf.SmolVLMImageProcessor(do_image_splitting=True, **sizes), tokenizer,
        hf.SmolVLMVideoProcessor(size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}),
        image_seq_len=4, chat_template=template(image="<image>", video="<video>"),
    )  # fmt: skip
    return hf.SmolVLMForConditionalGeneration(config), processor


def gemma3(folder: Path) -> tuple[Any, Any]:
    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    tokenizer = bytewise(**named)
    text = {
        "vocab_size": len(tokenizer),
        **LANGUAGE,
        "head_dim": 8,
        "sliding_window": 64,
        "tie_word_embeddings": False,
    }
    config = hf.Gemma3Config(
        text_config=text, vision_config=VISION, mm_tokens_per_image=4, tie_word_embeddings=False,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
    )  # fmt: skip
    processor = hf.Gemma3Processor(
        hf.Gemma3ImageProcessor(size=SQUARE), tokenizer, image_seq_length=4,
        chat_template=template(image="<start_of_image>"),
    )  # fmt: skip
    return hf.Gemma3ForConditionalGeneration(config), processor


def florence_2(folder: Path) -> tuple[Any, Any]:
    tokenizer = bytewise(image_token="<image>")
    text = {
        "model_type": "bart", "vocab_size": len(tokenizer), "d_model": 32, "encoder_layers": 1, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
        "max_position_embeddings": CONTEXT, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 2, "forced_eos_token_id": 2, "num_beams": 3,
    }  # fmt: skip
    eyes = {
        "depths": [1, 1], "embed_dim": [16, 32], "num_heads": [2, 4], "num_groups": [2, 4], "patch_size": [7, 3],
        "patch_stride": [4, 2], "patch_padding": [3, 1], "patch_prenorm": [False, True], "window_size": 4,
        "projection_dim": 32, "max_temporal_embeddings": 4, "max_position_embeddings": 8,
    }  # fmt: skip
    config = hf.Florence2Config(
        text_config=text, vision_config=eyes, image_token_id=tokenizer.convert_tokens_to_ids("<image>")
    )
    images = hf.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE, do_center_crop=False)
    images.image_seq_length = 17
    processor = hf.Florence2Processor(images, tokenizer)
    return hf.Florence2ForConditionalGeneration(config), processor


def qwen2_audio(folder: Path) -> tuple[Any, Any]:
    tokenizer = bytewise("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
    text = {"model_type": "qwen2", "vocab_size": len(tokenizer), **LANGUAGE}
    ears = {
        "d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 48, "num_mel_bins": 16,
        "max_source_positions": 50,
    }  # fmt: skip
    config = hf.Qwen2AudioConfig(
        audio_config=ears, text_config=text, audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>")
    )
    sounds = hf.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    marks = template(audio="<|audio_bos|><|AUDIO|><|audio_eos|>\n")
    processor = hf.Qwen2AudioProcessor(sounds, tokenizer, chat_template=marks)
    return hf.Qwen2AudioForConditionalGeneration(config), processor


def vit_gpt2(folder: Path) -> tuple[Any, Any]:
    """Two models put together, whose processors no class joins."""
    tokenizer = bytewise()
    config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        hf.ViTConfig(**VISION),
        hf.GPT2Config(
            vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, bos_token_id=1,
            eos_token_id=2, pad_token_id=0,
        ),
    )  # fmt: skip
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    model = hf.VisionEncoderDecoderModel(config)
    hf.ViTImageProcessor(size=SQUARE).save_pretrained(folder)
    return model, tokenizer


KINDS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    item.__name__: item
    for item in (
        blip, git, blip_2, llava, qwen2_vl, qwen2_5_vl, idefics3, smolvlm, gemma3, florence_2, qwen2_audio, vit_gpt2
    )
}  # fmt: skip


def write(kind: str, folder: Path) -> Path:
    """A checkpoint of the kind, as save_pretrained leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    model, processor = KINDS[kind](folder)
    stirred(model)
    with torch.no_grad():
        for name, item in model.named_parameters():
            if "projector" in name or "connector" in name:
                item.mul_(4)  # what is seen must outweigh the words around it
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def edit(folder: Path, name: str = "config.json", **changes: Any) -> None:
    """Changes what a file of a checkpoint says."""
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
