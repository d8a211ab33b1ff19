"""Run encoders of real sizes through extract, train, pack and detect, and compare them with transformers.

    python benchmarks/accuracy/hub_encoders.py [--seconds 2.5] [--threads 1] [--write FILE]

The weights are random, in the folders that save_pretrained writes (config.json, preprocessor_config.json,
model.safetensors), with the sizes of the hub: DINOv2-base and WavLM-base-plus, CLIP-base (16 px patches) and
Whisper-base, then all four at once. The data are a synthetic set of two short videos. Tokens of crops and
sound are compared with plain transformers pipelines, and the faults of a folder are shown with the line that
auscan prints.

Inputs: none. Returns: a table of seconds and differences.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers.utils import logging

from auscan.batch.extract import Extraction
from auscan.core.config import SAMPLE_RATE_HZ, TOKEN_HOP
from auscan.core.errors import CheckpointError
from auscan.datasets.crops import read_crop
from auscan.datasets.frozen_encoders import Encoders, load_encoders
from auscan.datasets.index import Index, read_index
from auscan.datasets.prepare import prepare
from auscan.datasets.synth.writer import write_dataset
from auscan.inference.engine import measure_level
from auscan.media.audio import Waveform, read_waveform
from auscan.pipeline.detect import detect
from auscan.training.config import check_train_config
from auscan.training.loop import train
from auscan.training.pack import pack

RATE_HZ = 10.0
"""Frame rate of the videos."""
GRID = 8
"""Patches along one side after averaging."""
SETUPS = {
    "DINOv2-base, WavLM-base-plus": (["dinov2"], ["wavlm"]),
    "CLIP-base, Whisper-base": (["clip"], ["whisper"]),
    "all four": (["dinov2", "clip"], ["wavlm", "whisper"]),
}
"""Name -> visual and audio folders."""


def main() -> None:
    """Run all setups and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.5, help="mean length of a video")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--write", type=Path, help="also write the output into this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_weights(root)
        write_dataset(root / "data", 2, 0, args.seconds, rate_hz=RATE_HZ)
        prepare(root / "data", root / "index")
        index = read_index(root / "index")
        lines = ["| encoders | extract | train | pack | detect | rows | largest difference |"]
        lines += ["| --- " * 7 + "|"]
        for name, (visual, audio) in SETUPS.items():
            lines.append(run_setup(root, index, name, visual, audio))
            print(lines[-1], flush=True)
        lines += ["", *faults(root)]
    text = "\n".join(lines)
    print(text)
    if args.write:
        args.write.write_text(text + "\n", encoding="utf-8")


def run_setup(root: Path, index: Index, name: str, visual: list[str], audio: list[str]) -> str:
    """Extract, train, pack and detect; return a row of the table."""
    work = root / "-".join((*visual, *audio))
    sources = [str(root / each) for each in visual], [str(root / each) for each in audio]
    seconds: dict[str, float] = {}
    with timed(seconds, "extract"):
        encoders = load_encoders("base", *sources)
        Extraction(index, encoders, work / "cache", GRID).run_here()
    difference = compare(root, index, encoders, visual, audio)
    del encoders
    content = {
        "out": str(work / "run"),
        "data": {"index": str(root / "index"), "cache": str(work / "cache"), "length": 16, "stride": 16},
        "model": {"size": "base"},
        "loop": {"epochs": 4, "batch": 2, "device": "cpu"},
    }
    with timed(seconds, "train"):
        train(check_train_config(content, "settings"))
    with timed(seconds, "pack"):
        pack(work / "run", work / "packed", visual=sources[0], audio=sources[1])
    with timed(seconds, "detect"):
        video = next(iter(index.tracks["video"].dropna()))
        table = detect(index.root / video, model=work / "packed").table
    scored = int(table["AU01"].notna().sum())
    shutil.rmtree(work)
    times = " | ".join(f"{value:.0f} s" for value in seconds.values())
    return f"| {name} | {times} | {scored} of {len(table)} scored | {difference:.1e} |"


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Any:
    """Measure the wall-clock time of a block."""
    began_s = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began_s


def compare(root: Path, index: Index, encoders: Encoders, visual: list[str], audio: list[str]) -> float:
    """Return the largest difference of any token from a plain transformers pipeline, relative to its spread.

    Crops and sound are those of the data set. The tokens of several encoders are normalised.
    """
    images = index.frames["image"].dropna().iloc[:3]
    crops = np.stack([read_crop(index.root / image, 224) for image in images])
    chunks = read_waveform(index.root / next(iter(index.tracks["video"].dropna())))
    assert chunks is not None
    samples = np.concatenate([chunk.samples for chunk in chunks])
    with torch.no_grad():
        face, patches = encoders.visual(torch.from_numpy(crops))
        pictures = [plain_pictures(root / name, crops) for name in visual]
        if len(visual) > 1:
            pictures = [tuple(F.layer_norm(each, each.shape[-1:]) for each in pair) for pair in pictures]
        sound = torch.cat([plain_sound(root / name, samples) for name in audio], dim=-1)
    tokens = torch.from_numpy(encoders.encode_audio(samples, measure_level([Waveform(samples, 0.0)])))
    expected_face = torch.cat([pair[0] for pair in pictures], dim=-1)
    pairs = [(face, expected_face), (tokens, sound)]
    if len(visual) == 1:  # several: on a common grid
        pairs.append((patches, pictures[0][1]))
    return max(float((ours - theirs).abs().max() / theirs.std()) for ours, theirs in pairs)


