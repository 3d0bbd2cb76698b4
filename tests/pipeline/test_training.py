"""The same parameters everywhere: whatever the number of workers, and whoever dies."""

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline import evaluation, worker
from fanfold.pipeline.checkpoint import Checkpoint, load_checkpoint, parameters_sha256, save_checkpoint
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.evaluation import predict
from fanfold.pipeline.events import TrainingEnded, TrainingStarted, Validated, WindowEnded
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.recipe import Meta
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.results import summarize
from fanfold.pipeline.training import train, window_length
from fanfold.tasks.algorithms import registry as algorithms
from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.matching import Matching
from fanfold.tasks.algorithms.meta_sgd import MetaSgd
from fanfold.tasks.algorithms.proto_maml import ProtoMaml
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.algorithms.reptile import Reptile
from fanfold.tasks.episodes import Stream
from fanfold.tasks.models import PluginModel
from tests.lines import lines
from tests.pipeline.reference import alone, assert_same
from tests.waiting import wait_for

EVALUATION = EvaluationConfig(every=10, validation_tasks=20, tasks=20)


@pytest.fixture
def directory(tmp_path):
    made = RunDirectory(tmp_path / "run")
    made.create("seed: 3\n")
    return made


@pytest.fixture(scope="module")
def expected(recipe):
    """The SHA-256 of the parameters after 20 iterations without a cluster."""
    return parameters_sha256(alone(recipe, 20).state.parameters)


@pytest.fixture(scope="module")
def one(small_cluster):
    with small_cluster(1) as cluster:
        yield cluster


@pytest.mark.parametrize(("name", "workers"), [("one", 1), ("pair", 2), ("trio", 3)])
def test_any_number_of_workers_gives_the_same_parameters(recipe, request, directory, name, workers, expected):
    cluster = request.getfixturevalue(name)
    assert cluster.workers == workers
    last = train(cluster, recipe, EVALUATION, directory)
    assert last.state.iteration == 20
    assert parameters_sha256(last.state.parameters) == expected


def test_training_ends_early_where_validation_finds_nothing_better(recipe, one, directory):
    told, still = [], replace(recipe, meta=replace(recipe.meta, lr=1e-12))
    patient = replace(EVALUATION, every=2, patience=2)
    last = train(one, still, patient, directory, [told.append])
    assert (last.best_iteration, last.state.iteration) == (2, 6)
    assert told[-1] == TrainingEnded(6, last.seconds)
    assert "`evaluation.patience=2`" in told[-2].text
    again = train(one, still, replace(patient, patience=3), directory)  # with more patience it goes on
    assert again.state.iteration == 8


def test_a_worker_killed_in_the_middle_changes_nothing(slow_recipe, trio):
    """The victim is frozen first; only if the scheduler still counts on it for a chunk or a state is it killed."""
    start, found = worker.initialize(slow_recipe), {}
    executor = GraphExecutor(trio, slow_recipe, "feedbeef")
    thread = threading.Thread(target=lambda: found.update(window=executor.window(start, 20)))
    thread.start()
    victim, needed = freeze_a_needed_worker(trio, after=5)
    assert needed
    os.kill(victim, signal.SIGKILL)
    thread.join(120)
    assert not thread.is_alive()
    assert_same(found["window"], alone(slow_recipe, 20))


def freeze_a_needed_worker(cluster, after):
    """Stop a worker that computes a chunk, or alone holds the latest state, once some iterations are done.

    Returns:
        Its process number, and the keys that the scheduler needs of it.
    """
    scheduler = cluster.client.cluster.scheduler
    pids = cluster.client.run(os.getpid)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.02)
        steps = [key[1] for key in list(scheduler.tasks) if isinstance(key, tuple) and key[0] == "step-feedbeef"]
        done = [n for n in steps if (task := scheduler.tasks.get(("step-feedbeef", n))) and task.state != "waiting"]
        if not done or max(done) < after:
            continue
        for address, pid in pids.items():
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.3)  # whatever it had sent before has arrived by then
            worker = scheduler.workers[address]
            computing = [task.key for task in worker.processing if task.key[0].startswith("adapt-")]
            holding = [
                task.key
                for task in worker.has_what
                if task.key[0].startswith("step-") and len(task.who_has) == 1 and task.waiters
            ]
            if computing or holding:
                return pid, computing + holding
            os.kill(pid, signal.SIGCONT)
    raise AssertionError("no worker was ever needed")


