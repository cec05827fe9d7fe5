"""Tiny checkpoints of the real architectures of transformers, saved in the format users have.

Their weights are drawn wide, not as a model is initialised: with the usual small ones every input gives nearly the
same vector, and a test of parity could not fail.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers as hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import bytes_to_unicode

SIDE, WIDTH, RATE_HZ = 32, 32, 8_000
TOWER = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION = TOWER | {"image_size": SIDE, "patch_size": 8}
SQUARE = {"height": SIDE, "width": SIDE}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!"
PIECES = 29
SENTENCES = ["a photo of a cat", "the dog sees a red apple", "the sound of rain", "hello world, this is it!"]


def stirred(model: Any, seed: int = 0) -> Any:
    """The model with weights wide enough for every input to matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, item in model.named_parameters():
            if item.dim() > 1:
                spread = 0.5 if "embedding" in name else item[0].numel() ** -0.5
                item.normal_(0, 1.4 * spread, generator=generator)
            elif item.numel() > 1:
                item.add_(torch.randn(item.shape, generator=generator) * 0.1)
        if hasattr(model, "logit_bias"):  # SigLIP's start at numbers that hide mistakes: 1 and 0
            model.logit_scale.fill_(2.1)
            model.logit_bias.fill_(-3.0)
    return model.eval()


# --- tokenizers ----------------------------------------------------------------------------------


def bytewise(end: str = "") -> dict[str, int]:
    """A vocabulary of single bytes, with and without CLIP's mark of a word's end."""
    letters = list(bytes_to_unicode().values())
    return {
        piece: i for i, piece in enumerate(letters + [letter + end for letter in letters] if end else letters)
    }


def clip_tokenizer(length: int = 77) -> Any:
    vocab = bytewise("</w>")
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    return hf.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=length)


def clip_text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    lengths = {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    return TOWER | ends | lengths | {"pad_token_id": tokenizer.pad_token_id} | more


def bert_tokenizer(length: int = 512) -> Any:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *("##" + letter for letter in LETTERS)]
    return hf.BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=length)


def roberta_tokenizer() -> Any:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocab = {piece: i for i, piece in enumerate([*special, *bytes_to_unicode().values()])}
    return hf.RobertaTokenizer(vocab=vocab, merges=[], model_max_length=512)


def xlm_tokenizer(length: int) -> Any:
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -2.0)]
    return hf.XLMRobertaTokenizer(
        vocab=[*pieces, *((letter, -3.0) for letter in LETTERS), ("<mask>", 0.0)], model_max_length=length
    )


