"""After all other tests: no secret and no payload in any log, in Airflow's database, in alerts or working files."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
from sqlalchemy import create_engine, inspect, text

from local.demo.part import run_tool
from local.partners.dex import TOKEN_PREFIX
from local.processes.layout import parse_shell_exports
from local.stack.description import Stack
from tests.e2e.conftest import NewDay, UseClients
from tests.worlds.live.archive import Archive
from tests.worlds.live.auction import PAYLOAD, orders, ready
from tests.worlds.live.call_details import BATCHES, Ingest, lines
from tests.worlds.live.delivery import Delivery
from tests.worlds.live.functions import Functions
from tests.worlds.live.inbox import Inbox
from tests.worlds.live.partners import TOKEN, Partners
from tests.worlds.live.pipeline import Pipeline
from tests.worlds.live.secrets import DEX_API, PLANTED, SLACK, Secrets

Text = tuple[str, str]
"""Where it was found, and what it says."""


def logs(stack: Stack) -> Iterator[Text]:
    state = Path(stack.logs).parent
    for path in [*state.glob("airflow/logs/**/*.log"), *state.glob("logs/*.log")]:
        yield str(path.relative_to(state)), path.read_text(errors="replace")


def database_rows(stack: Stack) -> Iterator[Text]:
    """Every row of every table: XComs, rendered fields, run configurations, asset events, audit log."""
    exports = parse_shell_exports(Path(stack.env_file))
    engine = create_engine(exports["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    try:
        with engine.connect() as connection:
            for table in inspect(connection).get_table_names():
                for (row,) in connection.execute(text(f'SELECT "{table}"::text FROM "{table}"')):
                    yield f"table {table}", str(row)
    finally:
        engine.dispose()


def documents(archive: Archive, ingest: Ingest) -> Iterator[Text]:
    """What the pipelines note, beside the data that they are there to keep."""
    for bucket, prefixes in ((archive, ("runs/", "manifests/")), (ingest, ("plans/", "receipts/"))):
        for version in (version for prefix in prefixes for version in bucket.listing(prefix)):
            found = bucket.get(version.key, version.id)
            yield version.key, found["Body"].decode() + json.dumps(found["Metadata"])


def ledger(stack: Stack) -> Iterator[Text]:
    pages = stack.aws("dynamodb").get_paginator("scan").paginate(TableName=stack.ingest_ledger_table)
    yield from ((f"ledger {item['pk']['S']}", json.dumps(item)) for page in pages for item in page["Items"])


def function_logs(stack: Stack) -> Iterator[Text]:
    """What the Lambdas and the API have logged."""
    client = stack.aws("logs")
    for page in client.get_paginator("describe_log_groups").paginate():
        for group in page["logGroups"]:
            for events in client.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
                yield from ((group["logGroupName"], event["message"]) for event in events["events"])


def messages(inbox: Inbox, ingest: Ingest) -> Iterator[Text]:
    yield from (("SNS", message) for message in inbox.sns())
    yield from (("Slack", message) for message in inbox.slack())
    yield from (("queue of dead letters", json.dumps(message)) for message in ingest.dead_letters())


def call_details_keys(stack: Stack) -> dict[str, str]:
    """The keys of the API, as its login takes them."""
    parameters = {"accessKey": "/copyazure/accesskey", "secretKey": "/copyazure/secretkey"}
    ssm = stack.aws("ssm")
    return {
        field: ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        for field, name in parameters.items()
    }


def refuse_call_details(ingest: Ingest, replay: Pipeline) -> None:
    """A file whose only batch the API refuses, twice: it is in a dead letter, in two runs' logs, and told of."""
    file = ingest.drop("secret.txt", lines(20, text=PAYLOAD))
    assert ingest.pipeline.ended(ingest.start(file)).state == "success"
    ingest.assert_processed(file, dead=[0])
    assert replay.run().state == "failed"


def test_no_secret_and_no_payload_is_in_anything_that_people_or_machines_can_read_later(
    stack: Stack,
    pipeline: Pipeline,
    auction: Pipeline,
    ingest: Ingest,
    replay: Pipeline,
    functions: Functions,
    delivery: Delivery,
    partners: Partners,
    archive: Archive,
    inbox: Inbox,
    session_secrets: Secrets,
    use_clients: UseClients,
    new_day: NewDay,
) -> None:
    use_clients([1001, 1002])
    owner = delivery.owner("secretive")
    faults = {"match": {"clientId": 1001}, "status": 404}, {"path": BATCHES, "status": 422}
    partners.order(*faults, owner.rule(count=1, status=500))
    delivered = delivery.post(owner)
    offered = functions.auction({"answer": ready([*orders(1), *orders(1, status="rejected")])})
    auctioned = auction.start(function_a=offered.name)
    run = pipeline.run(trigger_date=new_day())
    assert run.state == "failed"
    inbox.about(run.id)
    refuse_call_details(ingest, replay)
    assert auction.ended(auctioned).state == "success"
    token = run_tool(stack, "issue_token", "--subject", "demo", "--ttl", "5m")
    record = [{"record_id": "secret-1", "parameter_1": PAYLOAD, "parameter_2": 1}]
    for sent, status in ((token, 201), (f"{token}x", 403)):
        headers = {"Authorization": f"Bearer {sent}"}
        answer = httpx.post(f"{stack.orders_api_url}/orders", json=record, headers=headers, timeout=30)
        assert answer.status_code == status

    delivery.wait_for("delivered", delivered)
    delivery.pipeline.wait_until_idle()

    client_secret = session_secrets.read(DEX_API)["password"]
    assert len(client_secret) > 20
    assert partners.token().startswith(TOKEN_PREFIX)
    assert PLANTED in session_secrets.read(SLACK)["password"]
    assert len(partners.calls(TOKEN)) > 3
    keys = call_details_keys(stack)
    assert min(map(len, keys.values())) >= 20
    # The beginning of the claims, which all of the API's tokens have in common.
    call_details_token = partners.call_details_token(keys).split(".")[1][:32]
    secrets = {
        **keys,
        "token of the call-details API": call_details_token,
        "client secret": client_secret,
        "planted secret": PLANTED,
        "access token": TOKEN_PREFIX,
        "key of the orders API": session_secrets.text(stack.orders_jwt_secret),
        "token of the orders API": token,
        "payload": PAYLOAD,
        **{f"key of {each.name}": each.key for each in delivery.owners},
        **{f"webhook secret of {each.name}": each.secret for each in delivery.owners},
    }

    sources = {
        "logs": (list(logs(stack)), 20_000),
        "database": (list(database_rows(stack)), 20_000),
        "documents": (list(documents(archive, ingest)), 1500),
        "ledger": (list(ledger(stack)), 500),
        "messages": (list(messages(inbox, ingest)), 1000),
        "function logs": (list(function_logs(stack)), 1000),
    }
    leaks = []
    for source, (texts, least) in sources.items():
        assert sum(len(content) for _, content in texts) > least, source
        leaks += [
            f"{name} in {place}" for place, content in texts for name, secret in secrets.items() if secret in content
        ]
    assert leaks == []
    assert any(run.id in content for _, content in sources["database"][0])
    assert any("DEX API answered 404" in content for _, content in sources["logs"][0])
    refused = f"event {delivered} ", "not accepted ("
    assert any(all(part in content for part in refused) for _, content in sources["logs"][0])
    assert any("order stored" in content for _, content in sources["function logs"][0])
