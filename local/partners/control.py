"""The control document in force: replaced as a whole or not at all, and asked for the rule of every call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from local.partners.document import ControlDocument, Rule, default_document
from local.partners.rules import ActiveRule


class InvalidControlError(ValueError):
    """A control document was refused; `problems` names each field and what is allowed there."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Control:
    """The document in force and, per rule, how often it was met.

    `paths` and `parameters` are what rules may name; whoever puts partners together fills them.
    """

    def __init__(self) -> None:
        self.paths: Collection[str] = frozenset()
        self.parameters: Collection[str] = frozenset()
        self._apply(default_document())

    def _apply(self, document: ControlDocument) -> None:
        self.document = document
        self._active = [ActiveRule(index, rule) for index, rule in enumerate(document.rules)]

    def replace(self, content: object) -> None:
        """Put `content` (parsed JSON) in force.

        Raises InvalidControlError if it is bad; then nothing changes.
        """
        try:
            known = {"paths": self.paths, "parameters": self.parameters}
            document = ControlDocument.model_validate(content, context=known)
        except ValidationError as error:
            raise InvalidControlError([_problem(each) for each in error.errors()]) from None
        self._apply(document)

    def reset(self) -> None:
        """Put the default document in force."""
        self._apply(default_document())

    def shown(self) -> dict[str, Any]:
        """Return the document in force as JSON content that can be put again."""
        content = self.document.model_dump(mode="json", exclude={"rules"})
        rules = [rule.model_dump(mode="json", exclude_unset=True) for rule in self.document.rules]
        return {"rules": rules, **content}

    def choose(self, path: str, query: Mapping[str, str], body: bytes = b"") -> ActiveRule | None:
        """Return the first rule that is for this call, or None; the call counts for every rule it met."""
        for active in self._active:
            if active.takes(path, query, body):
                return active
        return None


def _problem(error: Any) -> str:
    """Return one pydantic error as "field: what is wrong; what is allowed"."""
    location = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if error["type"] != "extra_forbidden":
        return f"{location or 'document'}: {error['msg'].removeprefix('Value error, ')}"
    owner = Rule if location.startswith("rules[") else ControlDocument
    return f"{location}: unknown field; allowed: {', '.join(owner.model_fields)}"
