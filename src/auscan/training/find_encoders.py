"""Find encoders by name: those of a size, of a checkpoint, or those fine-tuned by a training run.

Inputs: a name or a folder. Returns: `Encoders`.
See also: datasets/frozen_encoders.py (sizes and checkpoints), encoder.py (fine-tuning).
"""

from pathlib import Path

from auscan.core.config import LAYER_GROUPS
from auscan.core.errors import InputError
from auscan.datasets.frozen_encoders import Encoders, Sources, load_encoders
from auscan.training.encoder import unwrap_encoder
from auscan.training.module import FeatureNetwork
from auscan.training.run import TrainedConfig, find_trained, load_trained


def find_encoders(
    model: str,
    visual: Sources = None,
    audio: Sources = None,
    device: str = "cpu",
    layer_groups: int | None = LAYER_GROUPS,
) -> Encoders:
    """Return the encoders of any `load_encoders` model, or of the folder of a fine-tuning run or its best/.

    From a run, the visual encoder is the fine-tuned one; the audio encoder is the one the run started with.
    visual, audio, layer_groups: see `load_encoders`

    Raises InputError for a run without a fine-tuned encoder, and the errors of `load_encoders`.
    """
    trained = find_trained(Path(model))
    if trained is None:
        return load_encoders(model, visual, audio, device, layer_groups)
    network, trained_config = load_trained(trained)
    if trained_config.encoder is None:
        raise InputError(
            f"{model} was trained on features of {trained_config.model} and has no encoder of its own. "
            "Pass the model that made them to --model."
        )
    return encoders_of(network, trained_config, None, visual, audio, device)


def encoders_of(
    network: FeatureNetwork,
    trained_config: TrainedConfig,
    model: str | None = None,
    visual: Sources = None,
    audio: Sources = None,
    device: str = "cpu",
) -> Encoders:
    """Return the encoders of a trained network. A fine-tuned encoder is taken out of `network`.

    model, visual, audio: encoders of its features, if the run found them elsewhere
    Raises InputError if these encoders did not make the run's features.
    """
    encoder = trained_config.encoder
    if model is None and encoder is not None:
        model, visual, audio = encoder.start, visual or encoder.visual, audio or encoder.audio
    layer_groups = LAYER_GROUPS if trained_config.sizes.audio_parts else None
    initial = find_encoders(model or trained_config.model, visual, audio, device, layer_groups)
    if initial.digest != trained_config.encoders:
        raise InputError(
            f"The encoders of {initial.name} did not make the features of this run "
            f"({trained_config.model}). Use the same --model, --visual and --audio as for auscan extract."
        )
    if network.encoder is None:
        return initial
    trained = unwrap_encoder(network.encoder)
    return Encoders(f"{initial.name}-trained", initial.config, trained, initial.audio, device)
