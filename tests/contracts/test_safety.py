"""No file that auscan opens can run code.

Models are safetensors, ONNX and JSON; arrays are read without pickles, YAML with the safe loader. The test
reads every call in the source of src/auscan.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

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
    """Calls and imports in the code that could run the content of a file."""
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


def test_no_module_runs_the_content_of_a_file() -> None:
    paths = sorted(SOURCE.rglob("*.py"))
    found = [
        f"{path.relative_to(SOURCE)}: {fault}"
        for path in paths
        for fault in offences(path.read_text(encoding="utf-8"))
    ]
    assert len(paths) > 100
    assert not found, "\n".join(found)


def test_the_rule_finds_every_form() -> None:
    wrong = [
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
    ]
    assert [code for code in wrong if not offences(code)] == []


def test_the_rule_accepts_safe_calls() -> None:
    right = [
        "network.eval()",
        "re.compile(text)",
        "torch.load(file, weights_only=True)",
        "np.load(file)",
        "yaml.safe_load(text)",
        "AutoModel.from_pretrained(name, use_safetensors=True)",
    ]
    assert [code for code in right if offences(code)] == []
