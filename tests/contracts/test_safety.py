"""What is read is data: no file that auscan opens may run code of its own.

Models are safetensors, ONNX and JSON; arrays are read without pickles, YAML with the safe loader. The rule is
read off the source: every call in src/auscan, wherever it stands.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "auscan"
UNPICKLING = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
}
RUNNING = {"eval", "exec", "compile", "__import__"}
SAFE_YAML = {"safe_load", "safe_load_all", "safe_dump", "safe_dump_all", "YAMLError"}


def offences(code: str) -> list[str]:
    """What in the code could run what a file says."""
    return [fault for node in ast.walk(ast.parse(code)) for fault in _offences(node)]


def _offences(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        yield from (name for name in names if name.partition(".")[0] in UNPICKLING)
    elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "yaml" and node.attr not in SAFE_YAML:
        yield f"yaml.{node.attr}"
    elif isinstance(node, ast.Call):
        yield from _call_offences(ast.unparse(node.func), node)


def _call_offences(name: str, call: ast.Call) -> Iterator[str]:
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if name in RUNNING:
        yield name
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if given.get("allow_pickle", "False") != "False":
        yield f"{name} with allow_pickle"
    if name in ("pd.read_pickle", "pandas.read_pickle") or name.endswith(".to_pickle"):
        yield name
    if name.endswith("from_pretrained") and given.get("use_safetensors") != "True":
        yield f"{name} without use_safetensors=True"
    if given.get("trust_remote_code", "False") != "False":
        yield f"{name} with trust_remote_code"
    if given.get("shell", "False") != "False":
        yield f"{name} with a shell"


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=str(p.relative_to(SOURCE))) for p in sorted(SOURCE.rglob("*.py"))]
)
def test_no_module_runs_what_a_file_says(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "pd.read_pickle(file)",
        "eval(text)",
        "exec(text)",
        "AutoModel.from_pretrained(name)",
        "AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=True)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_rule_itself_finds(code: str) -> None:
    assert offences(code)


@pytest.mark.parametrize(
    "code",
    [
        "network.eval()",
        "re.compile(text)",
        "torch.load(file, weights_only=True)",
        "np.load(file)",
        "yaml.safe_load(text)",
        "AutoModel.from_pretrained(name, use_safetensors=True)",
    ],
)
def test_the_rule_itself_lets_pass(code: str) -> None:
    assert not offences(code)
