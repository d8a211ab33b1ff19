"""Train the network on windows of features or crops.

    for each epoch   windows in an order given by seed and epoch
        for each step    forward, losses, backward, clip, step, moving average of the weights
        score the validation tracks; keep the best; stop if the score no longer improves

accelerate runs it on one or several GPUs or the CPU, in float32, bf16 or fp16. Several processes, each with a
part of a step's windows, compute what one process with all of them would. An interrupted run resumes from its
last save and ends with the same weights as an uninterrupted one: order and dropout depend on the seed and the
position in an epoch, and everything else that a step depends on is in the saved state.

Inputs: a `TrainConfig`. Returns: the folder of a run (run.py).
See also: windows.py (windows), epoch.py (order and modality dropout), module.py (network), losses.py.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from auscan.core.aus import AU_NAMES
from auscan.core.config import NetworkConfig
from auscan.core.errors import AuscanError, InputError
from auscan.datasets.features import Encoders
from auscan.datasets.index import read_index
from auscan.model.checkpoint import load_stored_weights, stored_weights
from auscan.training.config import TrainConfig
from auscan.training.distributed import gather_rows
from auscan.training.encoder import CropEncoder
from auscan.training.epoch import EpochBatches, EpochOrder, process_batches
from auscan.training.find_encoders import find_encoders
from auscan.training.losses import Criterion, Losses, positive_weights
from auscan.training.module import (
    FeatureNetwork,
    FeatureSizes,
    build_network,
    network_config,
    parameter_table,
)
from auscan.training.optim import (
    ema_update,
    keep_freed_memory,
    parameter_groups,
    warmup_cosine,
    with_separate_rate,
)
from auscan.training.predict import mean_f1, score_tracks
from auscan.training.run import RunFolder, TrainedConfig, load_trained, save_trained
from auscan.training.scores import write_scores
from auscan.training.windows import (
    Batch,
    CaughtErrors,
    LabelledTrack,
    WindowBatches,
    check_features_from,
    check_same_encoders,
    load_tracks,
    smallest_enlarged,
    split_tracks,
    training_windows,
)

EXTRA_AUDIO_S = 0.1
"""Audio of a window beyond the reach of its outermost frames, in seconds."""

Reporter = Callable[[str], None]
"""Function that receives progress lines for people."""


@dataclass
class RunProgress:
    """Progress of a run; all fields are saved in the state."""

    step: int = 0
    """Optimiser steps done."""
    best: float = -1.0
    best_step: int = 0
    waited: int = 0
    """Epochs since the best score."""
    stopped: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """Result of a run."""

    best: float
    """Mean F1 on the validation split at 0.5; NaN without labels."""
    best_step: int
    steps: int
    folder: Path
    scores: dict[str, Path] = field(default_factory=dict)
    """Parquet files of scores by split; `val` is that of the validation tracks."""


def train(config: TrainConfig, report: Reporter | None = None) -> TrainingResult:
    """Train, or resume training, until the run is finished.

    Raises InputError for data that does not fit, AuscanError if accelerate is not installed.
    """
    keep_freed_memory()
    trainer = Trainer(config, report or _discard)
    trainer.run()
    return trainer.finish()


class Trainer:
    """State and steps of one training run."""

    def __init__(self, config: TrainConfig, report: Reporter) -> None:
        self.config = config
        self.accelerator = _accelerator(config)
        self.is_main = bool(self.accelerator.is_main_process)
        self.report: Reporter = report if self.is_main else _discard
        self.index = read_index(config.data.index)
        encoder = config.model.encoder
        initial = None if encoder is None else find_encoders(encoder.start, encoder.visual, encoder.audio)
        self.crop_size = None if initial is None else initial.crop_size
        self.training_tracks, self.validation_tracks = split_tracks(
            self.index, config.data, config.seed, self.crop_size, self.report
        )
        header = self.training_tracks[0].features.header
        self.sizes = FeatureSizes.from_header(header)
        for track in (*self.training_tracks, *self.validation_tracks):
            check_same_encoders(track, self.training_tracks[0])
        if initial is not None:
            check_features_from(initial, self.training_tracks[0])
        labelled = np.any([(track.labels >= 0).any(axis=0) for track in self.training_tracks], axis=0)  # [A]
        self.trained_config = TrainedConfig(
            untrained_aus=tuple(np.array(AU_NAMES)[~labelled].tolist()),
            model=header.model,
            encoders=header.encoders,
            sizes=self.sizes,
            network=_network_config(config, self.sizes, initial),
            controls=config.model.controls,
            encoder=encoder,
            enlarged_from=smallest_enlarged(self.training_tracks),
            step=0,
            score=None,
        )
        windows = training_windows(self.training_tracks, config.data)
        sources = [self.training_tracks[window.track].source_video for window in windows]
        self.epoch_order = EpochOrder(sources, config.data.balance, config.seed)
        self.audio_margin_s = config.model.network().fusion.reach_s + EXTRA_AUDIO_S
        self.windows = WindowBatches(self.training_tracks, windows, self.audio_margin_s, config.data.margin)
        self.windows_per_step = config.loop.batch * config.loop.accumulate * self.accelerator.num_processes
        self.steps_per_epoch = math.ceil(len(windows) / self.windows_per_step)
        self.total_steps = config.loop.epochs * self.steps_per_epoch
        self._build(initial)
        with self.accelerator.main_process_first():
            self.folder = RunFolder(config, creates=self.is_main)
        self.summary_writer = _summary_writer(config.out) if self.is_main else None
        self.progress = RunProgress()
        self._resume()

    def _build(self, initial: Encoders | None) -> None:
        """Build the network, moving average, optimiser, schedule and losses."""
        config = self.config
        torch.manual_seed(config.seed)
        encoder_config, encoder = config.model.encoder, None
        if encoder_config is not None and initial is not None:
            encoder = CropEncoder(initial.visual, self.sizes.grid, encoder_config)
        view_frames = config.loss.alignment_frames if config.loss.alignment else 0
        network = build_network(self.sizes, config.model, view_frames, encoder)
        self.report(parameter_table(network, self.sizes, config.model))
        self.averaged = AveragedModel(network, avg_fn=ema_update(config.optimizer.average))
        self.averaged.to(self.accelerator.device).requires_grad_(False)
        groups = parameter_groups(network, config.optimizer.weight_decay)
        if encoder_config is not None and encoder is not None:
            encoder_rate = config.optimizer.rate * encoder_config.rate_factor
            groups = with_separate_rate(groups, encoder, encoder_rate)
        optimizer = torch.optim.AdamW(groups, lr=config.optimizer.rate)
        self.network, self.optimizer = self.accelerator.prepare(network, optimizer)
        warmup = round(config.optimizer.warmup * self.total_steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, warmup, self.total_steps)
        )
        labels = np.concatenate([track.labels[track.features.has_image] for track in self.training_tracks])
        positives, negatives = (torch.from_numpy((labels == value).sum(0)) for value in (1, 0))
        weights = positive_weights(positives, negatives, config.loss.positive_cap)
        self.criterion = Criterion(config.loss, weights)

    def run(self) -> None:
        """Train and validate until the last epoch, or until the score no longer improves."""
        progress, throughput = self.progress, _Throughput()
        while progress.step < self.total_steps and not progress.stopped:
            epoch, first = divmod(progress.step, self.steps_per_epoch)
            for micro_batches in self._step_batches(epoch, first):
                losses = self._step(micro_batches)
                progress.step += 1
                throughput.add(sum(int(batch.has_face.sum()) for batch in micro_batches))
                last = progress.step % self.steps_per_epoch == 0
                if progress.step % self.config.loop.log_every == 0:
                    self._log(epoch, losses, throughput)
                if progress.step % self.config.loop.save_every == 0 and not last:
                    self._save()
            self._validate(epoch)
            self._save()

    def _step_batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """Yield this process's batches of each step of an epoch, starting at step `first`."""
        order, config = self.epoch_order.epoch(epoch), self.config
        while len(order) % self.windows_per_step:  # fill the last step from the start of the order
            order += order[: -len(order) % self.windows_per_step]
        encoder = config.model.encoder
        augment = encoder is not None and encoder.augment
        batches = EpochBatches(self.windows, order, config.dropout, augment, (config.seed, 3, epoch))
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        own = process_batches(process, processes, len(order), config.loop.batch)
        # Use a separate generator: by default a loader draws from torch's global one, which is saved state.
        loader: DataLoader[Batch | InputError] = DataLoader(
            CaughtErrors(batches),
            batch_size=None,
            sampler=own[first * config.loop.accumulate :],
            num_workers=config.loop.workers,
            generator=torch.Generator(),
            collate_fn=_identity,
        )
        micro_batches: list[Batch] = []
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            micro_batches.append(batch)
            if len(micro_batches) == config.loop.accumulate:
                yield micro_batches
                micro_batches = []

    def _step(self, micro_batches: list[Batch]) -> dict[str, float]:
        """One step of the optimiser; returns the losses of all processes, averaged over its batches."""
        self.network.train()
        sums: dict[str, float] = {}
        outputs: list[tuple[Batch, Tensor]] = []
        for batch in (each.to(self.accelerator.device) for each in micro_batches):
            with self.accelerator.accumulate(self.network):
                losses, logits = self._losses(batch)
                outputs.append((batch, logits))
                # accelerate averages gradients over processes, but they are to be summed: see distributed.py.
                self.accelerator.backward(losses.total * self.accelerator.num_processes)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.network.parameters(), self.config.optimizer.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, value in {"loss": losses.total, **losses.terms}.items():
                sums[name] = sums.get(name, 0.0) + value.item() / len(micro_batches)
        # The losses are on the host for the log in any case, so the check does not wait for the device.
        if not math.isfinite(sums["loss"]):
            raise self._loss_error(sums["loss"], outputs)
        self.schedule.step()
        self.averaged.update_parameters(self.accelerator.unwrap_model(self.network))
        return sums

    def _loss_error(self, loss: float, outputs: list[tuple[Batch, Tensor]]) -> InputError:
        """Return the error of a step whose loss is not finite; it names the tracks with such scores."""
        names = [track for batch, _ in outputs for track in batch.tracks]
        finite = torch.cat([logits.isfinite().flatten(1).all(1) for _, logits in outputs]).tolist()
        wrong = {name for name, is_finite in zip(names, finite, strict=True) if not is_finite}
        tracks = ", ".join(sorted(wrong or set(names)))
        return InputError(
            f"The loss of step {self.progress.step + 1} is {loss}, in windows of the tracks {tracks}. "
            f"The weights of this step are not saved. Lower optimizer.rate, or use another loop.precision "
            f"than {self.config.loop.precision}. If the pictures of a track are damaged, delete its folder "
            f"in {self.config.data.cache} and run auscan extract again."
        )

    def _losses(self, batch: Batch) -> tuple[Losses, Tensor]:
        """Return the losses over the windows of all processes, and this process's logits [B, T, A].

        Only this process's outputs have gradients.
        """
        output = self.network(batch)
        labels = batch.labels.masked_fill(~batch.has_face[..., None], -1)
        logits, labels = (self._gather(each.flatten(0, 1)) for each in (output.logits, labels))  # [F, A] each
        views = output.views
        if views is not None:
            views = self._gather(views[0]), self._gather(views[1])
        return self.criterion(logits, labels, views), output.logits.detach()

    def _gather(self, rows: Tensor) -> Tensor:
        return gather_rows(self.accelerator, rows)

    def _validate(self, epoch: int) -> None:
        """Score the validation tracks with the averaged weights; save them if they are the best so far."""
        progress = self.progress
        scores = self._scores(self._averaged_network(), self.validation_tracks)
        score, by_au = mean_f1(scores, self.validation_tracks, self.config.loop.rule)
        value = -1.0 if math.isnan(score) else score
        is_best = value > progress.best or progress.best_step == 0
        progress.waited = 0 if is_best else progress.waited + 1
        if is_best:
            progress.best, progress.best_step = value, progress.step
        progress.stopped = progress.waited >= self.config.loop.patience
        if self.is_main:
            self._save_network("last", score)
            if is_best:
                self._save_network("best", score)
            named = dict(zip(AU_NAMES, by_au, strict=True))
            self._write_log(epoch=epoch, kind="validation", mean_f1=score, **named)
        self.report(
            f"epoch {epoch + 1} of {self.config.loop.epochs}: mean F1 {score:.4f}, best {progress.best:.4f}"
        )

    def _scores(self, network: FeatureNetwork, tracks: list[LabelledTrack]) -> pd.DataFrame:
        """Score tracks, each in one process, and gather the tables in all processes."""
        own = tracks[self.accelerator.process_index :: self.accelerator.num_processes]
        context = self.config.data.context
        tables = [score_tracks(network, own, context, self.audio_margin_s)] if own else []
        if self.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            tables = gather_object(tables)
        table = pd.concat(tables, ignore_index=True).sort_values(["track", "frame"], ignore_index=True)
        table[list(self.trained_config.untrained_aus)] = np.float32(np.nan)
        return table

    def _averaged_network(self) -> FeatureNetwork:
        network = self.averaged.module
        assert isinstance(network, FeatureNetwork)
        return network.eval()

    def _save_network(self, name: str, score: float) -> None:
        known = None if math.isnan(score) else score
        trained_config = self.trained_config.model_copy(update={"step": self.progress.step, "score": known})
        save_trained(self.config.out / name, self._averaged_network(), trained_config)

    def finish(self) -> TrainingResult:
        """Score all requested splits with the best network and write the scores."""
        result = TrainingResult(
            self.progress.best, self.progress.best_step, self.progress.step, self.config.out
        )
        self.accelerator.wait_for_everyone()
        network, _ = load_trained(self.config.out / "best")
        network.to(self.accelerator.device)
        splits = {"val": self.validation_tracks}
        for split in self.config.data.score:
            splits[split] = load_tracks(self.index, self.config.data.cache, [split], self.crop_size)
        for split, tracks in splits.items():
            for track in tracks:
                check_same_encoders(track, self.training_tracks[0])
            table = self._scores(network, tracks)
            if self.is_main:
                path = self.config.out / "scores" / f"{split}.parquet"
                write_scores(path, table)
                result.scores[split] = path
        if self.summary_writer is not None:
            self.summary_writer.close()
        return result if result.best >= 0 else replace(result, best=math.nan)

    def _save(self) -> None:
        if not self.is_main:
            return
        scaler = self.accelerator.scaler
        state = {
            **{name: stored_weights(module) for name, module in self._modules().items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "random": torch.get_rng_state(),
            "group": self.windows_per_step,
            "active_patches": self.trained_config.network.alignment.active_patches,
            **vars(self.progress),
        }
        self.folder.save_state(state)

    def _resume(self) -> None:
        """Resume from the last save, if there is one."""
        state = self.folder.load_state()
        self.accelerator.wait_for_everyone()
        if self.is_main:
            self.folder.truncate_log(0 if state is None else int(state["step"]))
        if state is None:
            return
        if state.get("group", self.windows_per_step) != self.windows_per_step:
            raise InputError(
                f"{self.config.out} contains a run with {state['group']} windows a step; now it would have "
                f"{self.windows_per_step}. Resume with the same number of processes as before."
            )
        active = self.trained_config.network.alignment.active_patches
        if state.get("active_patches") != active:
            raise InputError(
                f"{self.config.out} contains a run of another version of auscan, with another number of "
                f"active patches than {active}. Resume it with that version, or set another folder."
            )
        for name, module in self._modules().items():
            load_stored_weights(module, state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        self.progress = RunProgress(**{name: state[name] for name in vars(RunProgress())})
        self.report(f"resuming from step {self.progress.step} of {self.total_steps}")

    def _modules(self) -> dict[str, nn.Module]:
        """Return the modules saved in state.pt, by key."""
        return {"network": self.accelerator.unwrap_model(self.network), "mean": self.averaged}

    def _log(self, epoch: int, losses: dict[str, float], throughput: "_Throughput") -> None:
        rate = self.schedule.get_last_lr()[0]
        self._write_log(epoch=epoch, kind="training", rate=rate, frames_per_s=throughput.restart(), **losses)

    def _write_log(self, **values: Any) -> None:
        if self.is_main:
            # JSON has no NaN; the F1 of an AU without labels is written as null.
            known = {name: None if value != value else value for name, value in values.items()}
            self.folder.log(step=self.progress.step, **known)
            if self.summary_writer is not None:
                for name, value in known.items():
                    if isinstance(value, float):
                        self.summary_writer.add_scalar(f"{values['kind']}/{name}", value, self.progress.step)
                self.summary_writer.flush()


def _network_config(config: TrainConfig, sizes: FeatureSizes, initial: Encoders | None) -> NetworkConfig:
    """Return the settings of the network; a fine-tuning run has those of its initial encoders."""
    network = network_config(sizes, config.model)
    if initial is None:
        return network
    return network.model_copy(update={"visual": initial.config.visual, "audio": initial.config.audio})


def _accelerator(config: TrainConfig) -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError as error:
        raise AuscanError(f"Training needs accelerate ({error}). Run: pip install 'auscan[train]'") from error
    # In a batch without audio the fusion and audio-condition weights have no gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=config.loop.device == "cpu",
        mixed_precision=config.loop.precision,
        gradient_accumulation_steps=config.loop.accumulate,
        kwargs_handlers=[unused],
    )


def close_process_group() -> None:
    """Close the distributed process group. Call after the last run of this process."""
    from accelerate import PartialState

    PartialState().destroy_process_group()


class _Throughput:
    """Frames per second since the last call of `restart`."""

    def __init__(self) -> None:
        self._frames, self._since_s = 0, time.monotonic()

    def add(self, frames: int) -> None:
        """Count `frames` more frames."""
        self._frames += frames

    def restart(self) -> float:
        """Return the frames per second and restart the count."""
        now_s = time.monotonic()
        frames_per_s = self._frames / max(now_s - self._since_s, 1e-9)
        self._frames, self._since_s = 0, now_s
        return round(frames_per_s, 1)


def _summary_writer(folder: Path) -> Any | None:
    """Return a TensorBoard writer, or None if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def _identity(batch: Any) -> Any:
    return batch


def _discard(line: str) -> None:
    pass
