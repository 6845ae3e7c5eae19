"""`python -m seamless`."""

import sys

from seamless.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
