"""Tiny checkpoints of the real architectures of diffusers, and MusicGen, saved in the format users have.

Also diffusers called by hand on them: what the tests compare with.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers as df
import numpy as np
import pytest
import torch
import transformers as hf

from tests.encoders.hf.hf_tiny import (
    LETTERS,
    VISION,
    WIDTH,
    clip_text,
    clip_tokenizer,
    roberta_tokenizer,
    stirred,
)

CLIP_DIM = 16  # of what CLIP gives for a picture
SIDE = 32
RATE_HZ = 16_000
EVERY = {"clip_sample": False, "set_alpha_to_one": False, "beta_schedule": "scaled_linear", "steps_offset": 1}


def ddim(**more: Any) -> Any:
    return df.DDIMScheduler(beta_start=0.00085, beta_end=0.012, **(EVERY | more))


def unet(**more: Any) -> Any:
    """Cross-attention to a text of WIDTH numbers a token."""
    shape: dict[str, Any] = {
        "block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": SIDE // 2, "norm_num_groups": 8,
        "in_channels": 4, "out_channels": 4, "cross_attention_dim": WIDTH, "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    torch.manual_seed(0)
    return df.UNet2DConditionModel(**(shape | more)).eval()


def vae(levels: int = 2, **more: Any) -> Any:
    torch.manual_seed(1)
    return df.AutoencoderKL(
        block_out_channels=(16,) * levels,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **({"latent_channels": 4} | more),
    ).eval()


def clip_words(tokenizer: Any, **more: Any) -> Any:
    return stirred(hf.CLIPTextModel(hf.CLIPTextConfig(**clip_text(tokenizer, **more))))


def clip_words_projected(tokenizer: Any, seed: int = 0) -> Any:
    config = hf.CLIPTextConfig(**clip_text(tokenizer), projection_dim=WIDTH)
    return stirred(hf.CLIPTextModelWithProjection(config), seed)


def clip_eye(dim: int = CLIP_DIM) -> Any:
    return stirred(hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**VISION, projection_dim=dim)))


def clip_images() -> Any:
    return hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def t5_words(tokenizer: Any) -> Any:
    config = hf.T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0,
        decoder_start_token_id=0,
    )  # fmt: skip
    return stirred(hf.T5EncoderModel(config))


def t5_tokenizer(length: int = 512) -> Any:
    vocab = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -20.0),
        ("▁", -2.0),
        *((letter, -3.0) for letter in LETTERS),
    ]
    return hf.T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=length)


def stable_diffusion(folder: Path, checker: Any = None) -> Any:
    tokenizer = clip_tokenizer()
    return df.StableDiffusionPipeline(
        vae=vae(), text_encoder=clip_words(tokenizer), tokenizer=tokenizer, unet=unet(), scheduler=ddim(),
        safety_checker=checker, feature_extractor=clip_images() if checker else None,
        requires_safety_checker=checker is not None,
    )  # fmt: skip


def checked_stable_diffusion(folder: Path) -> Any:
    """With a safety checker that finds every picture unsafe: its thresholds lie below any cosine."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    text = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    config = hf.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=CLIP_DIM)
    checker = stirred(StableDiffusionSafetyChecker(config))
    for name in ("concept_embeds", "special_care_embeds"):
        getattr(checker, name).data.normal_()
        getattr(checker, f"{name}_weights").data.fill_(-2.0)
    return stable_diffusion(folder, checker)


def stable_diffusion_xl(folder: Path) -> Any:
    tokenizer = clip_tokenizer()
    grid = unet(
        cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8, use_linear_projection=True,
    )  # fmt: skip
    return df.StableDiffusionXLPipeline(
        vae=vae(), text_encoder=clip_words(tokenizer, projection_dim=WIDTH),
        text_encoder_2=clip_words_projected(tokenizer), tokenizer=tokenizer, tokenizer_2=tokenizer, unet=grid,
        scheduler=df.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    )  # fmt: skip


