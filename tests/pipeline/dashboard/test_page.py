"""The page on true clusters: what it hears of runs, where it can be put up, and how it looks in a browser."""

import json
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from distributed import Client, LocalCluster

from fanfold.data.errors import RunError
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.dashboard.drawings import draw, how_many
from fanfold.pipeline.dashboard.listener import RunTeller
from fanfold.pipeline.dashboard.plugin import offer
from fanfold.pipeline.dashboard.search_listener import SearchTeller
from fanfold.pipeline.events import Noticed
from fanfold.pipeline.messages import TOPIC
from fanfold.pipeline.recording.recorder import guarded
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.events import TrialEnded, TrialReached
from fanfold.pipeline.training import train
from fanfold.workflows.cli.cluster import open_cluster
from tests.browser import browser as browser
from tests.browser import needs_browser
from tests.environment import with_root
from tests.lines import lines
from tests.waiting import wait_for

EVALUATION = EvaluationConfig(every=10, validation_tasks=20, tasks=20)


def board_of(cluster):
    return cluster.client.cluster.scheduler.plugins["fanfold"].board


def read(cluster, page):
    with urllib.request.urlopen(cluster.dashboard.replace("/status", page), timeout=20) as answer:
        return answer.read().decode()


def trained(cluster, recipe, path, name, *listeners):
    """Train, told to the page; returns what the board knows of it, and the lines that were said."""
    directory, said = RunDirectory(path / name), []
    directory.create("seed: 3\n")
    teller = RunTeller(cluster.client, name, recipe, {"meta.batch": "10"})
    with guarded(teller, "the page", said.append) as told:
        train(cluster, recipe, EVALUATION, directory, [directory.log, told, *listeners])
    (run,) = (run for run in board_of(cluster).runs.values() if run.started["name"] == name)
    return run, directory, said


@pytest.mark.parametrize("reduction", ["graph", "collective"])
def test_the_page_knows_of_a_run_what_its_files_say(pair, recipe, tmp_path, reduction):
    run, directory, said = trained(replace(pair, reduction=reduction), recipe, tmp_path, f"a {reduction}")
    assert not said
    assert (run.state, run.iteration, run.iterations_done) == ("ended", 20, 20)
    records = lines(directory.metrics)
    for key in ("loss", "accuracy"):
        mean = sum(getattr(stretch, key) * stretch.iterations for stretch in run.curve) / 20
        assert mean == pytest.approx(sum(record[key] for record in records) / 20)
    assert [validation.iteration for validation in run.validations] == [10, 20]
    assert run.total.tasks == 200


@pytest.mark.parametrize("reduction", ["graph", "collective"])
def test_the_page_knows_where_a_meta_iteration_s_time_goes(pair, recipe, tmp_path, reduction):
    run, *_ = trained(replace(pair, reduction=reduction), recipe, tmp_path, f"the split by {reduction}")
    for stretch in run.curve:
        split = stretch.split()
        assert sum(split.values()) == pytest.approx(stretch.seconds / stretch.iterations, rel=0.05)
        assert split["adapt"] > split["fold"] > 0
        assert split["step"] > 0
    # Both workers are known, and together they computed every task.
    assert run.total.tasks == 200
    assert set(run.paces()) == set(pair.addresses)


def test_the_validation_tasks_shown_are_answered_as_they_were(pair, recipe, tmp_path):
    seen = []
    run, *_ = trained(pair, recipe, tmp_path, "validations", seen.append)
    predictions = [event.predictions for event in seen if hasattr(event, "predictions")][-1]
    ways, queries = recipe.task.ways, recipe.task.queries
    np.testing.assert_array_equal(run.judged["labels"], predictions.labels[:3, :, :queries])
    assert len(run.drawn["tasks"]) == 3
    assert all(len(task) == ways for task in run.drawn["tasks"])
    images = [image for task in run.drawn["tasks"] for of_class in task for image in of_class]
    assert len(images) == 3 * ways * (recipe.task.shots + queries)
    assert all(image.startswith("data:image/png;base64,") for image in images)
    assert len(set(images)) > len(images) / 2


def test_few_images_are_drawn_of_large_tasks():
    assert how_many(200, ways=5, shots=1, queries=1) == 3
    assert how_many(200, ways=20, shots=5, queries=15) == 1
    batch = np.random.default_rng(0).random((1, 20, 9, 84, 84), np.float32)
    (task,) = draw(batch[:, :, :7], batch[:, :, 7:])
    assert [len(of_class) for of_class in task] == [5 + 2] * 20


