"""hqq is imported before transformers does it: fast, and without the warning of torch's compiler."""

from biaslab.libraries import import_hqq

import_hqq()