def stable_diffusion_3(folder: Path) -> Any:
    tokenizer, long = clip_tokenizer(), t5_tokenizer()
    torch.manual_seed(0)
    grid = df.SD3Transformer2DModel(
        sample_size=SIDE // 2, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=2 * WIDTH, caption_projection_dim=32, pooled_projection_dim=2 * WIDTH, out_channels=4,
    )  # fmt: skip
    torch.manual_seed(3)
    wide = hf.T5EncoderModel(hf.T5Config(
        vocab_size=len(long), d_model=2 * WIDTH, d_kv=8, d_ff=48, num_layers=1, num_heads=4, pad_token_id=0,
    ))  # fmt: skip
    return df.StableDiffusion3Pipeline(
        transformer=grid.eval(), scheduler=df.FlowMatchEulerDiscreteScheduler(), vae=vae(shift_factor=0.06),
        text_encoder=clip_words_projected(tokenizer), tokenizer=tokenizer,
        text_encoder_2=clip_words_projected(tokenizer, 1), tokenizer_2=tokenizer, text_encoder_3=stirred(wide),
        tokenizer_3=long,
    )  # fmt: skip


def flux(folder: Path) -> Any:
    tokenizer, long = clip_tokenizer(), t5_tokenizer()
    torch.manual_seed(0)
    grid = df.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return df.FluxPipeline(
        transformer=grid.eval(), scheduler=df.FlowMatchEulerDiscreteScheduler(), vae=vae(shift_factor=0.06),
        text_encoder=clip_words(tokenizer), tokenizer=tokenizer, text_encoder_2=t5_words(long), tokenizer_2=long,
    )  # fmt: skip


def pixart(folder: Path) -> Any:
    long = t5_tokenizer()
    torch.manual_seed(0)
    grid = df.PixArtTransformer2DModel(
        sample_size=32, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3,
        caption_channels=WIDTH, in_channels=4, cross_attention_dim=24, out_channels=8, norm_type="ada_norm_single",
        use_additional_conditions=False, norm_elementwise_affine=False, norm_eps=1e-6, attention_bias=True,
        activation_fn="gelu-approximate", num_embeds_ada_norm=1000,
    )  # fmt: skip
    return df.PixArtAlphaPipeline(
        transformer=stirred(grid), scheduler=df.DPMSolverMultistepScheduler(), vae=vae(3), text_encoder=t5_words(long),
        tokenizer=long,
    )  # fmt: skip


def unclip(folder: Path) -> Any:
    """Stable unCLIP that varies pictures: the picture goes in as CLIP sees it."""
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )

    tokenizer = clip_tokenizer()
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=CLIP_DIM)
    normalizer.mean.data.normal_(generator=torch.Generator().manual_seed(5))
    normalizer.std.data.fill_(0.5)
    return df.StableUnCLIPImg2ImgPipeline(
        feature_extractor=clip_images(), image_encoder=clip_eye(), image_normalizer=normalizer,
        image_noising_scheduler=df.DDPMScheduler(beta_schedule="squaredcos_cap_v2"), tokenizer=tokenizer,
        text_encoder=clip_words(tokenizer), scheduler=ddim(prediction_type="v_prediction"), vae=vae(),
        unet=unet(class_embed_type="projection", projection_class_embeddings_input_dim=2 * CLIP_DIM),
    )  # fmt: skip


def kandinsky(folder: Path) -> Any:
    """The half of Kandinsky 2.2 that draws from CLIP's picture vectors."""
    grid = unet(
        block_out_channels=(32, 64), in_channels=4, out_channels=8, addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", encoder_hid_dim=CLIP_DIM, encoder_hid_dim_type="image_proj",
        cross_attention_dim=WIDTH, resnet_time_scale_shift="scale_shift", class_embed_type=None,
    )  # fmt: skip
    torch.manual_seed(1)
    movq = df.VQModel(
        block_out_channels=(32, 32), norm_num_groups=8, latent_channels=4, num_vq_embeddings=12, norm_type="spatial",
        vq_embed_dim=4, layers_per_block=1, down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
    )  # fmt: skip
    return df.KandinskyV22Pipeline(
        unet=grid,
        scheduler=ddim(thresholding=False, prediction_type="epsilon"),
        movq=movq.eval(),
    )


