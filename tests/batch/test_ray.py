"""A run on a Ray cluster equals a local run, also if a machine is lost; machines are processes here."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import batch_fakes
import pytest
import ray_cluster
from batch_real import begin, begin_program, contents, lines
from batch_watch import METADATA, RecordingListener, plan_jobs, run_all, write_inputs
from test_run import results

import auscan
from auscan.batch.jobs import DetectRequest, Job
from auscan.batch.plan import UNSHARDED
from auscan.batch.ray_runner import RayRunner, RayWorker, make_ray_runner
from auscan.batch.run import NO_LIMITS, run
from auscan.batch.worker import JobDone
from auscan.core.errors import CrashError, InputError
from auscan.datasets.index import Index
from auscan.results.manifest import ManifestRecord, latest, read_records

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

HERE = Path(__file__).parent
SOURCE = Path(auscan.__file__).parents[1]


class Cluster:
    """Ray cluster of a head and two worker nodes in separate processes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, ray_cluster.__file__, "2"],
            env=os.environ | {"PYTHONPATH": f"{SOURCE}:{HERE}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._read_line()

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._read_line() == "gone"

    def end(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One cluster for all tests of this file, in this order: later tests kill a node, then the head."""
    with pytest.MonkeyPatch.context() as local:
        local.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # use the loopback interface, like the nodes
        cluster = Cluster()
        yield cluster
        cluster.end()


def begin_on(address: str, inputs: Path, out: Path) -> subprocess.Popen[str]:
    """Start a run of the fake job function on a cluster; it prints the name of each input when it ends."""
    command = [sys.executable, batch_fakes.__file__, str(inputs), str(out), address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def statuses(out: Path) -> dict[str, str | None]:
    """Return the error class of each input, None if it is done; assert that each has one record."""
    records = read_records(out)
    assert len(records) == len(latest(records))
    return {record.key: record.error_class for record in records}


def test_results_on_a_cluster_equal_local_results(cluster: Cluster, tmp_path: Path, clips: Path) -> None:
    local, remote = tmp_path / "here", tmp_path / "there"
    batch = begin(clips, remote, "--ray", cluster.address)
    begin(clips, local).communicate()
    stderr = batch.communicate()[1]
    assert batch.returncode == 2, f"one of them is broken; {stderr}"
    assert contents(remote) == contents(local)
    assert lines(remote) == lines(local)


def test_features_extracted_on_a_cluster_equal_local_features(
    cluster: Cluster, tmp_path: Path, tiny_checkpoint: Path, make_index: Callable[..., Index]
) -> None:
    make_index({"a": "12-3", "b": "x2", "talk_left": "1213", "talk_right": "231"})
    local, remote = tmp_path / "here", tmp_path / "there"
    arguments = [
        "extract",
        str(tmp_path / "index"),
        "--model",
        str(tiny_checkpoint),
        "--batch=3",
        "--threads=1",
    ]
    batches = [
        begin_program(*arguments, "--out", str(remote), "--ray", cluster.address),
        begin_program(*arguments, "--out", str(local)),
    ]
    stderr = [batch.communicate(timeout=500)[1] for batch in batches]
    assert [batch.returncode for batch in batches] == [0, 0], stderr[0]
    assert "not readable, counts as missing: b/00001.png" in stderr[0]
    assert {Path(name).parent.name for name in contents(local)} == {"a", "b", "talk_left", "talk_right"}
    assert contents(remote) == contents(local)
    assert lines(remote) == lines(local)
    assert not list(remote.glob(".*")), "nothing temporary remains"


def test_jobs_of_a_killed_node_are_repeated_on_others(cluster: Cluster, tmp_path: Path) -> None:
    names = [f"slow-{number}" for number in range(6)] + ["error-1", "kill-1"]
    inputs, local, remote = write_inputs(tmp_path / "in", *names), tmp_path / "here", tmp_path / "there"
    list(run_all(plan_jobs(inputs, local), local, RecordingListener(), 2))
    batch = begin_on(cluster.address, write_inputs(inputs, "parent-1"), remote)
    assert batch.stdout is not None
    first = batch.stdout.readline()  # both nodes are working now
    cluster.kill("node")
    printed = [first, *batch.communicate(timeout=60)[0].splitlines(keepends=True)]
    assert batch.returncode == 0
    assert sorted(printed) == sorted(f"{name}.mp4\n" for name in [*names, "parent-1"]), (
        "and Ray prints nothing"
    )
    assert results(remote) == results(local)
    assert statuses(remote) == {**statuses(local), "parent-1.mp4": "CrashError"}
    assert "was lost, 2 times" in str(latest(read_records(remote))["parent-1.mp4"].error)
    assert not list(remote.glob(".*")), "nothing temporary remains"


def test_after_the_loss_of_the_head_a_resumed_run_does_the_remaining_inputs(
    cluster: Cluster, tmp_path: Path
) -> None:
    names = [f"slow-{number}" for number in range(6)]
    inputs, out = write_inputs(tmp_path / "in", *names), tmp_path / "out"
    batch = begin_on(cluster.address, inputs, out)
    assert batch.stdout is not None
    batch.stdout.readline()
    cluster.kill("head")
    batch.kill()
    batch.communicate()
    before = {key: record.ended for key, record in latest(read_records(out)).items()}
    assert 1 <= len(before) < len(names)
    list(run_all(plan_jobs(inputs, out), out, RecordingListener(), 2))
    after = {key: record.ended for key, record in latest(read_records(out)).items()}
    assert results(out) == {name: f"{name}\n" for name in names}
    assert before.items() <= after.items(), "finished inputs were not processed again"
    for _ in range(60):  # workers outlive their head; the next run removes the files they still write
        list(run_all([], out, RecordingListener(), 1))
        if not list(out.glob(".*")):
            break
        time.sleep(1)
    assert not list(out.glob(".*"))


class FakeRay:
    """The part of Ray that a runner uses; a remote call runs when its reply is fetched."""

    class exceptions:  # noqa: N801
        RayTaskError = ZeroDivisionError
        RayError = ConnectionError

    def __init__(self, worker: object, nodes: list[dict[str, float]]) -> None:
        self._worker, self._nodes, self.most = worker, nodes, 0
        self._alive = 0

    def remote(self, kind: object) -> Any:
        return SimpleNamespace(options=lambda **resources: SimpleNamespace(remote=self._start))

    def _start(self, *arguments: object) -> Any:
        self._alive += 1
        self.most = max(self.most, self._alive)
        names = ("find_missing", "run_job")
        return SimpleNamespace(**{name: SimpleNamespace(remote=self._call(name)) for name in names})

    def _call(self, name: str) -> Any:
        return lambda *arguments: lambda: getattr(self._worker, name)(*arguments)

    def wait(self, replies: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return replies[:1], replies[1:]

    def get(self, reply: Any) -> object:
        return reply()

    def kill(self, worker: object) -> None:
        self._alive -= 1

    def nodes(self) -> list[dict[str, object]]:
        return [{"Alive": True, "Resources": node} for node in self._nodes]

    def shutdown(self) -> None:
        pass


class FakeRayWorker:
    """Worker that runs the fake job function in this process."""

    def __init__(self, missing: str | None = None, model: str = "0" * 64) -> None:
        self._missing, self._model = missing, model

    def find_missing(self, paths: Sequence[Path]) -> str | None:
        assert all(path.exists() for path in paths)
        return self._missing

    def run_job(self, job: Job, folder: Path) -> JobDone:
        record = batch_fakes.fake_job(job, folder, lambda done, total: None)
        return JobDone(replace(record, model_sha256=self._model))


def run_with(
    ray: FakeRay, jobs: Sequence[Job], out: Path, resources: dict[str, float]
) -> list[ManifestRecord]:
    runner = RayRunner(ray, batch_fakes.load, METADATA, RecordingListener(), resources)
    return [record for _, record in run(jobs, out, UNSHARDED.manifest, runner)]


def test_there_are_as_many_workers_as_fit_and_no_more(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "in", *[f"{number:02}" for number in range(20)])
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 2.0}, {"CPU": 64.0}]
    for resources, most in (({"CPU": 2.0, "GPU": 0.25}, 4 + 1), ({"CPU": 1.0, "GPU": 0.1}, 8 + 3)):
        ray, out = FakeRay(FakeRayWorker(), nodes), tmp_path / str(most)
        assert len(run_with(ray, plan_jobs(inputs, out), out, resources)) == 20
        assert ray.most == most


def test_machines_that_do_not_share_the_files_are_refused(tmp_path: Path) -> None:
    inputs, out = write_inputs(tmp_path / "in", "a"), tmp_path / "out"
    ray = FakeRay(FakeRayWorker(missing="/data/out on node7"), [{"CPU": 1.0}])
    with pytest.raises(InputError, match=r"Not found: /data/out on node7\. .* shared file system"):
        run_with(ray, plan_jobs(inputs, out), out, {"CPU": 1.0})
    assert read_records(out) == []


def test_a_worker_finds_what_is_missing_on_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # monkeypatch restores both; under pytest-xdist the main module has no file
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "ray", raising=False)
    worker = RayWorker(batch_fakes.load, METADATA, NO_LIMITS, tmp_path)
    assert worker.find_missing([tmp_path]) is None
    assert str(worker.find_missing([tmp_path, tmp_path / "no"])).startswith(f"{tmp_path / 'no'} on ")


def test_machines_with_another_model_are_refused(tmp_path: Path) -> None:
    inputs, out = write_inputs(tmp_path / "in", "a"), tmp_path / "out"
    with pytest.raises(InputError, match="here has another version of auscan or another model"):
        run_with(
            FakeRay(FakeRayWorker(model="1" * 64), [{"CPU": 1.0}]), plan_jobs(inputs, out), out, {"CPU": 1.0}
        )
    assert read_records(out) == []
    assert not list(out.iterdir())


def test_workers_that_cannot_start_end_the_run_and_fail_no_input(tmp_path: Path) -> None:
    class Dying(FakeRayWorker):
        def find_missing(self, paths: Sequence[Path]) -> str | None:
            raise ConnectionError("there is no auscan")

    inputs, out = write_inputs(tmp_path / "in", "a"), tmp_path / "out"
    with pytest.raises(CrashError, match=r"No worker can be started .* there is no auscan"):
        run_with(FakeRay(Dying(), [{"CPU": 1.0}]), plan_jobs(inputs, out), out, {"CPU": 1.0})
    assert read_records(out) == []


@pytest.mark.parametrize(
    ("address", "gpus", "message"),
    [
        ("127.0.0.1:9", None, "Cannot connect to a Ray cluster at '127.0.0.1:9'"),
        ("ray://node7:10001", None, "Run auscan on a machine of the cluster, with --ray auto"),
        ("local", 0.5, "--gpus-per-worker is for --device cuda"),
    ],
)
def test_an_impossible_request_is_refused_at_once(address: str, gpus: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_ray_runner(
            DetectRequest(), METADATA, Path("out"), address, None, gpus, NO_LIMITS, RecordingListener()
        )
