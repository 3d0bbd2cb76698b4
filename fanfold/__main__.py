"""`python -m fanfold VERB …`, where the command `fanfold` is not on the path."""

from fanfold.workflows.cli.main import main

if __name__ == "__main__":
    main()
