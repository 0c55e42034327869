"""``python -m benchmarks``, from the root of the repository."""

from benchmarks.run import main

raise SystemExit(main())
