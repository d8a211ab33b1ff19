"""Train the network on windows of features or crops.

    for each epoch   windows in an order given by seed and epoch
        for each step    forward, losses, backward, clip, step, moving average of the weights
        score the validation tracks; keep the best; stop if the score no longer improves

accelerate runs it on one or several GPUs (bf16 by default) or the CPU (float32). Several processes, each with
a part of a step's windows, compute what one process with all of them would. An interrupted run resumes from
its last save and ends with the same weights as an uninterrupted one: order and dropout depend on the seed and
the position in an epoch, and everything else that a step depends on is in the saved state.

Inputs: a `TrainConfig`. Returns: the folder of a run (run.py).
See also: build.py (data, network and optimiser of a run), epoch.py (order and modality dropout), losses.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from auscan.core.config import CHECKPOINT_FORMAT
from auscan.core.errors import InputError
from auscan.model.alignment import GranularityAlignment
from auscan.results.table import intensity_columns
from auscan.training.build import (
    Reporter,
    build_accelerator,
    build_modules,
    initial_trained_config,
    load_data,
)
from auscan.training.config import TrainConfig
from auscan.training.distributed import gather_rows
from auscan.training.epoch import EpochBatches, EpochOrder, process_batches
from auscan.training.losses import Losses, Predictions, Views
from auscan.training.meter import LossMeter, Throughput
from auscan.training.module import FeatureNetwork
from auscan.training.optim import keep_freed_memory
from auscan.training.predict import score_tracks, validation_score
from auscan.training.run import RunFolder, load_trained, save_trained
from auscan.training.scores import write_scores
from auscan.training.tracks import LabelledTrack
from auscan.training.windows import Batch, CaughtErrors, WindowBatches

EXTRA_AUDIO_S = 0.1
"""Audio of a window beyond the reach of its outermost frames, in seconds."""


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
    """Best mean F1 on the validation split, at the thresholds of loop.stop_at; NaN without labels."""
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
        self.accelerator = build_accelerator(config)
        self.is_main = bool(self.accelerator.is_main_process)
        self.report: Reporter = report if self.is_main else _discard
        self.data = load_data(config, self.report)
        self.trained_config = initial_trained_config(config, self.data)
        self.epoch_order = EpochOrder(self.data.window_sources, config.data.balance, config.seed)
        self.audio_margin_s = config.model.network().fusion.reach_s + EXTRA_AUDIO_S
        self.windows = WindowBatches(
            self.data.training, self.data.windows, self.audio_margin_s, config.data.margin
        )
        self.windows_per_step = config.loop.batch * config.loop.accumulate * self.accelerator.num_processes
        self.steps_per_epoch = math.ceil(len(self.data.windows) / self.windows_per_step)
        self.total_steps = config.loop.epochs * self.steps_per_epoch
        modules = build_modules(config, self.data, self.accelerator, self.total_steps, self.report)
        self.network, self.averaged, self.criterion = modules.network, modules.averaged, modules.criterion
        self.optimizer, self.schedule = modules.optimizer, modules.schedule
        self.active_patches: int = getattr(modules.averaged.module.alignment, "active", 0)
        with self.accelerator.main_process_first():
            self.folder = RunFolder(config, creates=self.is_main)
        self.summary_writer = _summary_writer(config.out) if self.is_main else None
        self.progress, self.losses = RunProgress(), LossMeter()
        self._resume()

    def run(self) -> None:
        """Train and validate until the last epoch, or until the score no longer improves."""
        progress, throughput = self.progress, Throughput()
        while progress.step < self.total_steps and not progress.stopped:
            epoch, first = divmod(progress.step, self.steps_per_epoch)
            for micro_batches in self._step_batches(epoch, first):
                self._step(micro_batches)
                progress.step += 1
                throughput.add(sum(int(batch.has_face.sum()) for batch in micro_batches))
                last = progress.step % self.steps_per_epoch == 0
                if progress.step % self.config.loop.log_every == 0:
                    self._check_losses()
                    self._log(epoch, throughput)
                if progress.step % self.config.loop.save_every == 0 and not last:
                    self._check_losses()
                    self._save()
            self._check_losses()
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
            pin_memory=self.accelerator.device.type == "cuda",
        )
        micro_batches: list[Batch] = []
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            micro_batches.append(batch)
            if len(micro_batches) == config.loop.accumulate:
                yield micro_batches
                micro_batches = []

    def _step(self, micro_batches: list[Batch]) -> None:
        """One step of the optimiser; its losses, averaged over its batches, go to the meter."""
        self.network.train()
        module = self.accelerator.unwrap_model(self.network)
        starts_fresh = self.config.model.start_from is None  # trained weights have learned their selection
        if isinstance(module.alignment, GranularityAlignment) and starts_fresh:
            module.alignment.anneal_selection(self.active_patches, self.progress.step / self.total_steps)
        sums: dict[str, Tensor] = {}
        finite: list[Tensor] = []
        for batch in (each.to(self.accelerator.device) for each in micro_batches):
            with self.accelerator.accumulate(self.network):
                losses, logits = self._losses(batch)
                finite.append(logits.isfinite().flatten(1).all(1))
                # accelerate averages gradients over processes, but they are to be summed: see distributed.py.
                self.accelerator.backward(losses.total * self.accelerator.num_processes)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.network.parameters(), self.config.optimizer.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, value in {"loss": losses.total.detach(), **losses.terms}.items():
                sums[name] = sums.get(name, 0.0) + value / len(micro_batches)
        tracks = tuple(track for batch in micro_batches for track in batch.tracks)
        self.losses.add(self.progress.step + 1, sums, tracks, torch.cat(finite))
        self.schedule.step()
        self.averaged.update(self.accelerator.unwrap_model(self.network))

    def _check_losses(self) -> None:
        """Raise InputError if a loss since the last check is not finite; it names the step and the tracks."""
        wrong = self.losses.first_not_finite()
        if wrong is None:
            return
        data = self.config.data
        caches = " or ".join(map(str, [data.cache, *(each.cache for each in data.more)]))
        raise InputError(
            f"The loss of step {wrong.step} is {wrong.loss}, in windows of the tracks "
            f"{', '.join(wrong.tracks)}. No weights are saved from this step on. Lower optimizer.rate, or "
            f"use another loop.precision than {self.accelerator.mixed_precision}. If the pictures of a track "
            f"are damaged, delete its folder in {caches} and run auscan extract again."
        )

    def _losses(self, batch: Batch) -> tuple[Losses, Tensor]:
        """Return the losses over the windows of all processes, and this process's logits [B, T, A].

        Only this process's outputs have gradients.
        """
        own: Predictions = self.network(batch)

        def gather(rows: Tensor | Views | None) -> Tensor | None:
            return gather_rows(self.accelerator, rows) if isinstance(rows, Tensor) else None

        flat = (each.flatten(0, 1) if isinstance(each, Tensor) else each for each in own)  # [F, ...]
        views = None if own.views is None else Views(*map(gather, own.views))  # type: ignore[arg-type]
        predictions = Predictions(*map(gather, flat))._replace(views=views)  # type: ignore[arg-type]
        return self.criterion(predictions), own.logits.detach()

    def _validate(self, epoch: int) -> None:
        """Score the validation tracks with the averaged weights; save them if they are the best so far."""
        progress = self.progress
        scores = self._scores(self._averaged_network(), self.data.validation)
        score = validation_score(scores, self.data.validation, self.config.loop.rule)
        chosen = score.tuned if self.config.loop.stop_at == "tuned" else score.fixed
        value = -1.0 if math.isnan(chosen) else chosen
        is_best = value > progress.best or progress.best_step == 0
        progress.waited = 0 if is_best else progress.waited + 1
        if is_best:
            progress.best, progress.best_step = value, progress.step
        progress.stopped = progress.waited >= self.config.loop.patience
        if self.is_main:
            self._save_network("last", score.fixed)
            if is_best:
                self._save_network("best", score.fixed)
            named = dict(zip(self.data.au_names, score.by_au, strict=True))
            self._write_log(
                epoch=epoch, kind="validation", mean_f1=score.fixed, mean_f1_tuned=score.tuned, **named
            )
        self.report(
            f"epoch {epoch + 1} of {self.config.loop.epochs}: mean F1 {score.fixed:.4f} at 0.5, "
            f"{score.tuned:.4f} at tuned thresholds; best {progress.best:.4f}"
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
        trained = self.trained_config
        unknown = [*trained.untrained_aus, *intensity_columns(trained.untrained_intensities)]
        table[unknown] = np.float32(np.nan)
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
        splits = {"val": self.data.validation}
        for split in self.config.data.score:
            splits[split] = self.data.score_tracks(self.config, split)
        for split, tracks in splits.items():
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
            **{name: module.state_dict() for name, module in self._modules().items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "random": torch.get_rng_state(),
            "losses": self.losses.state(),
            "group": self.windows_per_step,
            "format": CHECKPOINT_FORMAT,
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
        if state.get("format") != CHECKPOINT_FORMAT:
            raise InputError(
                f"{self.config.out} contains a run of another version of auscan, with another network. "
                f"Resume it with that version, or set another folder."
            )
        for name, module in self._modules().items():
            module.load_state_dict(state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if "losses" in state:  # states of earlier versions have none
            self.losses.load_state(state["losses"], self.accelerator.device)
        self.progress = RunProgress(**{name: state[name] for name in vars(RunProgress())})
        self.report(f"resuming from step {self.progress.step} of {self.total_steps}")

    def _modules(self) -> dict[str, nn.Module]:
        """Return the modules saved in state.pt, by key."""
        return {"network": self.accelerator.unwrap_model(self.network), "mean": self.averaged}

    def _log(self, epoch: int, throughput: Throughput) -> None:
        rate, frames_per_s = self.schedule.get_last_lr()[0], throughput.restart()
        self._write_log(
            epoch=epoch, kind="training", rate=rate, frames_per_s=frames_per_s, **self.losses.read()
        )

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


def close_process_group() -> None:
    """Close the distributed process group. Call after the last run of this process."""
    from accelerate import PartialState

    PartialState().destroy_process_group()


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
