"""Measure speed and memory of the selective scan, of its definition and of other sequence models.

    pip install mambapy
    python benchmarks/speed/scan.py [--shape nano base] [--write]

All take the same random x, dt, A, B and C in float32 and return a y of the same size:

    chunked        scan_chunked
    recurrence     scan_recurrence, the definition
    step           scan_step, one frame at a time, as a live stream does (forward only)
    mambapy        its parallel scan; a Mamba-1 state for each channel, so dt and A are expanded over the
                   channels of a head. Making its [B, T, channels, N] inputs and reading y are included
    transformers   Mamba-2's scan in plain PyTorch, its function alone, at its own chunk size of 256
    attention      scaled_dot_product_attention, causal, with the same heads; x is query, key and value

Each case runs once in its own process, which measures its memory beyond the inputs. A case is left out if, by
the previous length, it would take longer than `--limit` or more than 12 GiB. The others are then timed in
turn in this process; the best time counts. `--write` puts the tables into docs/benchmarks/scan.md.
"""

import argparse
import math
import os
import pickle
import platform
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

from auscan.model.scan import scan_chunked, scan_recurrence, scan_step

LENGTHS = (256, 1024, 4096, 16_384, 65_536, 262_144)
LINEAR_FROM = 4096
"""Length from which time should grow linearly."""
SHAPES = {"nano": (8, 32, 32), "base": (8, 64, 64)}
"""Heads, head width and state width of the networks' scans."""
MEMORY_LIMIT = 12 * 2**30
"""Memory limit of a case, bytes."""
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "scan.md"


class Inputs(NamedTuple):
    """Inputs of a scan, with the shapes of model/scan.py."""

    x: Tensor
    dt: Tensor
    A: Tensor
    Bm: Tensor
    Cm: Tensor
    D: Tensor


def chunked(inputs: Inputs) -> Tensor:
    """Run auscan's chunked scan."""
    return scan_chunked(*inputs)[0]


def recurrence(inputs: Inputs) -> Tensor:
    """Run auscan's recurrent scan, the definition."""
    return scan_recurrence(*inputs)[0]


def step(inputs: Inputs) -> Tensor:
    """Run auscan's scan step by step, as in live mode."""
    x, dt, A, Bm, Cm, D = inputs
    memory, y = x.new_zeros(1, *x.shape[2:], Bm.shape[2]), torch.empty_like(x)
    for t in range(x.shape[1]):
        y[:, t], memory = scan_step(x[:, t], dt[:, t], A, Bm[:, t], Cm[:, t], D, memory)
    return y


def mambapy(inputs: Inputs) -> Tensor:
    """Run mambapy's `selective_scan` with one decay a head."""
    from mambapy.pscan import pscan

    x, dt, A, Bm, Cm, D = inputs
    width = x.shape[3]
    decay = torch.exp(dt * A).repeat_interleave(width, 2)[..., None].expand(*[-1] * 3, Bm.shape[2])
    drive = (dt[..., None] * x).flatten(2)[..., None] * Bm[:, :, None]  # [B, T, channels, N]
    y = (pscan(decay, drive) @ Cm[..., None]).squeeze(3)  # [B, T, channels]
    return y.view_as(x) + D[:, None] * x


def transformers(inputs: Inputs) -> Tensor:
    """Run Mamba-2 of transformers with one group of B and C for all heads."""
    x, dt, A, Bm, Cm, D = inputs
    return mamba2_chunk_scan(x, dt, A, Bm[:, :, None], Cm[:, :, None], chunk_size=256, D=D)


def attention(inputs: Inputs) -> Tensor:
    """Run causal attention."""
    series = inputs.x.transpose(1, 2)  # [B, H, T, P]
    return F.scaled_dot_product_attention(series, series, series, is_causal=True).transpose(1, 2)


