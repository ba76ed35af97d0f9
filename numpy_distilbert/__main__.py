"""python -m numpy_distilbert: the command line."""

import sys

from .cli import main

sys.exit(main())