def sentence_pieces() -> bytes:
    """A SentencePiece model with <pad> 0, </s> 1, <unk> 2, as SigLIP's."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_writer=out, vocab_size=PIECES, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


def siglip_tokenizer(folder: Path) -> Any:
    (folder / "spiece.model").write_bytes(sentence_pieces())
    return hf.SiglipTokenizer(
        vocab_file=str(folder / "spiece.model"), model_max_length=64, model_input_names=["input_ids"]
    )


def unigram_tokenizer(names: list[str], length: int = 64, end: str = "") -> Any:
    """A plain tokenizer.json: letters, lower case, and `end` behind each text if given."""
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -20.0),
        ("▁", -2.0),
        *((letter, -3.0) for letter in LETTERS),
    ]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    if end:
        made.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "</s>"}
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=length, model_input_names=names, **special
    )


# --- checkpoints ---------------------------------------------------------------------------------


def clip_images(**more: Any) -> Any:
    return hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE, **more)


def clip(folder: Path) -> tuple[Any, Any]:
    tokenizer = clip_tokenizer()
    config = hf.CLIPConfig(text_config=clip_text(tokenizer), vision_config=VISION, projection_dim=16)
    return hf.CLIPModel(config), hf.CLIPProcessor(clip_images(), tokenizer)


def siglip(folder: Path) -> tuple[Any, Any]:
    tokenizer = siglip_tokenizer(folder)
    text = TOWER | {"vocab_size": PIECES, "max_position_embeddings": 64, "pad_token_id": 1}
    config = hf.SiglipConfig(
        text_config=text | {"bos_token_id": None, "eos_token_id": 1}, vision_config=VISION
    )
    return hf.SiglipModel(config), hf.SiglipProcessor(hf.SiglipImageProcessor(size=SQUARE), tokenizer)


def siglip2(folder: Path) -> tuple[Any, Any]:
    """Of fixed size: SigLIP's class with SigLIP 2's tokenizer, which gives no mask."""
    tokenizer = unigram_tokenizer(["input_ids"], end="</s>")
    text = TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": 64}
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    config = hf.SiglipConfig(text_config=text | ends, vision_config=VISION)
    return hf.SiglipModel(config), hf.Siglip2Processor(hf.SiglipImageProcessor(size=SQUARE), tokenizer)


def siglip2_naflex(folder: Path) -> tuple[Any, Any]:
    tokenizer = unigram_tokenizer(["input_ids"], end="</s>")
    text = TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": WIDTH}
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    vision = TOWER | {"patch_size": 8, "num_patches": 16}
    config = hf.Siglip2Config(text_config=text | ends, vision_config=vision)
    images = hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    return hf.Siglip2Model(config), hf.Siglip2Processor(images, tokenizer)


def metaclip_2(folder: Path) -> tuple[Any, Any]:
    tokenizer = xlm_tokenizer(77)
    text = TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": 77}
    ends = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = hf.MetaClip2Config(text_config=text | ends, vision_config=VISION, projection_dim=16)
    return hf.MetaClip2Model(config), hf.CLIPProcessor(clip_images(), tokenizer)


def altclip(folder: Path) -> tuple[Any, Any]:
    tokenizer = xlm_tokenizer(512)
    text = TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": 514, "project_dim": 24}
    config = hf.AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    return hf.AltCLIPModel(config), hf.AltCLIPProcessor(clip_images(), tokenizer)


def chinese_clip(folder: Path) -> tuple[Any, Any]:
    tokenizer = bert_tokenizer()
    text = TOWER | {"vocab_size": len(tokenizer)}
    config = hf.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    images = hf.ChineseCLIPImageProcessor(size=SQUARE, do_center_crop=False)
    return hf.ChineseCLIPModel(config), hf.ChineseCLIPProcessor(images, tokenizer)


def aimv2(folder: Path) -> tuple[Any, Any]:
    tokenizer = clip_tokenizer()
    text = {key: value for key, value in clip_text(tokenizer).items() if key != "bos_token_id"}
    config = hf.Aimv2Config(text_config=text, vision_config=VISION, projection_dim=16)
    return hf.Aimv2Model(config), hf.CLIPProcessor(clip_images(), tokenizer)


def align(folder: Path) -> tuple[Any, Any]:
    tokenizer = bert_tokenizer()
    vision = {
        "image_size": SIDE, "hidden_dim": 16, "kernel_sizes": [3, 3], "in_channels": [32, 16], "out_channels": [16, 16],
        "strides": [1, 2], "num_block_repeats": [1, 1], "expand_ratios": [1, 2], "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
    }  # fmt: skip
    config = hf.AlignConfig(
        text_config=TOWER | {"vocab_size": len(tokenizer)}, vision_config=vision, projection_dim=16,
        temperature_init_value=0.07,
    )  # fmt: skip
    images = hf.EfficientNetImageProcessor(size=SQUARE, crop_size=SQUARE)
    return hf.AlignModel(config), hf.AlignProcessor(images, tokenizer)


def clap(folder: Path, fused: bool = False) -> tuple[Any, Any]:
    tokenizer = roberta_tokenizer()
    text = TOWER | {"vocab_size": len(tokenizer), "projection_dim": 16}
    audio = {
        "spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4,
        "depths": [1, 1], "num_attention_heads": [2, 4], "num_hidden_layers": 2,
        "patch_embeds_hidden_size": 16, "hidden_size": 32, "projection_dim": 16,
    } | ({"enable_fusion": True, "fusion_type": "aff_2d"} if fused else {})  # fmt: skip
    config = hf.ClapConfig(text_config=text, audio_config=audio, projection_dim=16)
    model = hf.ClapModel(config)
    with torch.no_grad():
        model.logit_scale_a.fill_(2.9)
        model.logit_scale_t.fill_(2.3)
    sounds = hf.ClapFeatureExtractor(
        feature_size=16, sampling_rate=8_000, hop_length=80, fft_window_size=256, max_length_s=2,
        frequency_max=4_000, truncation="fusion" if fused else "rand_trunc",
    )  # fmt: skip
    return model, hf.ClapProcessor(sounds, tokenizer)


def clap_fused(folder: Path) -> tuple[Any, Any]:
    return clap(folder, fused=True)


def clipseg(folder: Path) -> tuple[Any, Any]:
    """A segmenter, with a CLIP inside."""
    tokenizer = clip_tokenizer()
    vision = VISION | {"num_hidden_layers": 2}
    config = hf.CLIPSegConfig(
        text_config=clip_text(tokenizer), vision_config=vision, projection_dim=16, extract_layers=[0, 1],
        reduce_dim=16, decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    processor = hf.CLIPSegProcessor(hf.ViTImageProcessor(size=SQUARE), tokenizer)
    return hf.CLIPSegForImageSegmentation(config), processor


def flava(folder: Path) -> tuple[Any, Any]:
    tokenizer = bert_tokenizer()
    config = hf.FlavaConfig(
        text_config=TOWER | {"vocab_size": len(tokenizer)}, image_config=VISION, multimodal_config=TOWER,
        image_codebook_config={"num_groups": 1, "hidden_size": 8, "vocab_size": 16, "num_blocks_per_group": 1},
        hidden_size=WIDTH, projection_dim=16,
    )  # fmt: skip
    images = hf.FlavaImageProcessor(size=SQUARE, crop_size=SQUARE)
    return hf.FlavaForPreTraining(config), hf.FlavaProcessor(images, tokenizer)


def groupvit(folder: Path) -> tuple[Any, Any]:
    tokenizer = clip_tokenizer()
    vision = VISION | {"depths": [1, 1], "num_group_tokens": [8, 0], "num_output_groups": [4, 4]}
    config = hf.GroupViTConfig(
        text_config=clip_text(tokenizer),
        vision_config=vision,
        projection_dim=16,
        projection_intermediate_dim=24,
    )
    return hf.GroupViTModel(config), hf.CLIPProcessor(clip_images(), tokenizer)


def blip(folder: Path) -> tuple[Any, Any]:
    tokenizer = bert_tokenizer()
    text = TOWER | {"vocab_size": len(tokenizer), "encoder_hidden_size": WIDTH, "is_decoder": False}
    config = hf.BlipConfig(
        text_config=text, vision_config=VISION | {"initializer_range": 0.02}, image_text_hidden_size=16
    )
    return hf.BlipForImageTextRetrieval(config), hf.BlipProcessor(
        hf.BlipImageProcessor(size=SQUARE), tokenizer
    )


def owlvit(folder: Path) -> tuple[Any, Any]:
    """A detector, with a CLIP inside."""
    tokenizer = clip_tokenizer(16)
    config = hf.OwlViTConfig(text_config=clip_text(tokenizer), vision_config=VISION, projection_dim=16)
    return hf.OwlViTForObjectDetection(config), hf.OwlViTProcessor(
        hf.OwlViTImageProcessor(size=SQUARE), tokenizer
    )


def tipsv2(folder: Path) -> tuple[Any, Any]:
    tokenizer = hf.Tipsv2Tokenizer(
        vocab={p: i for i, p in enumerate(["<pad>", "<unk>", "▁", *LETTERS])}, merges=[]
    )
    vision = {key: value for key, value in VISION.items() if key != "intermediate_size"}
    text = TOWER | {"vocab_size": len(tokenizer)}
    config = hf.Tipsv2Config(text_config=text, vision_config=vision)
    return hf.Tipsv2Model(config), hf.Tipsv2Processor(hf.Tipsv2ImageProcessor(size=SQUARE), tokenizer)


def dual(folder: Path) -> tuple[Any, Any]:
    """VisionTextDualEncoder: two models that somebody else trained, put together."""
    tokenizer = bert_tokenizer()
    vision = hf.ViTConfig(**VISION)
    text = hf.BertConfig(**TOWER, vocab_size=len(tokenizer))
    config = hf.VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=16)
    images = hf.ViTImageProcessor(size=SQUARE)
    return hf.VisionTextDualEncoderModel(config), hf.VisionTextDualEncoderProcessor(images, tokenizer)


def xclip(folder: Path) -> tuple[Any, Any]:
    tokenizer = clip_tokenizer()
    vision = VISION | {
        "num_frames": 4,
        "mit_hidden_size": 16,
        "mit_intermediate_size": 24,
        "mit_num_attention_heads": 2,
    }
    config = hf.XCLIPConfig(
        text_config=clip_text(tokenizer),
        vision_config=vision,
        projection_dim=16,
        prompt_num_attention_heads=2,
    )
    frames = hf.VideoMAEImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE)
    return hf.XCLIPModel(config), hf.XCLIPProcessor(frames, tokenizer)


def modernbert(tokenizer: Any) -> dict[str, Any]:
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1, "cls_token_id": 1, "sep_token_id": 1}
    return {
        "model_type": "modernbert",
        **TOWER,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 128,
        **ends,
    }


def pe_text() -> Any:
    return unigram_tokenizer(["input_ids", "attention_mask"], length=128, end="</s>")


PE_TOWER = TOWER | {"head_dim": 8}
PE_SOUND = PE_TOWER | {
    "dac_config": {
        "model_type": "dac", "downsampling_ratios": [2, 4], "encoder_hidden_size": 8, "codebook_dim": 8,
        "hidden_size": 16, "sampling_rate": 8_000,
    }
}  # fmt: skip
PE_EYES = PE_TOWER | {
    "vision_config": {
        "model_type": "timm_wrapper", "architecture": "vit_pe_core_tiny_patch16_384", "do_pooling": True,
        "num_classes": 16, "global_pool": "map", "initializer_range": 0.02,
        "model_args": {"img_size": SIDE, "embed_dim": 32, "depth": 2, "num_heads": 2, "attn_pool_num_heads": 2},
    }
}  # fmt: skip


def pe_sounds() -> Any:
    return hf.PeAudioFeatureExtractor(sampling_rate=8_000, hop_length=8)


def pe_frames() -> Any:
    return hf.PeVideoVideoProcessor(
        size=SQUARE, do_resize=True, do_rescale=True, do_normalize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        num_frames=4,
    )  # fmt: skip


def pe_audio(folder: Path) -> tuple[Any, Any]:
    tokenizer = pe_text()
    config = hf.PeAudioConfig(text_config=modernbert(tokenizer), audio_config=PE_SOUND)
    return hf.PeAudioModel(config), hf.PeAudioProcessor(feature_extractor=pe_sounds(), tokenizer=tokenizer)


def pe_video(folder: Path) -> tuple[Any, Any]:
    tokenizer = pe_text()
    config = hf.PeVideoConfig(text_config=modernbert(tokenizer), video_config=PE_EYES)
    return hf.PeVideoModel(config), hf.PeVideoProcessor(video_processor=pe_frames(), tokenizer=tokenizer)


def pe_av(folder: Path) -> tuple[Any, Any]:
    tokenizer = pe_text()
    both = PE_TOWER | {
        "audio_config": PE_SOUND | {"model_type": "pe_audio_encoder"},
        "video_config": PE_EYES | {"model_type": "pe_video_encoder"},
    }
    config = hf.PeAudioVideoConfig(text_config=modernbert(tokenizer), audio_video_config=both)
    processor = hf.PeAudioVideoProcessor(
        feature_extractor=pe_sounds(), video_processor=pe_frames(), tokenizer=tokenizer
    )
    return hf.PeAudioVideoModel(config), processor


def videoprism(folder: Path) -> tuple[Any, Any]:
    tokenizer = hf.VideoPrismTokenizer(
        vocab=[
            ("<pad>", 0.0),
            ("</s>", 0.0),
            ("<unk>", -20.0),
            ("▁", -2.0),
            *((letter, -3.0) for letter in LETTERS),
        ],
        extra_ids=0,
        model_max_length=64,
    )
    vision = {
        "hidden_size": WIDTH, "intermediate_size": 48, "num_attention_heads": 4, "image_size": SIDE, "num_frames": 4,
        "tubelet_size": [1, 8, 8], "num_spatial_layers": 2, "num_temporal_layers": 1, "num_auxiliary_layers": 1,
    }  # fmt: skip
    config = hf.VideoPrismConfig(text_config=TOWER | {"vocab_size": len(tokenizer)}, vision_config=vision)
    frames = hf.LlavaOnevisionVideoProcessor(size=SQUARE, do_normalize=False, do_sample_frames=True)
    return hf.VideoPrismClipModel(config), hf.VideoPrismProcessor(frames, tokenizer)


def embedding_gemma(folder: Path) -> tuple[Any, Any]:
    """EmbeddingGemma 2, which sees, hears and watches."""
    named = {
        "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "audio_token": "<|audio|>",
        "boa_token": "<|audio>", "eoa_token": "<audio|>",
    }  # fmt: skip
    special = [("<pad>", 0.0), ("<eos>", 0.0), ("<bos>", 0.0), ("<unk>", -20.0), ("<|video|>", 0.0)]
    pieces = [
        *special,
        *((name, 0.0) for name in named.values()),
        ("▁", -2.0),
        *((letter, -3.0) for letter in LETTERS),
    ]
    made = Tokenizer(models.Unigram(pieces, unk_id=3))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    ends = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=made, extra_special_tokens=named, **ends)
    number = tokenizer.convert_tokens_to_ids
    text = TOWER | {
        "vocab_size": len(tokenizer), "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 8,
        "num_global_key_value_heads": 2, "hidden_size_per_layer_input": 8, "embedding_dim": 16, "sliding_window": 64,
    }  # fmt: skip
    vision = TOWER | {
        "model_type": "gemma4_vision", "num_key_value_heads": 4, "head_dim": 8, "patch_size": 4,
        "pooling_kernel_size": 2, "position_embedding_size": 64,
    }  # fmt: skip
    audio = {
        "model_type": "gemma4_audio", "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4,
        "subsampling_conv_channels": [128, 4], "output_proj_dims": 24,
    }  # fmt: skip
    config = hf.EmbeddingGemma2Config(
        text_config=text, vision_config=vision, audio_config=audio, image_token_id=number("<|image|>"),
        boi_token_id=number("<|image>"), eoi_token_id=number("<image|>"), video_token_id=number("<|video|>"),
        audio_token_id=number("<|audio|>"), boa_token_id=number("<|audio>"), eoa_token_index=number("<audio|>"),
    )  # fmt: skip
    small = {"patch_size": 4, "pooling_kernel_size": 2, "max_soft_tokens": 70}
    processor = hf.EmbeddingGemma2Processor(
        feature_extractor=hf.Gemma4AudioFeatureExtractor(feature_size=128, sampling_rate=RATE_HZ),
        image_processor=hf.Gemma4ImageProcessor(**small), tokenizer=tokenizer,
        video_processor=hf.EmbeddingGemma2VideoProcessor(**small, max_frames=3),
    )  # fmt: skip
    return hf.EmbeddingGemma2Model(config), processor


KINDS = (
    clip, siglip, siglip2, siglip2_naflex, metaclip_2, altclip, chinese_clip, aimv2, align, clap, clap_fused, clipseg,
    flava, groupvit, blip, owlvit, tipsv2, dual, xclip, pe_audio, pe_video, pe_av, videoprism, embedding_gemma,
)  # fmt: skip
BUILDERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {kind.__name__: kind for kind in KINDS}


def saved(kind: str, folder: Path) -> Any:
    """Writes a checkpoint of that kind as save_pretrained of transformers does -> the model itself."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    model, processor = BUILDERS[kind](folder)
    stirred(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return model
