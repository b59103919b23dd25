"""Waits for the results of the auction, and gives orders to Lambda B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseSensorOperator, Context

from airflow_ext.notifications.failure_callback import record_failure

if TYPE_CHECKING:
    from airflow_ext.triggers.lambda_result import Work


_ID_DIGITS = 12
"""Of an order's 64; enough to find it."""


class LambdaResultSensor(BaseSensorOperator):
    """Polls Lambda A until it has results; a worker is held for the first poll only.

    The wait ends at the setting ``auction_results_timeout``, counted from the start of the run: without results the
    task is skipped and says so. What Lambda A gave is saved in S3, once: a retry and a cleared task find it there and
    do not poll again, as does the trigger (:class:`~airflow_ext.triggers.lambda_result.LambdaResultTrigger`).

    Args:
        function_name: Lambda A, name or ARN; templated.
        order_function: Lambda B, name or ARN; templated.
        timeout: after which a trigger that has fired no event fails the task, for good; beyond the setting.
    """

    template_fields: Sequence[str] = ("function_name", "order_function")

    def __init__(self, *, function_name: str, order_function: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function_name = function_name
        self.order_function = order_function

    def execute(self, context: Context) -> list[Work]:
        """Poll once; returns the work of the mapped tasks: references to the orders, which stay in S3."""
        from airflow_ext.triggers import lambda_result

        with record_failure(context["ti"]):
            found = lambda_result.begin(context, self.function_name, self.order_function)
        if isinstance(found, lambda_result.Wait):
            trigger = lambda_result.LambdaResultTrigger(asdict(found))
            self.defer(trigger=trigger, method_name=self.resume.__name__, timeout=self.timeout)
        return found

    def resume(self, context: Context, event: dict[str, Any]) -> list[Work]:
        """Go on with what the trigger found, as :meth:`execute`."""
        from airflow_ext.triggers import lambda_result

        return lambda_result.end(context, event)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, or fail because the trigger fired no event in time."""
        with record_failure(context["ti"]):
            return super().resume_execution(next_method, next_kwargs, context)


class InvokeOrdersOperator(BaseOperator):
    """Gives one order, or one group of orders, to Lambda B and saves an outcome for each in S3.

    Orders that the trigger of the task before has settled are not given to it again. The task fails unless every order
    was accepted. Nothing of it is templated: what Airflow keeps of rendered templates is a request more for each order.
    """

    def __init__(self, *, work: Work, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.work = work

    def order_name(self, run_id: str) -> str:
        """What the UI shows, for ``map_index_template``: of a single order its id too, as in its file's name."""
        from include.auction.keys import order_id
        from include.auction.models import slice_of

        piece = slice_of(self.work["start"], self.work["stop"])
        return f"{piece.label} ({order_id(run_id, piece.start)[:_ID_DIGITS]})" if piece.size == 1 else piece.label

    def execute(self, context: Context) -> None:
        """Process the orders."""
        from airflow_ext.tasks import energy_auction

        energy_auction.process_orders(context, self.work, context["params"]["function_b"])
