"""Search: the nearest of many rows to a query, exactly; the nearest of many short codes."""

from striate.measure.retrieval.hamming import Codes as Codes
from striate.measure.retrieval.judging import judged as judged
from striate.measure.retrieval.judging import share_found as share_found
from striate.measure.retrieval.metrics import METRICS as METRICS
from striate.measure.retrieval.metrics import Metric as Metric
from striate.measure.retrieval.metrics import metric_named as metric_named
from striate.measure.retrieval.nearest import Nearest as Nearest
from striate.measure.retrieval.nearest import Rows as Rows
from striate.measure.retrieval.nearest import nearest as nearest
from striate.measure.retrieval.nearest import row_norms as row_norms
from striate.measure.retrieval.sign_codes import SignCoder as SignCoder
from striate.measure.retrieval.sign_codes import learn_sign_codes as learn_sign_codes
