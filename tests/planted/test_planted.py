"""Each part of the method solves the planted task that needs it, by a margin over networks without it.

    pytest -m planted -s     prints the figures of docs/method.md

A margin is a difference of ROC-AUC on new data of the task. Seeds are fixed and a step is deterministic, so
the figures vary only with the rounding of the machine.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.planted.tasks import (
    SIDE,
    AlignmentNetwork,
    Faces,
    LocalTask,
    RestTask,
    VoiceTask,
    auc,
    covered_auc,
    other_voice_aucs,
    train_alignment,
    train_fusion,
    train_memory,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors are small: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def new_random() -> torch.Generator:
    return torch.Generator().manual_seed(9)


def show(task: str, figures: dict[str, float]) -> None:
    print(f"\n{task}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


@torch.no_grad()
def scored(network: AlignmentNetwork, faces: Faces) -> float:
    return auc(faces.labels, network(faces)[0])


def test_each_au_finds_its_patch_among_background_that_looks_like_aus() -> None:
    """All patches >= the k selected ones > averaged patches > the global token."""
    arms = {"all": (SIDE**2,), "selected": (12,), "averaged": (9, 3), "global": (12, SIDE, False)}
    networks = {}
    for name, arguments in arms.items():
        torch.manual_seed(0)
        networks[name] = AlignmentNetwork(*arguments)
        train_alignment(LocalTask(), networks[name], 250)
    faces = LocalTask().sample(2000, new_random())
    figures = {name: scored(network, faces) for name, network in networks.items()}
    with torch.no_grad():
        attention = networks["selected"](faces)[1].attention[:, 0]  # [n, A, H, N]
    selected = (attention.sum(2) > 0).float()
    on_face = (selected * faces.on_face[:, None]).sum() / selected.sum()
    figures |= {"oracle": auc(faces.labels, faces.oracle), "selected patches on the face": on_face.item()}
    show("local", figures)
    assert figures["oracle"] > 0.95, "or the task is void"
    assert figures["selected"] > figures["all"] - 0.03
    assert figures["selected"] > figures["averaged"] + 0.1
    assert figures["averaged"] > figures["global"] + 0.05
    assert on_face > 0.8, "a random selection has 0.33"


def test_a_cover_closes_the_gate_of_its_region_and_a_blank_crop_closes_all() -> None:
    """With the cover loss; covers of the test are of other kinds than those of training."""
    gates, figures = {}, {}
    faces = LocalTask(moves=False, covered=0.3, held_out=True).sample(2000, new_random())
    blank = LocalTask(moves=False, blank=1.0).sample(64, new_random())
    is_covered = faces.covers.bool()
    for name, weight in {"taught": 0.1, "untaught": 0.0}.items():
        torch.manual_seed(0)
        network = AlignmentNetwork(12)
        train_alignment(LocalTask(moves=False, covered=0.3, blank=0.05), network, 500, weight)
        with torch.no_grad():
            logits, aligned = network(faces)
            gates[name] = aligned.gates[:, 0]
            figures[f"{name}, blank crop"] = network(blank)[1].gates.mean().item()
        figures |= {
            name: float(roc_auc_score(~is_covered.flatten(), gates[name].flatten())),
            f"{name}, gate if covered": gates[name][is_covered].mean().item(),
            f"{name}, gate if visible": gates[name][~is_covered].mean().item(),
            f"{name}, AUs that are visible": np.mean(
                [
                    roc_auc_score(faces.labels[seen, au], logits[seen, au])
                    for au, seen in enumerate((~is_covered).T)
                ]
            ),
        }
    show("covers", figures)
    assert figures["taught"] > 0.9
    assert figures["taught"] > figures["untaught"] + 0.2
    assert figures["taught, gate if covered"] < 0.5
    assert figures["taught, gate if visible"] > 0.8
    assert figures["taught, blank crop"] < 0.2
    assert figures["taught, AUs that are visible"] > figures["untaught, AUs that are visible"] - 0.01


def test_sound_reaches_a_covered_mouth_if_it_is_late() -> None:
    """No fusion < concatenation, symmetric and asymmetric attention < the same with the late path."""
    plain = {"guide": "plain", "temporal": "none", "late_path": False}
    arms = {
        "no fusion": {**plain, "fusion": "none"},
        "concatenation": {**plain, "fusion": "concat"},
        "symmetric": {**plain, "fusion": "symmetric"},
        "asymmetric": plain,
        "asymmetric and late path": {**plain, "late_path": True},
    }
    stages = {name: train_fusion(VoiceTask(late_s=0.12), 200, **controls) for name, controls in arms.items()}
    covered = VoiceTask(covered=1.0, late_s=0.12)
    figures = {name: covered_auc(stage, covered) for name, stage in stages.items()}
    clips = covered.sample(64, new_random())
    figures["oracle"] = float(roc_auc_score(clips.labels[:, :-4].flatten(), clips.oracle[:, :-4].flatten()))
    silent = covered_auc(stages["asymmetric and late path"], covered, with_sound=False)
    figures["late path without sound"] = silent
    show("late sound", figures)
    assert figures["oracle"] > 0.9, "or the task is void"
    assert figures["concatenation"] > figures["no fusion"] + 0.05
    assert figures["symmetric"] > figures["concatenation"] + 0.05
    assert figures["asymmetric"] > figures["concatenation"] + 0.05
    assert figures["asymmetric and late path"] > figures["asymmetric"] + 0.02
    assert figures["late path without sound"] == pytest.approx(0.5, abs=0.03)


def test_the_voice_of_someone_else_does_no_harm() -> None:
    """With the gate of inference/synchrony.py, on frames that are covered but for a hint."""
    task = VoiceTask(hint=0.06)
    figures = other_voice_aucs(train_fusion(task, 120), task)
    show("whose voice", figures)
    assert figures["own voice"] > figures["no voice"] + 0.1, "or the task is void"
    assert figures["other voice"] < figures["no voice"] - 0.03, "or the task is void"
    assert figures["other voice, gate"] > figures["other voice"] + 0.03
    assert figures["other voice, gate"] > figures["no voice"] - 0.02
    assert figures["own voice, gate"] > figures["own voice"] - 0.02


def test_the_state_space_remembers_a_resting_face_for_a_minute() -> None:
    figures = {temporal: train_memory(RestTask(), 600, temporal) for temporal in ("mamba", "tcn")}
    clips = RestTask().sample(128, new_random())
    known = clips.labels >= 0
    figures["oracle"] = float(roc_auc_score(clips.labels[known], clips.oracle[known]))
    show("rest a minute ago", figures)
    assert figures["oracle"] > 0.99, "or the task is void"
    assert figures["mamba"] > figures["tcn"] + 0.1