def kandinsky_prior(folder: Path) -> Any:
    """The other half: from words to a picture vector."""
    tokenizer = clip_tokenizer()
    torch.manual_seed(2)
    prior = df.PriorTransformer(
        num_attention_heads=2, attention_head_dim=12, embedding_dim=CLIP_DIM, num_layers=1
    )
    prior.clip_std.data.fill_(0.5)
    config = hf.CLIPTextConfig(**clip_text(tokenizer), projection_dim=CLIP_DIM)
    config.hidden_size = CLIP_DIM
    return df.KandinskyV22PriorPipeline(
        prior=prior.eval(), image_encoder=clip_eye(), text_encoder=stirred(hf.CLIPTextModelWithProjection(config)),
        tokenizer=tokenizer, image_processor=clip_images(),
        scheduler=df.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", num_train_timesteps=1000,
            clip_sample_range=5.0,
        ),
    )  # fmt: skip


def stable_audio(folder: Path) -> Any:
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel

    long = t5_tokenizer(64)
    torch.manual_seed(0)
    grid = df.StableAudioDiTModel(
        sample_size=16, in_channels=3, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        num_key_value_attention_heads=2, out_channels=3, cross_attention_dim=8, time_proj_dim=8,
        global_states_input_dim=16, cross_attention_input_dim=8,
    )  # fmt: skip
    torch.manual_seed(1)
    oobleck = df.AutoencoderOobleck(
        encoder_hidden_size=6, downsampling_ratios=[1, 2], decoder_channels=3, decoder_input_channels=3,
        audio_channels=2, channel_multiples=[2, 4], sampling_rate=4,
    )  # fmt: skip
    torch.manual_seed(2)
    projection = StableAudioProjectionModel(
        text_encoder_dim=WIDTH, conditioning_dim=8, min_value=0, max_value=32
    )
    scheduler = df.CosineDPMSolverMultistepScheduler(
        solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
    )
    return df.StableAudioPipeline(
        transformer=grid.eval(), scheduler=scheduler, vae=oobleck.eval(), text_encoder=t5_words(long), tokenizer=long,
        projection_model=projection,
    )  # fmt: skip


def audioldm2(folder: Path) -> Any:
    from diffusers.pipelines.audioldm2 import AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel

    short, long = roberta_tokenizer(), t5_tokenizer()
    torch.manual_seed(0)
    grid = AudioLDM2UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=8, sample_size=32, in_channels=4,
        out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=(8, 16),
    )  # fmt: skip
    text = {
        "vocab_size": len(short), "hidden_size": 8, "intermediate_size": 37, "num_attention_heads": 2,
        "num_hidden_layers": 1, "pad_token_id": 1, "layer_norm_eps": 1e-05,
    }  # fmt: skip
    sound = {
        "spec_size": 64, "window_size": 4, "num_mel_bins": 64, "intermediate_size": 37, "depths": [2, 2],
        "num_attention_heads": [2, 2], "num_hidden_layers": 2, "hidden_size": 16, "patch_size": 2, "patch_stride": 2,
        "patch_embed_input_channels": 4,
    }  # fmt: skip
    ears = hf.ClapModel(hf.ClapConfig(text_config=text, audio_config=sound, projection_dim=16))
    torch.manual_seed(3)
    words = hf.GPT2LMHeadModel(hf.GPT2Config(
        n_embd=16, n_head=4, n_layer=2, vocab_size=200, n_ctx=64, bos_token_id=0, eos_token_id=1
    ))  # fmt: skip
    words.config.max_new_tokens = 8
    torch.manual_seed(4)
    vocoder = hf.SpeechT5HifiGan(hf.SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=RATE_HZ, upsample_initial_channel=16, upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4], resblock_kernel_sizes=[3, 7],
        resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]], normalize_before=False,
    ))  # fmt: skip
    return df.AudioLDM2Pipeline(
        unet=grid.eval(), scheduler=ddim(), text_encoder=ears.eval(), text_encoder_2=t5_words(long), tokenizer=short,
        tokenizer_2=long, feature_extractor=hf.ClapFeatureExtractor(
            feature_size=64, sampling_rate=RATE_HZ, nb_max_samples=160, hop_length=16
        ),
        vae=vae(in_channels=1, out_channels=1), language_model=words.eval(), vocoder=vocoder.eval(),
        projection_model=AudioLDM2ProjectionModel(text_encoder_dim=16, text_encoder_1_dim=WIDTH, langauge_model_dim=16),
    )  # fmt: skip