def test_prometheus_collects_a_run_s_figures_by_its_name(pair, recipe, tmp_path):
    run, *_ = trained(replace(pair, reduction="collective"), recipe, tmp_path, "for prometheus")
    lines = [line for line in read(pair, "/metrics").splitlines() if 'name="for prometheus"' in line]
    figures = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines if "phase=" not in line}
    assert figures["fanfold_iterations_total"] == 20
    assert figures["fanfold_tasks_total"] == 200
    assert figures["fanfold_loss"] == pytest.approx(run.now["loss"])
    assert figures["fanfold_validation_accuracy_ratio"] == pytest.approx(run.judged["accuracy"])
    phases = [line for line in lines if line.startswith("fanfold_worker_seconds_total")]
    assert len(phases) == 5
    assert all(f'run="{run.started["run"]}"' in line for line in lines)


def test_a_run_that_fails_is_shown_with_its_reason(pair, recipe, tmp_path):
    broken = replace(recipe, meta=replace(recipe.meta, lr=1e30))
    with pytest.raises(RunError):
        trained(pair, broken, tmp_path, "diverges")
    (run,) = (run for run in board_of(pair).runs.values() if run.started["name"] == "diverges")
    assert run.state == "failed"
    assert "not finite" in run.reason


def test_a_teller_that_fails_is_left_out_and_said_once(pair, recipe, tmp_path):
    broken = replace(recipe, task=replace(recipe.task, ways=2))  # answers of other ways can't be drawn
    directory, said = RunDirectory(tmp_path / "run"), []
    directory.create("seed: 3\n")
    teller = RunTeller(pair.client, "ill drawn", replace(broken, store="/nowhere"), {})
    with guarded(teller, "the page", said.append) as told:
        last = train(pair, recipe, EVALUATION, directory, [told])
    assert last.state.iteration == 20
    assert len(said) == 1
    assert said[0].startswith("the page records no more of this (")


def test_a_search_s_trials_are_told(pair):
    params = {"algorithm.inner_lr": 0.123456, "meta.optimizer": "sgd"}
    with guarded(SearchTeller(pair.client, "a search", {}, 8), "the page", print) as told:
        told(TrialReached(0, params, 0, 60, None))
        told(TrialReached(0, params, 20, 60, 0.5))
        told(TrialEnded(0, params, "pruned", 40, 0.6))
        told(TrialEnded(1, params, "failed", 0, None, "no such rate"))
        told(Noticed("trial 1: a worker is gone"))
    (run,) = (run for run in board_of(pair).runs.values() if run.started["what"] == "search")
    assert run.state == "ended"
    assert [(rung.iteration, rung.accuracy) for rung in run.trials[0].rungs] == [(20, 0.5), (40, 0.6)]
    assert run.trials[0].told["params"] == {"inner_lr": "0.123", "optimizer": "sgd"}
    assert (run.trials[1].told["state"], run.trials[1].told["reason"]) == ("failed", "no such rate")
    assert list(run.said) == ["trial 1: a worker is gone"]


def test_a_driver_that_goes_without_a_word_leaves_a_lost_run(pair):
    with Client(pair.client.scheduler.address) as other:
        SearchTeller(other, "left alone", {}, 8).wire.send({"kind": "said", "run": "", "text": ""})
        board = board_of(pair)
        wait_for(lambda: any(run.started["name"] == "left alone" for run in board.runs.values()), 20)
    (run,) = (run for run in board.runs.values() if run.started["name"] == "left alone")
    wait_for(lambda: run.state == "lost", 20)


