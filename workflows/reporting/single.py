"""The report of one run."""

from collections.abc import Sequence
from typing import Any

from fanfold.data.advice import paced
from fanfold.pipeline.cluster.gpus import in_words
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.result import judged, kind
from fanfold.workflows.cli.trust import OWN, as_flags, leave_of
from fanfold.workflows.reporting.adaptation import draw_adaptation
from fanfold.workflows.reporting.calibration import calibration, draw_calibration
from fanfold.workflows.reporting.confusions import draw_confusions
from fanfold.workflows.reporting.curves import curves
from fanfold.workflows.reporting.drawn_tasks import draw_task
from fanfold.workflows.reporting.embedding import draw_embedding
from fanfold.workflows.reporting.evaluations import evaluations
from fanfold.workflows.reporting.gather import Findings
from fanfold.workflows.reporting.groups import draw_groups
from fanfold.workflows.reporting.heat_map import draw_grid, newest_grid
from fanfold.workflows.reporting.page import Card, Page, Section
from fanfold.workflows.reporting.published import published_beside
from fanfold.workflows.reporting.run import Run
from fanfold.workflows.reporting.style import listed, styled


@styled()
def single(run: Run, findings: Findings | None, notes: Sequence[str] = ()) -> Page:
    """The page of a run, with notes below its title. A run without findings has only curves."""
    words = [*notes, *evaluations(run.directory)]
    if run.result is None:
        last = int(run.history.iteration[-1]) if len(run.history) else 0
        words.append(
            f"This run has not been tested yet: its metrics end after {last:,} iterations. "
            f"`{command('train', '--resume', '--run', str(run.directory.path), *_leave(run))}` goes on with it."
        )
    elif run.result.get("note"):
        words.append(in_flags(str(run.result["note"])))
    sections = [_course(run)]
    if findings is not None:
        sections += [*_tasks(findings), _characters(findings)]
    if (grid := newest_grid(run.directory.evaluations)) is not None:
        sections.append(Section("Ways and shots", [], [draw_grid(grid)]))
    sections += [
        Section("How to reproduce it", words=[_reproduction(run)], code=_commands(run)),
        Section("Configuration", code=run.yaml),
    ]
    return Page(run.title, words, cards_of(run), facts_of(run), sections)


