"""Lambda A, `auction-results`: has the auction results?"""

from __future__ import annotations

from random import Random
from typing import Any

from aws_lambda_powertools import Logger

from lambdas.auction.results import results
from lambdas.common import environment

_MAX_ORDERS = 10_000
"""So many orders are some 400 KB; a function's answer may have 6 MB."""

logger = Logger()

# Made once a warm start, so that a seed gives a sequence of answers and not the same one to every call.
random = Random(environment.text("SEED", default="") or None)  # noqa: S311 - makes up orders, guards nothing
# The template's defaults: who sets one variable by the console or the CLI may take the others away.
probability = environment.number("RESULTS_PROBABILITY", least=0, most=1, default="0.3")
max_orders = environment.whole_number("MAX_ORDERS", least=1, most=_MAX_ORDERS, default="10")


# Never the event, whatever POWERTOOLS_LOGGER_LOG_EVENT says.
@logger.inject_lambda_context(log_event=False)
def handler(event: object, context: object) -> dict[str, Any]:
    """Answer one poll; the input is not looked at."""
    answer = results(random, probability, max_orders)
    logger.info("answered", results=answer["results"], orders=len(answer.get("orders", ())))
    return answer
