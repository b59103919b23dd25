"""Lambda B, `auction-order`: process one order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from lambdas.auction.order import OrderError, OrderStore, accepted_order, s3_client
from lambdas.common import environment

logger = Logger()

# Made while the function starts: there is more CPU then, and a warm call keeps the connection.
store = OrderStore(s3_client(), environment.text("ORDER_RESULTS_BUCKET"))


# Never the event, whatever POWERTOOLS_LOGGER_LOG_EVENT says.
@logger.inject_lambda_context(log_event=False)
def handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Store one order; returns its ``order_id`` and ``key``, raises OrderRejectedError or InvalidOrderError."""
    try:
        order = accepted_order(event, request_id=context.aws_request_id, today=datetime.now(UTC).date())
    except OrderError as error:
        # The runtime logs the message; this line makes it countable by its kind.
        logger.info("order refused", error=type(error).__name__)
        raise
    logger.info("order stored", order_id=order.id, anew=store.save(order))
    return {"order_id": order.id, "key": order.key}