def percent(share: float) -> str:
    """A share of 1 in %."""
    return f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """A duration in words: seconds, minutes and seconds, or hours and minutes; on one line."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min")] if hours else [(minutes, "min"), (rest, "s")]
    return "\u00a0".join(f"{number}\u00a0{unit}" for number, unit in parts if number or unit in ("s", "h"))


def cards_of(run: Run) -> list[Card]:
    result = run.result
    if result is None:
        return []
    cards = [
        Card(
            percent(test["test_accuracy"]),
            f"± {100 * test['test_ci95']:.2f}",
            f"test accuracy, {kind(test)}, {test['test_episodes']:,} tasks, 95 % interval",
        )
        for test in (result, *result["other_tests"])
    ]
    if paper := published_beside(result):
        cards.append(Card(f"{paper.percent} %", "", f"published: {paper.source}"))
    effort = f"of training, {result['iterations']:,} iterations, with validation"
    return [*cards, Card(duration(result["train_seconds"]), "", effort)]


def facts_of(run: Run) -> list[tuple[str, str]]:
    result, config = run.result, run.config
    facts = [
        ("Run", str(run.directory.path)),
        ("Algorithm", str(config.get("algorithm.name"))),
        ("Network", str(config.get("model.name"))),
        ("Data", run.data),
        ("Trained on", f"{run.tasks('train')}, {_queries(config.get('train.queries'))} a class"),
        ("Tested on", f"{run.tasks('task')}, {_queries(config.get('task.queries'))} a class"),
        ("Meta-batch", f"{config.get('meta.batch')} tasks"),
        ("Seed", str(config.get("seed"))),
    ]
    if result is None:
        return facts
    environment = result.get("environment", {})
    names = {"python": "Python", "torch": "PyTorch", "numpy": "NumPy", "dask": "Dask", "zarr": "Zarr"}
    versions = [f"{name} {environment[key]}" for key, name in names.items() if key in environment]
    hardware = [str(environment.get("processor", environment.get("machine", "unknown")))]
    hardware += [f"{environment['cores']} cores"] if "cores" in environment else []
    hardware += [in_words(environment["gpus"])] if environment.get("gpus") else []
    workers = [str(result["workers"]), result["device"], *filter(None, [result.get("reduction")])]
    return [
        *facts,
        ("Best on validation", f"{percent(result['validation_accuracy'])}, iteration {result['tested_iteration']:,}"),
        ("Pace", f"{paced(result['tasks_per_second'])} tasks a second"),
        ("Hardware", ", ".join(hardware)),
        ("Workers", ", ".join(workers)),
        ("Versions", ", ".join(versions)),
        ("Date", str(environment.get("date", ""))),
        ("SHA-256, tested", str(result["tested_sha256"])),
        ("SHA-256, last", str(result["parameters_sha256"])),
    ]


def _queries(count: Any) -> str:
    return "1 query" if count == 1 else f"{count} queries"


def _course(run: Run) -> Section:
    drawn = curves(run)
    if not drawn:
        return Section("Training", ["The run has no metrics yet."])
    words = [] if len(run.history.validation) else ["The run has no record of its validations."]
    return Section("Training", words, drawn)


def _tasks(findings: Findings) -> list[Section]:
    """Drawn tasks; adaptation, confidence and embedding."""
    predictions = findings.predictions
    drawn = [
        draw_task(task, f"{name}-task-{rank}", name.capitalize())
        for name, tasks in (("worst", findings.worst), ("best", findings.best))
        for rank, task in enumerate(tasks, 1)
    ]
    words = (
        f"Of the first {len(predictions):,} test tasks, those with the most and the fewest right predictions. Below "
        "each query stand the predicted class and its probability; ✗ and a thick frame mark a mistake."
    )
    measured = {"confidence": draw_calibration(calibration(predictions))}
    if findings.steps is not None:
        measured = {"adaptation": draw_adaptation(findings.adaptation, findings.steps), **measured}
    if findings.embedding is not None:
        normalizes = findings.normalization is not None
        measured["embedding"] = draw_embedding(findings.embedding, findings.names, normalizes)
    title, how = listed(list(measured)).capitalize(), f"{judged(findings.normalization).capitalize()}."
    return [Section("Test tasks", [words], drawn), Section(title, [how], list(measured.values()))]


def _characters(findings: Findings) -> Section:
    """Accuracy by alphabet or group, and confused classes."""
    queries = findings.predictions.labels.size
    pictures = [
        *draw_groups(findings.groups, "alphabet" if findings.handwriting else "group"),
        *draw_confusions(findings.confusions, findings.examples, findings.names),
    ]
    mistakes = int((~findings.predictions.right).sum())
    words = f"{mistakes:,} of {queries:,} predictions are wrong, {percent(1 - mistakes / queries)} are right."
    return Section("Alphabets and characters" if findings.handwriting else "Groups and classes", [words], pictures)


def _reproduction(run: Run) -> str:
    if run.result is None or run.config.get("meta.minutes") is None:
        return "The same configuration and seed give the same parameters, bit for bit, on any number of workers."
    if run.result["iterations"] == run.config.get("meta.iterations") or run.config.get("meta.schedule") == "constant":
        return "With a bound on iterations alone, the same parameters come out, bit for bit, on any number of workers."
    return "The run's time ended it in the middle of its schedule: another run may end at another iteration."


def _leave(run: Run) -> list[str]:
    """Flags without which a command would refuse the run's own models and algorithms, or its scheduler."""
    names = (run.config.get(f"{section}.name") for section in OWN)
    return as_flags(leave_of(names, str(run.config.get("cluster.kind"))))


def _commands(run: Run) -> str:
    path = run.directory.path
    again = ["--config", str(run.directory.config), "--run", f"{path}-again"]
    result, config = run.result, run.config
    if result is not None and config.get("meta.minutes") is not None:
        if result["iterations"] == config.get("meta.iterations"):
            again += ["--meta.minutes", "null"]
        elif config.get("meta.schedule") == "constant":
            again += ["--meta.minutes", "null", "--meta.iterations", str(result["iterations"])]
    evaluate = ["--run", str(path), "--evaluation.tasks", "10000", *_leave(run)]
    commands = [("train", again), *([("evaluate", evaluate)] if result is not None else [])]
    return "\n".join(command(name, *words) for name, words in commands)