FORMS: dict[str, Callable[[Inputs], Tensor]] = {
    each.__name__: each for each in (chunked, recurrence, step, mambapy, transformers, attention)
}
COUNTED = ("chunked", "transformers", "attention")
"""Forms that compute mostly matrix products; their operations are counted."""


class Case(NamedTuple):
    """One cell of the tables."""

    form: str
    frames: int
    backward: bool

    def run(self, inputs: Inputs) -> None:
        """Run once."""
        with torch.set_grad_enabled(self.backward):
            y = FORMS[self.form](inputs)
        if self.backward:
            torch.autograd.grad(y, inputs, inputs.x.detach(), allow_unused=True)


class Trial(NamedTuple):
    """Measurements of one run in a process of its own."""

    seconds: float
    """Time of the run."""
    peak: int
    """Memory beyond the inputs, bytes."""
    flop: float
    """Floating-point operations."""


def main() -> None:
    """Run the benchmark, print its tables and write them on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shape", choices=list(SHAPES), nargs="+", default=list(SHAPES), help="shapes to run"
    )
    parser.add_argument("--limit", type=float, default=20.0, help="maximum time of a run, seconds")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks/scan.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # Run all trials first: a process that has run threads cannot be forked.
    trials = {shape: run_trials(shape, args.limit) for shape in args.shape}
    limit = arithmetic_limit()
    for shape in args.shape:
        text = report(shape, trials[shape], times(shape, trials[shape]), limit)
        print(text, flush=True)
        if args.write:
            write_section(shape, text)


def random_inputs(shape: str, frames: int) -> Inputs:
    """Make random inputs with decays over three to a thousand frames."""
    heads, width, state_width = SHAPES[shape]
    random = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=random)

    dt = torch.logspace(-0.5, -3.0, heads) * F.softplus(normal(1, frames, heads) + 0.5)
    Bm, Cm = normal(1, frames, state_width), normal(1, frames, state_width)
    inputs = Inputs(normal(1, frames, heads, width), dt, -torch.ones(heads), Bm, Cm, torch.ones(heads))
    return Inputs(*(each.requires_grad_() for each in inputs))


def run_trials(shape: str, limit_s: float) -> dict[Case, Trial]:
    """Run each case in its own process. Return the cases within the limits."""
    trials: dict[Case, Trial] = {}
    for form in FORMS:
        for backward in (False, True) if form != "step" else (False,):
            last: Trial | None = None
            for frames in LENGTHS:
                growth = 16 if form == "attention" else 4
                if last and (last.seconds * growth > limit_s or last.peak * 4 > MEMORY_LIMIT):
                    break
                case = Case(form, frames, backward)
                last = trials[case] = run_trial(shape, case)
    return trials


def run_trial(shape: str, case: Case) -> Trial:
    """Run a case in a child process and measure seconds and peak memory."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        inputs = random_inputs(shape, case.frames)
        before, began_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        case.run(inputs)
        seconds = time.perf_counter() - began_s
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        with FlopCounterMode(display=False) as counter:
            if case.form in COUNTED:
                case.run(inputs)
        os.write(send, pickle.dumps(Trial(seconds, peak, counter.get_total_flops())))
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as output:
        content = output.read()
    os.waitpid(child, 0)
    if not content:
        raise SystemExit(f"{case} ended without a result, probably for lack of memory. Lower --limit.")
    trial: Trial = pickle.loads(content)
    return trial


def times(shape: str, cases: dict[Case, Trial]) -> dict[Case, float]:
    """Measure the best time of each case, in seconds; the cases of one length take turns."""
    best = dict.fromkeys(cases, math.inf)
    for frames in LENGTHS:
        inputs = random_inputs(shape, frames)
        here = [case for case in cases if case.frames == frames]
        for turn in range(12):
            for case in here:
                if turn > 2 and cases[case].seconds * turn > 3.0:
                    continue  # long runs vary little
                began_s = time.perf_counter()
                case.run(inputs)
                best[case] = min(best[case], time.perf_counter() - began_s)
    return best


