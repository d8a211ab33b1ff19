"""How far auscan's voice activity agrees with Silero VAD, a trained network, on clips with sound.

    python benchmarks/voice.py --data ../shared/data --peer PATH/silero_vad/data/silero_vad.jit

The peer is the model inside the package silero-vad (MIT), which needs torch. It is a model too,
not the truth.
The cuts of media/voice.py were chosen on these clips, so the figures are those of development.
In: clips.  Out: a Markdown table on stdout.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from auscan.media.audio import Waveform, read_waveform
from auscan.media.discover import find_media
from auscan.media.voice import STEP_S, VoiceActivity

PEER_STEP = 512  # samples at 16 kHz, as the peer wants them


def main() -> None:
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
        waves = list(chunks)
        mine, other = both(waves, peer)
        ours.append(mine)
        theirs.append(other)
        shares = f"{other.mean():.2f} | {mine.mean():.2f} | {(mine == other).mean():.2f}"
        print(f"| {item.path.stem} | {len(mine) * STEP_S:.1f} | {shares} |")
    mine, other = np.concatenate(ours), np.concatenate(theirs)
    both_say = (mine & other).sum()
    print(
        f"\nAll {len(mine) * STEP_S:.0f} s: agreement {(mine == other).mean():.3f}, "
        f"precision {both_say / mine.sum():.3f}, recall {both_say / other.sum():.3f}."
    )


def both(waves: list[Waveform], peer: torch.jit.ScriptModule) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Verdicts of auscan and of the peer for each step of ours that the peer has heard, [L] each."""
    voice = VoiceActivity()
    for wave in waves:
        voice.push(wave)
    mine = voice.finish()[1]
    samples = torch.from_numpy(np.concatenate([wave.samples for wave in waves]))
    peer.reset_states()
    heard = len(samples) // PEER_STEP
    said = [peer(samples[i * PEER_STEP : (i + 1) * PEER_STEP], 16_000).item() > 0.5 for i in range(heard)]
    at = ((np.arange(len(mine)) + 0.5) * STEP_S * 16_000 / PEER_STEP).astype(int)
    inside = at < heard
    return mine[inside], np.array(said, bool)[at[inside]]


if __name__ == "__main__":
    main()
