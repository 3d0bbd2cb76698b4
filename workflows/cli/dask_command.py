"""Fanfold's verbs as one of Dask's own command: `dask fanfold VERB …`."""

import click


@click.command("fanfold", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def fanfold(words: tuple[str, ...]) -> None:
    """Meta-learn over a Dask cluster: the same as the command `fanfold`."""
    # Only here: Dask imports this file for each of its commands.
    from fanfold.workflows.cli.main import run_verb
    from fanfold.workflows.cli.program import started_by

    started_by("dask", "fanfold")
    run_verb(words)