def arithmetic_limit() -> float:
    """Measure floating-point operations a second of a large float32 matrix product, best of ten."""
    a, b, best = torch.randn(2048, 2048), torch.randn(2048, 2048), 0.0
    for _ in range(10):
        began_s = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - began_s))
    return best


def report(shape: str, trials: dict[Case, Trial], best: dict[Case, float], limit: float) -> str:
    """Return the tables of one shape as Markdown."""
    heads, width, state_width = SHAPES[shape]
    lines = [
        f"Shape of `{shape}`: {heads} heads of {width} channels, state {state_width}, one clip. "
        f"{torch.get_num_threads()} threads, {processor()}; matrix product {limit / 1e9:.0f} GFLOP/s. "
        f"torch {torch.__version__}, transformers {version('transformers')}, mambapy {version('mambapy')}.",
    ]
    for backward, title in ((False, "Forward"), (True, "Forward and backward")):
        forms = [form for form in FORMS if Case(form, LENGTHS[0], backward) in trials]
        for name, cell in (
            ("ms", lambda case: f"{best[case] * 1e3:,.1f}"),
            ("peak MiB", lambda case: f"{trials[case].peak / 2**20:,.0f}"),
        ):
            lines += [
                "",
                f"| {title}, {name} | " + " | ".join(f"T = {frames:,}" for frames in LENGTHS) + " |",
            ]
            lines += ["| --- " + "| ---: " * len(LENGTHS) + "|"]
            for form in forms:
                row = [Case(form, frames, backward) for frames in LENGTHS]
                lines += [f"| {form} | " + " | ".join(cell(c) if c in trials else "-" for c in row) + " |"]
        lines += ["", arithmetic_share(trials, best, limit, backward), "", scaling_summary(best, backward)]
    return "\n".join(lines)


def arithmetic_share(trials: dict[Case, Trial], best: dict[Case, float], limit: float, backward: bool) -> str:
    """Return each form's share of the arithmetic limit at its longest T, as a sentence."""
    parts = []
    for form in COUNTED:
        case = max(c for c in trials if c.form == form and c.backward == backward)
        flop = trials[case].flop
        if flop:
            part = flop / best[case] / limit
            parts.append(f"{form} {part:.0%} ({flop / case.frames / 1e3:.0f} kFLOP a frame)")
    return "Share of the arithmetic limit at the longest T: " + ", ".join(parts) + "."


def scaling_summary(best: dict[Case, float], backward: bool) -> str:
    """Return the slope of log time and the ratios to the other forms, as a sentence."""
    ours = {T: best[Case("chunked", T, backward)] for T in LENGTHS}
    long = [T for T in LENGTHS if T >= LINEAR_FROM]
    slope = torch.linalg.lstsq(
        torch.tensor([[math.log(T), 1.0] for T in long], dtype=torch.float64),
        torch.tensor([[math.log(ours[T])] for T in long], dtype=torch.float64),
    ).solution[0, 0]
    others = []
    for form in FORMS:
        ratios = [
            f"{best[c] / ours[T]:.1f}" if (c := Case(form, T, backward)) in best else "-" for T in LENGTHS
        ]
        if form != "chunked" and set(ratios) != {"-"}:
            others.append(f"{form} {' / '.join(ratios)}")
    return (
        f"Slope of log time against log T from {long[0]:,} to {long[-1]:,}: **{slope:.3f}**. "
        f"Time relative to the chunked form, by T: {'; '.join(others)}."
    )


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].partition(": ")[2] if names else platform.processor()


def write_section(shape: str, text: str) -> None:
    """Write the text between the marks of the shape."""
    begin, end = f"<!-- {shape}: written by benchmarks/speed/scan.py -->", f"<!-- end of {shape} -->"
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    _, _, tail = rest.partition(end)
    PAGE.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
