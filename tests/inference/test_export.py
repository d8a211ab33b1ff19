"""Test that `export` writes a checkpoint with the results of PyTorch, and raises an error if they differ."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from auscan.core.checkpoint_folder import (
    CHECKSUMS_FILE,
    EXPORT_FILE,
    graph_names,
    read_config,
    verify_checksums,
    write_checksums,
)
from auscan.core.config import CheckpointConfig, NetworkConfig
from auscan.core.errors import AuscanError, InputError
from auscan.inference import export as exporting
from auscan.inference.engine_parity import compare_engines
from auscan.inference.export import GraphSpec, export, graph_specs, quantise, write_graph
from auscan.inference.onnx_engine import OnnxEngine, open_graph
from auscan.inference.torch_engine import TorchEngine
from auscan.model.checkpoint import load_checkpoint, save_checkpoint
from auscan.model.network import AuscanNetwork


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def test_the_folder_is_a_checkpoint_with_a_report(tiny_graphs: Path, tiny_checkpoint: Path) -> None:
    assert {file.stem for file in tiny_graphs.glob("*.onnx")} == set(graph_names(read_config(tiny_graphs)))
    assert read_config(tiny_graphs) == read_config(tiny_checkpoint)
    report = json.loads((tiny_graphs / EXPORT_FILE).read_text("utf-8"))
    assert report["precision"] == "float32"
    assert report["bytes"] == {file.name: file.stat().st_size for file in tiny_graphs.glob("*.onnx")}
    for differences in report["differences"].values():
        assert all(0 <= value < 1e-4 for value in differences.values())
        assert {"embedding", "encode_sound", "hear", "sweep", "read", "logits"} <= set(differences)
    assert (tiny_graphs / CHECKSUMS_FILE).is_file()
    verify_checksums(tiny_graphs, report["bytes"])
    assert not [file for file in tiny_graphs.iterdir() if ".part" in file.name]


def test_the_pyramid_of_two_patch_scales_can_be_exported(
    build_network: Callable[..., AuscanNetwork],
    tiny_config: NetworkConfig,
    tmp_path: Path,
    crops: NDArray[np.uint8],
) -> None:
    visual = tiny_config.visual.model_copy(update={"patch_scales": 2})
    network = build_network(tiny_config.model_copy(update={"visual": visual}))
    config = CheckpointConfig(name="pyramid", auscan_version="0.2.0", network=network.config)
    write_graph(tmp_path / "visual.onnx", graph_specs(network, config)["visual"])
    graph, before = open_graph(tmp_path / "visual.onnx"), np.arange(len(crops))
    carried = np.empty((0, *network.visual.patch_shape), np.float32)
    (embedding,) = graph.run(["embedding"], {"crops": crops, "carried": carried, "before": before})
    expected = network.visual(torch.from_numpy(crops)[:, None]).aligned.embedding[:, 0]
    assert network.visual.patch_shape == (64, 16)
    np.testing.assert_allclose(embedding, expected.detach().numpy(), atol=1e-4)


def test_graphs_contain_no_paths_of_the_machine(tiny_graphs: Path) -> None:
    for file in tiny_graphs.glob("*.onnx"):
        content = file.read_bytes()
        assert b"site-packages" not in content
        assert b".py" not in content


def test_graphs_have_variable_lengths(tiny_graphs: Path) -> None:
    for name, axes in (("visual", {"crops": "B", "carried": "F"}), ("sweep_0_ahead", {"x": "T"})):
        inputs = {each.name: each for each in onnx.load(tiny_graphs / f"{name}.onnx").graph.input}
        for wanted, axis in axes.items():
            assert inputs[wanted].type.tensor_type.shape.dim[0].dim_param == axis


def test_int8_graphs_are_close_to_pytorch(
    tiny_graphs: Path, tiny_checkpoint: Path, tmp_path: Path, crops: NDArray[np.uint8]
) -> None:
    folder = shutil.copytree(tiny_graphs, tmp_path / "int8")
    quantise(folder / "visual.onnx", crops, (16, 16))
    write_checksums(folder)
    kinds = [node.op_type for node in onnx.load(folder / "visual.onnx").graph.node]
    assert "QuantizeLinear" in kinds
    differences = compare_engines(TorchEngine(tiny_checkpoint, "cpu"), OnnxEngine(folder), crops)["real"]
    assert differences["embedding"] > 1e-4
    assert differences["mean_probability"] < 0.05
    assert differences["sweep"] < 1e-4


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((3, 48, 48, 3), np.uint8),
        np.zeros((3, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((0, 32, 32, 3), np.uint8),
    ],
    ids=["size", "type", "axes", "none"],
)
def test_crops_that_do_not_fit_are_refused_before_anything_is_written(
    tiny_checkpoint: Path, tmp_path: Path, wrong: NDArray[np.uint8]
) -> None:
    with pytest.raises(InputError, match=r"needs uint8 of shape \[n, 32, 32, 3\]"):
        export(tiny_checkpoint, tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()


def test_graphs_that_differ_too_much_are_an_error(
    tiny_graphs: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    crops: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Graphs of another network stand in for a faulty exporter."""
    network, config = load_checkpoint(tiny_checkpoint)
    network.temporal.head.bias.add_(0.5)
    save_checkpoint(tmp_path / "other", network, config, "")
    monkeypatch.setattr(
        exporting, "write_graph", lambda file, spec: shutil.copy(tiny_graphs / "audio.onnx", file)
    )
    monkeypatch.setattr(exporting, "OnnxEngine", lambda out: OnnxEngine(tiny_graphs))
    with pytest.raises(AuscanError, match=r"logits differs by 0\.5, more than 0\.0001"):
        export(tmp_path / "other", tmp_path / "out", crops)


def test_saving_new_weights_deletes_old_graphs(
    tiny_checkpoint: Path, tiny_graphs: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_graphs, tmp_path / "again")
    save_checkpoint(folder, *load_checkpoint(tiny_checkpoint), "# Again")
    assert not list(folder.glob("*.onnx"))
    assert not (folder / EXPORT_FILE).exists()


class Positions(torch.nn.Module):
    """Module whose position lookup the exporter folds into a constant named embedding, as in CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(torch.arange(4)).sum(0)


def test_a_constant_with_the_name_of_an_output_is_renamed(tmp_path: Path) -> None:
    module, x = Positions(), torch.randn(5, 3)
    spec = GraphSpec(module=module, inputs={"x": (x, "T")}, outputs=("embedding",))
    write_graph(tmp_path / "graph.onnx", spec)
    (found,) = open_graph(tmp_path / "graph.onnx").run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-6)