def test_the_driver_is_silent_within_a_window(pair, recipe):
    """From the graph's hand-over to the window's last step the driver sends nothing but its heartbeat."""
    client, sent = pair.client, []
    original = client.scheduler_comm.send

    def spy(message):
        sent.append(message["op"])
        return original(message)

    client.scheduler_comm.send = spy
    try:
        whole = replace(recipe, meta=replace(recipe.meta, window=20))  # in one graph
        GraphExecutor(pair, whole, "0badcafe").window(worker.initialize(whole), 20)
    finally:
        del client.scheduler_comm.send
    said = [word for word in sent if word != "heartbeat-client"]
    assert said.count("update-graph") == 1
    assert len(said) <= 3, said  # the graph, and at the end that its result is no longer needed
    assert "client-releases-keys" in said or len(said) == 1


def test_a_window_leaves_nothing_behind(pair, recipe):
    GraphExecutor(pair, recipe, "0badcaff").window(worker.initialize(recipe), 3)
    scheduler = pair.client.cluster.scheduler
    wait_for(lambda: not any("0badcaff" in str(key) for key in list(scheduler.tasks)), 10)


def test_training_tells_what_happens_and_keeps_it(pair, recipe, directory):
    events = []
    last = train(pair, recipe, EVALUATION, directory, [events.append, directory.log])
    kinds = [type(event) for event in events]
    assert kinds[0] is TrainingStarted
    assert kinds[-1] is TrainingEnded
    assert [event.iteration for event in events if isinstance(event, Validated)] == [10, 20]
    records = [record for event in events if isinstance(event, WindowEnded) for record in event.records]
    assert [record.iteration for record in records] == list(range(20))

    metrics = lines(directory.metrics)
    assert [line["iteration"] for line in metrics] == list(range(1, 21))
    assert [line["loss"] for line in metrics] == [record.loss for record in records]
    assert set(metrics[0]) == {"iteration", "loss", "accuracy", "tasks_per_second", "seconds"}

    validated = {event.iteration: event.accuracy for event in events if isinstance(event, Validated)}
    stored = load_checkpoint(directory.last)
    assert validated[stored.best_iteration] == max(validated.values()) == stored.best_accuracy
    best = predict(GraphExecutor(pair, recipe), recipe, stored.best, Stream.VALIDATION, 20, "batch")
    assert summarize(best.accuracies).mean == stored.best_accuracy
    assert parameters_sha256(stored.state.parameters) == parameters_sha256(last.state.parameters)


def test_a_stopped_run_goes_on_to_the_same_end(pair, recipe, directory, expected):
    train(pair, replace(recipe, meta=replace(recipe.meta, iterations=7)), EVALUATION, directory, [directory.log])
    with directory.metrics.open("a") as file:
        file.write('{"iteration": 8, "loss": 1.0}\n{"iterat')  # a later window, and a line that a crash cut short
    last = train(pair, recipe, EVALUATION, directory, [directory.log])
    assert parameters_sha256(last.state.parameters) == expected
    metrics = lines(directory.metrics)
    assert [line["iteration"] for line in metrics] == list(range(1, 21))
    assert all("accuracy" in line for line in metrics)


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_checkpoint(pair, recipe, directory):
    state, fingerprint = (
        alone(recipe, 4).state,
        worker.open_context(recipe).fingerprint,
    )
    save_checkpoint(directory.last, Checkpoint(state, state.parameters, fingerprint, layout=worker.layout(recipe)))
    wild = replace(recipe, meta=replace(recipe.meta, lr=1e30))
    with pytest.raises(RunError, match=r"not finite in iteration \d+, task numbers \d+"):
        train(pair, wild, EVALUATION, directory)
    assert load_checkpoint(directory.last).state.parameters.tobytes() == state.parameters.tobytes()


