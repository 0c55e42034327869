"""``python -m benchmarks.faults``, from the root of the repository."""

from benchmarks.faults.run import main

raise SystemExit(main())