@contextmanager
def scheduler(tmp_path, before, *arguments):
    """A scheduler in a process of its own, with some Python run before it; its address and dashboard's."""
    file = tmp_path / "scheduler.json"
    script = f"import sys; {before}; from distributed.cli.dask_scheduler import main; main(sys.argv[1:])"
    command = ["-c", script, "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen([sys.executable, *command, *arguments], stderr=log, env=with_root())
    try:
        wait_for(file.exists, 60)
        wait_for(lambda: file.read_text().rstrip().endswith("}"), 20)
        identity = json.loads(file.read_text())
        yield identity["address"], f"http://127.0.0.1:{identity['services']['dashboard']}"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def test_a_scheduler_of_its_own_has_the_page_before_any_run_and_needs_no_pytorch(tmp_path):
    without = "sys.modules['torch'] = None"  # an import of it would fail
    with scheduler(tmp_path, without, "--preload", "pipeline.dashboard") as (address, dashboard):
        with urllib.request.urlopen(f"{dashboard}/fanfold", timeout=20) as page:
            assert b'href="fanfold"' in page.read()
        with urllib.request.urlopen(f"{dashboard}/status", timeout=20) as page:
            assert b'href="fanfold"' in page.read()
        with Client(address) as client:
            assert offer(client) is None
            with guarded(SearchTeller(client, "over there", {}, 8), "the page", print):
                pass
        with urllib.request.urlopen(f"{dashboard}/metrics", timeout=20) as metrics:
            assert 'fanfold_trials{name="over there"' in metrics.read().decode()


def test_a_scheduler_that_cannot_import_fanfold_is_said_in_a_line(tmp_path):
    with scheduler(tmp_path, "sys.modules['fanfold'] = None") as (address, _), Client(address) as client:
        missing = offer(client)
        assert missing.startswith("no Fanfold page on the dashboard (No module named 'fanfold")
        assert missing.endswith(": install Fanfold where the scheduler runs")
        assert "\n" not in missing


def test_a_run_on_a_scheduler_without_a_dashboard_goes_on(recipe, tmp_path):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as other,
        open_cluster(ClusterConfig(kind=other.scheduler_address)) as cluster,
    ):
        assert cluster.note == "no Fanfold page: the scheduler has no dashboard (it was started without)"
        directory, said = RunDirectory(tmp_path / "run"), []
        directory.create("seed: 3\n")
        with guarded(RunTeller(cluster.client, "unseen", recipe, {}), "the page", said.append) as told:
            assert train(cluster, recipe, EVALUATION, directory, [told]).state.iteration == 20
        assert not said
        (run,) = other.scheduler.plugins["fanfold"].board.runs.values()
        assert run.iterations_done == 20


def test_the_page_is_put_up_once(pair):
    served = pair.client.cluster.scheduler.http_application.applications
    before = len(served)
    assert offer(pair.client) is None
    assert len(served) == before
    assert read(pair, "/status").count('href="fanfold"') == 1


@pytest.fixture
def going_on(pair, slow_recipe, tmp_path):
    """A cluster with a run that is over, and one that goes on until the test is done."""
    trained(replace(pair, reduction="graph"), slow_recipe, tmp_path, "the first")
    stopped = threading.Event()

    def stop(_):
        if stopped.is_set():
            raise KeyboardInterrupt

    def go_on():
        endless = replace(slow_recipe, meta=replace(slow_recipe.meta, iterations=100_000))
        with pytest.raises(KeyboardInterrupt):
            trained(replace(pair, reduction="collective"), endless, tmp_path, "<b>the second</b>", stop)

    thread = threading.Thread(target=go_on)
    thread.start()
    yield pair
    stopped.set()
    thread.join(60)
    assert not thread.is_alive()


CURVE = "Bokeh.documents[0].get_model_by_name('curve').data"


@needs_browser
def test_in_a_browser_the_page_is_in_the_menu_and_its_curves_grow(going_on, browser, tmp_path):
    wrong = []
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(going_on.dashboard)
    page.get_by_role("link", name="Fanfold").click()
    page.wait_for_function(f"window.Bokeh && Bokeh.documents.length && {CURVE}.iteration.length > 1", timeout=30_000)
    before = page.evaluate(f"{CURVE}.iteration.at(-1)")
    page.wait_for_function(f"{CURVE}.iteration.at(-1) > {before}", timeout=30_000)
    # What a run calls itself is text, whatever it holds.
    assert page.get_by_role("heading", level=1).inner_text().startswith("<b>the second</b>")
    page.get_by_text("✓ right").wait_for()
    workers = page.evaluate("Bokeh.documents[0].get_model_by_name('workers').data.tasks")
    assert len(workers) == 2
    assert all(tasks > 0 for tasks in workers)

    page.get_by_role("combobox").select_option(label="the first · ended")
    page.wait_for_function(f"{CURVE}.iteration.at(-1) == 20")
    page.get_by_role("heading", name="the first").wait_for()

    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture = page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert len(picture) > 20_000
    assert not wrong


def test_messages_stay_small(pair, recipe, tmp_path):
    trained(replace(pair, reduction="collective"), recipe, tmp_path, "in short")
    events = pair.client.get_events(TOPIC)
    (name,) = {event["run"] for _, event in events if event.get("name") == "in short"}
    sizes = {}
    for _, event in events:
        if event["run"] == name:
            sizes[event["kind"]] = max(sizes.get(event["kind"], 0), len(json.dumps(event)))
    assert sizes.pop("drawn") < 30_000  # once a run
    assert set(sizes) >= {"started", "windows", "ranked", "judged", "ended"}
    assert max(sizes.values()) < 1500
