"""Compare auscan's speech activity detection with Silero VAD, a trained network, on clips with audio.

    python benchmarks/accuracy/speech_activity.py --data ../shared/data --peer silero_vad.jit

The peer is silero_vad/data/silero_vad.jit of the package silero-vad (MIT), which needs torch. It is a model,
not ground truth. The thresholds of media/audio.py were chosen on these clips, so the figures are
from development data. Prints a Markdown table.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from auscan.media.audio import STEP_S, VoiceActivityDetector, Waveform, read_waveform
from auscan.media.discover import find_media

PEER_STEP = 512  # samples at 16 kHz in a step of the peer


def main() -> None:
    """Compare all clips with sound and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/")
    parser.add_argument("--peer", type=Path, required=True, help="silero_vad.jit")
    options = parser.parse_args()
    torch.set_num_threads(1)
    peer = torch.jit.load(options.peer)
    print("| clip | seconds | speech, peer | speech, auscan | agreement |\n| --- | --- | --- | --- | --- |")
    ours, theirs = [], []
    for item in find_media([str(options.data / "clips")], folders_as_video=False):
        chunks = read_waveform(item.path)
        if chunks is None:
            continue
        chunks = list(chunks)
        mine, other = speech_decisions(chunks, peer)
        ours.append(mine)
        theirs.append(other)
        shares = f"{other.mean():.2f} | {mine.mean():.2f} | {(mine == other).mean():.2f}"
        print(f"| {item.path.stem} | {len(mine) * STEP_S:.1f} | {shares} |")
    mine, other = np.concatenate(ours), np.concatenate(theirs)
    both_active = (mine & other).sum()
    print(
        f"\nAll {len(mine) * STEP_S:.0f} s: agreement {(mine == other).mean():.3f}, "
        f"precision {both_active / mine.sum():.3f}, recall {both_active / other.sum():.3f}."
    )


def speech_decisions(
    chunks: list[Waveform], peer: torch.jit.ScriptModule
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the speech decisions [L] of auscan and of the peer for the steps that both cover."""
    voice = VoiceActivityDetector()
    for wave in chunks:
        voice.push(wave)
    mine = voice.finish()[1]
    samples = torch.from_numpy(np.concatenate([wave.samples for wave in chunks]))
    peer.reset_states()
    peer_steps = len(samples) // PEER_STEP
    speech = [
        peer(samples[i * PEER_STEP : (i + 1) * PEER_STEP], 16_000).item() > 0.5 for i in range(peer_steps)
    ]
    at = ((np.arange(len(mine)) + 0.5) * STEP_S * 16_000 / PEER_STEP).astype(int)
    inside = at < peer_steps
    return mine[inside], np.array(speech, bool)[at[inside]]


if __name__ == "__main__":
    main()
