"""``python -m edgerouter`` is the command ``edgerouter``."""

from edgerouter_command import main

if __name__ == "__main__":
    main()
