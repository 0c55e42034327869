"""``python -m benchmarks.cache``, from the root of the repository."""

from benchmarks.cache.run import main

raise SystemExit(main())