def test_a_run_does_not_go_on_with_other_images(pair, recipe, directory):
    state = worker.initialize(recipe)
    save_checkpoint(directory.last, Checkpoint(state, state.parameters, "0badf00d", layout=worker.layout(recipe)))
    with pytest.raises(FanfoldError, match="holds other images than those that this run began with"):
        train(pair, recipe, EVALUATION, directory)


def few(**settings):
    return Meta(batch=5, chunk=2, iterations=4, window=2, checkpoint=4, **{"lr": 3e-3, **settings})


# Of every algorithm, what differs most between a chunk and the next: what changes with the iteration, what draws.
ALGORITHMS = {
    "maml": (Maml(inner_lr=0.1, inner_steps=2), few(average=0.9)),
    "maml first order": (Maml(inner_lr=0.1, first_order=True), few(schedule="cosine")),
    "anil": (Anil(inner_steps=2), few()),
    "maml++": (MamlPlusPlus(inner_steps=2, multi_step=3, first_order=2), few(schedule="cosine")),
    "meta-sgd": (MetaSgd(inner_lr=0.1), few()),
    "reptile": (Reptile(inner_steps=3, inner_batch=3), few(optimizer="sgd", schedule="linear", lr=1.0)),
    "proto-maml": (ProtoMaml(inner_steps=2), few()),
    "protonet": (ProtoNet(every_turn=True), few(average=0.99, clip=1e-3, weight_decay=0.1)),
    "matching": (Matching(), few()),
    "matching context": (Matching(full_context=True), few()),
}


def test_every_algorithm_is_spread_here():
    assert {algorithm.name for algorithm, _ in ALGORITHMS.values()} == set(algorithms.TRAINED)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_gives_the_same_parameters_on_a_cluster(pair, recipe, directory, name):
    algorithm, meta = ALGORITHMS[name]
    recipe = replace(recipe, algorithm=algorithm, meta=meta)
    short = EvaluationConfig(every=4, validation_tasks=6, tasks=6, other_tasks=4)
    last, expected = train(pair, recipe, short, directory), alone(recipe, 4).state
    assert last.state.iteration == expected.iteration == 4
    assert parameters_sha256(last.state.parameters) == parameters_sha256(expected.parameters)
    assert parameters_sha256(last.state.average) == parameters_sha256(expected.average)
    assert parameters_sha256(expected.parameters) != parameters_sha256(worker.initialize(recipe).parameters)
    assert (parameters_sha256(expected.average) == parameters_sha256(expected.parameters)) == (not meta.average)

    published, other = evaluation.test(pair, recipe, last.best, short)
    assert [published.normalization, other.normalization] == list(algorithm.normalizations)
    assert [published.accuracy.tasks, other.accuracy.tasks] == [6, 4]
    for tested in (published, other):
        population = worker.statistics(recipe, last.best) if tested.normalization == "population" else None
        count = tested.accuracy.tasks
        accuracies = worker.test(recipe, tested.normalization, Stream.TEST, last.best, population, 0, count).accuracies
        assert vars(tested.accuracy) == pytest.approx(vars(summarize(accuracies)))
        assert tested.transductive == (tested.normalization == "batch")
        assert str(tested).endswith("transductive" if tested.transductive else "inductive")


def test_a_network_without_batch_norm_is_tested_in_one_way(pair, recipe):
    plain = replace(recipe, algorithm=ProtoNet(), model=PluginModel("tests.pipeline.test_worker:Dropping"))
    parameters = worker.initialize(plain).parameters
    assert list(evaluation.normalizations(plain)) == [None]
    (tested,) = evaluation.test(pair, plain, parameters, EvaluationConfig(tasks=6))
    assert tested.normalization is None
    assert not tested.transductive
    expected = summarize(worker.test(plain, "batch", Stream.TEST, parameters, None, 0, 6).accuracies)
    assert vars(tested.accuracy) == pytest.approx(vars(expected))


