"""What a person, and AWS itself, would put in place around a deployment of the template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.aws import CLOUDFORMATION_STACK, aws_client
from local.environment import StackSecrets
from local.processes import StackError

ALERTS_QUEUE = "alerts-inbox-local"

TEMPLATE_PARAMETERS = {
    # Nobody waits long for an auction here, and still a sensor is seen that has to ask again.
    "AuctionResultsProbability": "0.6",
    # One machine has one caller: a limit made for many would only get in its way.
    "OrdersApiRateLimit": "1000",
    "OrdersApiBurstLimit": "1000",
    "EventsApiRateLimit": "1000",
    "EventsApiBurstLimit": "1000",
}
"""The template's parameters on the emulator, beside the DEX API's address."""

_ORDERS_API = "OrdersApi"
_ORDERS_API_STAGE = "prod"


@dataclass(frozen=True, slots=True)
class Deployment:
    """Names of what was created."""

    archive_bucket: str
    alerts_topic_arn: str
    alerts_queue_url: str
    order_results_bucket: str
    auction_results_function: str
    auction_order_function: str
    orders_api_url: str
    orders_table: str
    orders_jwt_secret: str
    ingest_bucket: str
    ingest_ledger_table: str
    call_details_dlq_url: str
    events_api_url: str
    events_table: str
    api_keys_table: str
    subscriptions_table: str
    event_queue_url: str
    event_dlq_url: str


def finish_deployment(
    endpoint_url: str, *, partners_url: str, client_database: Mapping[str, Any], stack_secrets: StackSecrets
) -> Deployment:
    """Put connections and keys in place; subscribe a queue to the alerts topic to read them back.

    `client_database` is the connection `dex_db` in Airflow's JSON form.

    Raises:
        StackError: the deployed stack lacks an output or a secret that is needed here.
    """
    cloudformation = aws_client("cloudformation", endpoint_url)
    sqs = aws_client("sqs", endpoint_url)
    outputs = stack_outputs(cloudformation)
    try:
        api_id = outputs["OrdersApiId"]
        deployment = Deployment(
            archive_bucket=outputs["ArchiveBucketName"],
            alerts_topic_arn=outputs["AlertsTopicArn"],
            alerts_queue_url=sqs.create_queue(QueueName=ALERTS_QUEUE)["QueueUrl"],
            order_results_bucket=outputs["OrderResultsBucketName"],
            auction_results_function=outputs["AuctionResultsFunctionName"],
            auction_order_function=outputs["AuctionOrderFunctionName"],
            orders_api_url=orders_api_url(endpoint_url, api_id),
            orders_table=outputs["OrdersTableName"],
            orders_jwt_secret=outputs["OrdersJwtSecretName"],
            ingest_bucket=outputs["IngestBucketName"],
            ingest_ledger_table=outputs["IngestLedgerTableName"],
            call_details_dlq_url=outputs["CallDetailsDeadLettersUrl"],
            events_api_url=events_api_url(endpoint_url, outputs["EventsApiId"]),
            events_table=outputs["EventsTableName"],
            api_keys_table=outputs["ApiKeysTableName"],
            subscriptions_table=outputs["SubscriptionsTableName"],
            event_queue_url=outputs["EventQueueUrl"],
            event_dlq_url=outputs["EventDeadLettersUrl"],
        )
    except KeyError as error:
        raise StackError(f"infra/template.yaml has no output {error}: add it") from None
    secretsmanager = aws_client("secretsmanager", endpoint_url)
    for name, value in _connections(partners_url, client_database, stack_secrets).items():
        try:
            secretsmanager.put_secret_value(SecretId=f"airflow/connections/{name}", SecretString=json.dumps(value))
        except secretsmanager.exceptions.ResourceNotFoundException as error:
            raise StackError(f"infra/template.yaml creates no secret 'airflow/connections/{name}': add it") from error
    ssm = aws_client("ssm", endpoint_url)
    for parameter, key in _call_details_keys(stack_secrets).items():
        ssm.put_parameter(Name=parameter, Value=key, Type="SecureString", Overwrite=True)
    queue = sqs.get_queue_attributes(QueueUrl=deployment.alerts_queue_url, AttributeNames=["QueueArn"])["Attributes"]
    aws_client("sns", endpoint_url).subscribe(
        TopicArn=deployment.alerts_topic_arn, Protocol="sqs", Endpoint=queue["QueueArn"]
    )
    put_gateway_responses(cloudformation, aws_client("apigateway", endpoint_url), api_id)
    _silence_alarms_of_aws(aws_client("cloudwatch", endpoint_url))
    return deployment


def stack_outputs(cloudformation: Any) -> Mapping[str, str]:
    """Outputs of the deployed template by key. `cloudformation` is a boto3 client."""
    described = cloudformation.describe_stacks(StackName=CLOUDFORMATION_STACK)["Stacks"][0]
    return {item["OutputKey"]: item["OutputValue"] for item in described.get("Outputs", [])}


def orders_api_url(endpoint_url: str, api_id: str) -> str:
    """Address of the orders API's stage on the emulator, which serves no host names as AWS does."""
    return f"{endpoint_url}/restapis/{api_id}/{_ORDERS_API_STAGE}/_user_request_"


