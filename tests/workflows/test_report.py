"""Reports of true runs: what they say, and how a browser shows them."""

import html
import json
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import load_checkpoint
from fanfold.pipeline.configuration import SECTIONS
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.results import summarize
from fanfold.tasks.episodes import Stream
from fanfold.workflows import report, train
from fanfold.workflows.cli.configuration import build_parser, decided, parse
from fanfold.workflows.cli.result import judged
from fanfold.workflows.reporting.comparison import comparison
from fanfold.workflows.reporting.gather import gather
from fanfold.workflows.reporting.page import render
from fanfold.workflows.reporting.run import read_run
from fanfold.workflows.reporting.single import single
from tests.browser import browser as browser
from tests.browser import needs_browser
from tests.workflows.conftest import SMALL

TASKS = 40  # as many as SMALL tests on
METRIC = [word for word in SMALL if word not in ("--algorithm.inner_lr", "0.1")]
RUNS = {
    "maml": [*SMALL, "--meta.iterations", "24"],
    "protonet": [*METRIC, "--algorithm.name", "protonet", "--meta.iterations", "16", "--task.queries", "2"],
}
CURVES = ["loss-iterations", "loss-time", "accuracy-iterations", "accuracy-time"]
DRAWN = ["worst-task-1", "worst-task-2", "best-task-1", "best-task-2"]


@pytest.fixture(scope="module")
def runs(cluster, pictures, tmp_path_factory):
    """A folder with two runs, trained, tested and reported on."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("fanfold.workflows.cli.cluster.open_cluster", lambda *_: nullcontext(cluster))
        for name, arguments in RUNS.items():
            own = ["--dataset.source", str(pictures), "--dataset.split", "random", "--evaluation.other_tasks", "20"]
            train.main([*arguments, *own, "--run", name])
    return folder


@pytest.fixture(scope="module")
def pages(runs):
    """The pages of each run, and that of both side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(runs)
        report.main(["--run", *RUNS])
    return [runs / name / "report.html" for name in (*RUNS, "comparison")]


@pytest.fixture
def own(runs, tmp_path, monkeypatch):
    """A copy of the runs, to be spoilt; and no cluster may be opened."""
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    monkeypatch.setattr("fanfold.workflows.cli.cluster.open_cluster", lambda *_: pytest.fail("a cluster was opened"))
    return tmp_path / "runs"


@pytest.fixture
def findings(runs, cluster, monkeypatch):
    """What there is to say of a run's parameters, its result and its recipe."""

    def of(name):
        monkeypatch.chdir(runs)
        argv = ["--config", f"{name}/config.yaml"]
        parser = build_parser("workflows.report", "", argv, SECTIONS)
        parser.add_argument("--seed", type=int)
        recipe = decided(parse(parser, argv)).recipe
        best = load_checkpoint(runs / name / "checkpoints" / "last.safetensors").best
        return gather(cluster, recipe, best, TASKS), result_of(runs / name), recipe, best

    return of


def result_of(run):
    return json.loads((run / "result.json").read_text())


