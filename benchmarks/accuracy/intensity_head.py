"""Measure an intensity head that is fitted on the frozen `nano`, on rendered people and real clips.

    python benchmarks/accuracy/intensity_head.py --data ../shared/data --out runs/intensity

Fits the head (model/head.py) on stills of rendered people whom `nano` was not trained on, with the exact
activation of the rig times five as truth, and saves the checkpoint with it. Prints for other people ICC(3,1),
Pearson's r and mean absolute error of each AU, and for stills and clips how often detection and intensity
contradict each other. First it compares heads whose own term has other limits.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))  # the repository, for recipes and benchmarks
from auscan.core.config import MAX_INTENSITY
from auscan.inference.score_track import probabilities
from auscan.inference.torch_engine import TorchEngine
from auscan.model import head
from auscan.model.checkpoint import load_checkpoint, save_checkpoint
from auscan.model.network import AuscanNetwork
from auscan.pipeline.detect import detect
from auscan.results.agreement.measures import sum_units
from benchmarks.accuracy.metric_tables import markdown
from recipes.nano.calibrate.array_inference import crop_pictures
from recipes.nano.data.teacher_labels import NANO_AUS
from recipes.nano.render.rendered_faces import DEVELOPMENT, TEST, rendered_faces

LIMITS = (0.0, 0.5, 1.0, 2.0, 100.0)
"""Limits of the own term that are compared; that of the network is head.OWN_LIMIT."""
STEPS, BATCH, RATE = 600, 128, 3e-3
"""Steps of AdamW, stills a step, learning rate."""
NEAR_0, STRONG = 0.5, 3.0
"""An active AU below the first, or an inactive one from the second on, is a contradiction."""
CONTRADICTIONS = (f"active, below {NEAR_0:g}", f"inactive, {STRONG:g} or more")
"""Titles of the two kinds of contradictions."""


class Stills(NamedTuple):
    """Inputs of the heads for stills, and the truth."""

    state: Tensor
    """Temporal state [n, d]."""
    au_tokens: Tensor
    """AU tokens [n, A, da]."""
    logits: Tensor
    """Detection logits [n, A]."""
    truth: Tensor
    """Intensities [n, A], 0 to 5."""


def main() -> None:
    """Fit the heads and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with ict_facekit.npz and clips")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--people", type=int, default=400, help="people to fit on, four stills each")
    parser.add_argument("--held-out", type=int, default=120, help="people to report")
    parser.add_argument("--clips", type=int, default=10, help="real clips to count contradictions in")
    args = parser.parse_args()
    plain, config = load_checkpoint("nano")
    ict = args.data / "ict_facekit.npz"
    stills = encode_stills(plain, ict, DEVELOPMENT[-args.people :])
    held_out = encode_stills(plain, ict, TEST[: args.held_out])
    active = probabilities(held_out.logits.numpy(), config) >= np.float32(config.thresholds)
    rows = {}
    for limit in LIMITS:
        with mock.patch.object(head, "OWN_LIMIT", limit):
            estimated = estimate(fit_head(stills), held_out)
        agreed = agreement(config.au_names, estimated, held_out.truth.numpy()).mean()
        rows[f"{limit:g}"] = {**agreed, **contradictions(active, estimated)}
    print(f"{len(stills.truth)} stills to fit on, {len(held_out.truth)} of other people to report\n")
    forms = dict.fromkeys(("ICC", "r", "MAE"), ".3f") | dict.fromkeys(CONTRADICTIONS, ".2%")
    print(*markdown(pd.DataFrame.from_dict(rows, orient="index"), "limit of the own term", forms), sep="\n")
    fitted = fit_head(stills)
    agreed = agreement(config.au_names, estimate(fitted, held_out), held_out.truth.numpy())
    print("", *markdown(agreed, "AU", forms), "", sep="\n")
    save_checkpoint(args.out, with_head(plain, fitted), config, "# nano with an intensity head\n")
    clips = sorted((args.data / "clips").glob("*.mp4"))[: args.clips]
    for name, share in clip_contradictions(TorchEngine(args.out, "cpu"), clips).items():
        print(f"{len(clips)} clips: {name} {share:.2%}")


