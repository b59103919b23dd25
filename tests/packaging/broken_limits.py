"""Projects whose limits contradict each other, and which check is to tell of it."""

from __future__ import annotations

from infra.release.project import SAM
from tests.packaging.breaking import Case, constant, dag, resource, seen, setting, task, text

_TIMES = "include.auction.deadlines"

CASES = (
    Case(
        "more calls than the partner takes",
        "concurrency/call-details",
        ("max_concurrent_calls", "60", "50"),
        setting("max_concurrent_calls", 60),
    ),
    Case(
        "more tasks than share the calls",
        "concurrency/call-details",
        ("at_once of post_chunk", "TASKS_AT_ONCE in include/call_details/poster.py"),
        task("call_details_ingest", "post_chunk", "at_once", 8),
    ),
    Case(
        "more calls than the DEX API reckons with",
        "concurrency/dex",
        ("archive_concurrency", "16 tasks times 17 calls", "272"),
        setting("archive_concurrency", 17),
    ),
    Case(
        "more invocations than the account has",
        "concurrency/functions",
        ("auction_concurrency", "16 tasks times 60"),
        setting("auction_concurrency", 60),
    ),
    Case(
        "more threads than connections",
        "concurrency/connections",
        ("delivery_concurrency", "quick_client()"),
        setting("delivery_concurrency", 200),
    ),
    Case(
        "deliveries that take every slot",
        "concurrency/slots",
        ("delivery_tasks", "8 runs of event_delivery times 5", "EnvironmentClass and MaxWorkers"),
        setting("delivery_tasks", 5),
    ),
    Case(
        "fewer slots than a run takes",
        "concurrency/slots",
        ("max_active_tasks in dags/energy_auction.py", "EnvironmentClass and MaxWorkers of infra/mwaa.yaml"),
        text(SAM, "MaxWorkers=[0-9]+", "MaxWorkers=3"),
    ),
    Case(
        "a limit that is never reached",
        "concurrency/slots",
        ("at_once of post_chunk", "max_active_tasks in dags/call_details_ingest.py"),
        dag("call_details_ingest", "max_active_tasks", 3),
    ),
    Case(
        "a function that outlasts its caller",
        "timeouts/functions",
        ("Timeout of AuctionOrderFunction in infra/stacks/auction.yaml", "90", "lambda_client()"),
        resource("auction", "AuctionOrderFunction", "Timeout", 90),
    ),
    Case(
        "a call that is repeated by itself",
        "timeouts/functions",
        ("total_max_attempts",),
        seen("clients", "lambda", "attempts", value=5),
    ),
    Case(
        "a call that outlasts its task",
        "timeouts/functions",
        ("execution_timeout of process_order",),
        seen("clients", "lambda", "read", value=280),
    ),
    Case(
        "a function that outlasts the REST API",
        "timeouts/apis",
        ("Timeout of OrdersApiFunction", "29 s"),
        resource("orders_api", "OrdersApiFunction", "Timeout", 29),
    ),
    Case(
        "an authorizer that is not waited for",
        "timeouts/apis",
        ("Timeout of EventsApiAuthorizerFunction",),
        resource("events_api", "EventsApiAuthorizerFunction", "Timeout", 11),
    ),
    Case(
        "a task that outlasts its run",
        "timeouts/tasks",
        ("execution_timeout of reconcile in dags/call_details_ingest.py", "dagrun_timeout"),
        task("call_details_ingest", "reconcile", "execution_timeout", 90_000),
    ),
    Case(
        "a sensor that outlasts its run",
        "timeouts/tasks",
        ("timeout of wait_for_file",),
        task("call_details_watch", "wait_for_file", "timeout", 20_000),
    ),
    Case(
        "a run that meets the next",
        "timeouts/schedules",
        ("dagrun_timeout in dags/energy_auction.py", "schedule of dags/energy_auction.py"),
        dag("energy_auction", "interval", 240),
    ),
    Case(
        "runs that pile up",
        "timeouts/schedules",
        ("event_delivery", "max_active_runs"),
        dag("event_delivery", "max_active_runs", 4),
    ),
    Case(
        "results that leave no time for orders",
        "timeouts/auction",
        ("auction_results_timeout", "MAX_RESULTS"),
        setting("auction_results_timeout", 241),
    ),
    Case(
        "a sensor that ends before its orders are kept",
        "timeouts/auction",
        ("timeout of wait_for_results",),
        task("energy_auction", "wait_for_results", "timeout", 245),
    ),
    Case(
        "an answer that outlasts the task",
        "timeouts/auction",
        ("LAST_ANSWER in include/auction/deadlines.py", "execution_timeout of process_order"),
        constant(f"{_TIMES}.LAST_ANSWER", 285),
    ),
    Case(
        "a group that outlasts its task",
        "timeouts/archive",
        ("clients_per_task", "2000 clients, 16 at once"),
        setting("clients_per_task", 2000),
    ),
    Case(
        "a permit that ends during a call",
        "leases/permits",
        ("LEASE_SECONDS in include/call_details/rate_limit.py",),
        constant("include.call_details.rate_limit.LEASE_SECONDS", 70),
    ),
    Case(
        "a call that outlasts its permit",
        "leases/permits",
        ("POST_SECONDS in include/clients/call_details.py", "CALL_SECONDS"),
        constant("include.clients.call_details.POST_SECONDS", 90),
    ),
    Case(
        "a task killed while it waits for a permit",
        "leases/permits",
        ("WAIT_SECONDS",),
        constant("include.call_details.rate_limit.WAIT_SECONDS", 20_000),
    ),
    Case(
        "a retry that loses its claim",
        "leases/claims",
        ("MAX_BACKOFF_SECONDS in plugins/airflow_ext/defaults.py", "LEASE_SECONDS in include/call_details/ledger.py"),
        constant("airflow_ext.defaults.MAX_BACKOFF_SECONDS", 900),
    ),
    Case(
        "a pause that loses its claim",
        "leases/claims",
        ("MAX_PAUSE_SECONDS",),
        constant("airflow_ext.defaults.MAX_RETRY_AFTER_SECONDS", 7200),
    ),
    Case(
        "a lost worker that costs an auction",
        "leases/lost",
        ("scheduler.task_instance_heartbeat_timeout", "dagrun_timeout in dags/energy_auction.py", "310"),
        seen("options", "scheduler.task_instance_heartbeat_timeout", value=300),
    ),
    Case(
        "a lost scheduler that costs an auction",
        "leases/lost",
        ("scheduler.orphaned_tasks_check_interval", "dagrun_timeout in dags/energy_auction.py"),
        seen("options", "scheduler.orphaned_tasks_check_interval", value=300),
    ),
    Case(
        "a lease that outlasts the runs that wait for it",
        "leases/lost",
        ("LEASE_SECONDS in include/call_details/ledger.py", "dagrun_timeout in dags/call_details_replay.py"),
        constant("include.call_details.ledger.LEASE_SECONDS", 15_000),
    ),
    Case(
        "a post that outlasts its lease",
        "leases/delivery",
        ("POST_SECONDS in include/clients/webhooks.py",),
        constant("include.delivery.owner_queue.LEASE_SECONDS", 15),
    ),
    Case(
        "a delivery that is killed",
        "leases/delivery",
        ("DELIVER_SECONDS", "execution_timeout of deliver"),
        constant("include.delivery.dispatcher.DELIVER_SECONDS", 200),
    ),
    Case(
        "a dead letter given to two replays",
        "queues/visibility",
        ("VISIBILITY_SECONDS in include/call_details/dead_letters.py",),
        constant("include.call_details.dead_letters.VISIBILITY_SECONDS", 60),
    ),
    Case(
        "a wake-up given out while it is deleted",
        "queues/visibility",
        ("VisibilityTimeout of EventQueue",),
        text(
            "infra/stacks/event_delivery.yaml",
            r"(^      QueueName: !Sub event-delivery-\$\{Environment\})",
            r"\1\n      VisibilityTimeout: 5",
        ),
    ),
    Case(
        "a poll that outlasts its client",
        "queues/poll",
        ("_POLL_SECONDS in plugins/airflow_ext/triggers/sqs_wakeup.py",),
        constant("airflow_ext.triggers.sqs_wakeup._POLL_SECONDS", 20),
    ),
    Case(
        "dead letters that vanish first",
        "queues/retention",
        ("MessageRetentionPeriod of EventDeadLetters",),
        resource("event_delivery", "EventDeadLetters", "MessageRetentionPeriod", 3600),
    ),
    Case(
        "a wake-up that nobody can see",
        "queues/retention",
        ("MessageRetentionPeriod of EventQueue",),
        resource("event_delivery", "EventQueue", "MessageRetentionPeriod", 60),
    ),
    Case(
        "a task without a limit",
        "preflight/facts",
        ("execution_timeout of plan in dags/call_details_ingest.py",),
        task("call_details_ingest", "plan", "execution_timeout", None),
    ),
    Case(
        "a constant that was renamed",
        "preflight/facts",
        ("include/auction/deadlines.py: GRACE", "infra/release/checks"),
        lambda project: seen(
            "constants", value={n: v for n, v in project.airflow.constants.items() if n != f"{_TIMES}.GRACE"}
        )(project),
    ),
)