def words_of(path):
    """The page's words, without style sheet and drawings."""
    page = re.sub(r"<(style|svg)\b.*?</\1>", "", path.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def pictures_of(path):
    return re.findall(r'<figure id="([^"]+)">', path.read_text())


def test_a_report_says_what_was_trained_how_well_and_how_to_repeat_it(runs):
    for name in RUNS:
        result, said = result_of(runs / name), words_of(runs / name / "report.html")
        assert f"{name}, 3-way 1-shot, pictures random" in said
        for test in (result, *result["other_tests"]):
            kind = "transductive" if test["transductive"] else "inductive"
            number = f"{100 * test['test_accuracy']:.2f} % ± {100 * test['test_ci95']:.2f}"
            assert f"{number} test accuracy, {kind}, {test['test_episodes']} tasks, 95 % interval" in said
        for fact in ("tested_sha256", "parameters_sha256", "seed", "device"):
            assert str(result[fact]) in said
        assert f"PyTorch {result['environment']['torch']}" in said
        assert f"fanfold train --config {name}/config.yaml --run {name}-again" in said
        assert f"of the first {TASKS} test tasks" in said.lower()


def test_each_kind_of_learner_has_its_pictures_as_files_too(runs):
    both = [*CURVES, *DRAWN, "calibration", "groups", "confusions"]
    for name, special in (("maml", "adaptation"), ("protonet", "embedding")):
        found = pictures_of(runs / name / "report.html")
        assert sorted(found) == sorted([*both, special])
        for picture in found:
            with Image.open(runs / name / "pictures" / f"{picture}.png") as image:
                assert np.asarray(image.convert("L")).std() > 5


def test_a_report_says_how_queries_were_judged_in_the_words_of_the_run(runs):
    words = {
        "maml": "transductive: the network normalizes a task's queries together",
        "protonet": "inductive: the network normalizes by statistics of training images",
    }
    for name, how in words.items():
        assert judged(result_of(runs / name)["normalization"]) == how
        assert f"{how.capitalize()}." in words_of(runs / name / "report.html")


@pytest.mark.parametrize("name", RUNS)
def test_the_reports_numbers_are_those_of_the_test(findings, name):
    found, result, recipe, _ = findings(name)
    assert found.predictions.accuracies.mean() == pytest.approx(result["test_accuracy"])
    asked = sum(one.asked for one in found.groups)
    assert asked == TASKS * 3 * recipe.task.queries
    assert sum(one.right for one in found.groups) / asked == pytest.approx(result["test_accuracy"])
    assert sum(one.mistakes for one in found.confusions) <= (~found.predictions.right).sum()
    for task in (*found.best, *found.worst):
        assert (task.predictions.labels == found.predictions.labels[task.number]).all()
        _, images = worker.tasks_of(recipe, Stream.TEST, task.number, task.number + 1)
        assert (task.support.reshape(3, 16, 16) == images.support[0, :, 0].numpy()).all()
    worst = found.worst[0].predictions.accuracies[0]
    assert worst == found.predictions.accuracies.min()
    assert found.best[0].predictions.accuracies[0] == found.predictions.accuracies.max()


def test_the_adaptation_curve_passes_through_the_test(findings):
    found, result, recipe, best = findings("maml")
    points = dict(found.adaptation)
    assert found.steps == 1
    expected = pytest.approx((result["test_accuracy"], result["test_ci95"], TASKS))
    assert (points[1].mean, points[1].ci95, points[1].tasks) == expected
    alone = worker.test(replace(recipe, steps=3), "batch", Stream.TEST, best, None, 0, TASKS)
    assert points[3] == summarize(alone.accuracies)
    assert findings("protonet")[0].adaptation == []


def test_characters_are_embedded_by_the_networks_own_parameters(findings):
    found, *_ = findings("protonet")
    assert found.embedding.points.shape == (10, 6, 2)  # three tenths of 32 classes, six pictures each
    assert 0 < found.embedding.share <= 1
    spread = found.embedding.points.std(axis=1).mean()
    assert spread < found.embedding.points.mean(axis=1).std(axis=0).mean()  # classes lie apart, though little trained
    assert findings("maml")[0].embedding is None


def test_several_runs_are_set_side_by_side_by_what_differs(own, capsys):
    report.main(["--run", "maml", "protonet", "--out", "both"])
    assert capsys.readouterr().out == "report: both/report.html\n"
    said = words_of(own / "both" / "report.html")
    for name in RUNS:
        result = result_of(own / name)
        assert f"{100 * result['test_accuracy']:.2f} % ± {100 * result['test_ci95']:.2f}" in said
    configurations = said.partition("Only what differs.")[2]
    assert "algorithm.name maml protonet" in configurations
    assert "task.queries 1 2" in configurations
    assert "meta.batch" not in configurations
    assert pictures_of(own / "both" / "report.html") == [
        *("loss-iterations", "loss-time", "accuracy-iterations", "accuracy-time"),
        *("validation-iterations", "validation-time"),
    ]


def test_runs_of_one_name_are_told_apart_by_their_paths(own):
    shutil.copytree(own / "maml", own / "elsewhere" / "maml")
    report.main(["--run", "maml", "elsewhere/maml"])
    said = words_of(own / "comparison" / "report.html")
    assert "elsewhere/maml" in said
    assert "The configurations are the same." in said


def test_a_run_that_did_not_come_to_its_test_is_reported_on_as_far_as_it_came(own):
    (own / "maml" / "result.json").unlink()
    report.main(["--run", "maml"])
    page = own / "maml" / "report.html"
    assert pictures_of(page) == CURVES
    assert "has not been tested yet: its metrics end after 24 iterations" in words_of(page)
    before = page.read_bytes()
    report.main(["--run", "maml"])
    assert page.read_bytes() == before  # the same run, the same report

    RunDirectory(own / "maml").metrics.unlink()
    report.main(["--run", "maml"])
    assert pictures_of(page) == []
    assert "The run has no metrics yet." in words_of(page)
    report.main(["--run", "maml", "protonet"])
    assert "not tested yet" in words_of(own / "comparison" / "report.html")


def test_a_run_of_before_validations_were_written_down_has_its_report(own):
    (own / "maml" / "validations.jsonl").unlink()
    report.main(["--run", "maml", "--tasks", "0"])
    said = words_of(own / "maml" / "report.html")
    assert "The run has no record of its validations." in said
    assert pictures_of(own / "maml" / "report.html") == CURVES


def test_a_run_that_went_on_since_its_test_says_so(own, cluster, monkeypatch):
    monkeypatch.setattr("fanfold.workflows.cli.cluster.open_cluster", lambda *_: nullcontext(cluster))
    result = result_of(own / "protonet") | {"tested_sha256": "0" * 64, "tested_iteration": 8}
    (own / "protonet" / "result.json").write_text(json.dumps(result))
    report.main(["--run", "protonet", "--tasks", "10"])
    said = words_of(own / "protonet" / "report.html")
    assert "The run went on after its test" in said
    assert "after 16 iterations, the accuracies above of those after 8." in said


def test_names_can_not_break_the_page(own):
    wicked = 'a<script>alert("$1$\\x$")</script>&b'
    shutil.copytree(own / "maml", own / wicked.replace("/", ":"))
    page = render(comparison([read_run(own / wicked.replace("/", ":")), read_run(own / "protonet")]))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    config = yaml.safe_load((own / "maml" / "config.yaml").read_text())
    config["algorithm"]["name"] = "<img src=x>"
    (own / "maml" / "config.yaml").write_text(yaml.safe_dump(config))
    page = render(single(read_run(own / "maml"), None))
    assert "<img" not in page


def test_suggested_commands_give_leave_for_the_runs_own_modules(own):
    config = yaml.safe_load((own / "maml" / "config.yaml").read_text())
    config["model"]["name"] = "nets.small:Net"
    (own / "maml" / "config.yaml").write_text(yaml.safe_dump(config))
    assert "--evaluation.tasks 10000 --trust nets" in render(single(read_run(own / "maml"), None))
    (own / "maml" / "result.json").unlink()
    assert f"--resume --run {own / 'maml'} --trust nets" in render(single(read_run(own / "maml"), None))


def test_a_report_that_fails_costs_a_line_and_none_where_it_is_not_wanted(own, cluster, monkeypatch, capsys):
    monkeypatch.setattr("fanfold.workflows.cli.cluster.open_cluster", lambda *_: nullcontext(cluster))
    before = result_of(own / "maml")
    (own / "maml" / "pictures" / "loss-time.png").unlink()
    (own / "maml" / "pictures" / "loss-time.png").mkdir()  # where a picture should go
    train.main(["--resume", "--run", "maml"])
    said = capsys.readouterr().out
    (line,) = re.findall(r"^(?:no )?report: .*", said, re.MULTILINE)
    assert line.startswith("no report: maml/pictures/loss-time.png")
    assert line.endswith("(`fanfold report --run maml` tries again)")
    assert "run directory: maml" in said
    train.main(["--resume", "--run", "maml", "--report", "false"])
    assert "report" not in capsys.readouterr().out
    assert result_of(own / "maml")["tested_sha256"] == before["tested_sha256"]


@pytest.mark.parametrize(
    ("name", "chunks"),
    [
        ("maml", TASKS // 2 + 10 + 5 * TASKS // 2),  # the test's two ways, and five other numbers of inner steps
        ("protonet", 1 + 10),  # the test's two ways; the first takes larger chunks
    ],
)
def test_the_end_of_a_run_has_no_test_task_answered_twice(own, cluster, monkeypatch, name, chunks):
    monkeypatch.setattr("fanfold.workflows.cli.cluster.open_cluster", lambda *_: nullcontext(cluster))
    before = computed(cluster)
    train.main(["--resume", "--run", name])
    assert computed(cluster) - before == chunks
    assert f"of the first {TASKS} test tasks" in words_of(own / name / "report.html").lower()


def computed(cluster):
    """How many chunks of test tasks were computed on a cluster."""

    def count(dask_scheduler):
        return dask_scheduler.task_prefixes["meta-testing"].state_counts["memory"]

    return cluster.client.run_on_scheduler(count)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--run is needed"),
        (["--run", "nowhere"], "nowhere holds no run: train one with"),
        (["--run", "maml", "nowhere"], "nowhere holds no run"),
        (["--run", "."], r"holds runs, and is none: name one, such as \w+\."),
        (["--run", "fanfold:omniglot"], "fanfold:omniglot is for `classify` and `export` alone"),
        (["--run", "damaged"], r"result damaged/result\.json is not valid JSON"),
        (["--run", "older"], r"result older/result\.json is damaged, or of another version"),
        (["--run", "maml", "--tasks", "1"], "`tasks` must be 0 or at least 2, not 1"),
        (
            ["--run", "maml", "--evaluation.steps", "3"],
            r"must agree with its run: `evaluation\.steps` \(was None, now 3\)",
        ),
        (["--run", "maml", "--tasks", "0", "--out", "maml/config.yaml"], "can't be made"),
    ],
)
def test_what_can_not_be_reported_on_is_said_in_one_line(own, argv, message):
    for name, result in (("damaged", '{"test'), ("older", '{"accuracy": 1}')):
        shutil.copytree(own / "maml", own / name)
        (own / name / "result.json").write_text(result)
    with pytest.raises(FanfoldError, match=message) as caught:
        report.main(argv)
    assert len(str(caught.value).splitlines()) == 1


