"""Projects whose packages, imports, files or mapped tasks are broken, and which check is to tell of it."""

from infra.release.checks.loading import MAX_PAGE_BYTES, PAGE
from infra.release.project import LOCAL, MWAA, REQUIREMENTS, SAM
from tests.packaging.breaking import Case, forget, requires, seen, setting, source, text, without, without_ignored

CASES = (
    Case(
        "constraints of another folder",
        "requirements/constraint-line",
        ("requirements.txt:1", "plugins/constraints.txt"),
        text(REQUIREMENTS, "plugins/constraints", "dags/constraints"),
    ),
    Case(
        "a package from a repository",
        "requirements/addresses",
        ("requirements.txt:5", "name==version"),
        text(REQUIREMENTS, r"\Z", "git+https://example.com/x.git\n"),
    ),
    Case(
        "another index",
        "requirements/addresses",
        ("--extra-index-url",),
        text(REQUIREMENTS, r"\Z", "--extra-index-url x\n"),
    ),
    Case(
        "a version beside the constraints",
        "requirements/pins",
        ("requirements.txt:3", "9.10.1 contradicts 9.10.2", "write apache-airflow-providers-slack==9.10.2"),
        text(REQUIREMENTS, "slack==9.10.2", "slack==9.10.1"),
    ),
    Case("no version", "requirements/pins", ("write ==version",), text(REQUIREMENTS, "webhooks==.*", "webhooks")),
    Case(
        "a version that no test ran with",
        "requirements/pins",
        ("standardwebhooks", "make lock"),
        text(LOCAL, "^standardwebhooks==.*$", ""),
    ),
    Case(
        "a package of the image",
        "requirements/image",
        ("requirements.txt:5", "boto3", "take the line out"),
        lambda project: text(REQUIREMENTS, r"\Z", f"boto3=={project.packages.installed['boto3'].version}\n")(project),
    ),
    Case(
        "needs that the constraints do not allow",
        "requirements/resolvable",
        ("microsoft-mssql 4.7.0 needs pymssql>=99", "choose a version"),
        requires("apache-airflow-providers-microsoft-mssql", "pymssql>=99"),
    ),
    Case("a package that is not here", "requirements/resolvable", ("make setup",), forget("standardwebhooks")),
    Case(
        "a DAG file with an error",
        "imports/dags",
        ("dags/energy_auction.py", "NameError: oh"),
        seen("dags", "energy_auction", value={"dags": {}, "errors": ["Traceback\nNameError: oh\n"]}),
    ),
    Case(
        "a DAG of another name",
        "imports/dags",
        ("dags/other.py", "dag_id other"),
        seen("dags", "other", value={"dags": {}, "errors": []}),
    ),
    Case(
        "a module with an error",
        "imports/modules",
        ("include.auction.alerts", "ModuleNotFoundError"),
        seen("modules", value={"include.auction.alerts": "ModuleNotFoundError: No module named 'x'"}),
    ),
    Case(
        "an import that only this machine has",
        "imports/packages",
        ("include/x.py:1", "imports pytest", "add pytest to requirements.txt"),
        source("include/x.py", "import pytest\n"),
    ),
    Case(
        "a provider that MWAA lacks",
        "imports/packages",
        ("plugins/airflow_ext/x.py:2", "apache-airflow-providers-sqlite"),
        source("plugins/airflow_ext/x.py", "def run():\n    from airflow.providers.sqlite.hooks import sqlite\n"),
    ),
    Case(
        "alerts that need the settings",
        "alerts/option",
        ("infra/mwaa.yaml", "write pipelines.alert_topic_arn: !Ref AlertsTopicArn"),
        text(MWAA, "^ +pipelines.alert_topic_arn:.*\n", ""),
    ),
    Case(
        "a parameter that is misspelt",
        "templates/parameters",
        ("[dev.deploy.parameters]", "there is no parameter AlertMail; AlertEmail is one", "infra/template.yaml"),
        text(SAM, '"Environment=dev"', '"Environment=dev", "AlertMail=on@example.com"'),
    ),
    Case(
        "the name of another environment",
        "templates/parameters",
        ("[dev.deploy.parameters]", "Environment is 'staging', and must be 'dev'"),
        text(SAM, '"Environment=dev"', '"Environment=staging"'),
    ),
    Case(
        "a value that a template refuses",
        "templates/parameters",
        ("[dev.mwaa.parameters]", "MaxWorkers is '26'", "MaxValue 25"),
        text(SAM, "MaxWorkers=[0-9]+", "MaxWorkers=26"),
    ),
    Case(
        "parameters that a template refuses together",
        "templates/parameters",
        ("[dev.mwaa.parameters]", "Give both ZoneA and ZoneB"),
        text(SAM, '"MaxWorkers=', '"ZoneA=us-east-1a", "MaxWorkers='),
    ),
    Case(
        "Airflow in the domain",
        "imports/domain",
        ("include/x.py:1", "plugins/airflow_ext"),
        source("include/x.py", "from airflow.sdk import Variable\n"),
    ),
    Case(
        "a module under a bare name",
        "plugins/scan",
        ("plugins/airflow_ext/http.py", "bare name http", ".airflowignore"),
        seen("plugins", "strays", value={"http": "airflow_ext/http.py"}),
    ),
    Case(
        "a plugin that does not load",
        "plugins/scan",
        ("pipelines", "No module"),
        seen("plugins", "errors", value={"pipelines": "No module"}),
    ),
    Case("no plugin", "plugins/scan", ("no plugin is registered",), seen("plugins", "names", value=[])),
    Case("a package that is scanned", "plugins/ignored", ("add a line include/",), without_ignored("include/")),
    Case("a new package", "plugins/ignored", ("add a line new/",), source("plugins/new/hooks.py", "")),
    Case(
        "a DAG file that is slow",
        "parsing/time",
        ("dags/energy_auction.py", "2.50 s of CPU", "inside the tasks"),
        seen("parse_seconds", "energy_auction", value=2.5),
    ),
    Case(
        "a stray file of data",
        "bundle/size",
        ("largest: include/rows.csv", "S3"),
        source("include/rows.csv", bytes(5 * 1024 * 1024)),
    ),
    Case("no page", "page/script", (PAGE, "not in the bundle", ".gitignore"), without(PAGE)),
    Case("a page with a picture in it", "page/script", (PAGE, "262,145"), source(PAGE, bytes(MAX_PAGE_BYTES + 1))),
    Case(
        "boto3 in the API server",
        "page/imports",
        ("pipelines_plugin.py", "import boto3", "within a function"),
        seen("api_server", value=["airflow", "boto3", "pipelines_plugin"]),
    ),
    Case("too many tasks", "mapping/length", ("max_mapped_clients", "1,025"), setting("max_mapped_clients", 1025)),
    Case(
        "a setting that may be raised too far",
        "mapping/bounds",
        ("upper bound of max_mapped_orders", "core.max_map_length"),
        seen("options", "core.max_map_length", value=1000),
    ),
    Case(
        "payloads in XCom",
        "mapping/xcom",
        ("list_clients", "500 references of 4000 bytes", "return keys only"),
        seen("references", "dex_trigger_archive.list_clients", value=4000),
    ),
)
