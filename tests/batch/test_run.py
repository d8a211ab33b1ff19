"""A crash, hang or interrupt costs at most the running inputs, and the manifest records every result."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import batch_fakes
import psutil
import pytest
from batch_watch import RecordingListener, plan_jobs, run_all, write_inputs

from auscan.batch.jobs import Job, Progress
from auscan.batch.run import InProcessRunner, Limits, run
from auscan.batch.worker import release_free_memory
from auscan.core.errors import CheckpointError, CrashError, OutputError
from auscan.results.manifest import ManifestRecord, latest, read_records


def results(out: Path) -> dict[str, str]:
    """Return the text of each result; assert that each result is complete."""
    texts = {}
    for folder in out.iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            assert sorted(path.name for path in folder.iterdir()) == ["aus.csv", "summary.json"]
            texts[folder.name] = (folder / "aus.csv").read_text()
    return texts


def test_a_crash_of_a_worker_process_costs_one_input(tmp_path: Path) -> None:
    names = ["a", "error-1", "kill-1", "segv-1", "z"]
    inputs, out, listener = write_inputs(tmp_path / "in", *names), tmp_path / "out", RecordingListener()
    records = {job.path.stem: record for job, record in run_all(plan_jobs(inputs, out), out, listener)}
    assert {name: record.error_class for name, record in records.items()} == {
        **{"a": None, "z": None, "error-1": "MediaError"},
        **{"kill-1": "CrashError", "segv-1": "CrashError"},
    }
    assert "by SIGSEGV." in str(records["segv-1"].error)
    assert "by SIGKILL, as the system does when memory runs out." in str(records["kill-1"].error)
    assert results(out) == {"a": "a\n", "z": "z\n"}
    assert latest(read_records(out)) == {record.key: record for record in records.values()}
    assert listener.started_names == listener.finished_names == [f"{name}.mp4" for name in names]
    assert not list(out.glob(".*")), "nothing temporary remains"


def test_the_model_stays_loaded_from_input_to_input(tmp_path: Path) -> None:
    inputs, out = write_inputs(tmp_path / "in", "a", "b", "c"), tmp_path / "out"
    list(run_all(plan_jobs(inputs, out), out, RecordingListener()))
    processes = {(out / name / "summary.json").read_text() for name in "abc"}
    assert len(processes) == 1
    assert str(os.getpid()) not in processes


def test_an_input_over_the_time_or_memory_limit_is_ended(tmp_path: Path) -> None:
    inputs, out = write_inputs(tmp_path / "in", "a", "hang-1", "hog-1"), tmp_path / "out"
    limits = Limits(seconds=6.0, bytes=400_000_000)
    records = {
        job.path.stem: record
        for job, record in run_all(plan_jobs(inputs, out), out, RecordingListener(), 3, limits)
    }
    assert records["a"].status == "done"
    assert records["hang-1"].error_class == "TimeLimitError"
    assert "hang-1.mp4 took longer than the 6 s of --time-limit" in str(records["hang-1"].error)
    assert records["hang-1"].seconds >= 6
    assert records["hog-1"].error_class == "MemoryLimitError"
    assert "more memory than the 0.4 GB of --memory-limit" in str(records["hog-1"].error)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps free memory")
def test_memory_of_one_input_does_not_count_for_the_next() -> None:
    pieces = [b"x" * 50_000 for _ in range(4000)]
    last = pieces[-1]  # keeps the heap from shrinking on its own
    del pieces
    held = psutil.Process().memory_info().rss
    release_free_memory()
    assert held - psutil.Process().memory_info().rss > 150e6
    assert last


def test_a_full_disk_stops_the_run_and_fails_no_input(tmp_path: Path) -> None:
    inputs, out = write_inputs(tmp_path / "in", "a", "full-1", "z"), tmp_path / "out"
    with pytest.raises(OutputError, match="the disk is full"):
        list(run_all(plan_jobs(inputs, out), out, RecordingListener()))
    assert [record.key for record in read_records(out)] == ["a.mp4"]
    assert [job.key for job in plan_jobs(inputs, out)] == ["full-1.mp4", "z.mp4"]


def test_a_model_that_cannot_be_loaded_is_reported_once(tmp_path: Path) -> None:
    inputs, out = write_inputs(tmp_path / "in", "a", "b"), tmp_path / "out"
    with pytest.raises(CheckpointError, match="there is no model"):
        list(run_all(plan_jobs(inputs, out), out, RecordingListener(), load=batch_fakes.load_nothing))
    with pytest.raises(CrashError, match="exit code 3, 3 times in a row"):
        list(run_all(plan_jobs(inputs, out), out, RecordingListener(), load=batch_fakes.load_and_die))
    assert read_records(out) == []


def test_a_model_that_hangs_while_loading_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a model can hang on a network disk that does not respond."""
    monkeypatch.setattr("auscan.batch.run.START_TIMEOUT_S", 0.5)
    inputs, out = write_inputs(tmp_path / "in", "a"), tmp_path / "out"
    with pytest.raises(CrashError, match=r"took longer than 0\.5 s, 3 times in a row"):
        list(run_all(plan_jobs(inputs, out), out, RecordingListener(), load=batch_fakes.load_and_hang))
    assert read_records(out) == []
    assert not list(out.glob(".*"))