def test_the_other_way_of_testing_may_be_left_out(pair, recipe):
    parameters = worker.initialize(recipe).parameters
    (tested,) = evaluation.test(pair, recipe, parameters, EvaluationConfig(tasks=4, other_tasks=0))
    assert tested.normalization == "batch"


@pytest.mark.parametrize("count", [-1, 1])
def test_so_few_tasks_in_the_other_way_are_refused(count):
    with pytest.raises(FanfoldError, match=r"`evaluation\.other_tasks` must be 0 or at least 2"):
        EvaluationConfig(other_tasks=count)


def test_what_is_validated_and_kept_is_the_average(pair, recipe, directory):
    averaging = replace(recipe, meta=few(average=0.9))
    last = train(pair, averaging, EvaluationConfig(every=4, validation_tasks=6, tasks=6), directory)
    assert last.best_iteration == 4
    assert last.best.tobytes() == last.state.average.tobytes()
    assert last.best.tobytes() != last.state.parameters.tobytes()
    accuracies = worker.test(averaging, "batch", Stream.VALIDATION, last.state.average, None, 0, 6).accuracies
    assert last.best_accuracy == summarize(accuracies).mean


def test_a_stopped_run_goes_on_with_its_average(pair, recipe, directory):
    averaging, short = replace(recipe, meta=few(average=0.9)), EvaluationConfig(every=4, validation_tasks=4, tasks=4)
    train(pair, replace(averaging, meta=replace(averaging.meta, iterations=2)), short, directory)
    last = train(pair, averaging, short, directory)
    assert last.state.average.tobytes() == alone(averaging, 4).state.average.tobytes()


def test_the_confidence_interval_covers_the_mean():
    """Of many samples of 200 tasks, 95 % of the intervals hold the true mean (within five standard errors)."""
    random = np.random.default_rng(0)
    samples = random.binomial(5, 0.9, size=(2000, 200)) / 5
    covered = np.mean([abs(found.mean - 0.9) <= found.ci95 for found in map(summarize, samples)])
    assert abs(covered - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 2000) + 0.005


def test_windows_end_where_something_is_due(recipe):
    meta = Meta(iterations=103, window=10, checkpoint=25)
    done, ends = 0, []
    while length := window_length(standing(recipe, done, done / 4), meta, 40):
        done += length
        ends.append(done)
    assert ends[-1] == 103
    assert {25, 40, 50, 75, 80, 100} <= set(ends)
    assert max(np.diff([0, *ends])) == 10


def test_a_checkpoint_shortens_no_window_where_it_is_due_every_second(recipe):
    meta = Meta(iterations=10_000, checkpoint=100)
    assert window_length(standing(recipe, 1000, 1), meta, 5000) == 3000
    assert window_length(standing(recipe, 1050, 105), meta, 5000) == 30
    assert window_length(standing(recipe, 1090, 109), meta, 5000) == 10


def test_a_run_bounded_by_time_ends_in_time(recipe):
    meta = Meta(iterations=None, minutes=1, window=10)
    assert window_length(standing(recipe, 0, 0), meta, 500) == 10
    assert window_length(standing(recipe, 100, 20), meta, 500) == 10
    assert window_length(standing(recipe, 118, 59), meta, 500) == 2
    assert window_length(standing(recipe, 120, 60), meta, 500) == 0


def test_windows_take_seconds(recipe):
    meta = Meta(iterations=1000, window=50)
    assert window_length(standing(recipe, 0), meta, 500) == 10
    assert window_length(standing(recipe, 100, 1), meta, 500) == 50
    assert window_length(standing(recipe, 100, 20), meta, 500) == 15
    assert window_length(standing(recipe, 100, 1000), meta, 500) == 1


def standing(recipe, iteration, seconds=0):
    state = worker.initialize(recipe)
    return Checkpoint(replace(state, iteration=iteration), state.parameters, "0123abcd", seconds=seconds)
