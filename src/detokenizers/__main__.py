"""`python -m detokenizers` is `detok`, and `accelerate launch -m detokenizers train ...` works too."""

import sys

from .cli import main

sys.exit(main())