def test_in_process_and_pool_runners_write_the_same(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "in", "a", "error-1", "b")
    one, other = tmp_path / "one", tmp_path / "other"
    list(
        run(
            plan_jobs(inputs, one),
            one,
            "manifest.jsonl",
            InProcessRunner(batch_fakes.fake_job, RecordingListener()),
        )
    )
    list(run_all(plan_jobs(inputs, other), other, RecordingListener(), 2))
    assert results(one) == results(other)
    assert {record.key: record.status for record in read_records(one)} == {
        record.key: record.status for record in read_records(other)
    }


def begin(inputs: Path, out: Path, count: int) -> subprocess.Popen[str]:
    """Start a run in a new process group."""
    command = [sys.executable, str(Path(batch_fakes.__file__)), str(inputs), str(out), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def group_is_gone(group: int) -> bool:
    """Return whether all processes of a group end within 10 s."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_after_sigkill_at_any_moment_a_resumed_run_has_all_results(tmp_path: Path) -> None:
    names = [f"slow-{number}" for number in range(8)] + ["error-1"]
    inputs, out = write_inputs(tmp_path / "in", *names), tmp_path / "out"
    for lines in (0, 1, 3):
        batch = begin(inputs, out, 2)
        assert batch.stdout is not None
        for _ in range(lines):
            batch.stdout.readline()
        while not list(out.glob(".auscan-*")):
            time.sleep(0.05)
        time.sleep(0.2)
        os.killpg(batch.pid, signal.SIGKILL)
        batch.communicate()
        results(out)  # asserts that they are complete
    done = {record.key for record in read_records(out) if record.status == "done"}
    assert 2 <= len(done) < 8
    list(run_all(plan_jobs(inputs, out), out, RecordingListener(), 2))
    assert results(out) == {name: f"{name}\n" for name in names[:-1]}
    assert sorted(record.key for record in read_records(out) if record.status == "done") == [
        f"{name}.mp4" for name in names[:-1]
    ], "each was processed once"
    assert not list(out.glob(".*"))


def test_workers_end_when_the_parent_alone_is_killed(tmp_path: Path) -> None:
    batch = begin(write_inputs(tmp_path / "in", "a", "hang-1"), tmp_path / "out", 2)
    assert batch.stdout is not None
    assert batch.stdout.readline() == "a.mp4\n"
    batch.kill()
    batch.wait()
    batch.stdout.close()
    assert group_is_gone(batch.pid)


def test_one_interrupt_lets_running_inputs_finish(tmp_path: Path) -> None:
    names = [f"slow-{number}" for number in range(9)]
    out = tmp_path / "out"
    batch = begin(write_inputs(tmp_path / "in", *names), out, 2)
    assert batch.stdout is not None
    assert batch.stdout.readline() in ("slow-0.mp4\n", "slow-1.mp4\n"), "two run side by side"
    os.killpg(batch.pid, signal.SIGINT)
    rest = batch.communicate()[0].splitlines()
    assert 1 <= len(rest) <= 3, "the inputs that were running"
    assert "at once" not in rest
    assert batch.returncode == 0
    assert len(results(out)) == 1 + len(rest)
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_a_second_interrupt_or_sigterm_stops_at_once_and_leaves_nothing(
    tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    out = tmp_path / "out"
    batch = begin(write_inputs(tmp_path / "in", "a", "hang-1", "z"), out, 1)
    assert batch.stdout is not None
    assert batch.stdout.readline() == "a.mp4\n"
    time.sleep(0.5)
    for number in signals:
        os.killpg(batch.pid, number)
        time.sleep(0.5)
    assert batch.communicate(timeout=30)[0] == "at once\n"
    assert results(out) == {"a": "a\n"}
    assert not list(out.glob(".*"))
    assert group_is_gone(batch.pid)


def test_in_this_process_one_interrupt_stops_and_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(job: Job, folder: Path, progress: Progress) -> ManifestRecord:
        if job.path.stem == "b":
            folder.mkdir()
            os.kill(os.getpid(), signal.SIGINT)
        return batch_fakes.fake_job(job, folder, progress)

    inputs, out = write_inputs(tmp_path / "in", "a", "b"), tmp_path / "out"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        list(
            run(
                plan_jobs(inputs, out),
                out,
                "manifest.jsonl",
                InProcessRunner(interrupted, RecordingListener()),
            )
        )
    assert results(out) == {"a": "a\n"}
    assert not list(out.glob(".*"))
    assert signal.getsignal(signal.SIGINT) is before