@needs_browser
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_all_of_it_without_the_net(pages, browser, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    for path in pages:
        page, complaints, asked = opened(context, path)
        assert complaints == []
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sections = page.locator("section").all()
        assert len(sections) >= 3
        for section in sections:
            assert section.is_visible()
        for picture in page.locator("figure svg").all():
            box = picture.bounding_box()
            assert 250 < box["width"] <= width
            assert box["height"] > 80
            assert len(picture.get_attribute("aria-label")) > 20
        paper, ink, letters = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            " getComputedStyle(document.querySelector('svg text')).fill]"
        )
        assert ink == letters
        assert (brightness(paper) > brightness(ink)) == (scheme == "light")
        assert abs(brightness(paper) - brightness(ink)) > 180
        page.close()
    context.close()


def opened(context, path):
    """A page, what it complained of, and what it asked for."""
    page, complaints, asked = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    return page, complaints, asked


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_nothing_in_the_page_is_loaded_from_elsewhere(pages):
    for path in pages:
        page = path.read_text()
        assert not re.search(r"<(script|link(?! rel=\"icon\" href=\"data:,\")|iframe|object)\b", page)
        loaded = re.findall(r'(?:src|href)="(?!#)([^"]+)"', page)
        assert all((path.parent / target).exists() or target.startswith("data:") for target in loaded)
        assert "url(http" not in page
        assert "@import" not in page
