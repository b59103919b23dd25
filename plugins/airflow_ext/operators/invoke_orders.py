"""Gives orders to Lambda B."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_ext.triggers.lambda_result import Work


class InvokeOrdersOperator(BaseOperator):
    """Gives one order, or one group of orders, to Lambda B and saves an outcome for each in S3.

    Orders that the trigger of the task before has settled are not given to it again. The task fails unless every order
    was accepted: at once if a retry can help none of the others, else it is retried with those. It returns nothing: the
    summary reads the outcomes.

    Nothing of it is templated: what Airflow keeps of rendered templates is a request more for each order.

    Args:
        function_param: the run's param that names Lambda B.
        work: which orders, as :class:`~airflow_ext.operators.lambda_result.LambdaResultSensor` returns it.
        kwargs: of the base class.
    """

    def __init__(self, *, function_param: str, work: Work, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function_param = function_param
        self.work = work

    @property
    def label(self) -> str:
        """What the UI shows, for ``map_index_template``."""
        from include.auction.models import slice_of

        return slice_of(self.work["start"], self.work["stop"]).label

    def execute(self, context: Context) -> None:
        """Process the orders."""
        from airflow_ext.tasks import energy_auction

        energy_auction.process_orders(context, self.work, context["params"][self.function_param])