def events_api_url(endpoint_url: str, api_id: str) -> str:
    """Address of the events API on the emulator, where the name of the stage `$default` is part of it.

    Its `$` is quoted, or shells would take it for a variable.
    """
    return f"{endpoint_url}/_aws/execute-api/{api_id}/%24default"


def put_gateway_responses(cloudformation: Any, apigateway: Any, api_id: str) -> None:
    """Give the orders API the error answers that the template describes.

    On AWS they come with the API's OpenAPI document, as everything else in it does; the emulator imports all but
    them, so they are put from there. `cloudformation` and `apigateway` are boto3 clients.
    """
    template = cloudformation.get_template(StackName=CLOUDFORMATION_STACK, TemplateStage="Processed")["TemplateBody"]
    body = template["Resources"][_ORDERS_API]["Properties"]["Body"]
    for kind, response in body["x-amazon-apigateway-gateway-responses"].items():
        # The document writes the status as a number; DEFAULT_4XX and DEFAULT_5XX keep each error's own.
        status = {"statusCode": str(response["statusCode"])} if "statusCode" in response else {}
        apigateway.put_gateway_response(
            restApiId=api_id,
            responseType=kind,
            responseParameters=response.get("responseParameters", {}),
            responseTemplates=response["responseTemplates"],
            **status,
        )
    apigateway.create_deployment(restApiId=api_id, stageName=_ORDERS_API_STAGE)


def _silence_alarms_of_aws(cloudwatch: Any) -> None:
    """Keep alarms on AWS's own metrics from publishing.

    The emulator compares an alarm with every metric of its name, whatever the dimensions: a rejected order, which is
    an error of auction-order, would ring the alarms of all other functions.
    """
    alarms = cloudwatch.describe_alarms()["MetricAlarms"]
    cloudwatch.disable_alarm_actions(
        AlarmNames=[alarm["AlarmName"] for alarm in alarms if alarm["Namespace"].startswith("AWS/")]
    )


def _connections(
    partners_url: str, client_database: Mapping[str, Any], stack_secrets: StackSecrets
) -> dict[str, Mapping[str, Any]]:
    """Airflow connections by id, in Airflow's JSON form, pointing at the partner stubs."""
    return {
        "dex_db": client_database,
        "dex_api": {
            "conn_type": "http",
            "host": partners_url,
            "login": stack_secrets.dex_client_id,
            "password": stack_secrets.dex_client_secret,
            "extra": {"token_url": f"{partners_url}/oauth2/token", "scope": "dex/trigger:all"},
        },
        "call_details_api": {
            "conn_type": "http",
            "host": f"{partners_url}/call-details/batches",
            "extra": {"auth_url": f"{partners_url}/call-details/login"},
        },
        "slack_alerts": {
            "conn_type": "slackwebhook",
            "host": f"{partners_url}/slack/services",
            "password": "T000/B000/XXXX",
        },
    }


def _call_details_keys(stack_secrets: StackSecrets) -> dict[str, str]:
    """SSM parameters by name: those that the connection takes unless it names others."""
    return {
        "/copyazure/accesskey": stack_secrets.call_details_access_key,
        "/copyazure/secretkey": stack_secrets.call_details_secret_key,
    }