@torch.no_grad()
def encode_stills(network: AuscanNetwork, ict: Path, people: Iterable[int]) -> Stills:
    """Render people and compute the inputs of the heads, each still as a clip of one frame without sound."""
    activations: list[NDArray[np.float32]] = []

    def images() -> Iterator[NDArray[np.uint8]]:
        for face in rendered_faces(ict, 0, people):
            activations.append(face.intensities)
            yield face.image

    crops = crop_pictures(images(), network.config.visual.crop_size)
    temporal, parts = network.temporal, []
    for pixels in torch.from_numpy(crops.crops).split(BATCH):
        aligned = network.visual(pixels[:, None]).aligned
        state = temporal.memory(aligned.embedding, None, torch.zeros(len(pixels), 1, dtype=torch.float64))
        output = temporal.classify(state, aligned.au_tokens, None)
        parts.append((state[:, 0], aligned.au_tokens[:, 0], output.logits[:, 0]))
    columns = [NANO_AUS.index(name) for name in network.config.au_names]
    truth = np.clip(MAX_INTENSITY * np.stack(activations)[crops.rows][:, columns], 0, MAX_INTENSITY)
    return Stills(*(torch.cat(each) for each in zip(*parts, strict=True)), torch.from_numpy(truth).float())


def fit_head(stills: Stills) -> head.IntensityHead:
    """Fit an intensity head to the truth."""
    torch.manual_seed(0)
    fitted = head.IntensityHead(stills.state.shape[1], stills.au_tokens.shape[2], stills.au_tokens.shape[1])
    optimizer = torch.optim.AdamW(fitted.parameters(), lr=RATE, weight_decay=1e-2)
    for _ in range(STEPS):
        rows = torch.randint(len(stills.truth), (BATCH,))
        state, au_tokens, logits, truth = (each[rows] for each in stills)
        loss = F.binary_cross_entropy_with_logits(fitted(state, au_tokens, logits), truth / MAX_INTENSITY)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return fitted.eval().requires_grad_(False)


def estimate(fitted: head.IntensityHead, stills: Stills) -> NDArray[np.float32]:
    """Estimate the intensities [n, A] of stills."""
    intensity_logits = fitted(stills.state, stills.au_tokens, stills.logits)
    values: NDArray[np.float32] = head.to_intensity(intensity_logits).numpy()
    return values


def with_head(plain: AuscanNetwork, fitted: head.IntensityHead) -> AuscanNetwork:
    """Return the network with the intensity head."""
    network = AuscanNetwork(plain.config.model_copy(update={"intensity": True}))
    network.load_state_dict(plain.state_dict(), strict=False)
    network.temporal.intensity_head = fitted
    return network


def agreement(
    au_names: tuple[str, ...], estimated: NDArray[np.float32], truth: NDArray[np.float32]
) -> pd.DataFrame:
    """Compute ICC(3,1), Pearson's r and mean absolute error of each AU."""
    one_block, none = np.zeros(len(truth), np.int64), np.zeros(len(truth), np.bool_)
    rows = {}
    for j, name in enumerate(au_names):
        values = estimated[:, j], truth[:, j]
        rows[name] = {
            "ICC": sum_units(one_block, 1, none, none, *values).icc()[0],
            "r": np.corrcoef(*values)[0, 1],
            "MAE": np.abs(values[0] - values[1]).mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def contradictions(active: NDArray[np.bool_], estimated: NDArray[np.float32]) -> dict[str, float]:
    """Return the share of active AUs with an intensity near 0, and of inactive AUs with a high one."""
    shares = (estimated[active] < NEAR_0).mean(), (estimated[~active] >= STRONG).mean()
    return dict(zip(CONTRADICTIONS, map(float, shares), strict=True))


def clip_contradictions(engine: TorchEngine, clips: Iterable[Path]) -> dict[str, float]:
    """Return the shares of `contradictions` in the tables of clips."""
    names = engine.config.au_names
    tables = [detect(clip, model=engine).table for clip in clips]
    table = pd.concat([each[each["reason"] == ""] for each in tables])
    active, estimated = (table[[f"{name}_{kind}" for name in names]].to_numpy() for kind in "cr")
    return contradictions(active == 1, estimated)


if __name__ == "__main__":
    main()
