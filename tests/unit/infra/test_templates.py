"""Templates with nested stacks are read as if they stood in one file, and what does not fit together is refused."""

from collections.abc import Mapping
from typing import Any

import pytest

from infra.release.bundle import ReleaseError
from infra.release.templates import parse_template, refusals, whole_template

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


CHOSEN = parse_template(
    """
Parameters:
  Size: {Type: String, Default: small, AllowedValues: [small, large]}
  Days: {Type: Number, Default: 30, AllowedValues: [1, 30]}
  Workers: {Type: Number, Default: 2, MinValue: 1, MaxValue: 25}
  Mail: {Type: String, Default: "", AllowedPattern: "^$|^[^@]+@[^@]+$", ConstraintDescription: must be an address}
  Peer: {Type: String, Default: ""}
Rules:
  PeersHaveMail:
    RuleCondition: !Not [!Equals [!Ref Peer, ""]]
    Assertions:
      - Assert: !And [!Not [!Equals [!Ref Mail, ""]], !Or [!Equals [!Ref Size, large], !Equals [!Ref Peer, own]]]
        AssertDescription: A peer has a mail, and wants a large one.
Resources: {}
""",
    "chosen.yaml",
)
PEER = ["A peer has a mail, and wants a large one."]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, []),
        ({"Size": "large", "Days": "1", "Workers": "25", "Mail": "a@b", "Peer": "x"}, []),
        ({"Peer": "own", "Mail": "a@b"}, []),
        ({"Peer": "x", "Mail": "a@b"}, PEER),
        ({"Peer": "own"}, PEER),
        ({"Sise": "large"}, ["there is no parameter Sise; Size is one"]),
        ({"Qqqq": "1"}, ["there is no parameter Qqqq"]),
        ({"Size": "Large"}, ["Size is 'Large': it must have Type String, AllowedValues ['small', 'large']"]),
        ({"Days": "2"}, ["Days is '2': it must have Type Number, AllowedValues [1, 30]"]),
        ({"Workers": "0"}, ["Workers is '0': it must have Type Number, MinValue 1, MaxValue 25"]),
        ({"Workers": "26"}, ["Workers is '26': it must have Type Number, MinValue 1, MaxValue 25"]),
        ({"Workers": "two"}, ["Workers is 'two': it must have Type Number, MinValue 1, MaxValue 25"]),
        ({"Mail": "nobody"}, ["Mail is 'nobody': it must be an address"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_values_that_cloudformation_would_refuse_are_named(given: Mapping[str, str], said: list[str]) -> None:
    assert list(refusals(CHOSEN, given)) == said
