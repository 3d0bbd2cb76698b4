"""The parameters of a trial: values of configuration fields by their dotted keys."""

Value = bool | int | float | str | None
Params = dict[str, Value]
