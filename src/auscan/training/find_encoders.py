"""Find encoders by name: those of a size, of a checkpoint, or those that a run from crops has taught.

In: a name or a folder.  Out: `Encoders`.
Not here: sizes and checkpoints (datasets/features.py), how an encoder learns (encoder.py).
"""

from pathlib import Path

from auscan.core.errors import InputError
from auscan.datasets.features import Encoders, load_encoders
from auscan.training.encoder import unwrap_encoder
from auscan.training.module import FeatureNetwork
from auscan.training.run import TrainedConfig, find_trained, load_trained


def find_encoders(
    model: str, visual: str | None = None, audio: str | None = None, device: str = "cpu"
) -> Encoders:
    """The encoders of what `load_encoders` knows, or of the folder of a run from crops or of its best/.

    Of a run, the visual encoder is the one it taught, the audio encoder the one that it started with.
    visual, audio: local folders or hub names that take the place of a size's weights
    Raises InputError for a run that taught no encoder, and what `load_encoders` raises.
    """
    trained = find_trained(Path(model))
    if trained is None:
        return load_encoders(model, visual, audio, device)
    network, trained_config = load_trained(trained)
    if trained_config.encoder is None:
        raise InputError(
            f"{model} was trained from features of {trained_config.model} and has no encoder of its own. "
            "Give --model the one that made them."
        )
    return encoders_of(network, trained_config, None, visual, audio, device)


def encoders_of(
    network: FeatureNetwork,
    trained_config: TrainedConfig,
    model: str | None = None,
    visual: str | None = None,
    audio: str | None = None,
    device: str = "cpu",
) -> Encoders:
    """The encoders in front of a trained network, its own where it has one; takes that out of it.

    model, visual, audio: where the encoders of its features are, if not where the run found them
    Raises InputError where those are others.
    """
    encoder = trained_config.encoder
    if model is None and encoder is not None:
        model, visual, audio = encoder.start, visual or encoder.visual, audio or encoder.audio
    initial = find_encoders(model or trained_config.model, visual, audio, device)
    if initial.digest != trained_config.encoders:
        raise InputError(
            f"The encoders of {initial.name} are not those that made the run's features "
            f"({trained_config.model}). Give the same --model, --visual and --audio as to auscan extract."
        )
    if network.encoder is None:
        return initial
    trained = unwrap_encoder(network.encoder)
    return Encoders(f"{initial.name}-trained", initial.config, trained, initial.audio, device)
