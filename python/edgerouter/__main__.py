"""``python -m edgerouter`` is the command ``edgerouter``."""

from edgerouter.cli import main

if __name__ == "__main__":
    main()