def plain_pictures(folder: Path, crops: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return class token and patches of the plain pipeline; of CLIP after its last norm."""
    from transformers import AutoImageProcessor, AutoModel, CLIPVisionModel

    model = (CLIPVisionModel if folder.name == "clip" else AutoModel).from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil", do_resize=False)(
        list(crops), return_tensors="pt"
    )
    out = model(pixels["pixel_values"]).last_hidden_state
    out = model.post_layernorm(out) if folder.name == "clip" else out
    return out[:, 0], out[:, 1:]


def plain_sound(folder: Path, samples: np.ndarray) -> torch.Tensor:
    """Return the means of four groups of normalised layers [Ta, 4 D] of the plain pipeline."""
    from transformers import AutoFeatureExtractor, AutoModel

    extractor, model = AutoFeatureExtractor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    how: dict[str, Any] = {"sampling_rate": SAMPLE_RATE_HZ, "return_tensors": "pt"}
    count = len(samples) // TOKEN_HOP
    if folder.name == "whisper":
        padded = np.concatenate([np.zeros(TOKEN_HOP // 2, np.float32), samples])
        features = extractor(padded, **how)["input_features"]
        states = model.get_encoder()(features, output_hidden_states=True).hidden_states
        layers = torch.cat(states)[:, 1 : 1 + count]
    else:
        values = F.pad(extractor(samples, **how)["input_values"], (40, 40 + TOKEN_HOP))
        layers = torch.cat(model(values, output_hidden_states=True).hidden_states)[:, :count]
    layers = F.layer_norm(layers, layers.shape[-1:])
    return torch.cat([group.mean(0) for group in torch.tensor_split(layers, 4)], dim=-1)


def write_weights(root: Path) -> None:
    """Write folders with random weights of the sizes of the hub."""
    import transformers as hf

    torch.manual_seed(0)
    text = hf.CLIPTextConfig(num_hidden_layers=1)
    clip = hf.CLIPConfig(vision_config=hf.CLIPVisionConfig(patch_size=16), text_config=text)
    whisper = hf.WhisperConfig(
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
    )
    crop = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    dinov2 = crop | {"size": {"shortest_edge": 256}, "image_mean": [0.485, 0.456, 0.406]}
    models: dict[str, tuple[Callable[[], Any], Any]] = {
        "dinov2": (
            lambda: hf.Dinov2Model(hf.Dinov2Config(patch_size=14, image_size=518)),
            hf.BitImageProcessorPil(**dinov2, image_std=[0.229, 0.224, 0.225]),
        ),
        "clip": (lambda: hf.CLIPModel(clip), hf.CLIPImageProcessorPil(**crop)),
        "wavlm": (lambda: hf.WavLMModel(hf.WavLMConfig()), hf.Wav2Vec2FeatureExtractor(do_normalize=True)),
        "whisper": (lambda: hf.WhisperForConditionalGeneration(whisper), hf.WhisperFeatureExtractor()),
    }
    for name, (build, preprocessing) in models.items():
        build().save_pretrained(root / name)
        preprocessing.save_pretrained(root / name)


def faults(root: Path) -> list[str]:
    """Return one line for each fault of the DINOv2 folder: what auscan prints."""
    return [f"{name}: {outcome(folder)}" for name, folder in broken_folders(root).items()]


def outcome(folder: Path) -> str:
    """Load a folder; return the error, or the type of the weights."""
    try:
        encoders = load_encoders("base", str(folder), str(folder.parent / "wavlm"))
    except CheckpointError as error:
        return str(error)
    return f"loaded as {next(encoders.visual.parameters()).dtype}"


def broken_folders(root: Path) -> dict[str, Path]:
    """Write folders with NaN weights, bf16 weights and pickled weights; the last one is of another kind."""
    weights = load_file(root / "dinov2" / "model.safetensors")
    folders = {name: root / name for name in ("nan", "bf16", "pickled")}
    for folder in folders.values():
        shutil.copytree(root / "dinov2", folder, ignore=shutil.ignore_patterns("model.safetensors"))
    broken = weights | {"layernorm.bias": torch.full_like(weights["layernorm.bias"], torch.nan)}
    half = {name: value.bfloat16() for name, value in weights.items()}
    for name, values in (("nan", broken), ("bf16", half)):
        save_file(values, folders[name] / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folders["bf16"] / "config.json").read_text())
    (folders["bf16"] / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    torch.save(weights, folders["pickled"] / "pytorch_model.bin")
    return {**folders, "another kind": root / "wavlm"}


if __name__ == "__main__":
    main()