class MusicGen:
    """Model and processor, saved as one folder."""

    def __init__(self) -> None:
        long = t5_tokenizer()
        text = hf.T5Config(
            vocab_size=len(long), d_model=WIDTH, d_kv=8, d_ff=48, num_layers=1, num_heads=4, pad_token_id=0,
            decoder_start_token_id=0,
        )  # fmt: skip
        sound = hf.EncodecConfig(
            sampling_rate=RATE_HZ, num_filters=4, upsampling_ratios=[8, 5, 4, 2], hidden_size=16, codebook_size=64,
            codebook_dim=16, num_lstm_layers=1, target_bandwidths=[1.2], use_conv_shortcut=False,
        )  # fmt: skip
        words = hf.MusicgenDecoderConfig(
            vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32, num_codebooks=4,
            pad_token_id=64, bos_token_id=64, max_position_embeddings=2048,
        )  # fmt: skip
        torch.manual_seed(0)
        config = hf.MusicgenConfig(text_encoder=text, audio_encoder=sound, decoder=words)
        self.model = hf.MusicgenForConditionalGeneration(config).eval()
        stirred(self.model.decoder), stirred(self.model.text_encoder)
        for (
            layer
        ) in self.model.audio_encoder.quantizer.layers:  # which begin with zeros: all codes would sound alike
            layer.codebook.embed.normal_()
        more = {"do_sample": True, "guidance_scale": 3.0, "max_length": 1500, "pad_token_id": 64}
        self.model.generation_config = hf.GenerationConfig(**more, bos_token_id=64, decoder_start_token_id=64)
        features = hf.EncodecFeatureExtractor(sampling_rate=RATE_HZ)
        self.processor = hf.MusicgenProcessor(features, long)

    def save_pretrained(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def musicgen(folder: Path) -> Any:
    return MusicGen()


MODELS: dict[str, Callable[[Path], Any]] = {
    item.__name__: item
    for item in (
        stable_diffusion, checked_stable_diffusion, stable_diffusion_xl, stable_diffusion_3, flux, pixart, unclip,
        kandinsky, kandinsky_prior, stable_audio, audioldm2, musicgen,
    )
}  # fmt: skip


# --- built once, and used by hand ----------------------------------------------------------------

Checkpoints = Callable[[str], Path]
_built: dict[str, Path] = {}


@pytest.fixture
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """The folder of a checkpoint by its name, made when first asked for and then kept: not to be changed."""

    def folder(name: str) -> Path:
        if name not in _built:
            _built[name] = tmp_path_factory.mktemp("generation") / name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                MODELS[name](_built[name]).save_pretrained(_built[name])
        return _built[name]

    return folder


@functools.cache
def upstream(folder: Path) -> Any:
    """diffusers' own pipeline, loaded as its documentation says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = df.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def dice(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def by_hand(pipe: Any, seed: int, **arguments: Any) -> Any:
    """What a pipeline of diffusers gives: an array of uint8 (h, w, 3), or of samples as upstream orders them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        output = pipe(**arguments, generator=dice(seed))
    return np.asarray(output.images[0]) if hasattr(output, "images") else np.asarray(output.audios[0])
