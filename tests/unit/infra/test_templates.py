"""Templates with nested stacks are read as if they stood in one file, and what does not fit together is refused."""

from collections.abc import Mapping
from typing import Any

import pytest

from infra.release.bundle import ReleaseError
from infra.release.templates import whole_template

ROOT = """
Parameters:
  Environment: {Type: String}
  Origins: {Type: CommaDelimitedList, Default: ""}
Conditions:
  IsProd: !Equals [!Ref Environment, prod]
Resources:
  Store:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: stacks/store.yaml
      Parameters: {Environment: !Ref Environment, Origins: !Join [",", !Ref Origins], Size: 5}
  Reader:
    Type: AWS::CloudFormation::Stack
    Condition: IsProd
    Properties:
      TemplateURL: stacks/reader.yaml
      Parameters: {Table: !GetAtt Store.Outputs.Table, TableArn: !GetAtt Store.Outputs.TableArn}
  Settings:
    Type: AWS::SecretsManager::Secret
    Properties:
      SecretString: !Sub
        - '{"table": "${Store.Outputs.Table}", "url": "${Store.Outputs.Url}"${More}}'
        - {More: !Sub ', "for": "${Environment}"'}
Outputs:
  Table: {Value: !GetAtt Store.Outputs.Table}
"""
STORE = """
Parameters:
  Environment: {Type: String}
  Origins: {Type: CommaDelimitedList}
  Size: {Type: Number}
  Days: {Type: Number, Default: 30}
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: !Sub store-${Environment}-${Days}
      Size: !Ref Size
      Origins: !Ref Origins
Outputs:
  Table: {Value: !Ref Table}
  TableArn: {Value: !GetAtt Table.Arn}
  Url: {Value: !Sub "https://${Table}.${AWS::Region}"}
"""
READER = """
Parameters:
  Table: {Type: String}
  TableArn: {Type: String}
Resources:
  Policy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Names: [!Ref Table, !Sub "${TableArn}/index/*"]
      Arn: !Ref TableArn
"""


def whole(**changed: str) -> dict[str, Any]:
    files: Mapping[str, str] = {
        "infra/root.yaml": changed.get("root", ROOT),
        "infra/stacks/store.yaml": changed.get("store", STORE),
        "infra/stacks/reader.yaml": changed.get("reader", READER),
    }
    return whole_template("infra/root.yaml", files.__getitem__)


def test_what_a_stack_is_given_stands_for_its_parameters() -> None:
    resources = whole()["Resources"]
    assert set(resources) == {"Table", "Policy", "Settings"}
    assert resources["Table"]["Properties"] == {
        "TableName": {"Fn::Sub": "store-${Environment}-30"},
        "Size": 5,
        "Origins": {"Ref": "Origins"},
    }


def test_what_a_stack_puts_out_stands_for_references_to_it() -> None:
    template = whole()
    policy = template["Resources"]["Policy"]["Properties"]
    assert policy["Names"] == [{"Ref": "Table"}, {"Fn::Sub": "${Table.Arn}/index/*"}]
    assert policy["Arn"] == {"Fn::GetAtt": "Table.Arn"}
    text, own = template["Resources"]["Settings"]["Properties"]["SecretString"]["Fn::Sub"]
    assert text == '{"table": "${Table}", "url": "https://${Table}.${AWS::Region}"${More}}'
    assert own == {"More": {"Fn::Sub": ', "for": "${Environment}"'}}
    assert template["Outputs"] == {"Table": {"Value": {"Ref": "Table"}}}


def test_resources_of_a_stack_are_there_only_while_it_is() -> None:
    resources = whole()["Resources"]
    assert resources["Policy"]["Condition"] == "IsProd"
    assert "Condition" not in resources["Table"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"root": ROOT.replace("Size: 5", "Sise: 5")}, r"parameters \['Size'\] are missing, \['Sise'\] unknown"),
        ({"root": ROOT.replace("Outputs.TableArn", "Outputs.Arn")}, "there is no Store.Outputs.Arn"),
        ({"root": ROOT.replace("${Store.Outputs.Url}", "${Store.Outputs.Uri}")}, "there is no Store.Outputs.Uri"),
        ({"root": ROOT.replace("store.yaml", "stores.yaml")}, "stacks/stores.yaml, which cannot be read"),
        ({"reader": READER.replace("  Policy:", "  Table:")}, "another file has Table already"),
        ({"store": STORE.replace("!Ref Table}", "!If [A, b, c]}")}, "Store.Outputs.Table is Fn::If, which has no form"),
        ({"store": "Resources: ["}, "stacks/store.yaml is no YAML"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_together_is_refused(changed: dict[str, str], says: str) -> None:
    with pytest.raises(ReleaseError, match=says):
        whole(**changed)
